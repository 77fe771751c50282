"""Decode kernels of the ``huffman`` codec; the stream is defined in ``FORMAT.md``.

Tables give two symbols a look-up, and four lines are in flight. Where a line lies is checked before it is read;
within a line no index is checked, since no code can lead further than SLACK_WORDS from its start.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from linepress_codecs.huffman.kernels import (
    _M1F,
    _M3FF,
    _M7F,
    _M80,
    _M400,
    _MFF,
    _W_BIT23,
    _W_FF,
    _W_LOW23,
    BAD_BITS,
    BAD_CODE,
    BAD_PLACE,
    BAD_SELECTOR,
    BAD_SUBSTREAM,
    BAD_SYMBOL,
    BYTE,
    KIND_BF16,
    KIND_BYTES,
    KIND_FP16,
    KIND_FP32,
    KIND_INT16,
    LOW4,
    LOW24,
    OK,
    PAIR,
    SINGLE,
    SLACK_WORDS,
    U0,
    U1,
    U2,
    U6,
    U7,
    U8,
    U20,
    U24,
    U26,
    U63,
    U64,
    UNUSED,
    _symbol_words,
    _word_rest_bits,
)


@njit(forceinline=True)
def _unrest_word(r, kind):  # type: ignore[no-untyped-def]
    """Inverse of `_rest_word`: rest bits in their places in the word, symbol bits zero."""
    if kind == KIND_FP16:
        x = (r & np.uint64(0x3FFFFF)) | ((r & np.uint64(0x00000FFFFFC00000)) << np.uint64(10))
        x = (x & np.uint64(0x000007FF000007FF)) | ((x & np.uint64(0x003FF800003FF800)) << np.uint64(5))
        return (x & _M3FF) | ((x & _M400) << np.uint64(5))
    x = (r & LOW24) | ((r & np.uint64(0xFFFFFF000000)) << U8)
    if kind == KIND_FP32:
        return (x & _W_LOW23) | ((x & _W_BIT23) << U8)
    return x


@njit(forceinline=True)
def _window(payload, position):  # type: ignore[no-untyped-def]
    """64 bits from bit ``position``."""
    word, bit = position >> U6, position & U63
    return (payload[word] >> bit) | ((payload[word + U1] << U1) << (U63 - bit))


@njit(forceinline=True)
def _two(payload, position, tables, base, mask):  # type: ignore[no-untyped-def]
    """A whole decode entry (length up to 24 bits) for the two codes at ``position``, one look-up each if need be."""
    window = _window(payload, position)
    entry = tables[base + (window & mask)]
    if entry & SINGLE:
        step = np.uint64(entry) >> U26
        second = tables[base + ((window >> step) & mask)]
        step += (np.uint64(second) >> U20) & LOW4
        flags = np.uint64((entry | second) & UNUSED)
        return (np.uint64(entry) & BYTE) | ((np.uint64(second) & BYTE) << U8) | flags | (step << U26)
    return np.uint64(entry)


@njit(forceinline=True)
def _store(u, payload, rest_at, k, kind, out, line):  # type: ignore[no-untyped-def]
    """Join symbol word ``k`` with its rest bits and write the words; False if a symbol does not fit its field."""
    if kind == KIND_BF16:
        r = _window(payload, rest_at + (np.uint64(k) << U6))
        out[line, 2 * k] = ((u & _MFF) << U7) | (r & _M7F) | ((r & _M80) << U8)
        u >>= U8
        r >>= U8
        out[line, 2 * k + 1] = ((u & _MFF) << U7) | (r & _M7F) | ((r & _M80) << U8)
        return True
    if kind == KIND_BYTES:
        out[line, k] = u
        return True
    if kind == KIND_INT16:
        r = _window(payload, rest_at + (np.uint64(k) << U6))
        out[line, 2 * k] = ((u & _MFF) << U8) | (r & _MFF)
        out[line, 2 * k + 1] = (u & (_MFF << U8)) | ((r >> U8) & _MFF)
        return True
    per = 2 if kind == KIND_FP16 else 4
    width = _word_rest_bits(kind)
    mask = _MFF if kind == KIND_FP16 else _W_FF
    shift = np.uint64(10) if kind == KIND_FP16 else (np.uint64(23) if kind == KIND_FP32 else U24)
    for j in range(per):
        index = per * k + j
        r = _window(payload, rest_at + np.uint64(index) * width) & ((U1 << width) - U1)
        out[line, index] = (((u >> np.uint64(8 * j)) & mask) << shift) | _unrest_word(r, kind)
    return kind != KIND_FP16 or (u & ~(_M1F | (_M1F << U8))) == U0


@njit(forceinline=True)
def _plain_line(payload, first, mode_bits, n_words, out, line):  # type: ignore[no-untyped-def]
    for k in range(n_words):
        at = first + np.uint64(k)
        out[line, k] = (payload[at] >> mode_bits) | (payload[at + U1] << (U64 - mode_bits))


@njit
def _decode_one(  # type: ignore[no-untyped-def]
    payload,
    start,
    size,
    kind,
    tables,
    index_bits,
    n_tables,
    selector_bits,
    substreams,
    field_bits,
    zero_lines,
    out,
    line,
):
    """Decode one line; return a reason, OK if none."""
    n_words = out.shape[1]
    n_symbol_words = _symbol_words(kind, n_words)
    first = start >> U6
    head = payload[first]
    mode_bits = U2 if zero_lines else U1
    if (head & U1) == U0:
        if zero_lines and (head & U2) == U2:
            for k in range(n_words):
                out[line, k] = U0
            return OK if size == U2 else BAD_BITS
        if size != np.uint64(64 * n_words) + mode_bits:
            return BAD_BITS
        _plain_line(payload, first, mode_bits, n_words, out, line)
        return OK
    table = (head >> U1) & ((U1 << selector_bits) - U1)
    if table >= np.uint64(n_tables):
        return BAD_SELECTOR
    rest_at = start + U1 + selector_bits + np.uint64(substreams - 1) * field_bits
    rest_bits = U0
    if KIND_BF16 <= kind <= KIND_INT16:
        rest_bits = np.uint64(32 * n_words)
    elif kind != KIND_BYTES:
        rest_bits = np.uint64(n_words) * _word_rest_bits(kind)
    position = rest_at + rest_bits
    base = table << np.uint64(index_bits)
    mask = (U1 << np.uint64(index_bits)) - U1
    pairs_a_substream = 4 * n_symbol_words // substreams
    field_at = U1 + selector_bits
    last = position
    pair = 0
    bad = U0
    fits = True
    for k in range(n_symbol_words):
        u = U0
        for q in range(4):
            entry = _two(payload, position, tables, base, mask)
            bad |= entry
            u |= (entry & PAIR) << np.uint64(16 * q)
            position += entry >> U26
            pair += 1
            if substreams > 1 and pair % pairs_a_substream == 0 and pair < 4 * n_symbol_words:
                if position - last != (head >> field_at) & ((U1 << field_bits) - U1):
                    return BAD_SUBSTREAM
                field_at += field_bits
                last = position
        fits &= _store(u, payload, rest_at, k, kind, out, line)
    if bad & np.uint64(UNUSED):
        return BAD_CODE
    if position - start != size or size >= np.uint64(64 * n_words) + mode_bits:
        return BAD_BITS
    return OK if fits else BAD_SYMBOL


def _decoder(plain_bf16: bool, one_by_one: bool) -> Any:
    """The decode kernel.

    ``plain_bf16`` fixes the format and a single table at compile time. It is the case that must be fastest, and the
    state of four lines fits the registers only then (a tenth faster). ``one_by_one`` (8-bit items) looks up one code
    at a time: two codes of a whole byte have eleven bits and more, so that a table of pairs small enough for the
    first-level cache often holds one only, and the branch for that cannot be predicted.
    """

    @njit(cache=True)
    def decode(  # type: ignore[no-untyped-def]
        payload, total_bits, starts, bits, kind, tables, index_bits, n_tables, selector_bits, substreams, field_bits,
        zero_lines, ones, one_bits, scratch, scratch_view, out,
    ):  # fmt: skip
        """Decode every line into out uint64[n, words]; return (first bad line or -1, reason).

        payload : uint64[m]
            Read-only; ``total_bits`` of it are code, the rest of the last word is zero.
        tables : uint32[tables << index_bits]
            Entry by the next ``index_bits`` bits: symbols of two codes in the low 16 bits (of one with SINGLE),
            length of the first in bits 20 to 23, SINGLE, UNUSED, and the length of all in bits 26 to 31.
        ones : uint16[tables << one_bits]
            For ``one_by_one``: symbol of the next code in the low byte, its length above, 0 without a code.
        total_bits, selector_bits, field_bits : uint64
        scratch, scratch_view : uint64[SLACK_WORDS]
            The same memory, writable and read-only: lines so near the end of the payload that a window could read
            past it are decoded from a padded copy.

        Four coded lines are decoded in step: their look-ups do not depend on one another, so the latency of one hides
        behind the others. Lines in another mode, and those with sub-streams, go one by one.
        """
        if plain_bf16:
            kind = KIND_BF16
        if one_by_one:
            kind = KIND_BYTES
        n = starts.shape[0]
        n_words = out.shape[1]
        n_symbol_words = _symbol_words(kind, n_words)
        header = U1 + selector_bits
        rest_bits = U0
        if KIND_BF16 <= kind <= KIND_INT16:
            rest_bits = np.uint64(32 * n_words)
        elif kind != KIND_BYTES:
            rest_bits = np.uint64(n_words) * _word_rest_bits(kind)
        raw_bits = np.uint64(64 * n_words) + (U2 if zero_lines else U1)
        selector_mask = (U1 << selector_bits) - U1
        shift = np.uint64(one_bits if one_by_one else index_bits)
        mask = (U1 << shift) - U1
        inside = payload.shape[0] - SLACK_WORDS
        last_start = np.uint64(inside) << U6 if inside > 0 else U0
        line = 0
        while line < n:
            quad = line + 4 <= n and substreams == 1 and inside >= 0
            if quad:
                s0, s1, s2, s3 = starts[line], starts[line + 1], starts[line + 2], starts[line + 3]
                quad = ((s0 | s1 | s2 | s3) & U63) == U0 and max(max(s0, s1), max(s2, s3)) <= last_start
            if quad:
                h0, h1, h2, h3 = payload[s0 >> U6], payload[s1 >> U6], payload[s2 >> U6], payload[s3 >> U6]
                t0, t1 = (h0 >> U1) & selector_mask, (h1 >> U1) & selector_mask
                t2, t3 = (h2 >> U1) & selector_mask, (h3 >> U1) & selector_mask
                most = max(max(t0, t1), max(t2, t3))
                quad = (h0 & h1 & h2 & h3 & U1) == U1 and most < np.uint64(n_tables)
            if not quad:
                start, size = starts[line], np.uint64(bits[line])
                if (start & U63) != U0 or start > total_bits or size > total_bits - start:
                    return line, BAD_PLACE
                if inside >= 0 and start <= last_start:
                    reason = _decode_one(
                        payload, start, size, kind, tables, index_bits, n_tables, selector_bits, substreams,
                        field_bits, zero_lines, out, line,
                    )  # fmt: skip
                else:
                    first = start >> U6
                    left = np.uint64(payload.shape[0]) - first
                    for k in range(SLACK_WORDS):
                        scratch[k] = payload[first + np.uint64(k)] if np.uint64(k) < left else U0
                    reason = _decode_one(
                        scratch_view, U0, size, kind, tables, index_bits, n_tables, selector_bits, substreams,
                        field_bits, zero_lines, out, line,
                    )  # fmt: skip
                if reason != OK:
                    return line, reason
                line += 1
                continue
            b0 = b1 = b2 = b3 = U0
            if not plain_bf16:
                b0, b1, b2, b3 = t0 << shift, t1 << shift, t2 << shift, t3 << shift
            s0, s1, s2, s3 = s0 + header, s1 + header, s2 + header, s3 + header
            p0, p1, p2, p3 = s0 + rest_bits, s1 + rest_bits, s2 + rest_bits, s3 + rest_bits
            bad = U0
            fits = True
            for k in range(n_symbol_words if one_by_one else 0):
                u0 = u1 = u2 = u3 = U0
                for half in range(2):
                    w0, w1 = _window(payload, p0), _window(payload, p1)
                    w2, w3 = _window(payload, p2), _window(payload, p3)
                    for q in range(4):
                        e0, e1 = np.uint64(ones[b0 + (w0 & mask)]), np.uint64(ones[b1 + (w1 & mask)])
                        e2, e3 = np.uint64(ones[b2 + (w2 & mask)]), np.uint64(ones[b3 + (w3 & mask)])
                        n0, n1, n2, n3 = e0 >> U8, e1 >> U8, e2 >> U8, e3 >> U8
                        at = np.uint64(32 * half + 8 * q)
                        p0, p1, p2, p3 = p0 + n0, p1 + n1, p2 + n2, p3 + n3
                        w0, w1, w2, w3 = w0 >> n0, w1 >> n1, w2 >> n2, w3 >> n3
                        # A length of zero less one sets every bit, UNUSED among them.
                        bad |= (n0 - U1) | (n1 - U1) | (n2 - U1) | (n3 - U1)
                        u0, u1 = u0 | ((e0 & BYTE) << at), u1 | ((e1 & BYTE) << at)
                        u2, u3 = u2 | ((e2 & BYTE) << at), u3 | ((e3 & BYTE) << at)
                out[line, k], out[line + 1, k], out[line + 2, k], out[line + 3, k] = u0, u1, u2, u3
            for k in range(0 if one_by_one else n_symbol_words):
                w0, w1, w2, w3 = (
                    _window(payload, p0),
                    _window(payload, p1),
                    _window(payload, p2),
                    _window(payload, p3),
                )
                u0 = u1 = u2 = u3 = U0
                for q in range(4):
                    c0, c1 = tables[b0 + (w0 & mask)], tables[b1 + (w1 & mask)]
                    c2, c3 = tables[b2 + (w2 & mask)], tables[b3 + (w3 & mask)]
                    e0, e1, e2, e3 = np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3)
                    if (c0 | c1 | c2 | c3) & SINGLE:
                        e0 = _two(payload, p0, tables, b0, mask)
                        e1 = _two(payload, p1, tables, b1, mask)
                        e2 = _two(payload, p2, tables, b2, mask)
                        e3 = _two(payload, p3, tables, b3, mask)
                        p0, p1, p2, p3 = p0 + (e0 >> U26), p1 + (e1 >> U26), p2 + (e2 >> U26), p3 + (e3 >> U26)
                        w0, w1, w2, w3 = (
                            _window(payload, p0),
                            _window(payload, p1),
                            _window(payload, p2),
                            _window(payload, p3),
                        )
                    else:
                        n0, n1, n2, n3 = e0 >> U26, e1 >> U26, e2 >> U26, e3 >> U26
                        p0, p1, p2, p3 = p0 + n0, p1 + n1, p2 + n2, p3 + n3
                        w0, w1, w2, w3 = w0 >> n0, w1 >> n1, w2 >> n2, w3 >> n3
                    bad |= e0 | e1 | e2 | e3
                    at = np.uint64(16 * q)
                    u0, u1 = u0 | ((e0 & PAIR) << at), u1 | ((e1 & PAIR) << at)
                    u2, u3 = u2 | ((e2 & PAIR) << at), u3 | ((e3 & PAIR) << at)
                fits &= _store(u0, payload, s0, k, kind, out, line)
                fits &= _store(u1, payload, s1, k, kind, out, line + 1)
                fits &= _store(u2, payload, s2, k, kind, out, line + 2)
                fits &= _store(u3, payload, s3, k, kind, out, line + 3)
            wrong = (p0 - s0 + header) ^ np.uint64(bits[line])
            wrong |= (p1 - s1 + header) ^ np.uint64(bits[line + 1])
            wrong |= (p2 - s2 + header) ^ np.uint64(bits[line + 2])
            wrong |= (p3 - s3 + header) ^ np.uint64(bits[line + 3])
            # A code as long as the raw form is one no encoder writes.
            most = max(max(p0 - s0, p1 - s1), max(p2 - s2, p3 - s3)) + header
            if wrong != U0 or most >= raw_bits or (bad & np.uint64(UNUSED)) != U0 or not fits:
                for i in range(line, line + 4):
                    reason = _decode_one(
                        payload, starts[i], np.uint64(bits[i]), kind, tables, index_bits, n_tables, selector_bits,
                        substreams, field_bits, zero_lines, out, i,
                    )  # fmt: skip
                    if reason != OK:
                        return i, reason
            line += 4
        return -1, OK

    return decode


decode_any = _decoder(plain_bf16=False, one_by_one=False)
decode_plain_bf16 = _decoder(plain_bf16=True, one_by_one=False)
decode_bytes = _decoder(plain_bf16=False, one_by_one=True)
