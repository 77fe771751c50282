"""Hardware cards of the tANS line coders, from their structure."""

from __future__ import annotations

from linepress_codecs.contracts import Figure, HardwareCard
from linepress_codecs.formats import Format

ANCHORS = (
    Figure(
        21,
        "cycles",
        "published",
        "ZeroPoint with Numem poster, 2025-12: decompressor, + 1 for each next 64 B, 1.75 GHz",
    ),
    Figure(0.04, "mm2", "published", "same poster: decompressor area, Samsung 4LPP"),
    Figure(18, "ns", "published", "HEAP-Lab-VT/rst, 2026: average decode latency of the open RST design"),
    Figure(16, "cycles", "published", "gem5 v24.0.0.1: decompression of its Huffman (frequent values) model, 64 B"),
)
CLOCK = Figure(1.75, "GHz", "estimated", "clock of the published decompressor; one table read and one add in a cycle")
FIXED_DECODE, FIXED_ENCODE = 5, 6
STEP_CYCLES_STATIC, STEP_CYCLES_CONTEXT = 1, 2


def log2_ceil(value: int) -> int:
    """Levels of a binary tree over ``value`` inputs."""
    return max(value - 1, 0).bit_length()


def entry_bits(precision: int) -> int:
    """Bits of a decode table entry: next state, number of bits (4), symbol (8)."""
    return precision + 4 + 8


def static_card(fmt: Format, streams: int, precision: int, tables: int, line_bytes: int = 64) -> HardwareCard:
    """Static tables: every stream reads one entry a cycle; their bit counts are known from the states, so all streams
    share one bit string and a step's positions are a prefix sum over the streams."""
    steps = -(-fmt.elements_in(line_bytes) // streams)
    raw = log2_ceil(fmt.elements_in(line_bytes))
    decode = FIXED_DECODE + steps * STEP_CYCLES_STATIC + 1
    encode = FIXED_ENCODE + raw + steps * STEP_CYCLES_STATIC
    copies = -(-streams // 2)
    sram = copies * (-(-entry_bits(precision) * (tables << precision) // 8)) + -(
        -entry_bits(precision) << precision >> 3
    )
    return HardwareCard(
        decode_latency_cycles=Figure(
            decode,
            "cycles",
            "estimated",
            f"{steps} steps of {streams} streams (elements / streams), one table read a cycle, + 1 for the mode step "
            f"+ {FIXED_DECODE} assumed for load, alignment, raw placement (2) and output",
        ),
        encode_latency_cycles=Figure(
            encode,
            "cycles",
            "estimated",
            f"{raw} levels of cost adders to choose the table, {steps} backward steps, {FIXED_ENCODE} assumed for "
            "field extraction, packing by prefix sum and output",
        ),
        initiation_interval_cycles=Figure(
            steps + 1,
            "cycles",
            "derived",
            "one folded engine is busy for its steps; n engines in turn divide it by n, with n copies of the tables",
        ),
        clock_GHz=CLOCK,
        table_sram_bytes=Figure(
            sram,
            "B",
            "derived",
            f"({precision} + 4 + 8) bits x 2^{precision} states x {tables} tables x {copies} copies (two ports "
            "serve two streams) + the mode row",
        ),
        anchors=ANCHORS,
    )


def context_card(fmt: Format, streams: int, precision: int, rows: int, line_bytes: int = 64) -> HardwareCard:
    """Channel contexts: the row of a step follows from the step before, which adds a multiply by a slope in eighths
    (three adders) and a row address to the loop."""
    steps = -(-fmt.elements_in(line_bytes) // streams)
    decode = FIXED_DECODE + steps * STEP_CYCLES_CONTEXT + 2
    encode = FIXED_ENCODE + 2 + steps * STEP_CYCLES_STATIC
    copies = -(-streams // 2)
    rom = copies * (-(-entry_bits(precision) * (rows << precision) // 8))
    return HardwareCard(
        decode_latency_cycles=Figure(
            decode,
            "cycles",
            "estimated",
            f"{steps} steps of {STEP_CYCLES_CONTEXT} cycles (table read; prediction and row address), {streams} "
            f"streams at once, + 2 for channel parameters and mode, + {FIXED_DECODE} assumed as for static tables",
        ),
        encode_latency_cycles=Figure(
            encode,
            "cycles",
            "estimated",
            f"contexts of all elements at once (2), {steps} backward steps, {FIXED_ENCODE} assumed as for static "
            "tables",
        ),
        initiation_interval_cycles=Figure(
            steps * STEP_CYCLES_CONTEXT + 1,
            "cycles",
            "derived",
            "one folded engine; two lines interleave in it without further tables, since a step is two cycles long",
        ),
        clock_GHz=CLOCK,
        table_sram_bytes=Figure(
            rom,
            "B",
            "derived",
            f"({precision} + 4 + 8) bits x 2^{precision} states x {rows} rows x {copies} copies, all of it ROM, the "
            "same for every tensor; channel parameters (at most 4 B a channel) lie with the tensor's metadata",
        ),
        anchors=ANCHORS,
    )
