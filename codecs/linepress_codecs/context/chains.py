"""Lines of 16-bit elements under the channel model, sixteen side by side in vector registers.

A lane holds a line. Two kinds of lines: of neighbouring channels without context in the line, where all lines of a
batch begin at the same channel, so that what is known of an element is the same in every lane; and of one channel,
where the row of a step follows from the element before it in the stream. Where means turn, an element's mean is
computed in its lane: sine and cosine of its phase by one gather, two multiplications.

Both kinds leave, for each two elements, one word of values with their raw bits zero and one of masks of those bits,
and a number that is negative where a line has an element with another form (subnormal, too large): it is read again
by the general decoder.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from linepress_codecs.context.cells import SLOPE_SHIFT
from linepress_codecs.context.rows import ESCAPE_SYMBOL, NEAR, OFFSET, SMALL_CELLS
from linepress_codecs.context.turning import QUARTER, SINE_BITS, wave
from linepress_codecs.intrinsics import Lanes, loop_over, operation, variable
from linepress_codecs.tans.chains import LANES

FAR = 1 << 30
"""Cell index that stands for an escape."""
MOST_CELLS = 1 << 16
"""A line with a larger cell index is left to others, so that every number below fits 32 bits; see `fast.narrow`."""
WIDTH = 16
COLUMNS = 8
ROW_OF, CELL_OF, SHIFT_OF, MIRROR_OF = range(4)
"""Columns of an element of a line of neighbours, int32[m, COLUMNS], whose mean is always the same."""
OWN_OF, CROSS_OF, STEP_OF, COARSER_OF, LATER_OF = range(2, 7)
"""The columns behind `CELL_OF` of one whose mean turns; LATER_OF: positions that it lies behind the line's first."""
SLOPE_AT, OFFSET_AT, NEXT_ROW_AT, FIRST_ROW_AT, WIDEN_AT, MEAN_AT, FIRST_CELL_AT, NEXT_CELL_AT = range(8)
"""Rows of the parameters of lines of one channel, int32[…, LANES]."""
OWN_AT, CROSS_AT, STEP_AT, COARSER_AT, PARAMETERS = range(8, 13)
"""The rows behind those where means turn."""
INDEX_BITS = (4 * QUARTER).bit_length() - 1


@lru_cache(maxsize=1)
def turns() -> NDArray[np.int32]:
    """int32[4 QUARTER]: cosine (upper half) and sine (lower half) of each phase, for one load a mean."""
    sines = wave().astype(np.int64)
    both = (sines[QUARTER:] << 16) | (sines[: 4 * QUARTER] & 0xFFFF)
    return both.astype(np.int32)


