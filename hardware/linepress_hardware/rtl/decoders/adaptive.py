"""``adaptive:streams=8`` decoder: the ring of ``tans:streams=8`` over four tables, and raw fields of any width."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Module, Mux
from numpy.typing import NDArray

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.rtl.blocks import Pipe, mux_tree, named, prefix_sums, shift_out, thermometer
from linepress_hardware.rtl.decoders.tans import ESCAPE, FIRST, STEPS, STREAMS, ZERO, TansCore, TansDecoder
from linepress_hardware.rtl.line import BF16, RAW_BITS

PRECISION, TABLES = 11, 4
STATES = 1 << PRECISION
VALUE, FIELD = 3 << 12, (3 << 12) + 1
"""Configuration addresses: field value of symbol 0, modulo 2^12; which bits are the field (low bits less `LOWEST` in
bits 0 and 1, bit 2 set where the sign is in the field). Entries of row i lie from i * STATES on, modes are row 0."""
LOWEST = BF16.mantissa_bits - 3
"""Low bits of an element that are raw in every field: a field holds at most three of the mantissa."""


def adaptive_config(
    decode: NDArray[np.uint32], first: int, low: int, sign_coded: bool, tables: int
) -> list[tuple[int, int]]:
    """Table writes of a machine with ``tables`` tables, 0 to `TABLES`.

    decode : uint32[(1 + tables) * STATES]
        Next state in bits 0..11, bits to read in 12..15, symbol in 16..23; the mode row first.
    first : int
        Smallest field value with a symbol of its own.
    low : int
        Low bits of an element beside its field, `LOWEST` or more.
    sign_coded : bool
        Whether the sign is the field's lowest bit.

    Raises `ConfigurationError` where the engine has no room.
    """
    if tables > TABLES or len(decode) != (1 + tables) * STATES:
        raise ConfigurationError(
            f"the engine holds a mode row and {TABLES} tables of {STATES} states, and these are {len(decode)} entries"
            f" for {tables} tables: fit adaptive:streams=8 (4 tables, precision {PRECISION})"
        )
    field = (VALUE, (first - FIRST) % (1 << BF16.bits - LOWEST)), (FIELD, low - LOWEST | sign_coded << 2)
    return [*((i, int(entry)) for i, entry in enumerate(decode)), *field]


class AdaptiveCore(TansCore):
    """``adaptive:streams=8`` of bf16 without its memories.

    The mode step also gives the row of the table, which stands in every address after it. A field takes any of the
    top mantissa bits and the sign, so raw fields are placed by bits, in five clocks.
    """

    line_bits = RAW_BITS + PRECISION
    config_address_bits = 14
    precision, tables = PRECISION, TABLES

    def _place(
        self, m: Module, pipe: Pipe, body: Any, move: Any, known: Any, states: list[Any], steps: list[Any]
    ) -> None:
        element, count, flushed = BF16, BF16.count, STREAMS * PRECISION
        before_first = self.config(VALUE, element.bits - LOWEST, "before_first")
        field = self.config(FIELD, 3, "field")
        low, sign_coded = field[:2], field[2]
        width = named(m, low + LOWEST + ~sign_coded, "width")

        size, used, is_raw, is_zero = known[:10], known[10:20], known[20], known[21]
        rest = shift_out(m, body, move, RAW_BITS, flushed, "last_move")
        raw = named(m, Mux(is_raw, rest, Cat(*states, rest)[:RAW_BITS]), "raw")
        escape = [named(m, s == ESCAPE, f"escape{j}") for j, s in enumerate(steps)]
        zero = [named(m, s == ZERO, f"zero{j}") for j, s in enumerate(steps)]
        length = [
            named(m, Cat(Mux(e | z, 0, width[:4]), e), f"length{j}")
            for j, (e, z) in enumerate(zip(escape, zero, strict=True))
        ]
        value = [named(m, (s + before_first)[: len(before_first)], f"value{j}") for j, s in enumerate(steps)]
        sums = prefix_sums(m, length, element.bits, "twos", until=4)
        raw, sums, escape, zero, value, size, used, is_raw, is_zero = pipe.cut(
            raw, sums, escape, zero, value, size, used, is_raw, is_zero
        )
        sums = prefix_sums(m, sums, element.bits, "eights", done=4, until=16)
        raw, sums, escape, zero, value, size, used, is_raw, is_zero = pipe.cut(
            raw, sums, escape, zero, value, size, used, is_raw, is_zero
        )
        sums = prefix_sums(m, sums, element.bits, "at", done=16)
        raw, sums, escape, zero, value, size, used, is_raw, is_zero = pipe.cut(
            raw, sums, escape, zero, value, size, used, is_raw, is_zero
        )
        fill = sums[-1]
        short = named(m, fill < flushed, "short")
        padding = named(m, (raw[:flushed] & ~thermometer(fill, flushed)).any(), "check_padding")
        unmet_short = named(m, size != used, "check_size")
        unmet_full = named(m, (used + fill) != (size + flushed), "check_full_size")
        too_long = named(m, size >= RAW_BITS, "check_longest")
        coded_bad = named(m, Mux(short, unmet_short | padding, unmet_full) | too_long, "coded_bad")
        zero_bad = named(m, size != 4, "check_zero_size")
        fault = named(m, Mux(is_zero, zero_bad, Mux(is_raw, unmet_short, coded_bad)), "fault")
        fields = [raw[: element.bits]] + [
            shift_out(m, raw, sums[j - 1], element.bits, element.bits * j, f"field{j}") for j in range(1, count)
        ]
        raw, fields, escape, zero, value, is_raw, is_zero, fault = pipe.cut(
            raw, fields, escape, zero, value, is_raw, is_zero, fault
        )
        out = []
        for j, (own, v) in enumerate(zip(fields, value, strict=True)):
            top = Mux(sign_coded, v[1:], v)
            choices = [
                Cat(own[:n], top[: element.bits - 1 - n], Mux(sign_coded, v[0], own[n]))
                for n in range(LOWEST, element.mantissa_bits + 1)
            ]
            coded = Mux(zero[j], 0, Mux(escape[j], own, mux_tree(m, choices, low, f"coded{j}")))
            plain = raw[element.bits * j : element.bits * (j + 1)]
            out.append(Mux(is_raw, plain, Mux(is_zero, 0, coded)))
        self.finish(m, pipe, Cat(*out), fault, before=2 * (STEPS + 1))


class AdaptiveDecoder(TansDecoder):
    """`AdaptiveCore` with a memory a stream; table writes go to all of them."""

    core = AdaptiveCore
    line_bits = core.line_bits
    config_address_bits = core.config_address_bits
