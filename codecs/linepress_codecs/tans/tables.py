"""Tables of a tabled asymmetric numeral system (tANS): frequencies to state machines.

tANS after J. Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression
rate of arithmetic coding", arXiv:1311.2540; the spread of symbols over states and the encoder's two-constant form
follow Y. Collet's FSE (RFC 8878, section 4.1). All arithmetic is on integers, so a table is the same everywhere.

Several distributions ("rows") share one range of states ``[L, 2L)`` with ``L = 2**precision``: a coder may change
the row from symbol to symbol, because only the state passes between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

ROW_SYMBOLS = 256
"""Symbols a row has room for; symbol ids are bytes."""
MISSING = 1 << 31
RESERVED_BITS = 4
RESERVED_MASK = (1 << RESERVED_BITS) - 1
"""States of row 0 whose low four bits are all ones may be reserved for one symbol, so that four bits name it."""
FIND_BITS, COUNT_AT = 15, 28
FIND_BIAS = 1 << 12
"""How `Machine.encode_steps` is packed: the place of the next state plus a number that keeps it from being negative,
and above it what yields the bits to write."""


@dataclass(frozen=True)
class Machine:
    """Decoder and encoder tables of ``rows`` distributions over states of ``precision`` bits.

    Attributes
    ----------
    precision : int
    decode : uint32[rows * L]
        Entry ``row * L + (state - L)``: base of the next state (minus L) in bits 0..11, number of bits to read in
        bits 12..15, symbol in bits 16..23.
    encode_state : uint16[rows * L + 1]
        Next states, grouped by symbol; one more, so that a load of 32 bits may begin at any.
    encode_bits, encode_find : int32[rows * 256]
        ``bits = (state + encode_bits) >> 16``; next = ``encode_state[row * L + (state >> bits) + encode_find]``.
    frequency : int32[rows, 256]
    """

    precision: int
    decode: NDArray[np.uint32]
    encode_state: NDArray[np.uint16]
    encode_bits: NDArray[np.int32]
    encode_find: NDArray[np.int32]
    frequency: NDArray[np.int32]

    @cached_property
    def encode_entries(self) -> NDArray[np.uint64]:
        """What a step back needs of a symbol, uint64[rows * 256]: ``encode_bits`` modulo 2^32 below, above it
        ``encode_find`` with the offset of the row in ``encode_state``; `MISSING` where the row has no such symbol."""
        row = np.arange(len(self.encode_bits), dtype=np.int64) >> 8 << self.precision
        entry = (self.encode_find + row) << 32 | self.encode_bits.astype(np.int64)
        return np.where(self.frequency.reshape(-1) > 0, entry, MISSING).view(np.uint64)

    @cached_property
    def encode_steps(self) -> NDArray[np.uint32]:
        """The entries of `steps`, uint32[rows * 256], of up to five rows; a symbol that a row lacks has that of the
        row's first."""
        row, bits = np.arange(len(self.encode_bits), dtype=np.int64) >> 8, self.encode_bits.astype(np.int64)
        most = -(-bits >> 16)
        count = bits - (most << 16) + (most << COUNT_AT - FIND_BITS)
        entry = count << FIND_BITS | (self.encode_find + (row << self.precision) + FIND_BIAS)
        entries: NDArray[np.uint32] = np.where(self.frequency.reshape(-1) > 0, entry, entry[row << 8]).astype(
            np.uint32
        )
        return entries

    def cost_bits(self) -> NDArray[np.float64]:
        """Ideal cost ``log2(L / frequency)`` of each symbol, float64[rows, 256]; inf where a row has none."""
        with np.errstate(divide="ignore"):
            return self.precision - np.log2(self.frequency.astype(np.float64))