class Model(Lanes):
    """Vector code of the channel model."""

    def __init__(self, builder: Any, mantissa: Any, precision: Any) -> None:
        super().__init__(builder, LANES, 32)
        self.mantissa, self.precision = self.splat(mantissa), self.splat(precision)

    def negate(self, value: Any, mask: Any) -> Any:
        return self.builder.sub(self.builder.xor(value, mask), mask)

    def larger(self, value: Any, least: int) -> Any:
        bound = self.constant(least)
        return self.builder.select(self.builder.icmp_signed(">", value, bound), value, bound)

    def sign(self, value: Any) -> Any:
        return self.builder.ashr(value, self.constant(31))

    def step(self, entry: Any, bits: Any) -> tuple[Any, Any, Any, Any]:
        """(symbol, next state, bits after it, their number) of an entry of `Machine.decode`."""
        b = self.builder
        count = b.and_(b.lshr(entry, self.constant(12)), self.constant(15))
        following = b.add(b.and_(entry, self.constant(4095)), self.low_bits(bits, count))
        return b.lshr(entry, self.constant(16)), following, b.lshr(bits, count), count

    def cell(self, symbol: Any, shift: Any, mirror: Any) -> Any:
        """Cell index of a symbol, FAR of the escape."""
        b = self.builder
        index = self.negate(b.add(b.sub(symbol, self.constant(OFFSET)), shift), mirror)
        escape = b.icmp_signed("==", symbol, self.constant(ESCAPE_SYMBOL))
        return b.select(escape, self.constant(FAR), index)

    def escape(self, index: Any) -> Any:
        """In which lanes the cell index is FAR."""
        return self.builder.icmp_signed("==", index, self.constant(FAR))

    def row(self, prediction: Any, first: Any) -> tuple[Any, Any, Any]:
        """(row in entries, shift, mirror) of a prediction; ``first`` is the row of one near zero."""
        b = self.builder
        mirror = self.sign(prediction)
        cells = b.lshr(b.add(self.negate(prediction, mirror), self.constant(4)), self.constant(3))
        most = self.constant(NEAR)
        near = b.select(b.icmp_unsigned("<", cells, most), cells, most)
        return b.add(first, b.shl(near, self.precision)), b.sub(cells, near), mirror

    def middle(self, index: Any) -> Any:
        """Middle of a cell in eighths of a cell; see `cells.middle`."""
        b = self.builder
        sign = self.sign(index)
        size = b.sub(b.shl(self.negate(index, sign), self.constant(3)), self.constant(8 * SMALL_CELLS - 4))
        return self.negate(self.larger(size, 0), sign)

    def value(self, index: Any, cell: Any, top: Any) -> tuple[Any, Any, Any]:
        """(element with raw bits zero, mask of those, negative where it has another form) of a cell index.

        ``cell`` is (cell exponent + bias) << mantissa, ``top`` the largest exponent. See `cells.near_cells`; the
        position of a number's leading one is read from the exponent of a float32.
        """
        b, one = self.builder, self.constant(1)
        sign = self.sign(index)
        size = self.negate(index, sign)
        linear = self.larger(b.sub(size, self.constant(SMALL_CELLS)), 1)
        number = b.bitcast(b.sitofp(linear, ir.VectorType(ir.FloatType(), self.n)), self.vector)
        beyond = b.sub(self.constant(23), self.mantissa)
        # Of a cell finer than the element format only the values without further bits exist.
        missing = self.low_bits(number, beyond)
        up = b.sub(b.lshr(number, beyond), b.shl(self.constant(127), self.mantissa))
        over = b.lshr(up, self.mantissa)
        below = b.shl(b.sub(size, self.constant(SMALL_CELLS + 1)), self.mantissa)
        small = b.icmp_signed("<=", size, self.constant(SMALL_CELLS))
        magnitude = b.add(cell, b.select(small, below, up))
        exponent = b.ashr(magnitude, self.mantissa)
        left = self.larger(b.sub(self.mantissa, over), 0)
        odd = b.or_(b.sub(exponent, one), b.sub(top, exponent))
        odd = b.or_(odd, b.or_(b.sub(size, one), b.sub(self.constant(MOST_CELLS), size)))
        odd = b.or_(odd, b.sub(self.constant(0), missing))
        mask = self.low_bits(self.constant(-1), b.and_(left, self.constant(15)))
        low = b.and_(magnitude, self.constant((1 << (WIDTH - 1)) - 1))
        value = b.or_(low, b.and_(sign, self.constant(1 << (WIDTH - 1))))
        # An escape is an element of raw bits only, a zero one whose sign is raw.
        escape, none = self.escape(index), self.constant(0)
        zero = b.icmp_signed("==", index, none)
        mask = b.select(escape, self.constant((1 << WIDTH) - 1), mask)
        mask = b.select(zero, self.constant(1 << (WIDTH - 1)), mask)
        bare = b.or_(escape, zero)
        return b.select(bare, none, value), mask, b.select(bare, none, odd)

    def mean(self, wheel: Any, phase: Any, own: Any, cross: Any, coarser: Any) -> Any:
        """`turning_kernels.turned` at a phase in 2^-32 turns."""
        b = self.builder
        at = b.lshr(b.add(phase, self.constant(1 << (31 - INDEX_BITS))), self.constant(32 - INDEX_BITS))
        both = self.gather(wheel, at, 4, 4)
        cosine = b.ashr(both, self.constant(16))
        sine = b.ashr(b.shl(both, self.constant(16)), self.constant(16))
        total = b.add(b.mul(own, cosine), b.mul(cross, sine))
        shift = b.add(coarser, self.constant(SINE_BITS))
        half = b.shl(self.constant(1), b.sub(shift, self.constant(1)))
        return b.ashr(b.add(total, half), shift)


