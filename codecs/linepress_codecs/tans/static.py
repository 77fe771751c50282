"""Static distributions of an element's field, one to sixteen tables chosen per line, coded by tANS.

The *field* of a float is its exponent with the top mantissa bits (and the sign where it pays); of an integer its
top bits. What lies below is stored raw. Field values outside the table's range, or too rare for a frequency, are
escapes: the whole element raw. The element whose bits are all zero has a symbol of its own where it occurs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.errors import CorruptDataError, UnsupportedFormatError
from linepress_codecs.formats import Format
from linepress_codecs.tans.bits import BitReader, BitWriter
from linepress_codecs.tans.chains import BITS_AT, ESCAPE_FLAG, STATE_AT, special_flag
from linepress_codecs.tans.encode import COST_SHIFT, LANE, LANE_BITS, MODE_SHIFT, MOST_CHOICES, NO_TABLE
from linepress_codecs.tans.kernels import ESCAPE, FIRST, MODE_CODED, MODE_RAW, MODE_ZERO, U12, U15, U16, U4095, ZERO
from linepress_codecs.tans.tables import RESERVED_BITS, ROW_SYMBOLS, Machine, build

SIGN_RAW, SIGN_CODED, INTEGER = 0, 1, 2
WIDTHS = (4, 8, 16, 32)
MOST_TABLES = 16
BLOCK_LINES = 1024
"""Lines expanded to 64-bit elements at a time, so that they stay in a core's own cache."""
FINE_MANTISSA_BITS = 3
"""Most mantissa bits that a field may hold."""


def elements_of(data: NDArray[np.uint8], fmt: Format) -> NDArray[np.uint64]:
    """Elements of lines, uint64[n, m]; packed four-bit formats are unpacked, low nibble first."""
    data = np.ascontiguousarray(data)
    if fmt.bits == 4:
        out = np.empty((len(data), 2 * data.shape[1]), np.uint64)
        out[:, 0::2] = data & 15
        out[:, 1::2] = data >> 4
        return out
    return data.view(fmt.storage).astype(np.uint64)


def data_of(elements: NDArray[np.uint64], fmt: Format) -> NDArray[np.uint8]:
    """Inverse of `elements_of`."""
    if fmt.bits == 4:
        return (elements[:, 0::2] | (elements[:, 1::2] << np.uint64(4))).astype(np.uint8)
    return np.ascontiguousarray(elements.astype(fmt.storage)).view(np.uint8)


def per_line(fmt: Format, line_bytes: int) -> int:
    """Elements in a line; raises `UnsupportedFormatError` for a line size other than 32, 64 or 128 B."""
    if line_bytes not in (32, 64, 128):
        raise UnsupportedFormatError(f"line size {line_bytes} B is not supported: use 32, 64 or 128")
    return fmt.elements_in(line_bytes)


@dataclass(frozen=True, slots=True)
class Field:
    """Which bits of an element are the field.

    Attributes
    ----------
    low : int
        Bits below the field, stored raw.
    signed : int
        `SIGN_RAW`, `SIGN_CODED` (the sign is the field's lowest bit) or `INTEGER`.
    flip : int
        Mask that makes two's complement ascend (0 otherwise).
    """

    low: int
    signed: int
    flip: int = 0

    @property
    def raw_bits(self) -> int:
        return self.low + (self.signed == SIGN_RAW)


def fields_for(fmt: Format, mantissa: int | None) -> list[Field]:
    """Candidate fields: those with ``mantissa`` top mantissa bits, or every one up to three where None."""
    if not fmt.is_float or not fmt.sign_bits:
        flip = 1 << (fmt.bits - 1) if fmt.name.startswith("int") else 0
        lows = [0] if fmt.bits <= 4 else list(range(max(fmt.bits - 8, 0), max(fmt.bits - 4, 1)))
        return [Field(low, INTEGER, flip) for low in lows]
    most = min(FINE_MANTISSA_BITS, fmt.mantissa_bits)
    coded = range(most + 1) if mantissa is None else [min(mantissa, most)]
    return [Field(fmt.mantissa_bits - c, sign) for c in coded for sign in (SIGN_RAW, SIGN_CODED)]


