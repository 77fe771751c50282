"""Hot loops of `window` for elements of 8 and 16 bits: a word of elements at a time, codes and rests in its lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types

from linepress_codecs.intrinsics import Lanes, load64, loop_over, operation, store64, trailing_zeros, variable
from linepress_codecs.tans.kernels import U0, U1, U2, U63, U64, low_bits
from linepress_codecs.tans.steps import BLOCK_WORDS, PAIR, any_set, block_words, in_lanes
from linepress_codecs.tans.words import append, append_raw, place_raw, window

U3, U8 = np.uint64(3), np.uint64(8)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
WORD = np.uint64(0xFFFFFFFF)
MOST_WORDS, SCRATCH_WORDS = 16, 18
"""Words of a line's codes, and with a bit for each of up to 128 escapes."""


@njit(inline="always")
def _lanes(width):  # type: ignore[no-untyped-def]
    """One in each lane of ``width`` bits."""
    return ALL // ((U1 << width) - U1)


def _decoder(bit_moves: bool) -> Any:
    @njit(cache=True)
    def decode(  # type: ignore[no-untyped-def]
        bytes_in, starts, bits, width, mantissa, exponent_bits, code_bits, base, code_shape, rest_shape, out,
        left_over
    ):  # fmt: skip
        """Lines into out uint8[n, line_bytes]; the lines left to `general.window_decode` (damaged, or too near the
        payload's end for loads that reach ahead) into left_over int64[n], their number returned."""
        payload, target = np.uint64(bytes_in.ctypes.data), np.uint64(out.ctypes.data)
        line_bytes = np.uint64(out.shape[1])
        line_bits, words = line_bytes << U3, out.shape[1] >> 3
        each = U64 // width
        elements = line_bits // width
        code_word, rest_word = each * code_bits, each * (mantissa + U1)
        reach = line_bits + elements * (code_bits + exponent_bits) + np.uint64(192)
        n_bits = np.uint64(8 * bytes_in.shape[0])
        ones = _lanes(width)
        most = (U1 << code_bits) - U1
        rests_from = U1 + elements * code_bits
        escapes_from = rests_from + elements * (mantissa + U1)
        left = 0
        for i in range(starts.shape[0]):
            start, size = starts[i], np.uint64(bits[i])
            to = target + np.uint64(i) * line_bytes
            if n_bits < reach or start > n_bits - reach:
                left_over[left] = i
                left += 1
                continue
            head = window(payload, start)
            if head & U1:
                at = start + U2
                for t in range(words):
                    word = U0
                    if (head & U2) == U0:
                        word = (window(payload, at) & WORD) | (window(payload, at + np.uint64(32)) << np.uint64(32))
                        at += U64
                    store64(to + (np.uint64(t) << U3), word)
            else:
                codes_at, rests_at, at = start + U1, start + rests_from, start + escapes_from
                for t in range(words):
                    code = place_raw(window(payload, codes_at), code_shape, bit_moves)
                    word = place_raw(window(payload, rests_at), rest_shape, bit_moves)
                    there = ((code + ones * most) >> code_bits) & ones
                    word |= (code + there * base - there) << mantissa
                    escaped = ones ^ there
                    while escaped != U0:
                        exponent = low_bits(window(payload, at), exponent_bits)
                        word |= exponent << (trailing_zeros(escaped) + mantissa)
                        at += exponent_bits
                        escaped &= escaped - U1
                    store64(to + (np.uint64(t) << U3), word)
                    codes_at += code_word
                    rests_at += rest_word
            if at != start + size or ((head & U1) == U0 and size >= line_bits):
                left_over[left] = i
                left += 1
        return left

    return decode