@njit(cache=True)
def _build(frequency, precision, reserved, decode, encode_state, encode_bits, encode_find):  # type: ignore[no-untyped-def]
    size = 1 << precision
    step = (size >> 1) + (size >> 3) + 3
    symbol_at = np.zeros(size, np.int64)
    following = np.zeros(256, np.int64)
    for row in range(frequency.shape[0]):
        at = 0
        before = 0
        for s in range(256):
            f = frequency[row, s]
            following[s] = f
            if f > 0:
                bits = precision
                while f > 1 and ((f - 1) >> (precision - bits + 1)) > 0:
                    bits -= 1
                encode_bits[row * 256 + s] = (bits << 16) - (f << bits)
                encode_find[row * 256 + s] = before - f
            before += f
            if row == 0 and s == reserved:
                for x in range(RESERVED_MASK, size, RESERVED_MASK + 1):
                    symbol_at[x] = s
                continue
            for _ in range(f):
                while row == 0 and reserved >= 0 and (at & RESERVED_MASK) == RESERVED_MASK:
                    at = (at + step) & (size - 1)
                symbol_at[at] = s
                at = (at + step) & (size - 1)
        place = np.zeros(256, np.int64)
        total = 0
        for s in range(256):
            place[s] = total
            total += frequency[row, s]
        for x in range(size):
            s = symbol_at[x]
            encode_state[row * size + place[s]] = size + x
            place[s] += 1
            y = following[s]
            following[s] += 1
            bits = 0
            while (y << bits) < size:
                bits += 1
            decode[row * size + x] = ((y << bits) - size) | (bits << 12) | (s << 16)


def build(frequency: NDArray[np.int32], precision: int, reserved: int = -1) -> Machine:
    """The machine of ``frequency`` int32[rows, 256]; every row must sum to ``2**precision`` (6 <= precision <= 12).

    ``reserved`` names the symbol of row 0 that gets exactly the states ending in four ones (frequency
    ``2**(precision - 4)``); -1 for none. Raises `ValueError` if a row does not sum.
    """
    size = 1 << precision
    frequency = np.ascontiguousarray(frequency, dtype=np.int32)
    if not 6 <= precision <= 12 or np.any(frequency < 0) or np.any(frequency.sum(axis=1) != size):
        raise ValueError(f"tANS rows must have non-negative frequencies that sum to {size}")
    if reserved >= 0 and int(frequency[0, reserved]) != size >> RESERVED_BITS:
        raise ValueError(f"the reserved symbol must have frequency {size >> RESERVED_BITS}")
    rows = len(frequency)
    decode = np.zeros(rows * size, np.uint32)
    state = np.zeros(rows * size + 1, np.uint16)
    bits = np.zeros(rows * ROW_SYMBOLS, np.int32)
    find = np.zeros(rows * ROW_SYMBOLS, np.int32)
    _build(frequency, precision, reserved, decode, state, bits, find)
    return Machine(precision, decode, state, bits, find, frequency)


def normalise(counts: NDArray[np.int64], total: int, must: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Frequencies that sum to ``total``, near-proportional to ``counts``, int32[n].

    ``must`` marks symbols that keep a frequency of at least one whatever their count. Symbols whose share is under
    half a unit get none; the caller sends them another way. The last units go where they save most bits.
    """
    counts = np.asarray(counts, np.int64)
    whole = int(counts.sum())
    out = must.astype(np.int64)
    if whole == 0:
        out[int(np.argmax(must))] += total - int(out.sum())
        return out.astype(np.int32)
    kept = counts * (2 * total) >= whole
    out = np.maximum(out, np.where(kept, np.maximum(counts * total // whole, 1), 0))
    weight = np.maximum(counts, 0).astype(np.float64)
    while (left := total - int(out.sum())) != 0:
        # Gain of one more (or loss of one fewer) unit: count * log2(1 + 1/f), to first order count / f.
        if left > 0:
            gain = np.where(out > 0, weight / (out + 0.5), -1.0)
            out[np.argsort(-gain, kind="stable")[: min(left, max(1, int((out > 0).sum()) // 8))]] += 1
        else:
            loss = np.where(out > 1, weight / (out - 0.5), np.inf)
            out[np.argsort(loss, kind="stable")[: min(-left, max(1, int((out > 1).sum()) // 8))]] -= 1
    return out.astype(np.int32)
