"""What a codec costs to decode: ratio against latency against area, by the hardware cards."""

from __future__ import annotations

import math

from linepress.records.measured import NO_CAST
from linepress.records.summary import DataClass, Summary
from linepress.report.model import Plot, Section
from linepress.report.plots.decoders import Mark
from linepress.report.plots.decoders import decoders as draw
from linepress.report.plots.style import inline_svg
from linepress.report.view import RunView
from linepress.tables import format as fmt
from linepress.tables.model import Column, Note, Row, RowGroup, Table, cell, row
from linepress.tables.ratios import number_cell
from linepress_codecs.anchors import INLINE_64B
from linepress_codecs.contracts import HardwareCard
from linepress_codecs.errors import CodecError
from linepress_codecs.formats import format_named
from linepress_codecs.registry import parse_spec
from linepress_codecs.variant import Variant
from linepress_hardware.dram import load_part

CLAIMED_RATIO = 1.5
"""What the published decompressor is said to reach at its latency (talk, slide LLM Compression ratio)."""
MEMORIES = ("ddr5", "lpddr5x", "hbm3e", "hbm4")
MAX_MARKS = 16


def decoders(view: RunView) -> Section:
    """Figure and table of the run's line codecs that have a card, for the first sort of data that has one."""
    section = Section(
        "decoders",
        "Decoders",
        "Ratio as measured, latency and area by the hardware card. Simulated: the cycles of an RTL design that was "
        "proven equal to the codec, its clock and area from synthesis to cells before layout. Estimated: from the "
        "structure. No silicon was timed; layout, memories and the fabric around come on top.",
        short="Decoders",
    )
    for data, found in view.summaries.items():
        carded = [(summary, card) for summary in found if (card := _card(summary, data)) is not None]
        if not carded:
            continue
        marks = [
            Mark(s.variant, s.payload_ratio, c.decode_latency_ns, _area(c), c.decode_latency_cycles.status)
            for s, c in carded[:MAX_MARKS]
        ]
        section.parts += [_figure(data, marks), _table(data, carded)]
        break
    else:
        section.parts.append(Note("No line codec of this run has a hardware card."))
    return section


def _card(summary: Summary, data: DataClass) -> HardwareCard | None:
    """The card of a variant as this version gives it, None where it has none or decodes in no time (``raw``)."""
    element = data.cast.split(":")[0] if data.cast and data.cast not in NO_CAST else data.format
    try:
        card = Variant.of(*parse_spec(summary.variant)).codec.card(format_named(element))
    except (CodecError, KeyError):
        return None
    return card if summary.codec_kind == "line" and card is not None and card.decode_latency_ns > 0 else None


def _area(card: HardwareCard) -> float | None:
    return None if card.area_um2 is None else card.area_um2.value


def published() -> Mark:
    """The proprietary decompressor, from its poster: 21 cycles at up to 1.75 GHz, 0.04 mm²."""
    cycles, _, clock, area = (figure.value for figure in INLINE_64B)
    return Mark("published IP", CLAIMED_RATIO, cycles / clock, 1e6 * area, "published")


def _figure(data: DataClass, marks: list[Mark]) -> Plot:
    title = f"Ratio, decode latency and area, {data.label}"
    alt = "; ".join(
        f"{m.name}: {fmt.ratio(m.ratio)} in {fmt.significant(m.latency_ns)} ns" for m in [*marks, published()]
    )
    caption = (
        "Up and to the left is better. The area of a mark is that of the decoder without memories; small marks have "
        "none stated. Filled: an RTL design was proven and synthesised (ASAP7, wires assumed, pre-layout); hollow: "
        "estimated, derived or another's cycles. Diamond: a published decompressor (12 ns at its highest clock, "
        "0.04 mm² at 1.2 GHz, its maker's ratio; another node)."
    )
    return Plot(
        "decoder-costs", inline_svg(draw(marks, [published()]), "decoder-costs", title, alt), title, alt, caption
    )


def _table(data: DataClass, carded: list[tuple[Summary, HardwareCard]]) -> Table:
    peaks = {name: load_part(name).peak_GBps for name in MEMORIES}
    columns = (
        Column("codec"),
        Column("payload ratio", "", True, "higher"),
        Column("decode", "ns", True, "lower"),
        Column("cycles", "", True, "lower"),
        Column("clock", "GHz", True, "higher"),
        Column("standing", hint="of the cycles / of the clock"),
        Column("area", "µm²", True, "lower", "decoder without memories, pre-layout"),
        Column("an engine", "GB/s", True, "higher", "raw bytes: a line of 64 B an interval"),
        *(Column(f"{name} channel", "engines", True, "lower", f"{peak:g} GB/s") for name, peak in peaks.items()),
    )
    return Table(
        "decoder-cards",
        f"Decoders by their cards, {data.label}",
        columns,
        (RowGroup("", tuple(_row(summary, card, list(peaks.values())) for summary, card in carded)),),
        "Engines: decoders side by side whose raw lines come at the peak rate of one channel.",
    )


def _row(summary: Summary, card: HardwareCard, peaks: list[float]) -> Row:
    area = _area(card)
    cycles, clock = card.decode_latency_cycles, card.clock_GHz
    needed = [card.engines_for(peak) for peak in peaks]
    return row(
        summary.variant,
        number_cell(summary.payload_ratio, fmt.ratio(summary.payload_ratio)),
        number_cell(card.decode_latency_ns, fmt.significant(card.decode_latency_ns)),
        number_cell(cycles.value, fmt.significant(cycles.value), hint=cycles.source),
        number_cell(clock.value, fmt.significant(clock.value), hint=clock.source),
        cell(f"{cycles.status} / {clock.status}"),
        number_cell(math.nan if area is None else area, fmt.ABSENT if area is None else fmt.count(area)),
        number_cell(card.engine_GBps, fmt.significant(card.engine_GBps)),
        *(number_cell(n, fmt.count(n)) for n in needed),
    )
