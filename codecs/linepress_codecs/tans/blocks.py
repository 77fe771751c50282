"""Raw fields of many lines put beside their coded ones in vector registers, 32 bytes of a line at a time.

The coded fields come as the loops of `chains` leave them, a line in a lane; sixteen bits of a line that hold one
element of 16 bits or two of 8 bits are a *cell*. The raw bits of a cell are brought to its top by shuffles of bytes
and by multiplications, which shift each cell by a count of its own, then each part of them goes to its place by one
shift and a mask of all cells.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from linepress_codecs.intrinsics import Lanes, loop_over, operation

BLOCK_BYTES, HALF_BYTES = 32, 16
CELLS = HALF_BYTES // 2
LINE_ROOM = 128
"""Bytes of a line's raw bits in ``raw`` of `place_blocks`: those of a 128 B line and what loads read behind them."""
PATTERN_BYTES = 3 * BLOCK_BYTES
NOWHERE = 0x80
"""A shuffle's index of no byte: zero."""


@lru_cache(maxsize=64)
def block_patterns(width: int, low: int, sign: bool) -> NDArray[np.uint8]:
    """uint8[8, PATTERN_BYTES]: by the bit of its first byte at which a line's raw bits begin, which two bytes a
    cell's raw bits end in, which byte lies before those, and the factor that shifts them to the cell's top."""
    raw = (low + sign) * (16 // width)
    ends = np.arange(8)[:, None] + raw * np.arange(1, CELLS + 1)
    last = (ends - 1) >> 3
    out = np.empty((8, 3, BLOCK_BYTES // HALF_BYTES, CELLS), np.uint16)

    def index(byte: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(byte < 0, NOWHERE, byte)

    out[:, 0] = (index(last - 1) | index(last) << 8)[:, None]
    out[:, 1] = (NOWHERE | index(last - 2) << 8)[:, None]
    out[:, 2] = (1 << (8 * (last + 1) - ends))[:, None]
    return out.view(np.uint8).reshape(8, PATTERN_BYTES)


@lru_cache(maxsize=64)
def block_shape(width: int, low: int, sign: bool) -> tuple[np.uint64, ...]:
    """Where the raw bits at a cell's top go: what stays, and twice a shift to the right and what is kept then."""
    raw, bits = low + sign, (1 << low) - 1
    top = sign << 15
    if width == 16:
        shape = top, 0, 0, 16 - raw, bits
    else:
        shape = top, 8 - raw, bits << 8 | sign << 7, min(16 - 2 * raw, 15), bits
    return tuple(np.uint64(value) for value in shape)


class _Blocks:
    """Vector code of eight lines."""

    def __init__(self, builder: Any, shape: list[Any]) -> None:
        self.builder = builder
        self.word, self.bytes, self.cells = Lanes(builder, 8, 32), Lanes(builder, 32, 8), Lanes(builder, 16, 16)
        self.stay, self.first, self.first_mask, self.second, self.second_mask = map(self.cells.splat, shape)

    def shuffled(self, a: Any, b: Any, mask: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(self.word.vector, mask))

    def turned(self, rows: list[Any]) -> list[Any]:
        """Eight rows of eight lanes to eight lanes of eight rows, by what each half of a register can do alone."""
        low, high = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
        pairs = [self.shuffled(rows[i], rows[i + 1], mask) for i in range(0, 8, 2) for mask in (low, high)]
        low, high = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
        first = (0, 1, 4, 5)
        fours = [self.shuffled(pairs[i], pairs[i + 2], mask) for i in first for mask in (low, high)]
        halves = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
        return [self.shuffled(fours[i], fours[i + 4], mask) for mask in halves for i in range(4)]

    def call(self, name: str, vector: Any, *arguments: Any) -> Any:
        kind = ir.FunctionType(vector, [vector] * len(arguments))
        function = self.builder.module.globals.get(name) or ir.Function(self.builder.module, kind, name)
        return self.builder.call(function, arguments)

    def raw_bits(self, address: Any, second: Any, pattern: Any) -> Any:
        """The raw bits of 16 cells, each at its top: eight from ``address`` on, eight from ``second`` on."""
        b, cells = self.builder, self.cells
        half = Lanes(b, HALF_BYTES, 8)
        both = b.shuffle_vector(
            half.load(address), half.load(second), ir.Constant(ir.VectorType(ir.IntType(32), 32), list(range(32)))
        )
        shifts = cells.load(pattern, 2)
        chosen = [self.bytes.load(pattern, k) for k in range(2)]
        bytes_in = [self.call("llvm.x86.avx2.pshuf.b", self.bytes.vector, both, which) for which in chosen]
        end, before = (b.bitcast(two, cells.vector) for two in bytes_in)
        return b.or_(b.mul(end, shifts), self.call("llvm.x86.avx2.pmulhu.w", cells.vector, before, shifts))

    def placed(self, fields: Any, bits: Any) -> Any:
        b = self.builder
        first = b.and_(b.lshr(bits, self.first), self.first_mask)
        second = b.and_(b.lshr(bits, self.second), self.second_mask)
        return b.or_(b.or_(b.bitcast(fields, self.cells.vector), b.and_(bits, self.stay)), b.or_(first, second))


def place_blocks(lanes: int) -> Any:
    """The loop over the blocks of so many lines."""

    @operation
    def place(  # type: ignore[no-untyped-def]
        typing_context, fields, raw, patterns, targets, half_raw, blocks, stay, first, first_mask, second, second_mask
    ):  # fmt: skip
        """Lines from their fields and raw bits.

        Addresses: fields uint32[rows, lanes], raw uint8[lanes, LINE_ROOM], patterns and targets uint64[lanes]
        (addresses of a line's pattern of `block_patterns` and of the line); then the raw bytes of 16 bytes of a line,
        the blocks of a line and `block_shape`.
        """
        del typing_context, fields, raw, patterns, targets, half_raw, blocks
        del stay, first, first_mask, second, second_mask

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            del signature
            fields, raw, patterns, targets, half_raw, blocks, *shape = arguments
            b, word = builder, ir.IntType(64)
            code, address = _Blocks(b, shape), Lanes(b, 1, 64)

            def at(base: Any, step: Any, index: Any, more: int = 0) -> Any:
                return b.add(b.add(base, b.mul(index, step)), ir.Constant(word, more))

            def number(array: Any, index: Any) -> Any:
                return b.extract_element(address.load(array, index), ir.Constant(ir.IntType(32), 0))

            of = {size: ir.Constant(word, size) for size in (BLOCK_BYTES, LINE_ROOM, 8)}
            groups = ir.Constant(word, lanes // 8)
            with loop_over(b, blocks, intp=word) as block, loop_over(b, groups, intp=word) as group:
                rows_at = at(at(fields, ir.Constant(word, 8 * 4 * lanes), block.index), of[BLOCK_BYTES], group.index)
                rows = [code.word.load(b.add(rows_at, ir.Constant(word, 4 * lanes * k))) for k in range(8)]
                behind = at(raw, b.mul(half_raw, ir.Constant(word, 2)), block.index)
                for k, line in enumerate(code.turned(rows)):
                    lane = at(ir.Constant(word, k), of[8], group.index)
                    source = at(behind, of[LINE_ROOM], lane)
                    bits = code.raw_bits(source, b.add(source, half_raw), number(patterns, lane))
                    target = at(number(targets, lane), of[BLOCK_BYTES], block.index)
                    code.cells.store(code.placed(line, bits), target)
            return context.get_dummy_value()

        return types.void(*[types.uint64] * 11), generate

    return place
