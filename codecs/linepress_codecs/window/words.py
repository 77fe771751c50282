"""Hot loops of `window` for elements of 8 and 16 bits: a word of elements at a time, codes and rests in its lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from linepress_codecs.intrinsics import count_ones, load64, store8, store64, trailing_zeros
from linepress_codecs.tans.kernels import U0, U1, U2, U63, U64, low_bits
from linepress_codecs.tans.words import place_raw, put_bits, take_raw, window

U3, U8 = np.uint64(3), np.uint64(8)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
WORD = np.uint64(0xFFFFFFFF)
MOST_ELEMENTS, MOST_WORDS = 128, 16


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


def _encoder(bit_moves: bool) -> Any:
    @njit(cache=True)
    def encode(  # type: ignore[no-untyped-def]
        data, width, mantissa, exponent_bits, code_bits, base, code_shape, rest_shape, words, starts, bits, write
    ):  # fmt: skip
        """`general.window_code` of lines uint64[n, words]; returns the bits of ``words`` used."""
        source, out = np.uint64(data.ctypes.data), np.uint64(words.ctypes.data)
        n, n_words = data.shape
        line_bits = U64 * np.uint64(n_words)
        each = U64 // width
        code_word, rest_word = each * code_bits, each * (mantissa + U1)
        fixed = U1 + np.uint64(n_words) * (code_word + rest_word)
        ones = _lanes(width)
        tops = ones << (width - U1)
        exponent_mask, code_mask = ones * ((U1 << exponent_bits) - U1), ones * ((U1 << code_bits) - U1)
        most = (U1 << code_bits) - U1
        codes, exponents = np.zeros(MOST_WORDS, np.uint64), np.zeros(MOST_ELEMENTS, np.uint8)
        exponents_at = np.uint64(exponents.ctypes.data)
        cursor = U0
        for i in range(n):
            line = source + (np.uint64(i * n_words) << U3)
            some, escapes = U0, U0
            for t in range(n_words):
                w = load64(line + (np.uint64(t) << U3))
                some |= w
                exponent = (w >> mantissa) & exponent_mask
                # The top bit of a lane keeps the difference positive, and stays set where the code is in its range.
                code = (exponent | tops) - ones * base + ones
                above = (code ^ tops) & ~code_mask
                outside = (((above & ~tops) + (tops - ones)) | above) & tops
                code &= code_mask & ~((outside >> (width - U1)) * most)
                codes[t] = code
                escaped = ones ^ (((code + ones * most) >> code_bits) & ones)
                at = exponents_at + escapes
                escapes += count_ones(escaped)
                while escaped != U0:
                    lane = trailing_zeros(escaped)
                    store8(at, np.uint8((exponent >> lane) & np.uint64(0xFF)))
                    at += U1
                    escaped &= escaped - U1
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
                        w = load64(line + (np.uint64(t) << U3))
                        store64(to, held | (w << U2))
                        held = w >> np.uint64(62)
                        to += U8
                elif some != U0:
                    held, over = U0, U1
                    for t in range(n_words):
                        held |= take_raw(codes[t], code_shape, bit_moves) << over
                        to, held, over = put_bits(to, held, over + code_word)
                    for t in range(n_words):
                        w = load64(line + (np.uint64(t) << U3))
                        held |= take_raw(w, rest_shape, bit_moves) << over
                        to, held, over = put_bits(to, held, over + rest_word)
                    for j in range(escapes):
                        held |= np.uint64(exponents[j]) << over
                        to, held, over = put_bits(to, held, over + exponent_bits)
                store64(to, held)
                store64(to + U8, U0)
            cursor = (cursor + used + U63) & ~U63
        return cursor

    return encode


decode_moves, decode_shifts = _decoder(bit_moves=True), _decoder(bit_moves=False)
encode_moves, encode_shifts = _encoder(bit_moves=True), _encoder(bit_moves=False)
