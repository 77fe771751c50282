"""Lines of 16-bit elements under the channel model, sixteen side by side in vector registers.

A lane holds a line. Two kinds of lines: of one channel, where the row of a step follows from the element before it
in the stream (`channel_chains`), and of neighbouring channels without context in the line, where all lines of a batch
begin at the same channel, so that row, shift and cell of an element are the same in every lane (`row_chains`). Both
leave, for each four elements, one word of values with their raw bits zero and one of masks of those bits, and a sum
that is negative where a line has an element with another form (escape, zero, too small or large): it is read again
by the general decoder.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from linepress_codecs.context.cells import SLOPE_SHIFT
from linepress_codecs.context.rows import ESCAPE_SYMBOL, NEAR, OFFSET, SMALL_CELLS
from linepress_codecs.intrinsics import Lanes, loop_over, variable
from linepress_codecs.tans.chains import LANES

FAR = 1 << 40
"""Cell index that stands for an escape: more bits than a mantissa has."""
WIDTH = 16
SHIFT_FROM = 20
"""A row, shift and mirror in one int64: the row in entries below this bit, the shift from it on, the mirror the
sign."""
ROW_AT, SHIFT_AT, MIRROR_AT, CELL_AT = range(4)
"""Columns of the elements of `row_chains`, int64[m, 4]."""


class _Model(Lanes):
    """Vector code of the channel model; ``mantissa`` and ``top`` (largest exponent) in every lane."""

    def __init__(self, builder: Any, mantissa: Any, top: Any) -> None:
        super().__init__(builder, LANES)
        self.mantissa, self.top = self.splat(mantissa), self.splat(top)

    def negate(self, value: Any, mask: Any) -> Any:
        return self.builder.sub(self.builder.xor(value, mask), mask)

    def larger(self, value: Any, least: int) -> Any:
        bound = self.constant(least)
        return self.builder.select(self.builder.icmp_signed(">", value, bound), value, bound)

    def sign(self, value: Any) -> Any:
        return self.builder.ashr(value, self.constant(63))

    def step(self, entry: Any, bits: Any) -> tuple[Any, Any, Any, Any]:
        """(symbol, next state, bits after it, their number) of an entry of `Machine.decode`."""
        b = self.builder
        count = b.and_(b.lshr(entry, self.constant(12)), self.constant(15))
        low = b.and_(bits, b.sub(b.shl(self.constant(1), count), self.constant(1)))
        symbol = b.and_(b.lshr(entry, self.constant(16)), self.constant(255))
        return symbol, b.add(b.and_(entry, self.constant(4095)), low), b.lshr(bits, count), count

    def entry(self, table: Any, row: Any, state: Any) -> Any:
        """Entry of uint32 table at ``row`` (in entries) + ``state``."""
        at = self.builder.shl(self.builder.add(row, state), self.constant(2))
        return self.gather(self.builder.add(table, at), 4)

    def cell(self, symbol: Any, shift: Any, mirror: Any) -> Any:
        """Cell index of a symbol, FAR of the escape."""
        b = self.builder
        index = self.negate(b.add(b.sub(symbol, self.constant(OFFSET)), shift), mirror)
        escape = b.icmp_signed("==", symbol, self.constant(ESCAPE_SYMBOL))
        return b.select(escape, self.constant(FAR), index)

    def unpacked(self, packed: Any) -> tuple[Any, Any, Any]:
        """(row in entries, shift, mirror) of `packed_place`."""
        b = self.builder
        shift = b.lshr(b.shl(packed, self.constant(1)), self.constant(SHIFT_FROM + 1))
        return b.and_(packed, self.constant((1 << SHIFT_FROM) - 1)), shift, self.sign(packed)

    def value(self, index: Any, cell: Any) -> tuple[Any, Any, Any]:
        """(element with raw bits zero, mask of those, negative where it has another form) of a cell index;
        ``cell`` is (cell exponent + bias) << mantissa. See `cells.near_cells`; the position of a number's leading one
        is read from the exponent of a float64."""
        b, one = self.builder, self.constant(1)
        sign = self.sign(index)
        size = self.negate(index, sign)
        linear = self.larger(b.sub(size, self.constant(SMALL_CELLS)), 1)
        doubles = ir.VectorType(ir.DoubleType(), self.n)
        magic = 0x433 << 52  # 2^52 as a float64: or-ing an integer below it adds the integer
        number = b.fsub(
            b.bitcast(b.or_(linear, self.constant(magic)), doubles), ir.Constant(doubles, [float(1 << 52)] * self.n)
        )
        pattern = b.lshr(b.bitcast(number, self.vector), b.sub(self.constant(52), self.mantissa))
        up = b.sub(pattern, b.shl(self.constant(1023), self.mantissa))
        over = b.lshr(up, self.mantissa)
        below = b.shl(b.sub(size, self.constant(SMALL_CELLS + 1)), self.mantissa)
        small = b.icmp_signed("<=", size, self.constant(SMALL_CELLS))
        magnitude = b.add(cell, b.select(small, below, up))
        exponent = b.ashr(magnitude, self.mantissa)
        left = b.sub(self.mantissa, over)
        odd = b.or_(b.or_(b.sub(exponent, one), b.sub(self.top, exponent)), b.or_(left, b.sub(size, one)))
        mask = b.sub(b.shl(one, b.and_(left, self.constant(15))), one)
        low = b.and_(magnitude, self.constant((1 << (WIDTH - 1)) - 1))
        return b.or_(low, b.and_(sign, self.constant(1 << (WIDTH - 1)))), mask, odd


class _Words:
    """Words of four values and of their masks, and what was odd about any."""

    def __init__(self, model: _Model) -> None:
        self.model = model
        self.words = [model.constant(0), model.constant(0)]

    def take(self, c: int, value: Any, mask: Any) -> None:
        """Element ``c`` of the word."""
        b, shift = self.model.builder, self.model.constant(WIDTH * c)
        self.words = [b.or_(word, b.shl(x, shift)) for word, x in zip(self.words, (value, mask), strict=True)]


def _row_chains(streams: int, turning: bool) -> Any:
    @intrinsic
    def chains(  # type: ignore[no-untyped-def]
        typing_context, table, payload, states, places, elements, lanes, out, masks, words, mantissa, top
    ):
        del typing_context, table, payload, states, places, elements, lanes, out, masks, words, mantissa, top

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            del signature
            table, payload, states, places, elements, lanes, out, masks, words, mantissa, top = arguments
            b, model = builder, _Model(builder, mantissa, top)
            tables, payloads = model.splat(table), model.splat(payload)
            state = [variable(b, model.load(states, c)) for c in range(streams)]
            place = variable(b, model.load(places))
            odd = variable(b, model.constant(0))
            word64 = ir.IntType(64)
            with loop_over(b, words, intp=word64) as loop:
                at = b.load(place)
                bits = model.gather(b.add(payloads, b.lshr(at, model.constant(3))), 1)
                bits = b.lshr(bits, b.and_(at, model.constant(7)))
                seen, both = b.load(odd), _Words(model)
                for c in range(4):
                    first = b.mul(b.add(b.mul(loop.index, ir.Constant(word64, 4)), ir.Constant(word64, c)),
                                  ir.Constant(word64, 32))  # fmt: skip
                    row, shift, mirror, cell = (
                        model.splat(
                            b.load(
                                b.inttoptr(b.add(b.add(elements, first), ir.Constant(word64, 8 * k)),
                                ir.PointerType()), align=8, typ=word64,
                            )
                        )
                        for k in (ROW_AT, SHIFT_AT, MIRROR_AT, CELL_AT)
                    )  # fmt: skip
                    if turning:
                        element = b.add(b.mul(loop.index, ir.Constant(word64, 4)), ir.Constant(word64, c))
                        row, shift, mirror = model.unpacked(model.load(lanes, element))
                    entry = model.entry(tables, row, b.load(state[c % streams]))
                    symbol, following, bits, count = model.step(entry, bits)
                    b.store(following, state[c % streams])
                    at = b.add(at, count)
                    value, mask, strange = model.value(model.cell(symbol, shift, mirror), cell)
                    seen = b.or_(seen, strange)
                    both.take(c, value, mask)
                b.store(at, place)
                b.store(seen, odd)
                model.store(both.words[0], out, loop.index)
                model.store(both.words[1], masks, loop.index)
            for c in range(streams):
                model.store(b.load(state[c]), states, c)
            model.store(b.load(place), places, 0)
            model.store(b.load(odd), places, 1)
            return context.get_dummy_value()

        return types.void(*[types.uint64] * 11), generate

    return chains


def _channel_chains(streams: int, turning: bool) -> Any:
    @intrinsic
    def chains(  # type: ignore[no-untyped-def]
        typing_context, table, payload, states, places, parameters, means, out, masks, words, mantissa, top, precision
    ):
        del typing_context, table, payload, states, places, parameters, means, out, masks, words, mantissa, top
        del precision

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            del signature
            table, payload, states, places, parameters, means, out, masks, words, mantissa, top, precision = arguments
            b, model = builder, _Model(builder, mantissa, top)
            tables, payloads, r = model.splat(table), model.splat(payload), model.splat(precision)
            state = [variable(b, model.load(states, c)) for c in range(streams)]
            place = variable(b, model.load(places))
            odd = variable(b, model.constant(0))
            slope, offset, next_row, first_row, widen, mean, cell_first, cell_next = (
                model.load(parameters, k) for k in range(8)
            )
            slope = b.ashr(b.shl(slope, model.constant(32)), model.constant(32))
            row = variable(b, first_row)
            cell = variable(b, cell_first)
            finer = variable(b, widen)
            word64 = ir.IntType(64)
            a_stream = b.udiv(words, ir.Constant(word64, streams))
            chain = b.mul(a_stream, ir.Constant(word64, 4))

            def mean_of(c: int, step: Any) -> Any:
                """Mean of element ``step`` of stream ``c``, in eighths of its first cell."""
                return model.load(means, b.add(b.mul(chain, ir.Constant(word64, c)), step))

            start = [mean_of(c, ir.Constant(word64, 0)) if turning else mean for c in range(streams)]
            guess = [variable(b, each) for each in start]
            with loop_over(b, a_stream, intp=word64) as loop:
                seen, both = b.load(odd), [_Words(model) for _ in range(streams)]
                for t in range(4):
                    at = b.load(place)
                    bits = model.gather(b.add(payloads, b.lshr(at, model.constant(3))), 1)
                    bits = b.lshr(bits, b.and_(at, model.constant(7)))
                    for c in range(streams):
                        prediction = b.load(guess[c])
                        mirror = model.sign(prediction)
                        cells = b.lshr(b.add(model.negate(prediction, mirror), model.constant(4)), model.constant(3))
                        most = model.constant(NEAR)
                        near = b.select(b.icmp_unsigned("<", cells, most), cells, most)
                        start = b.shl(b.add(b.load(row), near), r)
                        entry = model.entry(tables, start, b.load(state[c]))
                        symbol, following, bits, count = model.step(entry, bits)
                        b.store(following, state[c])
                        at = b.add(at, count)
                        index = model.cell(symbol, b.sub(cells, near), mirror)
                        value, mask, strange = model.value(index, b.load(cell))
                        seen = b.or_(seen, strange)
                        both[c].take(t, value, mask)
                        sign = model.sign(index)
                        middle = b.sub(b.shl(model.negate(index, sign), model.constant(3)),
                                       model.constant(8 * SMALL_CELLS - 4))  # fmt: skip
                        middle = b.shl(model.negate(model.larger(middle, 0), sign), b.load(finer))
                        # Both operands fit 32 bits in every line that is kept: one multiplication a lane.
                        known, own = offset, model.constant(0)
                        if turning:
                            step = b.add(b.mul(loop.index, ir.Constant(word64, 4)), ir.Constant(word64, t))
                            middle = b.sub(middle, b.shl(mean_of(c, step), widen))
                            own = b.shl(mean_of(c, b.add(step, ir.Constant(word64, 1))), widen)
                            known = model.constant(1 << (SLOPE_SHIFT - 1))
                        short = b.ashr(b.shl(middle, model.constant(32)), model.constant(32))
                        product = b.add(b.mul(short, slope), known)
                        b.store(b.add(own, b.ashr(product, model.constant(SLOPE_SHIFT))), guess[c])
                    b.store(at, place)
                    b.store(next_row, row)
                    b.store(cell_next, cell)
                    b.store(model.constant(0), finer)
                b.store(seen, odd)
                for c in range(streams):
                    word = b.add(loop.index, b.mul(a_stream, ir.Constant(word64, c)))
                    model.store(both[c].words[0], out, word)
                    model.store(both[c].words[1], masks, word)
            for c in range(streams):
                model.store(b.load(state[c]), states, c)
            model.store(b.load(place), places, 0)
            model.store(b.load(odd), places, 1)
            return context.get_dummy_value()

        return types.void(*[types.uint64] * 12), generate

    return chains


row_chains_2, row_chains_4 = _row_chains(2, False), _row_chains(4, False)
turning_row_chains_2, turning_row_chains_4 = _row_chains(2, True), _row_chains(4, True)
channel_chains_2, channel_chains_4 = _channel_chains(2, False), _channel_chains(4, False)
turning_channel_chains_2, turning_channel_chains_4 = _channel_chains(2, True), _channel_chains(4, True)
