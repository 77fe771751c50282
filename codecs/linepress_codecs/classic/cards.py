"""Hardware cards of the classic codecs: gem5's cycles for a 64 B line, and the inline decompressor beside them."""

from __future__ import annotations

from linepress_codecs.anchors import INLINE_64B
from linepress_codecs.contracts import Figure, HardwareCard

GEM5 = "gem5 v24.0.0.1, src/mem/cache/compressors/Compressors.py, 64 B line"
CLOCK = Figure(
    1.75,
    "GHz",
    "estimated",
    "gem5 counts cycles of the cache it sits in; the clock of the published inline decompressor is taken to compare",
)
NO_TABLES = Figure(0, "B", "derived", "nothing is learned")


def published(value: float, why: str) -> Figure:
    """A latency in cycles as a source states it."""
    return Figure(value, "cycles", "published", why)


def classic_card(
    decode: Figure,
    encode: Figure,
    interval_cycles: float,
    interval_why: str,
    sram: Figure = NO_TABLES,
    anchors: tuple[Figure, ...] = (),
) -> HardwareCard:
    """A card with the common clock and anchors."""
    return HardwareCard(
        decode_latency_cycles=decode,
        encode_latency_cycles=encode,
        initiation_interval_cycles=Figure(interval_cycles, "cycles", "estimated", interval_why),
        clock_GHz=CLOCK,
        table_sram_bytes=sram,
        anchors=(*INLINE_64B, *anchors),
    )
