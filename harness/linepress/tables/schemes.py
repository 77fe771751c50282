"""Tables of compaction and translation schemes: what each keeps of the plain channel; published results beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from linepress.tables import format as fmt
from linepress.tables.model import Cell, Column, Row, RowGroup, Table, cell

COLUMNS = (
    Column("scheme"),
    Column("capacity", "x", numeric=True, better="higher", hint="raw over stored bytes, metadata and tables in"),
    Column("sequential", "x", numeric=True, better="higher", hint="over the plain channel at its best"),
    Column("random", "x", numeric=True, better="higher", hint="over the plain channel at its best"),
    Column("mixed", "x", numeric=True, better="higher", hint="over the plain channel at its best; w: with writes"),
    Column("p99 (plain)", "ns", numeric=True, hint="random reads at the offered load; !: not sustained"),
    Column("metadata", "B / 4 KiB", numeric=True, better="lower"),
    Column("SRAM", "KiB", numeric=True, better="lower", hint="metadata cache, line buffer, predictor; no tags"),
)
PUBLISHED = (Column("scheme"), Column("published"), Column("workload"), Column("status"), Column("ours"))


def scheme_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One group for each memory and kind of data; rows of `linepress.stages.channel.schemes.scheme_rows`."""
    groups = [
        RowGroup(
            f"{memory}, {data}",
            tuple(_row(r) for r in rows if (r["memory"], r["data"]) == (memory, data)),
        )
        for memory, data in dict.fromkeys((r["memory"], r["data"]) for r in rows)
    ]
    note = "gains ± half-width of their 95 % interval; ° under the mapping that keeps a row together."
    return Table("schemes", "Compaction and translation schemes", COLUMNS, tuple(groups), note)


def _row(row: Mapping[str, Any]) -> Row:
    def gain(name: str) -> Cell:
        value, wide = float(row[f"gain_{name}"]), float(row[f"gain_{name}_half_width_pct"])
        if value != value:
            return cell(f"not converged, ± {wide:.1f} %", value)
        mark = "°" if row[f"mapping_changed_{name}"] else ""
        written = " w" if name == "mixed" and row["mode"] == "inline" else ""
        return cell(f"{value:.3f}{mark} ± {wide:.1f} %{written}", value)

    kept = "" if row["load_sustained"] else " !"
    return Row(
        (
            cell(str(row["scheme"])),
            cell(fmt.ratio(float(row["capacity"]), 3), float(row["capacity"])),
            gain("sequential"),
            gain("random"),
            gain("mixed"),
            cell(f"{float(row['p99_ns']):.0f} ({float(row['plain_p99_ns']):.0f}){kept}", float(row["p99_ns"])),
            cell(f"{float(row['metadata_bytes_per_4KiB']):.3g}", float(row["metadata_bytes_per_4KiB"])),
            cell(f"{float(row['sram_bytes']) / 1024:.3g}", float(row["sram_bytes"])),
        )
    )


def published_table(rows: Sequence[Mapping[str, str]]) -> Table:
    """Published results beside ours, rows as `linepress_hardware.channel.published.beside` gives them."""
    names = ("scheme", "published", "workload", "status", "ours")
    shown = tuple(Row(tuple(cell(row[name]) for name in names)) for row in rows)
    return Table("published", "Published results beside ours", PUBLISHED, (RowGroup("", shown),))
