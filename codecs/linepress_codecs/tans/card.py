"""Hardware cards of the tANS line coders, from their structure."""

from __future__ import annotations

from linepress_codecs.cards.measured import clock_of, rtl_card
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
BUILT, BUILT_ADAPTIVE = "tans8-decoder", "adaptive8-decoder"
"""The RTL designs whose clocks and structure the estimates of their relatives follow: one table, the exponent as the
field; several tables, a field of any width."""
BUILT_VARIANTS = {
    ("bf16", 8, 10, 1, False): BUILT,
    ("bf16", 8, 11, 4, False): BUILT_ADAPTIVE,
    ("bf16", 8, 11, 4, True): BUILT_ADAPTIVE,
}
"""Design of a format, streams, precision, tables, and whether the field may be another than the exponent."""
STEP_CYCLES, CONTEXT_STEP_CYCLES = 2, 3
"""Clocks of a step: as built (memory; next states), and with a prediction and row address between the two."""
PLACE_CYCLES, FIXED_ENCODE = {BUILT: 4, BUILT_ADAPTIVE: 5}, 6
"""Clocks that place the raw fields after the last step, as built: of whole bytes, of any width; clocks assumed round
an encoder's steps."""


def log2_ceil(value: int) -> int:
    """Levels of a binary tree over ``value`` inputs."""
    return max(value - 1, 0).bit_length()


def entry_bits(precision: int) -> int:
    """Bits of a decode table entry: next state, number of bits (4), symbol (8)."""
    return precision + 4 + 8


def static_card(fmt: Format, streams: int, precision: int, tables: int, *, any_field: bool = True) -> HardwareCard:
    """Static tables: every stream reads one entry a cycle; their bit counts are known from the states, so all streams
    share one bit string and a step's positions are a prefix sum over the streams. ``any_field``: the field may be
    another than the exponent, so raw fields have any width."""
    steps = -(-fmt.elements_in(64) // streams)
    raw = log2_ceil(fmt.elements_in(64))
    copies = -(-streams // 2)
    entry = entry_bits(precision)
    sram = Figure(
        copies * (-(-entry * (tables << precision) // 8)) + -(-entry << precision >> 3),
        "B",
        "derived",
        f"({precision} + 4 + 8) bits x 2^{precision} states x {tables} tables x {copies} copies (two ports serve two "
        "streams) + the mode row",
    )
    encode = Figure(
        FIXED_ENCODE + raw + steps * STEP_CYCLES,
        "cycles",
        "estimated",
        f"{raw} levels of cost adders to choose the table, {steps} backward steps of {STEP_CYCLES} clocks, "
        f"{FIXED_ENCODE} assumed for field extraction, packing by prefix sum and output",
    )
    variant = fmt.name, streams, precision, tables, any_field
    if variant in BUILT_VARIANTS:
        return rtl_card(BUILT_VARIANTS[variant], encode, sram, ANCHORS)
    built = BUILT_ADAPTIVE if any_field or tables > 1 else BUILT
    return HardwareCard(
        decode_latency_cycles=Figure(
            STEP_CYCLES * (steps + 1) + PLACE_CYCLES[built],
            "cycles",
            "estimated",
            f"mode step and {steps} steps of {streams} streams (elements / streams), {STEP_CYCLES} clocks each, and "
            f"{PLACE_CYCLES[built]} for raw placement and output, as the RTL design {built}; not built for this "
            "variant",
        ),
        encode_latency_cycles=encode,
        initiation_interval_cycles=Figure(
            steps + 1,
            "cycles",
            "derived",
            f"a folded engine holds {STEP_CYCLES} lines, as {built} does, each busy for its steps",
        ),
        clock_GHz=clock_of(built, "estimated", "as the one that was built; "),
        table_sram_bytes=sram,
        anchors=ANCHORS,
    )


def context_card(fmt: Format, streams: int, precision: int, rows: int) -> HardwareCard:
    """Channel contexts: the row of a step follows from the step before, which adds a multiply by a slope in eighths
    (three adders) and a row address to the loop."""
    steps = -(-fmt.elements_in(64) // streams)
    copies = -(-streams // 2)
    place = PLACE_CYCLES[BUILT_ADAPTIVE]
    rom = copies * (-(-entry_bits(precision) * (rows << precision) // 8))
    return HardwareCard(
        decode_latency_cycles=Figure(
            CONTEXT_STEP_CYCLES * (steps + 1) + 2 + place,
            "cycles",
            "estimated",
            f"mode step and {steps} steps of {CONTEXT_STEP_CYCLES} clocks (memory; next states; prediction and row "
            f"address), {streams} streams at once, + 2 for channel parameters, + {place} for raw placement "
            f"and output as in the RTL design {BUILT_ADAPTIVE}; not built",
        ),
        encode_latency_cycles=Figure(
            FIXED_ENCODE + 2 + steps * STEP_CYCLES,
            "cycles",
            "estimated",
            f"contexts of all elements at once (2), {steps} backward steps of {STEP_CYCLES} clocks, {FIXED_ENCODE} "
            "assumed as for static tables",
        ),
        initiation_interval_cycles=Figure(
            CONTEXT_STEP_CYCLES * (steps + 1),
            "cycles",
            "estimated",
            "one folded engine with one line in it; several lines in turn would divide it, which is not built",
        ),
        clock_GHz=clock_of(BUILT_ADAPTIVE, "estimated", "as static tables were built; "),
        table_sram_bytes=Figure(
            rom,
            "B",
            "derived",
            f"({precision} + 4 + 8) bits x 2^{precision} states x {rows} rows x {copies} copies, all of it ROM, the "
            "same for every tensor; channel parameters (at most 4 B a channel) lie with the tensor's metadata",
        ),
        anchors=ANCHORS,
    )
