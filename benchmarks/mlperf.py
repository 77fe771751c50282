"""MLPerf Inference against the roofline's ceiling: ``python -m benchmarks.mlperf [--rows FILE]``.

Prints the head-room of the best submission per accelerator, model, scenario and precision, the rows that only
speculative decoding could explain, and the rows left out with the reason. Exit 1 if a row lies above its ceiling.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from linepress_hardware.inference.mlperf import HeadRoom, head_rooms, summary

ROWS = Path(__file__).parents[1] / "tests" / "data" / "inference" / "mlperf_v5.1_llm.csv"


def judged(path: Path = ROWS) -> tuple[list[HeadRoom], dict[str, int]]:
    """Rows of a results table with their ceilings, and what was left out."""
    with path.open(encoding="utf-8", newline="") as file:
        return head_rooms(csv.DictReader(file))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, default=ROWS, help="results table; default the packaged v5.1")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mlperf.json"))
    given = parser.parse_args(argv)
    found, left = judged(given.rows)
    print(
        f"{'accelerator':18s} {'model':16s} {'scenario':12s} {'weights':8s} {'rows':>4s} {'best':>9s} "
        f"{'ceiling':>9s} {'head-room':>9s}  bound"
    )
    for division, closed in (("closed", True), ("open", False)):
        print(division)
        for one in summary(row for row in found if row.closed is closed):
            print(
                f"{one['accelerator']:18s} {one['model']:16s} {one['scenario']:12s} {one['weights']:8s} "
                f"{one['rows']:>4d} {one['tokens_per_s_per_device']:>9,.0f} "
                f"{one['ceiling_tokens_per_s_per_device']:>9,.0f} {one['head_room']:>9.2f}  {one['bound']}"
                f"{'' if one['verdict'] == 'below' else '  ' + one['verdict'].upper()}"
            )
    above = [row for row in found if row.verdict == "above"]
    speculative = [row for row in found if row.verdict == "speculative"]
    print(
        f"{len(found)} rows: {len(above)} above the ceiling, {len(speculative)} that only speculative decoding "
        f"reaches; tokens/s a device"
    )
    for reason, count in left.items():
        print(f"left out, {count} rows: {reason}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = [
        {**one.__dict__, "head_room": one.head_room, "verdict": one.verdict} for one in found
    ]
    given.out.write_text(json.dumps({"rows": rows, "left_out": left}, indent=1) + "\n")
    return 1 if above else 0


if __name__ == "__main__":
    raise SystemExit(main())
