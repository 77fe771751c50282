"""S17: the partner's expected results, measured again. Runs in the sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLUMNS = ("payload_bits", "packed_bytes")


def rerun(folder: Path, expected: list[dict[str, Any]], most_bytes: int) -> list[dict[str, Any]]:
    """Measure each expected result: its ``payload_bits`` and ``packed_bytes`` now and ``lossless``, or ``error``, or
    ``left`` (why it was not measured) once ``most_bytes`` raw bytes have been."""
    from linepress.errors import LinepressError
    from linepress.sources import open_source
    from linepress.stages.measure.case import measure_case
    from linepress_codecs.variant import Variant

    results: list[dict[str, Any]] = []
    left_bytes = most_bytes
    for entry in expected:
        try:
            tensor = open_source(str(folder / entry["file"])).tensor(entry["tensor"])
            if tensor.n_bytes > left_bytes:
                results.append({"left": f"over {most_bytes} B would have to be coded again"})
                continue
            left_bytes -= tensor.n_bytes
            row = measure_case(tensor, Variant.parse(entry["variant"]), repeats=0)
        except (LinepressError, RuntimeError, ValueError, OSError, MemoryError) as error:
            results.append({"error": str(error)[:300] or type(error).__name__})
            continue
        results.append({**{column: row[column] for column in COLUMNS}, "lossless": row["lossless"]})
    return results
