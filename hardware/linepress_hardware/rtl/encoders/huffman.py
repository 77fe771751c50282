"""``huffman:substreams=8`` encoder: ranks of the symbols, codes from the ranks, codes joined to lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux
from numpy.typing import NDArray

from linepress_hardware.rtl.blocks import Pipe, less, mux_tree, named, one_hot, prefix_sums, shift_in
from linepress_hardware.rtl.decoders.huffman import (
    COARSE,
    LANES,
    LIMIT,
    OFFSET,
    ZERO_MODE,
    canonical_order,
    coding_order,
    fixed_bits,
    fours_of,
    huffman_config,
)
from linepress_hardware.rtl.line import BF16, RAW_BITS, SIZE_BITS, LineEncoder

RANK, END, RANK_BITS = 0, 256, 9
"""Configuration addresses: for a symbol, its place in canonical order, bit 8 set where it has a code; END + l, how
many symbols have codes of at most l bits. `OFFSET` + l and `ZERO_MODE` are the decoder's."""


def huffman_encoder_config(lengths: NDArray[np.uint8], zero_lines: bool) -> list[tuple[int, int]]:
    """Table writes of code ``lengths`` uint8[256] (0 = no code)."""
    ranks = {symbol: rank for rank, symbol in enumerate(canonical_order(lengths))}
    writes = [(RANK + s, 256 | ranks[s] if s in ranks else 0) for s in range(256)]
    used = lengths[lengths > 0]
    writes += [(END + n, int((used <= n).sum())) for n in range(1, LIMIT + 1)]
    return writes + [write for write in huffman_config(lengths, zero_lines) if write[0] > OFFSET]


def sums_of_two(m: Module, sizes: list[Any], each: int, name: str) -> list[Any]:
    """Sums of neighbours; ``each`` bounds one size."""
    width = (2 * each).bit_length()
    return [named(m, (sizes[i] + sizes[i + 1])[:width], f"{name}{i // 2}_size") for i in range(0, len(sizes), 2)]


def joined(m: Module, words: list[Any], sizes: list[Any], each: int, name: str) -> list[Any]:
    """Neighbours in one word, the second behind the first's bits; ``each`` bounds a size."""
    return [
        named(
            m,
            words[i] | shift_in(m, words[i + 1], sizes[i], each, 2 * each, f"{name}{i // 2}_behind"),
            f"{name}{i // 2}",
        )
        for i in range(0, len(words), 2)
    ]


