"""Words of several elements: raw fields taken out of them and put back, windows of a payload by address."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types

from linepress_codecs.intrinsics import Lanes, deposit, extract, load64, operation, store64, variable
from linepress_codecs.tans.kernels import (
    MODE_ZERO,
    U0,
    U1,
    U12,
    U15,
    U16,
    U32,
    U63,
    U64,
    U4095,
    ZERO_LINE,
    ZERO_LINE_BITS,
    low_bits,
)

U3, U7 = np.uint64(3), np.uint64(7)
WORD = np.uint64(0xFFFFFFFF)
FOUR: Any = types.UniTuple(types.uint64, 4)  # type: ignore[no-untyped-call]


@njit(inline="always")
def window(payload, at):  # type: ignore[no-untyped-def]
    """At least 57 bits from bit ``at`` of the bytes at address ``payload``; reads 8 bytes."""
    return load64(payload + (at >> U3)) >> (at & U7)


@njit(inline="always")
def put_bits(to, held, used):  # type: ignore[no-untyped-def]
    """Store ``used`` < 64 bits at address ``to``: (address, bits, number) of those in the last byte begun."""
    store64(to, held)
    return to + (used >> U3), held >> (used & ~U7), used & U7


@njit(inline="always")
def append(to, held, used, x, count):  # type: ignore[no-untyped-def]
    """Append ``count`` <= 64 bits ``x`` to ``used`` < 64 bits ``held`` of the word at ``to``: those three anew."""
    held |= x << used
    store64(to, held)
    after = used + count
    over = after >> np.uint64(6)
    held = (x >> U1) >> (U63 - used) if over else held
    return to + (over << U3), held, after & U63


@njit(inline="always")
def put_rest(to, held, used, raw, done, last):  # type: ignore[no-untyped-def]
    """Store ``used`` < 8 bits at address ``to`` and, behind them, bits ``done`` < 64 to ``last`` of the words at
    ``raw``, in whose last word no higher bit is set."""
    held |= (load64(raw) >> done) << used
    to, held, used = put_bits(to, held, used + min(U64, last) - done)
    for k in range(1, np.int64((last + U63) >> np.uint64(6))):
        x = load64(raw + np.uint64(8 * k))
        store64(to, held | (x << used))
        held = (x >> U1) >> (U63 - used)
        to += np.uint64(8)
    store64(to, held)


@njit(inline="always")
def head_of(payload, start, precision, modes):  # type: ignore[no-untyped-def]
    """First step of a line: (mode, state of stream 0, next position); modes uint32[L] is the decode table's row 0."""
    w = window(payload, start)
    if (w & ZERO_LINE) == ZERO_LINE:
        return np.uint64(MODE_ZERO), U0, start + ZERO_LINE_BITS
    entry = np.uint64(modes[low_bits(w, precision)])
    count = (entry >> U12) & U15
    return entry >> U16, (entry & U4095) + low_bits(w >> precision, count), start + precision + count


@njit(inline="always")
def plain_line(payload, mode, x, at, precision, words, to):  # type: ignore[no-untyped-def]
    """Write a zero or raw line after its head; returns the position after it."""
    if mode == np.uint64(MODE_ZERO):
        for k in range(words):
            store64(to + (np.uint64(k) << U3), U0)
        return at
    first = x | (window(payload, at) << precision)
    at -= precision
    for k in range(words):
        low = first if k == 0 else window(payload, at)
        store64(to + (np.uint64(k) << U3), (low & WORD) | (window(payload, at + U32) << U32))
        at += U64
    return at


LOW, SIGN, SIGN_SHIFT, DENSE, SHIFT, STAY, MOVE = 0, 1, 2, 3, 4, 7, 10
"""Places in `word_shape`: masks of low bits and of raw signs, distance of a sign from its raw field, mask of the raw
fields of a word side by side; then for each of three steps that part them by halves: a shift, what stays, what
moved."""
MOST_RAW_BITS = 56
"""Most raw bits of one word, so that one `window` holds them."""