class _Line:
    """What both kinds of lines share: states, places, the words written, and a step."""

    def __init__(self, model: Model, table: Any, payload: Any, states: Any, places: Any, streams: int) -> None:
        b = model.builder
        self.model, self.table, self.payload, self.states, self.places = model, table, payload, states, places
        self.wide = Lanes(b, LANES, 64)
        self.state = [variable(b, model.load(states, c)) for c in range(streams)]
        self.place = variable(b, self.wide.load(places))
        self.odd = variable(b, model.constant(0))

    def read(self) -> None:
        """Bits for four steps."""
        self.at = self.model.builder.load(self.place)
        self.bits = self.wide.window(self.payload, self.at)
        self.taken = self.model.constant(0)
        self.steps = 0

    def step(self, c: int, row: Any, shift: Any, mirror: Any) -> Any:
        """Cell index of the next element of stream ``c``."""
        model, b = self.model, self.model.builder
        if self.steps == 2:  # 32 bits hold two steps
            self.bits = b.lshr(self.bits, b.zext(self.taken, self.wide.vector))
        if self.steps % 2 == 0:
            self.part = b.trunc(self.bits, model.vector)
        self.steps += 1
        entry = model.gather(self.table, b.add(row, b.load(self.state[c])), 4, 4)
        symbol, following, self.part, count = model.step(entry, self.part)
        b.store(following, self.state[c])
        self.taken = b.add(self.taken, count)
        return model.cell(symbol, shift, mirror)

    def advance(self) -> None:
        b = self.model.builder
        b.store(b.add(self.at, b.zext(self.taken, self.wide.vector)), self.place)

    def finish(self, odd: Any) -> None:
        model, b = self.model, self.model.builder
        for c, state in enumerate(self.state):
            model.store(b.load(state), self.states, c)
        self.wide.store(b.load(self.place), self.places)
        model.store(b.load(self.odd), odd)


class _Pairs:
    """Words of two values, of their masks, and where they are stored."""

    def __init__(self, line: _Line, out: Any, masks: Any, top: Any) -> None:
        self.line, self.addresses, self.top = line, (out, masks), line.model.splat(top)
        self.held: list[Any] = []

    def take(self, index: Any, cell: Any, word: Any, half: int) -> None:
        """Element ``2 half`` or the one behind it of the four of ``word``."""
        model, b = self.line.model, self.line.model.builder
        *both, strange = model.value(index, cell, self.top)
        b.store(b.or_(b.load(self.line.odd), strange), self.line.odd)
        if not self.held:
            self.held = both
            return
        row = b.add(b.mul(word, ir.Constant(ir.IntType(64), 2)), ir.Constant(ir.IntType(64), half))
        for first, second, address in zip(self.held, both, self.addresses, strict=True):
            model.store(b.or_(first, b.shl(second, model.constant(WIDTH))), address, row)
        self.held = []


