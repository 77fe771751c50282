"""S17: the partner's expected results, measured again. Runs in the sandbox."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

COLUMNS = ("payload_bits", "packed_bytes")


def read_kernels_only() -> None:
    """Take compiled kernels from Numba's caches and leave nothing there: other processes load what lies in them.

    Imports what measuring takes, while that is still allowed. Numba has no setting for a cache that is read only.
    """
    from numba.core import caching

    setattr(caching._CacheLocator, "ensure_cache_path", lambda self: None)  # noqa: B010  mypy refuses it plain
    setattr(caching.Cache, "save_overload", lambda self, signature, data: None)  # noqa: B010
    importlib.import_module("linepress.stages.measure.case")


def rerun(folder: Path, expected: list[dict[str, Any]], most_bytes: int) -> list[dict[str, Any]]:
    """Measure each expected result: its ``payload_bits`` and ``packed_bytes`` now and ``lossless``, or ``error`` (the
    same words for all that comes of files: others could tell of files of this machine), or ``left`` (why it was not
    measured) once ``most_bytes`` raw bytes have been.

    Each ``file`` of ``expected`` was found to be a file of the manifest (rule S01); Landlock keeps the process
    beneath ``folder`` all the same.
    """
    from linepress.errors import LinepressError
    from linepress.sources import open_source
    from linepress.stages.measure.case import measure_case
    from linepress_codecs.variant import Variant

    results: list[dict[str, Any]] = []
    left_bytes = most_bytes
    for entry in expected:
        try:
            variant = Variant.parse(entry["variant"])
        except (LinepressError, ValueError) as error:
            results.append({"error": str(error)[:300]})  # about the text alone
            continue
        try:
            tensor = open_source(str(folder / entry["file"])).tensor(entry["tensor"])
            if tensor.n_bytes > left_bytes:
                results.append({"left": f"over {most_bytes} B would have to be coded again"})
                continue
            left_bytes -= tensor.n_bytes
            row = measure_case(tensor, variant, repeats=0)
        except (LinepressError, RuntimeError, ValueError, OSError, MemoryError):
            results.append({"error": "it could not be measured"})
            continue
        results.append({**{column: row[column] for column in COLUMNS}, "lossless": row["lossless"]})
    return results
