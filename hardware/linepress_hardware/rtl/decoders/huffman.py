"""``huffman:substreams=8`` decoder: eight lanes of one code a step, canonical codes found by comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux
from numpy.typing import NDArray

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.rtl.blocks import Pipe, less, mux_tree, named, one_hot, prefix_sums, resized, shift_out
from linepress_hardware.rtl.line import BF16, RAW_BITS, Element, LineEngine

LANES, LIMIT = 8, 12
SYMBOL, BOUND, OFFSET, ZERO_MODE = 0, 256, 272, 288
"""Configuration addresses: symbols in canonical order; for code length l, BOUND + l and OFFSET + l; the zero mode."""


def coding_order(element: Element) -> list[int]:
    """Element coded at each position: memory order for bytes; a0 b0 a1 b1 … of each pair of words for 16 bits."""
    if element.bits == 8:
        return list(range(element.count))
    return [8 * (i // 8) + 4 * (i % 2) + (i % 8) // 2 for i in range(element.count)]


def huffman_config(lengths: NDArray[np.uint8], zero_lines: bool, symbols: int = 256) -> list[tuple[int, int]]:
    """Table writes of code ``lengths`` uint8[256] (0 = no code).

    BOUND + l is the end of the codes of at most l bits, left-aligned in `LIMIT` bits; OFFSET + l is the place of the
    first of l bits in canonical order less that code. Raises `ConfigurationError` where the engine has no room.
    """
    order = sorted(np.flatnonzero(lengths).tolist(), key=lambda s: (int(lengths[s]), s))
    if len(order) > symbols:
        raise ConfigurationError(
            f"the table has {len(order)} symbols and this engine room for {symbols}: take the design of 256 symbols"
        )
    if int(lengths.max(initial=0)) > LIMIT:
        raise ConfigurationError(
            f"a code has {int(lengths.max())} bits and this engine takes {LIMIT}: fit with limit={LIMIT}"
        )
    writes = [(SYMBOL + i, int(s)) for i, s in enumerate(order)]
    code = place = 0
    for length in range(1, LIMIT + 1):
        n = int((lengths == length).sum())
        writes.append((BOUND + length, (code + n) << (LIMIT - length)))
        writes.append((OFFSET + length, (place - code) % (1 << LIMIT)))
        place, code = place + n, (code + n) << 1
    return [*writes, (ZERO_MODE, int(zero_lines))]


class HuffmanDecoder(LineEngine):
    """Starts of the lanes by a prefix sum, a shifter a lane, ``count / 8`` codes in a row, then all symbols at once.

    ``symbols``: room of the symbol table, 256 or fewer. ``two_clock``: a step compares in one clock and moves on in
    the next, which raises the clock. Checks travel behind the data, so none of them limits it.
    """

    line_bits = RAW_BITS + 2

    def __init__(self, element: Element = BF16, symbols: int = 256, two_clock: bool = True) -> None:
        super().__init__()
        self.element, self.symbols, self.two_clock = element, symbols, two_clock
        self.whole = element.bits == 8
        """Whether the symbol is the whole element."""

    def build(self, m: Module) -> None:
        element, limit, lanes = self.element, LIMIT, LANES
        count, steps = element.count, element.count // lanes
        rest = 0 if self.whole else element.rest_bits
        field = (steps * limit).bit_length()
        fixed = 1 + (lanes - 1) * field + count * rest
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
        ends = prefix_sums(m, lengths, ((1 << field) - 1) * (lanes - 1), "end")
        raw = Mux(zero_mode, line[2 : 2 + RAW_BITS], line[1 : 1 + RAW_BITS])
        raw_bits = named(m, RAW_BITS + 1 + zero_mode, "raw_bits")
        zero = named(m, ~coded & zero_mode & line[1], "zero")
        code_bits = named(m, size - fixed, "code_bits")
        body = named(m, Mux(coded, resized(line[rest_at:], RAW_BITS), raw), "body")
        bad = named(m, Mux(coded, (size < fixed) | (size >= raw_bits), Mux(zero, size != 2, size != raw_bits)), "bad")
        body, ends, lengths, coded, zero, bad, code_bits = pipe.cut(body, ends, lengths, coded, zero, bad, code_bits)

        codes = body[count * rest : count * rest + most]
        far = [min(lane_bits * j, most) for j in range(lanes)]
        windows = [codes[:lane_bits]] + [
            shift_out(m, codes, ends[j - 1], lane_bits, far[j], f"lane{j}") for j in range(1, lanes)
        ]
        beyond = [named(m, ends[j - 1] > far[j], f"beyond{j}") for j in range(1, lanes)]
        last = named(m, code_bits - ends[lanes - 2], "last")  # below zero where the lengths lie
        left = [*lengths, last[:field]]
        body, windows, left, coded, zero, bad, beyond, last = pipe.cut(
            body, windows, left, coded, zero, bad, beyond, last
        )
        bad = bad | (coded & (Cat(*beyond).any() | last[-1] | (last[:-1] > lane_bits)))

        indices: list[Any] = []  # of earlier steps, travelling along
        for t in range(steps):
            heads = [named(m, _code(w), f"head{t}_{j}") for j, w in enumerate(windows)]
            below = [
                [
                    named(m, less(m, head, b[:limit], f"less{t}_{j}_{n}") | b[limit], f"below{t}_{j}_{n}")
                    for n, b in enumerate(bound)
                ]
                for j, head in enumerate(heads)
            ]
            if self.two_clock:
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
            left = [named(m, (left[j] - taken[j])[: field + 1], f"left{t}_{j}") for j in range(lanes)]
            bad = bad | (coded & none.any())
            new = []
            for j in range(lanes):
                hit = list(hits[j])
                code = one_hot(
                    hit, [resized(heads[j][limit - n - 1 :], index_bits) for n in range(limit)], index_bits
                )
                first = one_hot(hit, [resized(o, index_bits) for o in offset], index_bits)
                new.append(named(m, (code + first)[:index_bits], f"index{t}_{j}"))
            indices = [*indices, *new]
        bad = bad | (coded & Cat(*[named(m, n != 0, f"unmet{j}") for j, n in enumerate(left)]).any())
        indices, body, coded, zero, bad = pipe.cut(indices, body, coded, zero, bad)
        symbols = [mux_tree(m, table, index, f"symbol{i}") for i, index in enumerate(indices)]
        symbols, body, coded, zero, bad = pipe.cut(symbols, body, coded, zero, bad)

        elements: list[Any] = [None] * count
        for at, element_at in enumerate(coding_order(element)):
            symbol = symbols[(at % steps) * lanes + at // steps]
            own = body[rest * at : rest * (at + 1)]
            both = Cat(own[:-1], symbol, own[-1]) if rest else symbol
            raw = body[element.bits * element_at : element.bits * (element_at + 1)]
            elements[element_at] = Mux(coded, both, Mux(zero, 0, raw))
        self.finish(m, pipe, Cat(*elements), bad)


def _code(window: Any) -> Any:
    """The next `LIMIT` bits as a number, most significant code bit first."""
    return Cat(*[window[LIMIT - 1 - i] for i in range(LIMIT)])
