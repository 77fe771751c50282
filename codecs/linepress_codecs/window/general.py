"""Hot loops of `window` for elements of any width, one line at a time."""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.tans.kernels import (
    BAD_END,
    BAD_LONG,
    BAD_VALUE,
    OK,
    U0,
    U1,
    U6,
    U63,
    emit,
    low_bits,
    read64,
)

U2, U3 = np.uint64(2), np.uint64(3)


@njit(cache=True)
def window_code(elements, width, mantissa, exponent_bits, code_bits, base, bits, words, starts, write):  # type: ignore[no-untyped-def]
    """Sizes (and with ``write`` the code) of lines uint64[n, m]; returns the bits used.

    A line: 0, codes, sign and mantissa of every element, exponents of the escapes; or 1 0 and the line raw; or 1 1
    for a line of zeros. Code 0 is the escape, code c the exponent ``base + c - 1``.
    """
    n, m = elements.shape
    most = U1 << code_bits
    exponent_mask = (U1 << exponent_bits) - U1
    mantissa_mask = (U1 << mantissa) - U1
    rest_bits = mantissa + U1
    fixed = U1 + np.uint64(m) * (code_bits + rest_bits)
    cursor = U0
    for i in range(n):
        line = elements[i]
        some = U0
        escapes = U0
        for j in range(m):
            some |= line[j]
            code = ((line[j] >> mantissa) & exponent_mask) - base + U1
            escapes += np.uint64(code == U0 or code >= most)
        used = fixed + escapes * exponent_bits
        raw = used >= np.uint64(m) * width
        starts[i] = cursor
        if some == U0:
            used = U2
        elif raw:
            used = U2 + np.uint64(m) * width
        if write:
            word, at, held = cursor >> U6, U0, U0
            if some == U0:
                emit(words, word, at, held, U3, U2)
            elif raw:
                word, at, held = emit(words, word, at, held, U1, U2)
                for j in range(m):
                    word, at, held = emit(words, word, at, held, line[j], width)
            else:
                word, at, held = emit(words, word, at, held, U0, U1)
                for j in range(m):
                    code = ((line[j] >> mantissa) & exponent_mask) - base + U1
                    code = code if code < most else U0
                    word, at, held = emit(words, word, at, held, code, code_bits)
                for j in range(m):
                    rest = (line[j] & mantissa_mask) | ((line[j] >> (width - U1)) << mantissa)
                    word, at, held = emit(words, word, at, held, rest, rest_bits)
                for j in range(m):
                    exponent = (line[j] >> mantissa) & exponent_mask
                    code = exponent - base + U1
                    if code == U0 or code >= most:
                        word, at, held = emit(words, word, at, held, exponent, exponent_bits)
        bits[i] = used
        cursor = (cursor + used + U63) & ~U63
    return cursor


@njit(cache=True)
def window_decode(words, starts, bits, width, mantissa, exponent_bits, code_bits, base, elements):  # type: ignore[no-untyped-def]
    """Inverse of `window_code`; returns (line, problem) of the first damaged line, problem 0 where there is none."""
    n, m = elements.shape
    rest_bits = mantissa + U1
    exponents = U1 << exponent_bits
    for i in range(n):
        at = starts[i]
        size = np.uint64(bits[i])
        end = at + size
        line = elements[i]
        head = read64(words, at) & U3
        if head == U3:
            for j in range(m):
                line[j] = U0
            at += U2
        elif head == U1:
            at += U2
            for j in range(m):
                line[j] = low_bits(read64(words, at), width)
                at += width
        else:
            code_at = at + U1
            if size >= np.uint64(m) * width:
                return i, BAD_LONG
            rest_at = code_at + np.uint64(m) * code_bits
            at = rest_at + np.uint64(m) * rest_bits
            if at > end:
                return i, BAD_END
            for j in range(m):
                code = low_bits(read64(words, code_at), code_bits)
                rest = low_bits(read64(words, rest_at), rest_bits)
                code_at += code_bits
                rest_at += rest_bits
                exponent = base + code - U1
                if code == U0:
                    exponent = low_bits(read64(words, at), exponent_bits)
                    at += exponent_bits
                if exponent >= exponents:
                    return i, BAD_VALUE
                line[j] = low_bits(rest, mantissa) | (exponent << mantissa) | ((rest >> mantissa) << (width - U1))
        if at != end:
            return i, BAD_END
    return n, OK
