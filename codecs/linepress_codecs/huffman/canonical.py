"""Canonical Huffman codes: length-limited lengths from counts, codes, decode tables, and strict serialisation.

A code is its array of lengths (0 = symbol absent). Codes are assigned in order of (length, symbol), first code all
zeros, each next one the previous plus one shifted left when the length grows (Schwartz and Kallick, CACM 1964; as in
RFC 1951 § 3.2.2). Streams here are read from the least significant bit, so codes are kept bit-reversed.

An alphabet with one used symbol gets one code of length 1, the only incomplete code that is valid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from linepress_codecs.errors import CorruptDataError, SpecError

MAX_LIMIT = 15
"""Longest code length that `pack_lengths` can write (four bits a length)."""


def code_lengths(counts: ArrayLike, limit: int) -> NDArray[np.uint8]:
    """Optimal prefix-code lengths of at most ``limit`` bits, by package-merge.

    Parameters
    ----------
    counts : int[A]
        How often each symbol occurs; symbols with 0 get no code (length 0).
    limit : int
        Longest length, 1 to 15; must satisfy 2^limit >= number of used symbols.

    Returns
    -------
    uint8[A]
        Lengths. Deterministic: equal counts are taken in symbol order. Source: Larmore and Hirschberg, "A fast
        algorithm for optimal length-limited Huffman codes", JACM 37(3), 1990.
    """
    count = np.asarray(counts, dtype=np.int64)
    if not 1 <= limit <= MAX_LIMIT:
        raise SpecError(f"code length limit {limit} is out of range, use 1 to {MAX_LIMIT}")
    lengths = np.zeros(len(count), np.uint8)
    used = np.flatnonzero(count > 0)
    if len(used) > 1 << limit:
        raise SpecError(f"{len(used)} symbols do not fit codes of at most {limit} bits: raise the limit")
    if len(used) <= 1:
        lengths[used] = 1
        return lengths
    order = used[np.argsort(count[used], kind="stable")]
    leaves = count[order]
    n = len(leaves)
    # Level by level, cheapest first: the leaves merged with the pairs of the level before (leaves first of equals).
    is_leaf: list[NDArray[np.bool_]] = []
    packages = leaves[:0]
    for _ in range(limit):
        merged = np.concatenate([leaves, packages])
        by_weight = np.argsort(merged, kind="stable")
        is_leaf.append(by_weight < n)
        merged = merged[by_weight]
        pairs = len(merged) // 2
        packages = merged[0 : 2 * pairs : 2] + merged[1 : 2 * pairs : 2]
    # Back: the first 2n - 2 items of the last level are taken; each package taken takes two items a level earlier.
    depth = np.zeros(n, np.uint8)
    need = 2 * n - 2
    for level in reversed(is_leaf):
        taken = int(np.count_nonzero(level[:need]))
        depth[:taken] += 1
        need = 2 * (need - taken)
    lengths[order] = depth
    return lengths


def check_lengths(lengths: NDArray[np.uint8], limit: int = MAX_LIMIT) -> None:
    """Raise `CorruptDataError` unless the lengths are a complete prefix code (or one symbol of length 1, or none)."""
    used = lengths[lengths > 0].astype(np.int64)
    if len(used) == 0:
        return
    longest = int(used.max())
    if longest > limit:
        raise CorruptDataError(f"code length {longest} is over the limit of {limit}")
    if len(used) == 1:
        if longest != 1:
            raise CorruptDataError(f"a code of one symbol must have length 1, not {longest}")
        return
    filled = int((1 << (longest - used)).sum())
    if filled != 1 << longest:
        how = "over" if filled > 1 << longest else "under"
        raise CorruptDataError(f"code lengths {how}-subscribe the code space ({filled} of {1 << longest})")


def reversed_codes(lengths: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Canonical codes, uint32[A], bit-reversed for streams read from the least significant bit; 0 where absent."""
    check_lengths(lengths)
    codes = np.zeros(len(lengths), np.uint32)
    order = sorted(np.flatnonzero(lengths), key=lambda s: (int(lengths[s]), int(s)))
    code = previous = 0
    for i, symbol in enumerate(order):
        length = int(lengths[symbol])
        if i:
            code = (code + 1) << (length - previous)
        codes[symbol] = int(f"{code:0{length}b}"[::-1], 2)
        previous = length
    return codes