@lru_cache(maxsize=64)
def word_shape(width: int, low: int, sign: bool) -> tuple[np.uint64, ...] | None:
    """Where the raw fields (``low`` low bits, then the sign) of a word of 8- or 16-bit elements lie: 13 uint64.

    None where a word's raw fields are too long for the kernels or leave a flag no place, which no encoder's
    tables do.
    """
    raw, each = low + sign, 64 // width
    if width not in (8, 16) or each * raw > MOST_RAW_BITS or (width == 16 and low == 0):
        return None

    def every(pitch: int, mask: int) -> int:
        return sum(mask << at for at in range(0, 64, pitch))

    out = [every(width, (1 << low) - 1), every(width, 1 << (width - 1)) if sign else 0, width - 1 - low]
    out.append((1 << each * raw) - 1)
    steps = [(0, (1 << 64) - 1, 0)] * 3
    for k, half in enumerate([32, 16, 8] if width == 8 else [32, 16]):
        part = raw * (half // width)
        mask = (1 << part) - 1
        steps[k] = (half - part, every(2 * half, mask), every(2 * half, mask << half))
    return tuple(np.uint64(value) for value in (*out, *(step[k] for k in range(3) for step in steps)))


@njit(inline="always")
def place_raw(x, shape, bit_moves):  # type: ignore[no-untyped-def]
    """Raw fields side by side in ``x`` (what is above them is dropped) to their places in a word."""
    if bit_moves:
        return deposit(x, shape[LOW] | shape[SIGN])
    x &= shape[DENSE]
    x = (x & shape[STAY]) | ((x << shape[SHIFT]) & shape[MOVE])
    x = (x & shape[STAY + 1]) | ((x << shape[SHIFT + 1]) & shape[MOVE + 1])
    if shape[MOVE + 2]:  # elements of 8 bits
        x = (x & shape[STAY + 2]) | ((x << shape[SHIFT + 2]) & shape[MOVE + 2])
    return (x & shape[LOW]) | ((x << shape[SIGN_SHIFT]) & shape[SIGN])


@njit(inline="always")
def take_raw(word, shape, bit_moves):  # type: ignore[no-untyped-def]
    """Inverse of `place_raw`: the raw fields of a word side by side."""
    if bit_moves:
        return extract(word, shape[LOW] | shape[SIGN])
    x = (word & shape[LOW]) | ((word & shape[SIGN]) >> shape[SIGN_SHIFT])
    x = (x & shape[STAY + 2]) | ((x & shape[MOVE + 2]) >> shape[SHIFT + 2])
    x = (x & shape[STAY + 1]) | ((x & shape[MOVE + 1]) >> shape[SHIFT + 1])
    return (x & shape[STAY]) | ((x & shape[MOVE]) >> shape[SHIFT])


@operation
def _take_four(typing_context, line, shape):  # type: ignore[no-untyped-def]
    """`take_raw` of the four words at an address, without pext."""
    del typing_context, line

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        lane, of = Lanes(builder, 4, 64), [builder.extract_value(arguments[1], k) for k in range(len(shape))]

        def moved(x: Any, stays: int, moves: int, by: int) -> Any:
            far = builder.lshr(builder.and_(x, lane.splat(of[moves])), lane.splat(of[by]))
            return builder.or_(builder.and_(x, lane.splat(of[stays])), far)

        held = variable(builder, moved(lane.load(arguments[0]), LOW, SIGN, SIGN_SHIFT))
        with builder.if_then(builder.icmp_unsigned("!=", of[MOVE + 2], ir.Constant(of[MOVE + 2].type, 0))):
            builder.store(moved(builder.load(held), STAY + 2, MOVE + 2, SHIFT + 2), held)  # elements of 8 bits
        x = moved(builder.load(held), STAY + 1, MOVE + 1, SHIFT + 1)
        x = moved(x, STAY, MOVE, SHIFT)
        words = [builder.extract_element(x, ir.Constant(ir.IntType(32), k)) for k in range(4)]
        return context.make_tuple(builder, signature.return_type, words)

    return FOUR(types.uint64, shape), generate


@njit(inline="always")
def append_raw(to, held, used, line, n_words, word_raw, shape, bit_moves):  # type: ignore[no-untyped-def]
    """`append` the raw fields, ``word_raw`` bits a word, of a line's words, whose number is a multiple of four."""
    double = word_raw + word_raw
    for t in range(0, n_words, 4):
        at = line + (np.uint64(t) << U3)
        if bit_moves:
            a = take_raw(load64(at), shape, bit_moves)
            b = take_raw(load64(at + np.uint64(8)), shape, bit_moves)
            c = take_raw(load64(at + np.uint64(16)), shape, bit_moves)
            d = take_raw(load64(at + np.uint64(24)), shape, bit_moves)
        else:
            a, b, c, d = _take_four(at, shape)
        if double > U64:
            to, held, used = append(to, held, used, a, word_raw)
            to, held, used = append(to, held, used, b, word_raw)
            to, held, used = append(to, held, used, c, word_raw)
            to, held, used = append(to, held, used, d, word_raw)
            continue
        a |= b << word_raw
        c |= d << word_raw
        if double > U32:
            to, held, used = append(to, held, used, a, double)
            to, held, used = append(to, held, used, c, double)
        else:
            to, held, used = append(to, held, used, a | (c << double), double + double)
    return to, held, used
