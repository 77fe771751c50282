"""``huffman:substreams=8`` decoder: eight lanes of one code a step, canonical codes found by comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux
from numpy.typing import NDArray

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.rtl.blocks import Pipe, less, mux_tree, named, one_hot, prefix_sums, resized, shift_out
from linepress_hardware.rtl.line import BF16, RAW_BITS, SIZE_BITS, Element, LineEngine

LANES, LIMIT, COARSE = 8, 12, 64
SYMBOL, BOUND, OFFSET, ZERO_MODE = 0, 256, 272, 288
"""Configuration addresses: symbols in canonical order; for code length l, BOUND + l and OFFSET + l; the zero mode."""


def coding_order(element: Element) -> list[int]:
    """Element coded at each position: memory order for bytes; a0 b0 a1 b1 … of each pair of words for 16 bits."""
    if element.bits == 8:
        return list(range(element.count))
    return [8 * (i // 8) + 4 * (i % 2) + (i % 8) // 2 for i in range(element.count)]


def canonical_order(lengths: NDArray[np.uint8]) -> list[int]:
    """Symbols with a code, by (length, symbol); raises `ConfigurationError` where a code is longer than `LIMIT`."""
    if int(lengths.max(initial=0)) > LIMIT:
        raise ConfigurationError(
            f"a code has {int(lengths.max())} bits and this engine takes {LIMIT}: fit with limit={LIMIT}"
        )
    return sorted(np.flatnonzero(lengths).tolist(), key=lambda s: (int(lengths[s]), s))


def huffman_config(lengths: NDArray[np.uint8], zero_lines: bool, symbols: int = 256) -> list[tuple[int, int]]:
    """Table writes of code ``lengths`` uint8[256] (0 = no code).

    BOUND + l is the end of the codes of at most l bits, left-aligned in `LIMIT` bits; OFFSET + l is the place of the
    first of l bits in canonical order less that code. Raises `ConfigurationError` where the engine has no room.
    """
    order = canonical_order(lengths)
    if len(order) > symbols:
        raise ConfigurationError(
            f"the table has {len(order)} symbols and this engine room for {symbols}: take the design of 256 symbols"
        )
    writes = [(SYMBOL + i, int(s)) for i, s in enumerate(order)]
    code = place = 0
    for length in range(1, LIMIT + 1):
        n = int((lengths == length).sum())
        writes.append((BOUND + length, (code + n) << (LIMIT - length)))
        writes.append((OFFSET + length, (place - code) % (1 << LIMIT)))
        place, code = place + n, (code + n) << 1
    return [*writes, (ZERO_MODE, int(zero_lines))]


def length_bits(element: Element) -> int:
    """Width of a sub-stream's length field."""
    return (element.count // LANES * LIMIT).bit_length()


def fixed_bits(element: Element) -> int:
    """Bits of a coded line beside its codes."""
    return 1 + (LANES - 1) * length_bits(element) + (0 if element.bits == 8 else element.count * element.rest_bits)


class HuffmanDecoder(LineEngine):
    """Starts of the lanes by a prefix sum, a shifter a lane, ``count / 8`` codes in a row, then all symbols at once.

    A code takes two clocks: one to compare with the bounds of all lengths, one to move on. ``symbols``: room of the
    symbol table, 256 or fewer. Checks travel behind the data, so none of them limits the clock.
    """

    line_bits = RAW_BITS + 2

    def __init__(self, element: Element = BF16, symbols: int = 256) -> None:
        super().__init__()
        self.element, self.symbols = element, symbols
        self.whole = element.bits == 8
        """Whether the symbol is the whole element."""

    def build(self, m: Module) -> None:
        element, limit, lanes = self.element, LIMIT, LANES
        count, steps = element.count, element.count // lanes
        rest = 0 if self.whole else element.rest_bits
        field, fixed = length_bits(element), fixed_bits(element)
        rest_at = 1 + (lanes - 1) * field
        most = RAW_BITS + 1 - fixed  # code bits of the longest coded line
        lane_bits = steps * limit

        table = [self.config(SYMBOL + i, 8, f"symbol{i}") for i in range(self.symbols)]
        bound = [self.config(BOUND + n, limit + 1, f"bound{n}") for n in range(1, limit + 1)]
        offset = [self.config(OFFSET + n, limit, f"offset{n}") for n in range(1, limit + 1)]
        zero_mode = self.config(ZERO_MODE, 1, "zero_mode")
        index_bits = max(self.symbols - 1, 1).bit_length()

        pipe = Pipe(m, self.valid)
        line, size = pipe.cut(self.line, self.size)
        coded = line[0]
        lengths = [line[1 + field * j : 1 + field * (j + 1)] for j in range(lanes - 1)]
        longest = (1 << field) - 1
        fours = prefix_sums(m, lengths, longest, "fours", until=4)
        raw = Mux(zero_mode, line[2 : 2 + RAW_BITS], line[1 : 1 + RAW_BITS])
        raw_bits = named(m, RAW_BITS + 1 + zero_mode, "raw_bits")
        zero = named(m, ~coded & zero_mode & line[1], "zero")
        code_bits = named(m, size - fixed, "code_bits")
        body = named(m, Mux(coded, resized(line[rest_at:], RAW_BITS), raw), "body")
        too_long = named(m, size >= raw_bits, "check_longest")
        zero_bad, raw_bad = named(m, size != 2, "check_zero_size"), named(m, size != raw_bits, "check_raw_size")
        bad = named(m, Mux(coded, too_long, Mux(zero, zero_bad, raw_bad)), "bad")
        body, fours, lengths, coded, zero, bad, code_bits = pipe.cut(
            body, fours, lengths, coded, zero, bad, code_bits
        )

        # A lane moves to its start by multiples of `COARSE` bits as soon as the sums are there, then by the rest.
        ends = prefix_sums(m, fours, longest, "end", done=4)
        codes = body[count * rest : count * rest + most]
        far = [min(lane_bits * j, most) for j in range(lanes)]
        near = -(-(lane_bits + COARSE - 1) // COARSE)
        low = (COARSE - 1).bit_length()
        coarse = [
            shift_out(m, codes, ends[j - 1][low:], near, far[j] // COARSE, f"coarse{j}", unit=COARSE)
            for j in range(1, lanes)
        ]
        # What is left of each lane must come to zero. The last one's is wide enough never to pass zero twice, so a
        # start beyond `far`, lengths beyond the size and a size below `fixed` all show there.
        left = [*lengths, named(m, code_bits - ends[lanes - 2], "last")]
        body, coarse, starts, left, coded, zero, bad = pipe.cut(
            body, coarse, [end[:low] for end in ends], left, coded, zero, bad
        )
        windows = [body[count * rest :][:lane_bits]] + [
            shift_out(m, coarse[j - 1], starts[j - 1], lane_bits, min(COARSE - 1, far[j]), f"lane{j}")
            for j in range(1, lanes)
        ]
        body, windows, left, coded, zero, bad = pipe.cut(body, windows, left, coded, zero, bad)

        indices: list[Any] = []  # of earlier steps, travelling along
        for t in range(steps):
            heads = [named(m, _code(w), f"head{t}_{j}") for j, w in enumerate(windows)]
            below = [
                [named(m, less(m, head, b[:limit]) | b[limit], f"below{t}_{j}_{n}") for n, b in enumerate(bound, 1)]
                for j, head in enumerate(heads)
            ]
            windows, heads, below, left, body, coded, zero, bad, indices = pipe.cut(
                windows, heads, below, left, body, coded, zero, bad, indices
            )
            room = (steps - 1 - t) * limit
            hits, taken, after = [], [], []
            for j, w in enumerate(windows):
                hit = [below[j][0]] + [
                    named(m, below[j][n] & ~below[j][n - 1], f"hit{t}_{j}_{n}") for n in range(1, limit)
                ]
                hits.append(Cat(*hit))
                taken.append(named(m, one_hot(hit, [Const(n + 1, 4) for n in range(limit)], 4), f"taken{t}_{j}"))
                if room:
                    moved = one_hot(hit, [w[n + 1 : n + 1 + room] for n in range(limit)], room)
                    after.append(named(m, moved, f"moved{t}_{j}"))
            none = Cat(*[~below[j][limit - 1] for j in range(lanes)])
            windows, heads, hits, none, taken, left, body, coded, zero, bad, indices = pipe.cut(
                after, heads, hits, none, taken, left, body, coded, zero, bad, indices
            )
            left = [
                named(m, (left[j] - taken[j])[: field + 1 if j < lanes - 1 else SIZE_BITS + 2], f"left{t}_{j}")
                for j in range(lanes)
            ]
            bad = bad | (coded & named(m, none.any(), f"check_code{t}"))
            new = []
            for j in range(lanes):
                hit = list(hits[j])
                code = one_hot(
                    hit, [resized(heads[j][limit - n - 1 :], index_bits) for n in range(limit)], index_bits
                )
                first = one_hot(hit, [resized(o, index_bits) for o in offset], index_bits)
                new.append(named(m, (code + first)[:index_bits], f"index{t}_{j}"))
            indices = [*indices, *new]
        unmet = [named(m, n != 0, f"check_lane{j}") for j, n in enumerate(left)]
        bad = bad | (coded & Cat(*unmet).any())
        indices, body, coded, zero, bad = pipe.cut(indices, body, coded, zero, bad)
        fours = [mux_tree(m, fours_of(table), index[2:], f"four{i}") for i, index in enumerate(indices)]
        fours, indices, body, coded, zero, bad = pipe.cut(
            fours, [index[:2] for index in indices], body, coded, zero, bad
        )
        symbols = [
            mux_tree(m, [four[8 * k : 8 * k + 8] for k in range(4)], index, f"symbol{i}")
            for i, (four, index) in enumerate(zip(fours, indices, strict=True))
        ]

        elements: list[Any] = [None] * count
        for at, element_at in enumerate(coding_order(element)):
            symbol = symbols[(at % steps) * lanes + at // steps]
            own = body[rest * at : rest * (at + 1)]
            both = Cat(own[:-1], symbol, own[-1]) if rest else symbol
            raw = body[element.bits * element_at : element.bits * (element_at + 1)]
            elements[element_at] = Mux(coded, both, Mux(zero, 0, raw))
        self.finish(m, pipe, Cat(*elements), bad)


def fours_of(table: list[Any]) -> list[Any]:
    """Entries of the table, four to an item."""
    return [Cat(*table[i : i + 4]) for i in range(0, len(table), 4)]


def _code(window: Any) -> Any:
    """The next `LIMIT` bits as a number, most significant code bit first."""
    return Cat(*[window[LIMIT - 1 - i] for i in range(LIMIT)])
