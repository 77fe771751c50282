"""Columns and cells that several sections share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from linepress.records.summary import Summary
from linepress.report.model import Cell, Column, Row, cell
from linepress.tables import format as fmt

RATIO_COLUMNS = (
    Column("codec", hint="codec with its non-default options"),
    Column("payload ratio", numeric=True, better="higher", hint="Σ raw / Σ coded bits, line headers included"),
    Column(
        "packed ratio",
        numeric=True,
        better="higher",
        hint="Σ raw / Σ bytes in memory: size classes, tags, offset tables and codec tables counted",
    ),
    Column("bound", numeric=True, hint="ratio that no static code of the named class can beat (entropy)"),
    Column("above bound", unit="%", numeric=True, better="lower", hint="coded size above the bound"),
    Column("bits/line", numeric=True, better="lower", hint="mean coded bits of a 64 B line (512 raw)"),
    Column("lossless", hint="cases in which every line came back bit for bit, of the cases done"),
    Column("encode", unit="GB/s", numeric=True, better="higher", hint="raw bytes, one core of this host"),
    Column("decode", unit="GB/s", numeric=True, better="higher", hint="raw bytes, one core of this host"),
    Column("measure", unit="GB/s", numeric=True, better="higher", hint="sizes only, without writing the code"),
    Column("ok/plan", numeric=True, hint="cases done of cases planned"),
)


def ratio_row(s: Summary, style: str = "") -> Row:
    """The headline columns of one summary."""
    packed_hint = f"packing {s.packing}" if s.packing else ""
    variant_hint = ", ".join(
        part
        for part in (
            f"layout {s.layout}" if s.layout else "",
            f"geometric mean over tensors {fmt.ratio(s.geometric_mean_ratio)}",
            "a seeded sample of the lines" if s.sampled else "",
        )
        if part
    )
    lossless = "–" if not s.n_ok else ("yes" if s.all_lossless else "NO") + f" {s.n_lossless}/{s.n_ok}"
    return Row(
        (
            cell(s.variant + ("*" if s.sampled else ""), hint=variant_hint, style="code"),
            number_cell(s.payload_ratio, fmt.ratio(s.payload_ratio), "strong"),
            number_cell(s.packed_ratio, fmt.ratio(s.packed_ratio), hint=packed_hint),
            number_cell(s.bound_ratio, f"{fmt.ratio(s.bound_ratio)}\n{s.bound_name}".strip(), "two"),
            number_cell(s.above_bound_pct, fmt.percent(s.above_bound_pct).removesuffix(" %")),
            number_cell(s.bits_per_line, "–" if not np.isfinite(s.bits_per_line) else f"{s.bits_per_line:.1f}"),
            cell(lossless, style="" if s.all_lossless or not s.n_ok else "bad"),
            number_cell(s.encode_GBps, fmt.significant(s.encode_GBps)),
            number_cell(s.decode_GBps, fmt.significant(s.decode_GBps)),
            number_cell(s.measure_GBps, fmt.significant(s.measure_GBps)),
            cell(f"{s.n_ok}/{s.n_planned}", sort=float(s.n_ok), style="" if s.n_ok == s.n_planned else "bad"),
        ),
        style,
    )


def number_cell(value: float, text: str, style: str = "", hint: str = "") -> Cell:
    return Cell(text, float(value) if np.isfinite(value) else None, style, hint)


def listed(words: Sequence[str], most: int = 6) -> str:
    """``a, b, c and 4 more``."""
    shown = list(words[:most])
    rest = len(words) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
