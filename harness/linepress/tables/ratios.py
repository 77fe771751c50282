"""The headline: every variant of a run, or of some files, with its ratios, its bound and its speeds.

The columns are declared once, here; terminal, night, README and report choose among them. A row is what
`linepress.records.summary.Summary.row` gives, so it may as well come out of a JSON file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from linepress.tables import format as fmt
from linepress.tables.model import Cell, Column, Row, RowGroup, Table, cell

Line = Mapping[str, Any]


def _variant(row: Line) -> Cell:
    said = (
        f"layout {row['layout']}" if row.get("layout") else "",
        f"geometric mean over tensors {fmt.ratio(row.get('geomean_payload_ratio'))}",
        "a seeded sample of the lines" if row.get("sampled") else "",
    )
    return cell(row["variant"] + ("*" if row.get("sampled") else ""), None, "code", ", ".join(filter(None, said)))


def _lossless(row: Line) -> Cell:
    if not row["ok"]:
        return cell(fmt.ABSENT)
    whole = row["lossless"] == row["ok"]
    return cell(f"{'yes' if whole else 'NO'} {row['lossless']}/{row['ok']}", style="" if whole else "bad")


def _planned(row: Line) -> Cell:
    text = f"{row['ok']}/{row['planned']}"
    return cell(text, float(row["ok"]), "" if row["ok"] == row["planned"] else "bad")


def _bits_per_line(row: Line) -> Cell:
    ratio = fmt.number(row["payload_ratio"])
    bits = 512 / ratio if ratio else None
    return number_cell(bits, fmt.ABSENT if bits is None else f"{bits:.1f}")


def _bound(row: Line) -> Cell:
    text = f"{fmt.ratio(row['bound_ratio'])}\n{row.get('bound') or ''}"
    return number_cell(row["bound_ratio"], text.strip(), "two")


def _packed(row: Line) -> Cell:
    hint = f"packing {row['packing']}" if row["packing"] else ""
    return number_cell(row["packed_ratio"], fmt.ratio(row["packed_ratio"]), hint=hint)


def _rate(name: str) -> Callable[[Line], Cell]:
    return lambda row: number_cell(row.get(name), fmt.significant(row.get(name)))


HEADLINE: dict[str, tuple[Column, Callable[[Line], Cell]]] = {
    "data": (
        Column("data, format", hint="what the lines hold, and their element format"),
        lambda row: cell(f"{row['data']} {row['format']}"),
    ),
    "tensor": (
        Column("tensor", hint="name, and the cast or the element format"),
        lambda row: cell(f"{row['tensor']} ({row['cast'] or row['format']})"),
    ),
    "raw": (
        Column("raw", numeric=True, hint="bytes before coding"),
        lambda row: number_cell(row["raw_bytes"], fmt.bytes_si(row["raw_bytes"])),
    ),
    "codec": (Column("codec", hint="codec with its non-default options"), _variant),
    "payload": (
        Column("payload ratio", numeric=True, better="higher", hint="Σ raw / Σ coded bits, line headers included"),
        lambda row: number_cell(row["payload_ratio"], fmt.ratio(row["payload_ratio"]), "strong"),
    ),
    "packed": (
        Column(
            "packed ratio",
            numeric=True,
            better="higher",
            hint="Σ raw / Σ bytes in memory: size classes, tags, offset tables and codec tables counted",
        ),
        _packed,
    ),
    "bound": (
        Column("bound", numeric=True, hint="ratio that no static code of the named class can beat (entropy)"),
        _bound,
    ),
    "above bound": (
        Column("above bound", unit="%", numeric=True, better="lower", hint="coded size above the bound"),
        lambda row: number_cell(
            row.get("above_bound_pct"), fmt.percent(row.get("above_bound_pct")).removesuffix(" %")
        ),
    ),
    "bits/line": (
        Column("bits/line", numeric=True, better="lower", hint="mean coded bits of a 64 B line (512 raw)"),
        _bits_per_line,
    ),
    "lossless": (
        Column("lossless", hint="cases in which every line came back bit for bit, of the cases done"),
        _lossless,
    ),
    "encode": (
        Column("encode", unit="GB/s", numeric=True, better="higher", hint="raw bytes, one core of this host"),
        _rate("encode_GBps"),
    ),
    "decode": (
        Column("decode", unit="GB/s", numeric=True, better="higher", hint="raw bytes, one core of this host"),
        _rate("decode_GBps"),
    ),
    "measure": (
        Column("measure", unit="GB/s", numeric=True, better="higher", hint="sizes only, without writing the code"),
        _rate("measure_GBps"),
    ),
    "ok/plan": (Column("ok/plan", numeric=True, hint="cases done of cases planned"), _planned),
}
FIGURES = tuple(name for name in HEADLINE if name not in ("data", "tensor", "raw"))
SHORT = ("data", "codec", "payload", "packed", "bound", "lossless", "encode", "decode", "ok/plan")
SAMPLED = "* a seeded sample of the lines was coded, as a block under 4 KiB takes too long on every line"


def headline_table(
    groups: Mapping[str, Sequence[Line]],
    columns: Sequence[str] = SHORT,
    best: Callable[[Line], bool] = lambda row: False,
    caption: str = "",
) -> Table:
    """Rows under the titles of their groups; ``best`` marks one."""
    made = (
        RowGroup(
            title,
            tuple(
                Row(tuple(HEADLINE[name][1](row) for name in columns), "best" if best(row) else "") for row in rows
            ),
        )
        for title, rows in groups.items()
    )
    sampled = any(row.get("sampled") for rows in groups.values() for row in rows)
    shown = tuple(HEADLINE[name][0] for name in columns)
    return Table("headline-table", caption, shown, tuple(made), note=SAMPLED if sampled else "")


def number_cell(value: float | None, text: str, style: str = "", hint: str = "") -> Cell:
    """A cell that sorts by ``value``."""
    return Cell(text, fmt.number(value), style, hint)


def listed(words: Sequence[str], most: int = 6) -> str:
    """``a, b, c and 4 more``."""
    shown = list(words[:most])
    rest = len(words) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
