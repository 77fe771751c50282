"""Kernels of ``bpc``: bit planes of the differences of neighbouring 32-bit words, xored with the plane above.

The transform is done in words: eight 64-bit rows hold differences k and k + 8, and three rounds of swaps transpose
each of their 8 x 8 bit blocks, after which byte b of row k is bit plane 8 b + k. The same rounds undo it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.classic.bits import (
    BAD_CODE,
    BAD_SIZE,
    BYTE,
    CODED,
    NOT_CANONICAL,
    OK,
    RAW,
    U0,
    U1,
    U2,
    U3,
    U4,
    U5,
    U6,
    U8,
    U16,
    U32,
    WORD,
    finish,
    get,
    get_raw32,
    is_signed,
    put,
    put_raw32,
    sign_extend,
)

PLANES = 34
"""Planes of a scratch array: 33 and a zero plane above the highest."""

ZERO, ALL_ONES, DBP_ZERO, TWO_ONES, ONE_ONE, PLAIN = range(6)
CODE = np.array([0, 0b00000, 0b10000, 0b01000, 0b11000, 0b1], np.uint64)
"""00000, 00001, 00010, 00011 and 1, read backwards; zero planes are coded by runs."""
CODE_BITS = np.array([0, 5, 5, 5, 5, 1], np.uint64)
RUN_CODE, RUN_CODE_BITS, RUN_DATA_BITS = U2, U2, U5
"""01, then the run less two."""
SINGLE_CODE, SINGLE_CODE_BITS = U4, U3
"""001: one zero plane."""

_SWAP_4 = np.uint64(0x0F0F0F0F0F0F0F0F)
_SWAP_2 = np.uint64(0x3333333333333333)
_SWAP_1 = np.uint64(0x5555555555555555)


@njit
def _swap(rows, i, j, shift, mask):  # type: ignore[no-untyped-def]
    """Exchange the high bit groups of row i with the low ones of row j."""
    t = ((rows[i] >> shift) ^ rows[j]) & mask
    rows[j] ^= t
    rows[i] ^= t << shift


@njit
def _transpose(rows):  # type: ignore[no-untyped-def]
    """Transpose the eight 8 x 8 bit blocks of eight words; its own inverse."""
    for i in range(4):
        _swap(rows, i, i + 4, U4, _SWAP_4)
    for i in (0, 1, 4, 5):
        _swap(rows, i, i + 2, U2, _SWAP_2)
    for i in (0, 2, 4, 6):
        _swap(rows, i, i + 1, U1, _SWAP_1)


@njit
def _to_planes(words, line, wide, rows, planes):  # type: ignore[no-untyped-def]
    """The DBP planes of a line: bit i - 1 of planes[j] is bit j of word i less word i - 1.

    ``wide``: 33 planes, the highest being the sign of the difference; else differences wrap at 32 bits.
    """
    m = words.shape[1]
    for k in range(8):
        rows[k] = U0
    top = U0
    before = np.uint64(words[line, 0])
    for i in range(1, m):
        x = np.uint64(words[line, i])
        delta = (x - before) & WORD
        top |= np.uint64(x < before) << np.uint64(i - 1)
        rows[(i - 1) & 7] |= delta << np.uint64(((i - 1) >> 3) * 32)
        before = x
    _transpose(rows)
    for k in range(8):
        row = rows[k]
        for b in range(4):
            planes[8 * b + k] = (row & BYTE) | ((row >> np.uint64(24)) & (BYTE << U8))
            row >>= U8
    planes[32] = top if wide else U0
    planes[33] = U0


@njit
def _from_planes(base, planes, wide, rows, out, line):  # type: ignore[no-untyped-def]
    """Inverse of `_to_planes`; False if a sign plane contradicts its differences."""
    m = out.shape[1]
    for k in range(8):
        row = U0
        for b in range(4):
            plane = planes[8 * b + k]
            row |= ((plane & BYTE) | ((plane >> U8) << U32)) << np.uint64(8 * b)
        rows[k] = row
    _transpose(rows)
    out[line, 0] = base
    before = base
    top = U0
    for i in range(1, m):
        x = (before + (rows[(i - 1) & 7] >> np.uint64(((i - 1) >> 3) * 32))) & WORD
        top |= np.uint64(x < before) << np.uint64(i - 1)
        out[line, i] = x
        before = x
    return not wide or top == planes[32]


@njit
def _kind(dbx, dbp, ones):  # type: ignore[no-untyped-def]
    """Which code a plane takes; ``ones`` is the plane of all ones."""
    if dbx == U0:
        return ZERO
    if dbx == ones:
        return ALL_ONES
    if dbp == U0:
        return DBP_ZERO
    lowest = dbx & (U0 - dbx)
    if dbx == lowest:
        return ONE_ONE
    if dbx == lowest | (lowest << U1):
        return TWO_ONES
    return PLAIN


@njit
def _position(dbx):  # type: ignore[no-untyped-def]
    """Place of the lowest one."""
    place = U0
    while (dbx >> place) & U1 == U0:
        place += U1
    return place


@njit
def _base_bits(base):  # type: ignore[no-untyped-def]
    """(bits of the base's code, bits of its data, code)."""
    if base == U0:
        return U3, U0, U0
    if is_signed(base, U4):
        return U3, U4, U4
    if is_signed(base, U8):
        return U3, U8, U2
    if is_signed(base, U16):
        return U3, U16, U6
    return U1, U32, U1


@njit
def _data_bits(kind, m):  # type: ignore[no-untyped-def]
    """Bits after a plane's code: a position (3 bits for 7, 4 for 15 differences), or the plane."""
    if kind == PLAIN:
        return np.uint64(m - 1)
    if kind in (TWO_ONES, ONE_ONE):
        return U4 if m == 16 else U3
    return U0


@njit
def _size(words, line, wide, rows, planes):  # type: ignore[no-untyped-def]
    """Code bits of a line, header bit not counted."""
    m = words.shape[1]
    _to_planes(words, line, wide, rows, planes)
    ones = (U1 << np.uint64(m - 1)) - U1
    code, data, _ = _base_bits(np.uint64(words[line, 0]))
    bits = code + data
    run = 0
    for j in range(32 if wide else 31, -1, -1):
        kind = _kind(planes[j] ^ planes[j + 1], planes[j], ones)
        if kind == ZERO:
            # A run's first plane costs 3 bits, its second makes it a run of 7.
            bits += U3 if run == 0 else (U4 if run == 1 else U0)
            run += 1
        else:
            run = 0
            bits += CODE_BITS[kind] + _data_bits(kind, m)
    return bits


@njit(cache=True)
def measure(words, wide, most, bits):  # type: ignore[no-untyped-def]
    """Sizes of lines uint32[n, m] into bits uint16[n]; codes over ``most`` bits are raw."""
    raw = U32 * np.uint64(words.shape[1])
    rows, planes = np.empty(8, np.uint64), np.empty(PLANES, np.uint64)
    for line in range(words.shape[0]):
        size = _size(words, line, wide, rows, planes)
        bits[line] = U1 + (size if size <= most else raw)


@njit
def _put_run(out, word, held, used, run):  # type: ignore[no-untyped-def]
    """Write a run of zero planes, if there is one."""
    if run == 1:
        return put(out, word, held, used, SINGLE_CODE, SINGLE_CODE_BITS)
    if run > 1:
        value = RUN_CODE | (np.uint64(run - 2) << RUN_CODE_BITS)
        return put(out, word, held, used, value, RUN_CODE_BITS + RUN_DATA_BITS)
    return word, held, used


@njit(cache=True)
def encode(words, wide, most, out, starts, bits):  # type: ignore[no-untyped-def]
    """Write the lines; returns the words used."""
    m = words.shape[1]
    ones = (U1 << np.uint64(m - 1)) - U1
    rows, planes = np.empty(8, np.uint64), np.empty(PLANES, np.uint64)
    word = U0
    for line in range(words.shape[0]):
        first = word
        starts[line] = first << U6
        _to_planes(words, line, wide, rows, planes)
        held, used = CODED, U1
        base = np.uint64(words[line, 0])
        width, data_bits, code = _base_bits(base)
        value = code | ((base & ((U1 << data_bits) - U1)) << width)
        word, held, used = put(out, word, held, used, value, width + data_bits)
        run = 0
        for j in range(32 if wide else 31, -1, -1):
            dbx = planes[j] ^ planes[j + 1]
            kind = _kind(dbx, planes[j], ones)
            if kind == ZERO:
                run += 1
                continue
            word, held, used = _put_run(out, word, held, used, run)
            run = 0
            data = U0
            if kind == PLAIN:
                data = dbx
            elif kind in (TWO_ONES, ONE_ONE):
                data = _position(dbx)
            value = CODE[kind] | (data << CODE_BITS[kind])
            word, held, used = put(out, word, held, used, value, CODE_BITS[kind] + _data_bits(kind, m))
        word, held, used = _put_run(out, word, held, used, run)
        size = ((word - first) << U6) + used
        if size - U1 > most:
            word = put_raw32(words, line, out, first, RAW, U1)
            size = U1 + U32 * np.uint64(m)
        else:
            word = finish(out, word, held, used)
        bits[line] = size
    return word


@njit
def _read_base(payload, at):  # type: ignore[no-untyped-def]
    """(base, position after it, whether its code is the shortest)."""
    if get(payload, at, U1) == U1:
        base, width, data_bits = get(payload, at + U1, U32), U1, U32
    else:
        code = get(payload, at, U3)
        data_bits = U0
        if code == U4:
            data_bits = U4
        elif code == U2:
            data_bits = U8
        elif code == U6:
            data_bits = U16
        width = U3
        base = get(payload, at + U3, data_bits)
        if data_bits > U0:
            base = sign_extend(base, data_bits)
    best_width, best_bits, _ = _base_bits(base)
    return base, at + width + data_bits, best_width == width and best_bits == data_bits


@njit
def _read_planes(payload, at, wide, m, planes):  # type: ignore[no-untyped-def]
    """Fill the DBP planes from bit ``at``; (position after them, reason)."""
    ones = (U1 << np.uint64(m - 1)) - U1
    planes[33] = U0
    planes[32] = U0
    j = 32 if wide else 31
    after_zero = False
    while j >= 0:
        above = planes[j + 1]
        if get(payload, at, U3) == SINGLE_CODE or get(payload, at, U2) == RUN_CODE:
            run = np.int64(1)
            if get(payload, at, U2) == RUN_CODE:
                run = np.int64(get(payload, at + U2, RUN_DATA_BITS)) + 2
                at += U2 + RUN_DATA_BITS
            else:
                at += SINGLE_CODE_BITS
            if run > j + 1:
                return at, BAD_CODE
            if after_zero:
                return at, NOT_CANONICAL
            for _ in range(run):
                planes[j] = above
                j -= 1
            after_zero = True
            continue
        after_zero = False
        kind = PLAIN
        if get(payload, at, U1) == U0:
            five = get(payload, at, U5)
            kind = ALL_ONES
            for other in range(ALL_ONES, PLAIN):
                if five == CODE[other]:
                    kind = other
        at += CODE_BITS[kind]
        data = get(payload, at, _data_bits(kind, m))
        at += _data_bits(kind, m)
        dbx = above
        if kind == PLAIN:
            dbx = data
        elif kind == ALL_ONES:
            dbx = ones
        elif kind == ONE_ONE:
            dbx = U1 << data
        elif kind == TWO_ONES:
            dbx = U3 << data
        if dbx > ones:
            return at, BAD_CODE
        planes[j] = dbx ^ above
        if _kind(dbx, planes[j], ones) != kind:
            return at, NOT_CANONICAL
        j -= 1
    return at, OK


@njit(cache=True)
def decode(payload, starts, bits, wide, most, out):  # type: ignore[no-untyped-def]
    """Inverse of `encode` into out uint32[n, m]; (line, reason) of the first damaged line, or (-1, OK)."""
    m = out.shape[1]
    raw = U1 + U32 * np.uint64(m)
    rows, planes = np.empty(8, np.uint64), np.empty(PLANES, np.uint64)
    for line in range(out.shape[0]):
        at = starts[line]
        size = np.uint64(bits[line])
        if size == U0:
            return line, BAD_SIZE
        end = at + size
        coded = get(payload, at, U1) == CODED
        at += U1
        if not coded:
            if size != raw:
                return line, BAD_SIZE
            get_raw32(payload, at, out, line)
            if _size(out, line, wide, rows, planes) <= most:
                return line, NOT_CANONICAL
            continue
        base, at, shortest = _read_base(payload, at)
        at, reason = _read_planes(payload, at, wide, m, planes)
        if reason != OK:
            return line, reason
        if at != end:
            return line, BAD_SIZE
        if not shortest or not _from_planes(base, planes, wide, rows, out, line) or size - U1 > most:
            return line, NOT_CANONICAL
    return -1, OK
