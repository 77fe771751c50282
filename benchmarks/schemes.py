"""Compaction and translation schemes side by side: ``python -m benchmarks.schemes [--memory M …] [--write]``.

Every scheme of ``data/schemes.toml`` on the bundled weights and KV (huffman, the published decoder), against the
plain channel at its best. Rows go to ``benchmarks/results/schemes.csv``; ``--write`` keeps them in
``hardware/linepress_hardware/data/schemes_measured.csv``, replacing those of the same memory and data, and makes the
section of ``hardware/MODEL.md`` between its markers anew from all rows kept.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.channel import KV, WEIGHTS, _case
from linepress.stages.channel.inputs import from_tensors
from linepress.stages.channel.schemes import chosen_schemes, published_rows, scheme_rows, verdict
from linepress.tables.markdown import as_markdown
from linepress.tables.schemes import published_table, scheme_table
from linepress_hardware.dram import part_names

ROOT = Path(__file__).parents[1]
DATA = ROOT / "hardware" / "linepress_hardware" / "data" / "schemes_measured.csv"
RESULTS = Path(__file__).parent / "results" / "schemes.csv"
MODEL = ROOT / "hardware" / "MODEL.md"
BEGIN, END = "<!-- schemes: begin (python -m benchmarks.schemes --write) -->", "<!-- schemes: end -->"
COMMENT = "# Compaction schemes against the plain channel at its best: rows of python -m benchmarks.schemes\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="append", help="memory parts (default: all)")
    parser.add_argument("--data", action="append", choices=("weights", "kv"), help="kinds of lines (default: both)")
    parser.add_argument("--scheme", action="append", help="schemes (default: all)")
    parser.add_argument("--within", type=float, default=1.0, help="half-width of a gain in %% (default 1)")
    parser.add_argument("--write", action="store_true", help="keep the rows and make MODEL.md's section anew")
    options = parser.parse_args(argv)
    sizes = {
        "weights": from_tensors(str(WEIGHTS), ["huffman"], layout=None, max_bytes=None)[0],
        "kv": from_tensors(str(KV), ["huffman"], layout="channel", max_bytes=None)[0],
    }
    bases = {name: replace(_case(found), within_pct=options.within, n_requests=6000) for name, found in sizes.items()}
    chosen = chosen_schemes(options.scheme or ("all",))
    rows: list[dict[str, Any]] = []
    for name in options.data or bases:
        for memory in options.memory or part_names():
            began = time.process_time()
            rows += scheme_rows(replace(bases[name], memory=memory), chosen)
            print(f"{memory} {name}: {time.process_time() - began:.0f} s of processor time", flush=True)
    print("\n".join(as_markdown(scheme_table(rows))))
    print("\n".join(verdict(rows)))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    _save(RESULTS, rows)
    if options.write:
        kept = _merged(rows)
        _save(DATA, kept)
        MODEL.write_text(with_section(MODEL.read_text(encoding="utf-8"), section(kept, bases)), encoding="utf-8")
    return 0


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a kept table with their numbers and flags parsed."""
    if not path.is_file():
        return []
    text = (line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return [{name: _parsed(value) for name, value in row.items()} for row in csv.DictReader(text)]


def _parsed(value: str) -> Any:
    if value in ("True", "False"):
        return value == "True"
    try:
        return float(value)
    except ValueError:
        return value


def _merged(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows kept before, those of the same scheme, memory and data replaced."""

    def key(row: Mapping[str, Any]) -> tuple[str, str, str]:
        return str(row["data"]), str(row["memory"]), str(row["scheme"])

    new = {key(row): row for row in rows}
    order = {s.name: k for k, s in enumerate(chosen_schemes(("all",)))}
    kept = {**{key(row): row for row in read_rows(DATA)}, **new}
    return [kept[k] for k in sorted(kept, key=lambda k: (k[0] == "kv", k[1], order.get(k[2], 99)))]


def _save(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(COMMENT)
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def section(rows: Sequence[Mapping[str, Any]], bases: Mapping[str, Any]) -> str:
    """The tables of MODEL.md."""
    chosen = chosen_schemes(("all",))
    published = published_rows(bases["weights"], chosen)
    kv = {(r["scheme"], r["published"]): r["ours"] for r in published_rows(bases["kv"], chosen)}
    for row in published:
        other = kv[row["scheme"], row["published"]]
        row["ours"] = row["ours"] if other == row["ours"] else f"weights {row['ours']}; KV {other}"
    said = [f"- {sentence}." for sentence in verdict(list(map(dict, rows)))]
    return "\n".join([*as_markdown(scheme_table(rows)), "", *said, "", *as_markdown(published_table(published))])


def with_section(text: str, made: str) -> str:
    """``text`` with what was made between the markers; raises `ValueError` where they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"MODEL.md has no markers {BEGIN} and {END}; put them where the tables belong")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