class HuffmanEncoder(LineEncoder):
    """``huffman:substreams=8`` of bf16 in ten clocks: two look up all ranks, three give lengths and codes, two
    join the codes of a lane while the lanes' places are summed, two move the lanes there.

    A line is raw where a symbol has no code or where its code would not be shorter.
    """

    data_bits = RAW_BITS + 2

    def build(self, m: Module) -> None:
        element, limit = BF16, LIMIT
        fixed = fixed_bits(element)
        most = RAW_BITS + 1 - fixed  # code bits of the longest coded line
        ranks = [self.config(RANK + i, RANK_BITS, f"rank{i}") for i in range(256)]
        end = [self.config(END + n, 9, f"end{n}") for n in range(1, limit + 1)]
        offset = [self.config(OFFSET + n, limit, f"offset{n}") for n in range(1, limit + 1)]
        zero_mode = self.config(ZERO_MODE, 1, "zero_mode")

        def exponents(line: Any) -> list[Any]:
            low = element.mantissa_bits
            return [line[16 * i + low : 16 * i + low + 8] for i in coding_order(element)]

        pipe = Pipe(m, self.valid)
        line = pipe.cut(self.line)
        fours = [mux_tree(m, fours_of(ranks), s[2:], f"four{i}") for i, s in enumerate(exponents(line))]
        zero = named(m, ~line.any() & zero_mode, "zero")
        line, fours, zero = pipe.cut(line, fours, zero)
        found = [
            mux_tree(m, [four[RANK_BITS * k :][:RANK_BITS] for k in range(4)], s[:2], f"found{i}")
            for i, (four, s) in enumerate(zip(fours, exponents(line), strict=True))
        ]
        line, found, zero = pipe.cut(line, found, zero)

        unseen = named(m, ~Cat(*[f[8] for f in found]).all(), "check_unseen")
        rank = [f[:8] for f in found]
        below = [
            [named(m, less(m, r, e[:8]) | e[8], f"below{i}_{n}") for n, e in enumerate(end, 1)]
            for i, r in enumerate(rank)
        ]
        hits = [
            Cat(b[0], *(named(m, b[n] & ~b[n - 1], f"hit{i}_{n}") for n in range(1, limit)))
            for i, b in enumerate(below)
        ]
        line, rank, hits, unseen, zero = pipe.cut(line, rank, hits, unseen, zero)
        sizes = [
            named(m, one_hot(list(hit), [Const(n + 1, 4) for n in range(limit)], 4), f"length{i}")
            for i, hit in enumerate(hits)
        ]
        firsts = [named(m, one_hot(list(hit), offset, limit), f"first{i}") for i, hit in enumerate(hits)]
        line, rank, firsts, hits, sizes, unseen, zero = pipe.cut(line, rank, firsts, hits, sizes, unseen, zero)
        codes = [named(m, (r - f)[:limit], f"code{i}") for i, (r, f) in enumerate(zip(rank, firsts, strict=True))]
        pairs = sums_of_two(m, sizes, limit, "pair")
        lengths = sums_of_two(m, pairs, 2 * limit, "lane")
        line, codes, hits, sizes, pairs, lengths, unseen, zero = pipe.cut(
            line, codes, hits, sizes, pairs, lengths, unseen, zero
        )

        # The first bit of a code is its highest and lies lowest.
        words = [
            one_hot(list(hit), [Cat(*[code[n - i] for i in range(n + 1)]) for n in range(limit)], limit)
            for code, hit in zip(codes, hits, strict=True)
        ]
        words = joined(m, words, sizes, limit, "pair")
        each = 4 * limit
        ends = prefix_sums(m, lengths, each, "fours", until=4)
        line, words, pairs, lengths, ends, unseen, zero = pipe.cut(line, words, pairs, lengths, ends, unseen, zero)
        words = joined(m, words, pairs, 2 * limit, "lane")
        ends = prefix_sums(m, ends, each, "end", done=4)
        line, words, lengths, ends, unseen, zero = pipe.cut(line, words, lengths, ends, unseen, zero)

        # A lane moves to its place by the low bits of where it begins, then by multiples of `COARSE`.
        low = (COARSE - 1).bit_length()
        far = [min(each * j, most) for j in range(LANES)]
        words = [words[0]] + [
            shift_in(m, words[j], ends[j - 1][:low], min(COARSE - 1, far[j]), each + COARSE - 1, f"near{j}")
            for j in range(1, LANES)
        ]
        size = named(m, (ends[-1] + fixed)[:SIZE_BITS], "coded_bits")
        line, words, lengths, ends, size, unseen, zero = pipe.cut(
            line, words, lengths[: LANES - 1], [end[low:] for end in ends], size, unseen, zero
        )
        words = [words[0]] + [
            shift_in(m, words[j], ends[j - 1], far[j] // COARSE, most, f"far{j}", unit=COARSE)
            for j in range(1, LANES)
        ]
        codes = one_hot([Const(1, 1)] * LANES, words, most)
        raw_bits = named(m, RAW_BITS + 1 + zero_mode, "raw_bits")
        raw = named(m, named(m, size >= raw_bits, "check_longest") | unseen, "raw")
        size = named(m, Mux(zero, 2, Mux(raw, raw_bits, size)), "bits")
        line, codes, lengths, raw, size, zero = pipe.cut(line, codes, lengths, raw, size, zero)

        rests = [Cat(line[16 * i :][: element.mantissa_bits], line[16 * i + 15]) for i in coding_order(element)]
        coded = Cat(Const(1, 1), *lengths, *rests, codes)
        plain = Mux(zero_mode, Cat(Const(0, 2), line), Cat(Const(0, 1), line))
        m.d.sync += self.out_size.eq(size)
        self.finish(m, pipe, Mux(zero, 2, Mux(raw, plain, coded)), 0)