class StaticTables:
    """What `fit_static` learned of one tensor.

    Attributes
    ----------
    width : int
        Bits of an element.
    field : Field
    first : int
        Smallest field value with a symbol.
    tail : int
        Elements at the end of a line that are stored raw, so that they can hold the end states.
    mode : int32[2 + K]
        Frequencies of the modes raw, zero, table 0, …
    frequency : int32[K, n_symbols]
        Symbols: escape, zero element, then consecutive field values.
    """

    def __init__(
        self,
        precision: int,
        width: int,
        field: Field,
        first: int,
        tail: int,
        mode: NDArray[np.int32],
        frequency: NDArray[np.int32],
    ) -> None:
        self.precision = precision
        self.width = width
        self.field = field
        self.first = first
        self.tail = tail
        self.mode = mode
        self.frequency = frequency

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StaticTables) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    @property
    def use_zero(self) -> bool:
        return bool(len(self.frequency)) and bool(self.frequency[:, ZERO].any())

    @cached_property
    def machine(self) -> Machine:
        rows = np.zeros((1 + len(self.frequency), ROW_SYMBOLS), np.int32)
        rows[0, : len(self.mode)] = self.mode
        rows[1:, : self.frequency.shape[1]] = self.frequency
        return build(rows, self.precision, MODE_ZERO)

    @cached_property
    def decode_entries(self) -> NDArray[np.uint32]:
        """The table of `chains`, uint32[rows * L], for elements of 8 or 16 bits."""
        machine, field = self.machine, self.field
        entry = machine.decode.astype(np.uint64)
        symbol = (entry >> U16).astype(np.int64)
        value = symbol - FIRST + self.first
        magnitude = (1 << (self.width - 1)) - 1
        if field.signed == SIGN_RAW:
            bits = value << field.low & magnitude
        elif field.signed == SIGN_CODED:
            bits = (value >> 1) << field.low & magnitude | (value & 1) << (self.width - 1)
        else:
            bits = (value << field.low ^ field.flip) & ((1 << self.width) - 1)
        special = special_flag(self.width)
        bits = np.where(symbol < FIRST, np.where(symbol == ESCAPE, special | ESCAPE_FLAG, special), bits)
        read = ((entry >> U12) & U15) << np.uint64(BITS_AT)
        entries = bits.astype(np.uint64) | read | (entry & U4095) << np.uint64(STATE_AT)
        packed: NDArray[np.uint32] = entries.astype(np.uint32)
        return packed

    @cached_property
    def symbol_of(self) -> NDArray[np.uint8]:
        """Symbol of an element of 8 or 16 bits by its bits above the raw low ones; zero elements not told apart."""
        field, width = self.field, self.width
        bits = np.arange(1 << (width - field.low), dtype=np.int64)
        if field.signed == INTEGER:
            value = bits ^ (field.flip >> field.low)
        else:
            sign, value = bits >> (width - 1 - field.low), bits & ((1 << (width - 1 - field.low)) - 1)
            value = 2 * value + sign if field.signed == SIGN_CODED else value
        symbol = value - self.first + FIRST
        return np.where((symbol >= FIRST) & (symbol < self.frequency.shape[1]), symbol, ESCAPE).astype(np.uint8)

    @cached_property
    def numbers(self) -> tuple[np.uint64, ...]:
        """How an element of 8 or 16 bits becomes a symbol, for `steps`.

        1 if it has 8 bits; place of its sign; mask of the bits that hold the field, and the number of raw ones below;
        1 if the sign is the field's lowest bit; `Field.flip` in the field; `first`; number of field values with
        symbols; 1 if the zero element has its own.
        """
        field, width = self.field, self.width
        magnitude = (1 << width - (field.signed != INTEGER)) - 1
        return tuple(
            np.uint64(int(value))
            for value in (
                width == 8, width - 1, magnitude, field.low, field.signed == SIGN_CODED, field.flip >> field.low,
                self.first, self.frequency.shape[1] - FIRST, self.use_zero,
            )
        )  # fmt: skip

    @cached_property
    def runs(self) -> NDArray[np.uint8]:
        """Of each table the longest run of neighbouring field values that have a frequency: its first symbol and its
        length, uint8[K, 2]."""
        out = np.zeros((len(self.frequency), 2), np.uint8)
        for row, run in zip(self.frequency, out, strict=True):
            there = np.flatnonzero(np.diff(np.r_[False, row[FIRST:] > 0, False]))
            if len(there):
                lengths = there[1::2] - there[::2]
                at = int(np.argmax(lengths))
                run[:] = FIRST + there[2 * at], lengths[at]
        return out

    def choice(self, elements: int) -> tuple[NDArray[np.uint64], np.uint64, np.uint64] | None:
        """(differences uint64[256], that of the modes, the sum of equals) with which `encode` chooses among tables;
        None where there are too many tables or elements for the sums."""
        if elements not in self._choices:
            self._choices[elements] = self._choice(elements)
        return self._choices[elements]

    @cached_property
    def _choices(self) -> dict[int, tuple[NDArray[np.uint64], np.uint64, np.uint64] | None]:
        return {}

    def _choice(self, elements: int) -> tuple[NDArray[np.uint64], np.uint64, np.uint64] | None:
        (cost, mode), others = self.cost, len(self.frequency) - 1
        if others >= MOST_CHOICES:
            return None
        symbol = np.full((MOST_CHOICES - 1, ROW_SYMBOLS), COST_SHIFT, np.int64)
        symbol[:others] += cost[1:].astype(np.int64) - cost[0]
        modes = np.full(MOST_CHOICES - 1, NO_TABLE, np.int64)
        modes[:others] = mode[MODE_CODED + 1 :].astype(np.int64) - mode[MODE_CODED] + MODE_SHIFT
        if symbol.min() < 0 or modes.min() < 0 or elements * int(symbol.max()) + int(modes.max()) > LANE:
            return None
        shifts = np.arange(MOST_CHOICES - 1, dtype=np.int64)[:, None] * int(LANE_BITS)
        differences = (symbol << shifts).sum(axis=0).astype(np.uint64)
        first = np.uint64(int((modes[:, None] << shifts).sum()))
        return differences, first, np.uint64(elements * COST_SHIFT + MODE_SHIFT)

    @cached_property
    def cost(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(symbols int32[K, 256], modes int32[2 + K]) in 1/256 bit; raw bits included, missing symbols escape."""
        bits = self.machine.cost_bits()
        mode = np.round(256 * np.minimum(bits[0, : len(self.mode)], 4096)).astype(np.int32)
        symbol = bits[1:].copy()
        symbol[:, FIRST:] += self.field.raw_bits
        symbol[:, ESCAPE] += self.width
        symbol = np.where(np.isinf(symbol), symbol[:, ESCAPE : ESCAPE + 1], symbol)
        return np.round(256 * symbol).astype(np.int32), mode

    def to_bytes(self) -> bytes:
        out = BitWriter()
        self.write(out)
        return out.to_bytes()

    def write(self, out: BitWriter) -> None:
        """Append the tables; `read` is the inverse."""
        tables, n_symbols = self.frequency.shape
        out.write(tables, 5)
        if tables:
            out.write(WIDTHS.index(self.width), 2)
            out.write(self.field.low, 5)
            out.write(self.field.signed, 2)
            out.write(self.field.flip != 0, 1)
            out.write(self.tail, 6)
            out.write(n_symbols - FIRST, 8)
            out.signed(self.first)
            out.write(self.use_zero, 1)
        for count in self.mode[MODE_CODED:]:
            out.gamma(int(count))
        for row in self.frequency:
            if self.use_zero:
                out.gamma(int(row[ZERO]) + 1)
            before = 0
            for count in row[FIRST:]:
                out.signed(int(count) - before)
                before = int(count)

    @classmethod
    def read(cls, source: BitReader, precision: int) -> StaticTables:
        """Inverse of `write`; raises `CorruptDataError` on anything no encoder wrote."""
        size = 1 << precision
        tables = source.read(5)
        width, field, tail, n_symbols, first, use_zero = 8, Field(0, INTEGER), 0, FIRST, 0, 0
        if tables > MOST_TABLES:
            raise CorruptDataError(f"{tables} tables, but an encoder writes at most {MOST_TABLES}")
        if tables:
            width = WIDTHS[source.read(2)]
            low, signed, flip = source.read(5), source.read(2), source.read(1)
            field = Field(low, signed, flip << (width - 1))
            tail = source.read(6)
            n_symbols = FIRST + source.read(8)
            first = source.signed()
            use_zero = source.read(1)
            room = 1 << (width - field.raw_bits) if field.raw_bits <= width else 0
            if signed > INTEGER or (flip and signed != INTEGER):
                raise CorruptDataError("the field kind is not one an encoder writes")
            if not (first >= 0 and first + n_symbols - FIRST <= room and n_symbols <= ROW_SYMBOLS):
                raise CorruptDataError("the field values of the table do not fit the element")
        mode = np.zeros(MODE_CODED + tables, np.int32)
        mode[MODE_ZERO] = size >> RESERVED_BITS
        for k in range(MODE_CODED, len(mode)):
            mode[k] = min(source.gamma(), size)
        mode[MODE_RAW] = size - int(mode.sum())
        frequency = np.zeros((tables, n_symbols), np.int32)
        for row in frequency:
            if use_zero:
                row[ZERO] = min(source.gamma(), size + 1) - 1
            before = 0
            for s in range(FIRST, n_symbols):
                before += source.signed()
                if not 0 <= before <= size:
                    raise CorruptDataError("a frequency in the tables is out of range")
                row[s] = before
            row[ESCAPE] = size - int(row.sum())
        if mode[MODE_RAW] < 1 or np.any(frequency[:, ESCAPE] < 1):
            raise CorruptDataError("the frequencies of a table sum to more than its states")
        return cls(precision, width, field, first, tail, mode, frequency)