def decode_table(lengths: NDArray[np.uint8], bits: int) -> NDArray[np.uint16]:
    """Look-up of one symbol by the next ``bits`` bits: entry = symbol | length << 8 for alphabets of up to 256.

    Entries that no code leads to (one-symbol codes only) hold length 0, which a decoder must refuse.
    """
    longest = int(lengths.max(initial=0))
    if longest > bits:
        raise SpecError(f"a table of {bits} bits cannot hold codes of {longest} bits")
    table = np.zeros(1 << bits, np.uint16)
    codes = reversed_codes(lengths)
    for symbol in np.flatnonzero(lengths):
        length = int(lengths[symbol])
        table[int(codes[symbol]) :: 1 << length] = int(symbol) | length << 8
    return table


def pack_lengths(lengths: NDArray[np.uint8]) -> bytes:
    """Lengths of an alphabet of up to 256 symbols as bytes.

    First used symbol, last used symbol (a byte each), then a nibble a length from first to last, low nibble first,
    where a nibble 0 (absent) is followed by a nibble with the run of absent symbols less one. The end is padded with
    a zero nibble. No used symbol at all: the two bytes 1, 0.
    """
    used = np.flatnonzero(lengths)
    if len(used) == 0:
        return b"\x01\x00"
    if int(lengths.max()) > MAX_LIMIT:
        raise SpecError(f"lengths over {MAX_LIMIT} cannot be written")
    first, last = int(used[0]), int(used[-1])
    nibbles: list[int] = []
    i = first
    while i <= last:
        if lengths[i]:
            nibbles.append(int(lengths[i]))
            i += 1
            continue
        run = 1
        while run < 16 and not lengths[i + run]:
            run += 1
        nibbles += [0, run - 1]
        i += run
    if len(nibbles) % 2:
        nibbles.append(0)
    return bytes([first, last]) + bytes(a | b << 4 for a, b in zip(nibbles[::2], nibbles[1::2], strict=True))


def unpack_lengths(data: bytes, start: int = 0, limit: int = MAX_LIMIT) -> tuple[NDArray[np.uint8], int]:
    """(lengths uint8[256], offset after them), the inverse of `pack_lengths`.

    Raises `CorruptDataError` for anything `pack_lengths` would not have written: truncation, a run past the last
    symbol or split without need, non-zero padding, an incomplete or over-full code.
    """
    lengths = np.zeros(256, np.uint8)
    if len(data) < start + 2:
        raise CorruptDataError("code lengths end before their symbol range")
    first, last = data[start], data[start + 1]
    if (first, last) == (1, 0):
        return lengths, start + 2
    if first > last:
        raise CorruptDataError(f"code lengths name symbols {first} to {last}, which is no range")
    position = 2 * (start + 2)

    def nibble() -> int:
        nonlocal position
        if position // 2 >= len(data):
            raise CorruptDataError("code lengths end before their last symbol")
        value = data[position // 2] >> 4 * (position % 2) & 15
        position += 1
        return value

    symbol = first
    previous_full_run = previous_run = False
    while symbol <= last:
        length = nibble()
        if length:
            lengths[symbol] = length
            symbol += 1
            previous_run = previous_full_run = False
            continue
        run = nibble() + 1
        if symbol == first or symbol + run > last or (previous_run and not previous_full_run):
            raise CorruptDataError(f"a run of {run} absent symbols at {symbol} does not fit {first} to {last}")
        symbol += run
        previous_run, previous_full_run = True, run == 16
    if position % 2 and nibble():
        raise CorruptDataError("padding after code lengths is not zero")
    check_lengths(lengths, limit)
    return lengths, position // 2


def mean_length(counts: ArrayLike, lengths: NDArray[np.uint8]) -> float:
    """Mean code length in bits a symbol; NaN without symbols."""
    count = np.asarray(counts, dtype=np.float64)
    total = float(count.sum())
    return float((count * lengths).sum()) / total if total else float("nan")
