"""What an encoder knows of the elements of a 16-bit line before its steps, sixteen elements side by side.

The model is that of `chains`, the way round: from elements to cells, to places (row * 256 + symbol) and to masks of
raw bits. Elements that no cell or row takes are left with the symbol that no row has; `words` makes escapes of them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from linepress_codecs.context.cells import SLOPE_SHIFT
from linepress_codecs.context.chains import (
    CELL_OF,
    COARSER_AT,
    COARSER_OF,
    CROSS_AT,
    CROSS_OF,
    FIRST_CELL_AT,
    FIRST_ROW_AT,
    MEAN_AT,
    MIRROR_OF,
    NEXT_CELL_AT,
    NEXT_ROW_AT,
    OFFSET_AT,
    OWN_AT,
    OWN_OF,
    ROW_OF,
    SHIFT_OF,
    SLOPE_AT,
    STEP_AT,
    STEP_OF,
    WIDEN_AT,
    WIDTH,
    Model,
)
from linepress_codecs.context.encode import NO_SYMBOL
from linepress_codecs.context.rows import OFFSET, SMALL_CELLS
from linepress_codecs.intrinsics import Lanes, loop_over, operation, variable
from linepress_codecs.tans.chains import LANES

FINER_CELLS = 4
"""Octaves by which cells may be finer than the element format, in a line of the fast kind."""
NO_CELL = 1 << 20
"""Index of an element too small for any cell; no row has a symbol for it."""


class _Elements(Model):
    """Sixteen elements of a line in the lanes."""

    def cells(self, element: Any, cell: Any) -> tuple[Any, Any, Any]:
        """(cell index, mask of raw bits, negative where an element is subnormal or too large) of elements;
        ``cell`` is the cell exponent + bias. See `cells.cell_of`."""
        b, none = self.builder, self.constant(0)
        magnitude = b.and_(element, self.constant((1 << (WIDTH - 1)) - 1))
        exponent = b.lshr(magnitude, self.mantissa)
        over = b.sub(exponent, cell)
        raw = self.larger(b.sub(self.mantissa, self.larger(over, 0)), 0)
        leading = b.shl(self.constant(1), self.mantissa)
        significand = b.or_(self.low_bits(magnitude, self.mantissa), leading)
        finer = self.smaller(self.larger(b.sub(over, self.mantissa), 0), FINER_CELLS)
        size = b.add(b.shl(b.lshr(significand, raw), finer), self.smaller(over, 0))
        size = b.add(size, self.constant(SMALL_CELLS))
        sign = b.sub(none, b.lshr(element, self.constant(WIDTH - 1)))
        index = self.negate(size, sign)
        there = b.icmp_signed(">=", over, self.constant(-SMALL_CELLS))
        odd = b.or_(b.sub(b.add(self.mantissa, self.constant(FINER_CELLS)), over), b.sub(exponent, self.constant(1)))
        zero = b.icmp_signed("==", magnitude, none)
        index = b.select(zero, none, b.select(there, index, self.constant(NO_CELL)))
        mask = b.select(zero, self.constant(1 << (WIDTH - 1)), self.low_bits(self.constant(-1), raw))
        return index, mask, b.select(zero, none, odd)

    def smaller(self, value: Any, most: int) -> Any:
        bound = self.constant(most)
        return self.builder.select(self.builder.icmp_signed("<", value, bound), value, bound)

    def place(self, index: Any, row: Any, shift: Any, mirror: Any) -> Any:
        """Row * 256 + symbol."""
        b, most = self.builder, self.constant(int(NO_SYMBOL))
        symbol = b.add(b.sub(self.negate(index, mirror), shift), self.constant(OFFSET))
        symbol = b.select(b.icmp_unsigned("<", symbol, most), symbol, most)
        return b.add(b.shl(row, self.constant(8)), symbol)

    def behind(self, before: Any, value: Any) -> Any:
        """The lanes' numbers one lane on, the last of ``before`` first."""
        lanes = ir.VectorType(ir.IntType(32), LANES)
        return self.builder.shuffle_vector(before, value, ir.Constant(lanes, list(range(LANES - 1, 2 * LANES - 1))))


