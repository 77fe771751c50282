"""``pairs`` address unit: the lengths before a pair summed, at once."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux

from linepress_hardware.rtl.blocks import Pipe, mux_tree, named, prefix_sums, thermometer
from linepress_hardware.rtl.placement.metadata import BASE, POINTER_BITS, WIDTH, AddressUnit, metadata_bits

PAIRS, FULL = 32, 128
"""Pairs of a page of 4 KiB; bytes of two raw lines."""


def pairs_config(base: int, width: int) -> list[tuple[int, int]]:
    """Table writes of a size code."""
    return [(BASE, base), (WIDTH, width)]


class PairsAddress(AddressUnit):
    """``pairs`` of 64-byte lines in seven clocks: codes, lengths, sums of four lengths and of all, the pointer.

    ``data``: the length of the pair in bytes (8 bits), the byte from which the line is read (32 bits). The first
    line of a pair is read upwards, the second downwards, or upwards too where the length is `FULL`: two raw lines. A
    pair of length 0 is not read, its byte arbitrary.
    """

    line_bits = metadata_bits(PAIRS, FULL)
    data_bits = POINTER_BITS + FULL.bit_length()
    full = FULL

    def build(self, m: Module) -> None:
        base, width = self.size_code()
        pipe = Pipe(m, self.valid)
        entry, at = pipe.cut(self.line, self.size)
        codes = self.codes(m, entry, width, PAIRS)
        pointer, at, codes = pipe.cut(entry[:POINTER_BITS], at[:6], codes)
        lengths = [self.length(m, code, base, width, f"length{i}") for i, code in enumerate(codes)]
        pointer, at, lengths = pipe.cut(pointer, at, lengths)
        before = thermometer(at[1:], PAIRS)
        masked = [named(m, Mux(before[i], n, 0), f"before{i}") for i, n in enumerate(lengths)]
        fours = prefix_sums(m, masked, FULL, "fours", until=4)[3::4]
        length = mux_tree(m, lengths, at[1:], "own")
        pointer, at, fours, length = pipe.cut(pointer, at, fours, length)
        halves = prefix_sums(m, fours, 4 * FULL, "halves", until=4)[3::4]
        second = Mux(length == FULL, FULL // 2, length - 1)
        into = named(m, Mux(at[0], second, 0)[:8], "into")
        pointer, halves, into, length = pipe.cut(pointer, halves, into, length)
        run = named(m, halves[0] + halves[1], "run")
        pointer, run, into, length = pipe.cut(pointer, run, into, length)
        inside = named(m, run + into, "inside")
        pointer, inside, length = pipe.cut(pointer, inside, length)
        self.finish(m, pipe, Cat(length, (pointer + inside)[:POINTER_BITS]), 0)
