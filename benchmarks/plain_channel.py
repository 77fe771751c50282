"""The plain channel at its best: ``python -m benchmarks.plain_channel [--memory M] [--line-bytes N] [--write]``.

For each memory and workload: every named mapping under every page policy with the deepest queues, then around the
best three of them each depth of queue and each refresh that the standard has, and the default. Each trial is a
saturated run carried on until its rate converges. ``--write`` keeps the trials in
``hardware/linepress_hardware/data/plain_channel.csv``, from where the channel takes its baseline; ``--check`` runs
the best and the default of each again and exits 1 where one is off by more than 2 %.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from linepress_hardware.channel.config import LINE_BYTES, default_config
from linepress_hardware.channel.evaluate import WORKLOADS, InlineSpec, Study, Subject
from linepress_hardware.channel.headline import WITH_WRITES, plain_at_best
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.translation import plain_layout
from linepress_hardware.dram import load_part, part_names
from linepress_hardware.dram.mapping import NAMED
from linepress_hardware.dram.policy import Policy

DATA = Path(__file__).parents[1] / "hardware" / "linepress_hardware" / "data" / "plain_channel.csv"
QUEUES = (32, 64, 128)
"""Entries of the read queue in atoms, the write queue alike: 128 is what a large controller has a channel."""
SEARCHED = ("open", "closed", "adaptive")
COLUMNS = ("memory", "line_bytes", "workload", "mapping", "policy", "GBps", "half_width_pct", "accesses")
LEAST, SEED = 6000, 1


def trial(memory: str, line_bytes: int, workload: str, mapping: str | None, policy: str | None) -> dict[str, str]:
    """One row of the record."""
    pattern, _, writes = workload.partition("+")
    layout = plain_layout(64, line_bytes)
    plain = Subject(layout, layout.length_bytes, InlineSpec((line_bytes,)) if writes else None)
    config = default_config().of_lines(line_bytes)
    study = Study(Memory.load(memory, mapping, policy), config, plain, LEAST, SEED)
    found = study.plain_rate(pattern).rate
    return {
        "memory": memory,
        "line_bytes": str(line_bytes),
        "workload": workload,
        "mapping": mapping or "",
        "policy": policy or "",
        "GBps": f"{found.GBps:.3f}",
        "half_width_pct": f"{100 * found.half_width:.2f}",
        "accesses": str(found.accesses),
    }


def search(memory: str, line_bytes: int, workload: str) -> list[dict[str, str]]:
    """All trials of one memory and workload, fastest first."""

    def rate(row: dict[str, str]) -> float:
        return float(row["GBps"])

    deep = QUEUES[-1]
    rows = [
        trial(memory, line_bytes, workload, mapping, str(Policy(page, "all_bank", deep, deep)))
        for mapping in NAMED
        for page in SEARCHED
    ]
    rows.sort(key=rate, reverse=True)
    refreshes = ["all_bank"] + (["per_bank"] if load_part(memory).standard.per_bank_refresh else [])
    tried = {(r["mapping"], r["policy"]) for r in rows}
    for top in rows[:3]:
        page = top["policy"].split(":")[0]
        for refresh in refreshes:
            for queue in QUEUES:
                policy = str(Policy(page, refresh, queue, queue))
                if (top["mapping"], policy) not in tried and (queue == deep or top is rows[0]):
                    tried.add((top["mapping"], policy))
                    rows.append(trial(memory, line_bytes, workload, top["mapping"], policy))
    rows.append(trial(memory, line_bytes, workload, None, None))
    return sorted(rows, key=rate, reverse=True)


def check(memory: str, line_bytes: int, workload: str) -> list[str]:
    """Where the record no longer says what the model says."""
    found = plain_at_best(memory, workload, line_bytes)
    if found is None:
        return [f"{memory} {workload}: not in the record"]
    wrong = []
    for settings, was in ((found.settings, found.GBps), (None, found.default_GBps)):
        mapping, policy = (settings.mapping, settings.policy) if settings else (None, None)
        now = trial(memory, line_bytes, workload, mapping, policy)
        if abs(float(now["GBps"]) / was - 1) > 0.02:
            wrong.append(f"{memory} {workload} {settings or 'default'}: {was} GB/s recorded, {now['GBps']} now")
    return wrong


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="append", help="memory parts (default: all)")
    parser.add_argument("--line-bytes", type=int, default=LINE_BYTES, help="bytes of a line")
    parser.add_argument("--workload", action="append", help="workloads (default: all)")
    parser.add_argument("--write", action="store_true", help="replace their rows of the record")
    parser.add_argument("--check", action="store_true", help="run the best and the default again")
    options = parser.parse_args(argv)
    wrong: list[str] = []
    line_bytes = options.line_bytes
    for memory in options.memory or part_names():
        # Lines shorter than what the memory moves at once are not written (`expand_static`).
        written = WITH_WRITES if line_bytes % load_part(memory).atom_bytes == 0 else ()
        for workload in options.workload or (*WORKLOADS, *(f"{w}+writes" for w in written)):
            if options.check:
                wrong += check(memory, line_bytes, workload)
                continue
            rows = search(memory, line_bytes, workload)
            best, default = rows[0], next(r for r in rows if not r["mapping"])
            print(
                f"{memory:8s} {workload:11s} default {default['GBps']:>7s} GB/s   best {best['GBps']:>7s} GB/s   "
                f"{best['mapping']} {best['policy']}",
                flush=True,
            )
            if options.write:
                keep(memory, line_bytes, workload, rows)
    for line in wrong:
        sys.stderr.write(line + "\n")
    return 1 if wrong else 0


def keep(memory: str, line_bytes: int, workload: str, rows: list[dict[str, str]]) -> None:
    """Replace the record's rows of one memory and workload."""
    old: list[dict[str, str]] = []
    if DATA.is_file():
        text = [line for line in DATA.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        mine = (memory, str(line_bytes), workload)
        old = [r for r in csv.DictReader(text) if (r["memory"], r["line_bytes"], r["workload"]) != mine]
    with DATA.open("w", encoding="utf-8", newline="") as file:
        file.write(
            "# The plain channel's bandwidth by mapping and policy: trials of python -m benchmarks.plain_channel\n"
            f"# (256 lines in flight, 512 MiB footprint, seed {SEED}, saturated, batch means). Empty: the default.\n"
        )
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(old + rows, key=_order))


def _order(row: dict[str, str]) -> tuple[str, int, str, float]:
    return row["memory"], int(row["line_bytes"]), row["workload"], -float(row["GBps"])


if __name__ == "__main__":
    sys.exit(main())