@operation(prefer_literal=True)
def line_places(  # type: ignore[no-untyped-def]
    typing_context, line, known, stride, position, wheel, behind, places, masks, elements, mantissa, chain, rows,
    turning,
):  # fmt: skip
    """Places and masks of raw bits of a line's elements; negative where an element is of a kind left to others.

    Addresses: line uint16[m]; known, of the first element in `vector.row_constants` transposed, int32[COLUMNS,
    stride], or of the channel, int32[PARAMETERS]; wheel `chains.turns`; out: behind int32[2, m] for a line of one
    channel (means, by which an element behind an escape is predicted; cell indices), places and masks uint16[m].
    Numbers: position of the first element, elements (a multiple of 16), mantissa, chain (elements of a stream, a
    power of two). Constants of the caller: rows, turning.
    """
    del typing_context, line, known, stride, position, wheel, behind, places, masks, elements, mantissa, chain

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        del context
        line, known, stride, position, wheel, behind, places, masks, elements, mantissa, chain, *_ = arguments
        in_rows, turns_too = (kind.literal_value for kind in signature.args[-2:])
        b, word64 = builder, ir.IntType(64)
        model, narrow = _Elements(b, mantissa, ir.Constant(word64, 0)), Lanes(b, LANES, 16)
        odd, before = variable(b, model.constant(0)), variable(b, model.constant(0))
        ahead = ir.Constant(model.vector, list(range(LANES)))
        seat = model.splat(position)
        own = [] if in_rows else [model.load_one(known, k) for k in range(COARSER_AT + 1 if turns_too else OWN_AT)]
        last_mean = variable(b, model.constant(0))
        with loop_over(b, b.lshr(elements, ir.Constant(word64, 4)), intp=word64) as loop:
            first = b.mul(loop.index, ir.Constant(word64, LANES))
            element = b.zext(narrow.load(line, loop.index), model.vector)
            if in_rows:

                def column(k: int, first: Any = first) -> Any:
                    at = b.add(b.mul(stride, ir.Constant(word64, k)), first)
                    return model.load(b.add(known, b.mul(at, ir.Constant(word64, 4))))

                index, mask, strange = model.cells(element, column(CELL_OF))
                if turns_too:
                    phase = b.mul(seat, column(STEP_OF))
                    mean = model.mean(wheel, phase, column(OWN_OF), column(CROSS_OF), column(COARSER_OF))
                    place = model.place(index, *model.row(mean, column(ROW_OF)))
                else:
                    place = model.place(index, column(ROW_OF), column(SHIFT_OF), column(MIRROR_OF))
            else:
                at = b.add(model.splat(first), ahead)
                within = b.and_(at, model.splat(b.sub(chain, ir.Constant(word64, 1))))
                alone = b.icmp_signed("==", within, model.constant(0))
                widen = own[WIDEN_AT]
                cell = b.select(alone, own[FIRST_CELL_AT], own[NEXT_CELL_AT])
                index, mask, strange = model.cells(element, cell)
                middle = b.shl(model.middle(index), b.select(alone, widen, model.constant(0)))
                mean = own[MEAN_AT]
                if turns_too:
                    phase = b.mul(b.add(seat, at), own[STEP_AT])
                    mean = model.mean(wheel, phase, own[OWN_AT], own[CROSS_AT], own[COARSER_AT])
                wide = b.shl(mean, widen)
                model.store(wide, behind, loop.index)
                model.store(index, b.add(behind, b.mul(elements, ir.Constant(word64, 4))), loop.index)
                context_of = model.behind(b.load(before), middle)
                added, following = own[OFFSET_AT], model.constant(0)
                if turns_too:
                    context_of = b.sub(context_of, model.behind(b.load(last_mean), wide))
                    added, following = model.constant(1 << (SLOPE_SHIFT - 1)), wide
                moved = b.ashr(b.add(b.mul(context_of, own[SLOPE_AT]), added), model.constant(SLOPE_SHIFT))
                guess = b.select(alone, mean, b.add(following, moved))
                b.store(middle, before)
                b.store(wide, last_mean)
                row = b.select(alone, own[FIRST_ROW_AT], own[NEXT_ROW_AT])
                place = model.place(index, *model.row(guess, row))
            b.store(b.or_(b.load(odd), strange), odd)
            narrow.store(b.trunc(place, narrow.vector), places, loop.index)
            narrow.store(b.trunc(mask, narrow.vector), masks, loop.index)
        bad = b.icmp_signed("<", b.load(odd), model.constant(0))
        some = b.icmp_unsigned("!=", b.bitcast(bad, ir.IntType(LANES)), ir.Constant(ir.IntType(LANES), 0))
        return b.select(some, ir.Constant(ir.IntType(32), -1), ir.Constant(ir.IntType(32), 0))

    return types.int32(*[types.uint64] * 11, rows, turning), generate