def _rows(line: _Line, pairs: _Pairs, wheel: Any, elements: Any, positions: Any, words: Any, turning: bool) -> None:
    """A line of neighbouring channels."""
    model, b, word64 = line.model, line.model.builder, ir.IntType(64)
    position = model.load(positions) if turning else None
    with loop_over(b, words, intp=word64) as loop:
        line.read()
        for c in range(4):
            first = b.mul(
                b.add(b.mul(loop.index, ir.Constant(word64, 4)), ir.Constant(word64, c)), ir.Constant(word64, COLUMNS)
            )

            def known(k: int, first: Any = first) -> Any:
                return model.load_one(elements, b.add(first, ir.Constant(word64, k)))

            row, shift, mirror = known(ROW_OF), known(SHIFT_OF), known(MIRROR_OF)
            if turning:
                phase = b.mul(b.add(position, known(LATER_OF)), known(STEP_OF))
                mean = model.mean(wheel, phase, known(OWN_OF), known(CROSS_OF), known(COARSER_OF))
                row, shift, mirror = model.row(mean, row)
            index = line.step(c % len(line.state), row, shift, mirror)
            pairs.take(index, known(CELL_OF), loop.index, c // 2)
        line.advance()


def _channels(
    line: _Line, pairs: list[_Pairs], wheel: Any, given: Any, positions: Any, words: Any, turning: bool
) -> None:
    """A line of one channel."""
    model, b, word64 = line.model, line.model.builder, ir.IntType(64)
    streams = len(line.state)
    own = [model.load(given, k) for k in range(PARAMETERS if turning else OWN_AT)]
    widen, slope = own[WIDEN_AT], own[SLOPE_AT]
    row, cell = variable(b, own[FIRST_ROW_AT]), variable(b, own[FIRST_CELL_AT])
    finer = variable(b, widen)
    a_stream = b.udiv(words, ir.Constant(word64, streams))
    steady = b.shl(own[MEAN_AT], widen)
    guess, means, phases = [], [], []
    for c in range(streams):
        mean = own[MEAN_AT]
        if turning:
            ahead = model.splat(b.mul(a_stream, ir.Constant(word64, 4 * c)))
            phase = b.mul(b.add(model.load(positions), ahead), own[STEP_AT])
            mean = model.mean(wheel, phase, own[OWN_AT], own[CROSS_AT], own[COARSER_AT])
            phases.append(variable(b, phase))
            means.append(variable(b, b.shl(mean, widen)))
        guess.append(variable(b, mean))
    with loop_over(b, a_stream, intp=word64) as loop:
        for t in range(4):
            line.read()
            for c in range(streams):
                start, shift, mirror = model.row(b.load(guess[c]), b.load(row))
                index = line.step(c, start, shift, mirror)
                word = b.add(loop.index, b.mul(a_stream, ir.Constant(word64, c)))
                pairs[c].take(index, b.load(cell), word, t // 2)
                middle = b.shl(model.middle(index), b.load(finer))
                here, following, known = steady, model.constant(0), own[OFFSET_AT]
                if turning:
                    here = b.load(means[c])
                    phase = b.add(b.load(phases[c]), own[STEP_AT])
                    following = b.shl(model.mean(wheel, phase, own[OWN_AT], own[CROSS_AT], own[COARSER_AT]), widen)
                    known = model.constant(1 << (SLOPE_SHIFT - 1))
                    b.store(phase, phases[c])
                    b.store(following, means[c])
                middle = b.select(model.escape(index), here, middle)  # an escape says nothing of the next
                if turning:
                    middle = b.sub(middle, here)
                moved = b.ashr(b.add(b.mul(middle, slope), known), model.constant(SLOPE_SHIFT))
                b.store(b.add(following, moved), guess[c])
            line.advance()
            b.store(own[NEXT_ROW_AT], row)
            b.store(own[NEXT_CELL_AT], cell)
            b.store(model.constant(0), finer)


@operation(prefer_literal=True)
def line_chains(  # type: ignore[no-untyped-def]
    typing_context, table, payload, wheel, states, places, known, positions, out, masks, odd, words, mantissa, top,
    precision, streams, rows, turning,
):  # fmt: skip
    """All steps of LANES lines.

    Addresses: table uint32[], payload, wheel (`turns`), states uint32[streams, LANES] and places uint64[LANES] (bit
    positions) in and out, known int32[m, COLUMNS] or int32[PARAMETERS, LANES], positions int32[LANES], out and masks
    uint32[m / 2, LANES], odd int32[LANES]; then the words of 64 bits of a line. Constants of the caller: streams,
    rows (neighbours are of different channels), turning.
    """
    del typing_context, table, payload, wheel, states, places, known, positions, out, masks, odd, words, mantissa, top
    del precision

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        (table, payload, wheel, states, places, known, positions, out, masks, odd, words, mantissa, top,
         precision, *_) = arguments  # fmt: skip
        n_streams, in_rows, turns_too = (kind.literal_value for kind in signature.args[-3:])
        line = _Line(Model(builder, mantissa, precision), table, payload, states, places, n_streams)
        if in_rows:
            _rows(line, _Pairs(line, out, masks, top), wheel, known, positions, words, turns_too)
        else:
            pairs = [_Pairs(line, out, masks, top) for _ in range(n_streams)]
            _channels(line, pairs, wheel, known, positions, words, turns_too)
        line.finish(odd)
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 14, streams, rows, turning), generate
