"""Hot loops of the tANS line coders.

A coded line, bits in the order they are read (least significant bit of a word first), ``R`` = precision:

1. ``R`` bits: state of stream 0; then the bits of its first step, which decodes the line's *mode* from row 0.
2. ``R`` bits: the state of each further stream.
3. The bits of every element's step, element order; element ``j`` belongs to stream ``j % streams``.
4. The raw fields (sign and low mantissa bits, or whole elements after an escape), element order, without their
   first ``R * streams`` bits: those are the states in which the encoder starts (the decoder ends), so flushing the
   states costs nothing.

A raw line is step 1 and the line itself (its first ``R`` bits are the end state). A zero line is four ones: states of
row 0 that end in four ones are reserved for it (0.09 bits a line), so that no other line starts so. Every
operand is unsigned: int64 mixed with uint64 would become float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_codecs.tans.tables import RESERVED_BITS, RESERVED_MASK

MODE_RAW, MODE_ZERO, MODE_CODED = 0, 1, 2
ESCAPE, ZERO, FIRST = 0, 1, 2
"""Symbol ids of static rows: escape, the element whose bits are all zero, the first field value."""

OK, BAD_MODE, BAD_END, BAD_LENGTH, BAD_PADDING, BAD_VALUE, BAD_LONG = 0, 1, 2, 3, 4, 5, 6
PROBLEMS = {
    BAD_MODE: "its mode has no table",
    BAD_END: "its code does not end where its size says",
    BAD_LENGTH: "its code lies outside the payload",
    BAD_PADDING: "bits that an encoder leaves zero are set",
    BAD_VALUE: "a coded value does not exist in the element format",
    BAD_LONG: "its code is as long as the line itself, which an encoder stores raw",
}

U0, U1, U2, U6, U12, U15, U16, U32, U63, U64 = (np.uint64(i) for i in (0, 1, 2, 6, 12, 15, 16, 32, 63, 64))
U4095 = np.uint64(4095)
ZERO_LINE_BITS, ZERO_LINE = np.uint64(RESERVED_BITS), np.uint64(RESERVED_MASK)
BUFFER_WORDS = 20
"""Words of the raw part of a 128 B line (16), of the end states (2) and slack for `read64`."""
PAD_WORDS = 64
"""Zero words after a payload: more than the steps of one damaged line can read past its end."""


@njit(cache=True, inline="always")
def read64(words, at):  # type: ignore[no-untyped-def]
    """The 64 bits of uint64 ``words`` that start at bit ``at``; reads one word beyond."""
    i = np.int64(at >> U6)
    s = at & U63
    return (words[i] >> s) | ((words[i + 1] << U1) << (U63 - s))


@njit(cache=True, inline="always")
def low_bits(value, bits):  # type: ignore[no-untyped-def]
    """The low ``bits`` (0..63) bits of ``value``."""
    return value & ((U1 << bits) - U1)


@njit(cache=True, inline="always")
def put(words, at, value, bits):  # type: ignore[no-untyped-def]
    """Write ``bits`` (0..63) bits at bit ``at`` into words zero from there on; returns the next position."""
    i = np.int64(at >> U6)
    s = at & U63
    words[i] |= value << s
    words[i + 1] |= (value >> U1) >> (U63 - s)
    return at + bits


@njit(cache=True, inline="always")
def emit(words, i, s, held, value, bits):  # type: ignore[no-untyped-def]
    """Append ``bits`` (0..64) bits to a stream whose unfinished word ``held`` has ``s`` bits; (word, s, held).

    Without a load: both words are stored, the next call overwrites what it extends.
    """
    low = held | (value << s)
    high = (value >> U1) >> (U63 - s)
    words[i] = low
    words[i + U1] = high
    s += bits
    over = s >> U6
    # Masks, not branches: whether a word fills is as good as random.
    return i + over, s & U63, low ^ ((low ^ high) & (U0 - over))


@njit(cache=True, inline="always")
def copy_bits(source, source_at, target, target_at, bits):  # type: ignore[no-untyped-def]
    """Copy ``bits`` bits between bit positions of two uint64 arrays; the target is zero from there on."""
    i = target_at >> U6
    s = target_at & U63
    held = target[i]
    done = U0
    while done + U64 <= bits:
        i, s, held = emit(target, i, s, held, read64(source, source_at + done), U64)
        done += U64
    if done < bits:
        emit(target, i, s, held, low_bits(read64(source, source_at + done), bits - done), bits - done)


@njit(cache=True, inline="always")
def emit_tail(words, i, s, held, raw, done, fill):  # type: ignore[no-untyped-def]
    """Append bits ``done`` to ``fill`` of the raw fields and end the line; returns nothing."""
    while done + U64 <= fill:
        i, s, held = emit(words, i, s, held, read64(raw, done), U64)
        done += U64
    if done < fill:
        emit(words, i, s, held, low_bits(read64(raw, done), fill - done), fill - done)


@njit(cache=True, inline="always")
def step_back(x, place, row, precision, machine_bits, machine_find, machine_state):  # type: ignore[no-untyped-def]
    """One encoder step from state ``x``: (bits to write, their number, next state)."""
    nb = np.uint64((np.int64(x) + machine_bits[place]) >> 16)
    at = (row << precision) + np.uint64(np.int64(x >> nb) + machine_find[place])
    return low_bits(x, nb), nb, np.uint64(machine_state[at])


@njit(cache=True)
def code_raw(line, m, width, machine_bits, machine_find, machine_state, precision, words, at, write):  # type: ignore[no-untyped-def]
    """A raw line: returns its bits."""
    r = np.uint64(precision)
    buffer = np.zeros(BUFFER_WORDS, np.uint64)
    fill = U0
    for j in range(m):
        fill = put(buffer, fill, line[j], width)
    x = (U1 << r) + low_bits(buffer[0], r)
    nb = np.uint64((np.int64(x) + machine_bits[MODE_RAW]) >> 16)
    out = low_bits(x, nb)
    x = np.uint64(machine_state[np.int64(x >> nb) + machine_find[MODE_RAW]])
    if write:
        at = put(words, at, x - (U1 << r), r)
        at = put(words, at, out, nb)
        copy_bits(buffer, r, words, at, fill - r)
    return nb + fill


@njit(cache=True, inline="always")
def read_head(words, at, machine_decode, precision):  # type: ignore[no-untyped-def]
    """First step of a line: (mode, state of stream 0, next position)."""
    r = np.uint64(precision)
    x = low_bits(read64(words, at), r)
    if low_bits(x, ZERO_LINE_BITS) == ZERO_LINE:
        return np.int64(MODE_ZERO), U0, at + ZERO_LINE_BITS
    entry = np.uint64(machine_decode[np.int64(x)])
    nb = (entry >> U12) & U15
    at += r
    x = (entry & U4095) + low_bits(read64(words, at), nb)
    return np.int64(entry >> U16), x, at + nb


@njit(cache=True)
def read_raw(words, at, x, precision, width, m, line):  # type: ignore[no-untyped-def]
    """A raw line after its head."""
    r = np.uint64(precision)
    buffer = np.zeros(BUFFER_WORDS, np.uint64)
    whole = np.uint64(m) * width
    put(buffer, U0, x, r)
    copy_bits(words, at, buffer, r, whole - r)
    for j in range(m):
        line[j] = low_bits(read64(buffer, np.uint64(j) * width), width)
    return at + whole - r


@njit(cache=True)
def take_lines(payload, starts, bits, which, most, out, to):  # type: ignore[no-untyped-def]
    """Copy the code of the lines ``which`` of ``payload`` uint8[m] (``most`` bytes at most each) into the rows of
    ``out`` uint8[len(which), stride], which the caller zeroed; ``to`` uint64[len(which)] are their first bits
    there."""
    for k in range(which.shape[0]):
        i = which[k]
        first = np.int64(starts[i] >> np.uint64(3))
        shift = np.int64(starts[i] & np.uint64(7))
        n = min(min((shift + np.int64(bits[i]) + 7) >> 3, np.int64(most)), np.int64(payload.shape[0]) - first)
        for b in range(n):
            out[k, b] = payload[first + b]
        to[k] = np.uint64(8 * k * out.shape[1] + shift)