@operation
def line_codes(typing_context, elements, codes, escapes, blocks, narrow, mantissa, exponents, first, most):  # type: ignore[no-untyped-def]
    """Codes of the elements at an address, 8-bit ones if ``narrow``, in places as wide as theirs: the number of
    escapes and whether any bit of an element is set. A bit for each escape goes to the address ``escapes``.
    ``exponents`` is the greatest exponent, codes 1 to ``most`` are those from ``first`` on."""
    del typing_context, elements, codes, escapes, blocks, narrow, mantissa, exponents, first, most

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        elements, codes, escapes, blocks, narrow, mantissa, exponents, first, most = arguments
        word, whole = ir.IntType(64), block_words(builder)
        number, seen = variable(builder, ir.Constant(word, 0)), variable(builder, whole.constant(0))
        with loop_over(builder, blocks, intp=word) as loop:

            def take(lane: Lanes) -> None:
                u = lane.load(elements, loop.index)
                builder.store(builder.or_(builder.load(seen), builder.bitcast(u, whole.vector)), seen)
                exponent = builder.and_(builder.lshr(u, lane.splat(mantissa)), lane.splat(exponents))
                place = builder.sub(exponent, lane.splat(first))
                inside = builder.icmp_unsigned("<", place, lane.splat(most))
                code = builder.select(inside, builder.add(place, lane.constant(1)), lane.constant(0))
                lane.store(code, codes, loop.index)
                escaped = builder.not_(builder.bitcast(inside, ir.IntType(lane.n)))
                Lanes(builder, 1, lane.n).store(escaped, escapes, loop.index)
                count = builder.zext(builder.ctpop(escaped), word)
                builder.store(builder.add(builder.load(number), count), number)

            in_lanes(builder, narrow, take)
        both = builder.load(number), any_set(builder, builder.load(seen))
        return context.make_tuple(builder, signature.return_type, both)

    return PAIR(*[types.uint64] * 9), generate


def _encoder(bit_moves: bool) -> Any:
    @njit(cache=True)
    def encode(  # type: ignore[no-untyped-def]
        data, width, mantissa, exponent_bits, code_bits, base, code_shape, rest_shape, words, starts, bits, write,
        scratch
    ):  # fmt: skip
        """`general.window_code` of lines uint64[n, words]; returns the bits of ``words`` used. ``scratch`` is
        uint64[SCRATCH_WORDS], zero before the first call."""
        source, out = np.uint64(data.ctypes.data), np.uint64(words.ctypes.data)
        codes = np.uint64(scratch.ctypes.data)
        escaped = codes + np.uint64(8 * MOST_WORDS)
        n, n_words = data.shape
        line_bits = U64 * np.uint64(n_words)
        each = U64 // width
        code_word, rest_word = each * code_bits, each * (mantissa + U1)
        fixed = U1 + np.uint64(n_words) * (code_word + rest_word)
        narrow, elements = np.uint64(width == U8), np.int64(line_bits // width)
        blocks = np.uint64(n_words // BLOCK_WORDS)
        exponents, most = (U1 << exponent_bits) - U1, (U1 << code_bits) - U1
        cursor = U0
        for i in range(n):
            line = source + (np.uint64(i * n_words) << U3)
            escapes, some = line_codes(line, codes, escaped, blocks, narrow, mantissa, exponents, base, most)
            used = fixed + escapes * exponent_bits
            raw = used >= line_bits
            if some == U0:
                used = U2
            elif raw:
                used = U2 + line_bits
            starts[i], bits[i] = cursor, used
            if write:
                to, held, over = out + (cursor >> U3), U3, U2
                if some != U0 and raw:
                    held = U1
                    for t in range(n_words):
                        to, held, over = append(to, held, over, load64(line + (np.uint64(t) << U3)), U64)
                elif some != U0:
                    to, held, over = append_raw(to, U0, U1, codes, n_words, code_word, code_shape, bit_moves)
                    to, held, over = append_raw(to, held, over, line, n_words, rest_word, rest_shape, bit_moves)
                    for t in range((elements + 63) >> 6):
                        left = load64(escaped + (np.uint64(t) << U3))
                        while left != U0:
                            at = (np.uint64(64 * t) + trailing_zeros(left)) * width
                            w = load64(line + ((at >> np.uint64(6)) << U3))
                            exponent = (w >> ((at & U63) + mantissa)) & exponents
                            to, held, over = append(to, held, over, exponent, exponent_bits)
                            left &= left - U1
                store64(to, held)
            cursor = (cursor + used + U63) & ~U63
        return cursor

    return encode


decode_moves, decode_shifts = _decoder(bit_moves=True), _decoder(bit_moves=False)
encode_moves, encode_shifts = _encoder(bit_moves=True), _encoder(bit_moves=False)
