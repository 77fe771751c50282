"""Writing a few classified lines at once: the part of an encoder that does not depend on its model of elements."""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.tans.kernels import (
    BUFFER_WORDS,
    MODE_CODED,
    U0,
    U1,
    U6,
    U63,
    U64,
    ZERO_LINE,
    ZERO_LINE_BITS,
    code_raw,
    emit,
    emit_tail,
    low_bits,
    read64,
    step_back,
)

FLIGHT = 4
"""Lines whose encoder steps are interleaved."""
U8 = np.uint64(8)


@njit(cache=True)
def code_flight(  # type: ignore[no-untyped-def]
    elements, first, lines, places, raw, fills, empty, steps, width, streams, precision, machine_bits, machine_find,
    machine_state, out, out_bits, state, bits, words, starts, cursor, write,
):  # fmt: skip
    """Sizes (and with ``write`` the code) of the ``lines`` lines from ``first`` on; returns the bits used so far.

    ``places`` uint64[FLIGHT, m] are row * 256 + symbol of each element, ``raw`` the lines' raw fields, `BUFFER_WORDS`
    words each, ``fills`` their bits, ``empty`` the lines coded by the zero mode, ``steps`` the elements in the order
    of the steps. ``out``, ``out_bits`` uint64[FLIGHT, m] and ``state`` uint64[FLIGHT, streams] are overwritten.
    """
    m = elements.shape[1]
    r = np.uint64(precision)
    size = U1 << r
    flush = np.uint64(streams) * r
    stepped = np.zeros(FLIGHT, np.uint64)
    for g in range(lines):
        for c in range(streams):
            state[g, c] = size + low_bits(read64(raw, np.uint64(64 * g * BUFFER_WORDS) + np.uint64(c) * r), r)
    c = 0
    for q in range(m - 1, -1, -1):
        j = steps[q]
        c = c - 1 if c > 0 else streams - 1
        for g in range(lines):
            place = places[g, j]
            value, nb, state[g, c] = step_back(
                state[g, c], place, place >> U8, r, machine_bits, machine_find, machine_state
            )
            out[g, q] = value
            out_bits[g, q] = nb
            stepped[g] += nb
    for g in range(lines):
        i = first + g
        starts[i] = cursor
        if empty[g]:
            if write:
                emit(words, cursor >> U6, U0, U0, ZERO_LINE, ZERO_LINE_BITS)
            bits[i] = ZERO_LINE_BITS
            cursor += U64
            continue
        head, head_bits, state[g, 0] = step_back(
            state[g, 0], np.uint64(MODE_CODED), U0, r, machine_bits, machine_find, machine_state
        )
        fill = fills[g]
        used = flush + head_bits + stepped[g] + fill - min(flush, fill)
        if used >= np.uint64(m) * width:
            if write:
                for w in range(m * np.int64(width) // 64 + 2):
                    words[(cursor >> U6) + np.uint64(w)] = U0
            used = code_raw(
                elements[i], m, width, machine_bits, machine_find, machine_state, precision, words, cursor, write
            )
        elif write:
            i_word, s_bit, held = emit(words, cursor >> U6, U0, U0, state[g, 0] - size, r)
            i_word, s_bit, held = emit(words, i_word, s_bit, held, head, head_bits)
            for c in range(1, streams):
                i_word, s_bit, held = emit(words, i_word, s_bit, held, state[g, c] - size, r)
            for q in range(m):
                i_word, s_bit, held = emit(words, i_word, s_bit, held, out[g, q], out_bits[g, q])
            raw_at = np.uint64(64 * g * BUFFER_WORDS)
            emit_tail(words, i_word, s_bit, held, raw, raw_at + min(flush, fill), raw_at + fill)
        bits[i] = used
        cursor = (cursor + used + U63) & ~U63
    return cursor
