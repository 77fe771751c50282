"""How far the channel's gains can be trusted: intervals, the plain channel at its best, resources, silicon."""

from __future__ import annotations

import numpy as np

from linepress.records.frame import Frame
from linepress.tables import format as fmt
from linepress.tables.model import Column, Row, RowGroup, Table, cell
from linepress.tables.ratios import number_cell
from linepress_hardware.dram.silicon import compared_rows

NAMES = ("sequential", "random", "mixed")
MAX_ROWS = 60


def settled_table(i: int, label: str, rows: Frame) -> Table | None:
    """Each gain with its interval, the default's beside, the bytes saved and the resource above them."""
    widths = [rows.real(f"gain_{name}_half_width_pct") for name in NAMES]
    if not any(np.isfinite(w).any() for w in widths):
        return None
    columns = (
        Column("memory"),
        Column("packing"),
        Column("pattern"),
        Column("gain", numeric=True, better="higher", hint="over the plain channel at its best"),
        Column("±", "%", True, hint="95 % confidence interval of the gain"),
        Column("at default", numeric=True, hint="compressed and plain with default mapping, policy and queues"),
        Column("bytes saved", numeric=True, hint="bytes on the bus, plain over compressed"),
        Column("above them by", hint="the resource that the saved bytes free, where the gain is above them"),
        Column("plain at its best with"),
        Column("accesses", numeric=True),
    )
    out = []
    for k in range(len(rows)):
        for name, width in zip(NAMES, widths, strict=True):
            gain, default = rows.real(f"gain_{name}")[k], rows.real(f"default_gain_{name}")[k]
            if not np.isfinite(width[k]):
                continue
            shown = fmt.ratio(gain) if np.isfinite(gain) else "not converged"
            saved, n = rows.real(f"bytes_saved_{name}")[k], rows.real(f"accesses_{name}")[k]
            out.append(
                Row(
                    (
                        cell(rows.text("memory")[k]),
                        cell(rows.text("packing")[k], style="code"),
                        cell(name),
                        number_cell(gain, shown),
                        number_cell(width[k], f"{width[k]:.2f}"),
                        number_cell(default, fmt.ratio(default), "muted", hint=_above(rows, name, k)),
                        number_cell(saved, fmt.ratio(saved), "muted"),
                        cell(rows.text(f"resource_{name}")[k] or ""),
                        cell(rows.text(f"plain_settings_{name}")[k], style="code"),
                        number_cell(n, fmt.count(int(n)) if np.isfinite(n) else fmt.ABSENT),
                    )
                )
            )
    note = f"the first {MAX_ROWS} of {fmt.count(len(out))} rows" if len(out) > MAX_ROWS else ""
    return Table(
        f"channel-settled-{i}",
        f"{label}: gains, their intervals and what the plain channel was given",
        columns,
        (RowGroup("", tuple(out[:MAX_ROWS])),),
        note,
    )


def _above(rows: Frame, name: str, k: int) -> str:
    usual = rows.text(f"default_resource_{name}")[k]
    return f"above the bytes saved: they free {usual}" if usual else ""


def silicon_table() -> Table:
    """The memory model against measured machines, as recorded (``python -m benchmarks.memory_curves``)."""
    columns = (
        Column("machine"),
        Column("memory"),
        Column("curves", numeric=True, hint="shares of reads compared"),
        Column("saturated share, mean error", "%", True, "lower"),
        Column("worst curve", "%", True, "lower"),
        *(Column(f"at {load} % load", "ns", True, "lower", "mean error of the latency above idle")
          for load in ("25", "50", "75", "90")),
        Column("at saturation", "%", True, "lower"),
    )  # fmt: skip
    out = []
    for r in compared_rows():
        cells = [cell(r["system"]), cell(r["memory"])]
        for name in ("curves", "saturated_mean_pct", "saturated_worst_pct", "added_25_ns", "added_50_ns",
                     "added_75_ns", "added_90_ns", "saturated_latency_pct"):  # fmt: skip
            cells.append(number_cell(float(r[name]), r[name]))
        out.append(Row(tuple(cells)))
    return Table(
        "channel-silicon",
        "The memory model against measured machines",
        columns,
        (RowGroup("", tuple(out)),),
        "A fit, not a forecast: idle offset, lines in flight, ranks and refresh of a machine and a row timeout "
        "for all were chosen on these curves. Xeon Max is bound by its cores.",
    )
