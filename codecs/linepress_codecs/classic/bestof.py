"""Kernels and tables of ``best-of``: a selector before the code of another codec."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numba import njit

from linepress_codecs.classic.bits import U0, U6, U64, finish, get, put, window
from linepress_codecs.contracts import Tables
from linepress_codecs.errors import CorruptDataError

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class BestOfTables:
    """The tables of every part, in the order of the list; written as a 4 B length (little-endian) before each."""

    parts: tuple[Tables, ...]

    def to_bytes(self) -> bytes:
        written = [part.to_bytes() for part in self.parts]
        return b"".join(_LENGTH.pack(len(data)) + data for data in written)


def split_tables(data: bytes, parts: int) -> list[bytes]:
    """The bytes of each part's tables; raises `CorruptDataError` unless there are ``parts`` of them and no more."""
    found, at = [], 0
    for i in range(parts):
        if len(data) < at + _LENGTH.size:
            raise CorruptDataError(f"the tables end before the length of part {i + 1} of {parts}")
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if len(data) < at + length:
            raise CorruptDataError(f"part {i + 1} of {parts} has tables of {length} B, {len(data) - at} B are left")
        found.append(data[at : at + length])
        at += length
    if at != len(data):
        raise CorruptDataError(f"{len(data) - at} B are left behind the tables of {parts} parts")
    return found


@njit(cache=True)
def join(lines, selector, selector_bits, payload, from_bits, sizes, out, starts):  # type: ignore[no-untyped-def]
    """Write the selector and ``sizes[i]`` bits of ``payload`` from ``from_bits[i]`` for each line of one part.

    ``lines[i]`` is the line in the whole; ``starts[lines[i]]`` the word-aligned bit of ``out`` at which it starts.
    """
    for i in range(len(lines)):
        word = starts[lines[i]] >> U6
        held, used = selector, selector_bits
        at, left = from_bits[i], np.uint64(sizes[i])
        while left >= U64:
            word, held, used = put(out, word, held, used, window(payload, at), U64)
            at += U64
            left -= U64
        if left > U0:
            word, held, used = put(out, word, held, used, get(payload, at, left), left)
        finish(out, word, held, used)


@njit(cache=True)
def split(lines, skip_bits, payload, starts, sizes, out, to_words):  # type: ignore[no-untyped-def]
    """Copy the code behind the selector of each line of one part to word ``to_words[i]`` of ``out``."""
    for i in range(len(lines)):
        word = to_words[i]
        held, used = U0, U0
        at, left = starts[lines[i]] + skip_bits, np.uint64(sizes[i])
        while left >= U64:
            word, held, used = put(out, word, held, used, window(payload, at), U64)
            at += U64
            left -= U64
        if left > U0:
            word, held, used = put(out, word, held, used, get(payload, at, left), left)
        finish(out, word, held, used)


@njit(cache=True)
def selectors(payload, starts, selector_bits, found):  # type: ignore[no-untyped-def]
    """The first ``selector_bits`` bits of every line into found uint8[n]."""
    for i in range(len(starts)):
        found[i] = get(payload, starts[i], selector_bits)
