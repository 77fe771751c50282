"""Published figures of decompression hardware, to stand beside the cards of our codecs.

Each figure is as its source states it; none is used to compute a card.
"""

from __future__ import annotations

from linepress_codecs.contracts import Figure

_POSTER = "poster ZeroPoint with Numem, 2025-12: 64 B decompressor, Samsung 4 nm and TSMC N5"
_GEM5 = "gem5 v24.0.0.1, src/mem/cache/compressors/Compressors.py and base classes, 64 B line"

INLINE_64B = (
    Figure(21, "cycles", "published", f"{_POSTER}: deterministic latency of the first 64 B"),
    Figure(1, "cycles", "published", f"{_POSTER}: each next 64 B of a stream"),
    Figure(1.75, "GHz", "published", f"{_POSTER}: highest clock"),
    Figure(0.04, "mm2", "published", f"{_POSTER}: area at Samsung 4LPP, 1.2 GHz"),
)
"""The proprietary inline decompressor this project measures itself against."""

HUFFMAN_ANCHORS = (
    *INLINE_64B,
    Figure(16, "cycles", "published", f"{_GEM5}: frequent values decode, one cycle a 32-bit symbol"),
    Figure(17, "cycles", "published", f"{_GEM5}: frequent values encode"),
)

DEFLATE_ANCHORS = (
    Figure(277, "ns", "published", "TMCC Deflate ASIC, 7 nm, 2.5 GHz, 4 KiB page decode (MICRO 2022)"),
    Figure(662, "ns", "published", "TMCC Deflate ASIC, 4 KiB page encode (MICRO 2022)"),
    Figure(18, "ns", "published", "RST, random access into a 4 KiB page, average (HEAP-Lab-VT/rst, 2026)"),
    Figure(1100, "ns", "published", "IBM Deflate engine decode, as quoted in MICRO 2022 (TMCC)"),
)
"""Block decompressors: a whole page must be decoded before its line is there."""
