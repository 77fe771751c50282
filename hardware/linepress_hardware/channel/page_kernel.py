"""Kernels on single pages of `linepress_hardware.channel.compaction`: layout, chunks, packing, rewriting.

All state is plain arrays owned by `CompressedStore`. A rewrite of a page reads what it holds and writes it back
packed; requests of a rewrite belong to the access that caused it and do not delay its response (they are posted).
"""

from __future__ import annotations

import numpy as np
from numba import njit

PAGE_PACKED = 0
PAGE_RAW = 1
PAGE_STAGED = 2
PAGE_EMPTY = 3

C_NAMES = (
    "metadata_lookups",
    "metadata_hits",
    "atom_lookups",
    "line_buffer_hits",
    "overflows",
    "inflations",
    "repacks",
    "page_moves",
    "pages_left_raw",
    "read_modify_writes",
    "staged_accesses",
    "spills",
    "seals",
    "refused",
    "metadata_writes",
    "free_chunks",
    "warning_at",
    "critical_at",
)
(
    C_LOOKUP, C_HIT, C_ATOM, C_BUFFER, C_OVERFLOW, C_INFLATE, C_REPACK, C_MOVE, C_RAW, C_RMW, C_STAGED, C_SPILL,
    C_SEAL, C_REFUSED, C_METAWRITE, C_FREE, C_WARN, C_CRITICAL,
) = range(18)  # fmt: skip


@njit(cache=True)
def line_offset(row, sizes, rule, fixed_slot, target):  # type: ignore[no-untyped-def]
    """Byte offset in its page of line ``target`` (the end of all lines for target = -1) of a packed page."""
    if fixed_slot > 0:
        return fixed_slot * (row.shape[0] if target < 0 else target)
    position = 0
    for c in range(sizes.shape[0] - 1, -1, -1):
        size = sizes[c]
        if size == 0:
            continue
        room = (size + rule - 1) // rule * rule - size
        for k in range(row.shape[0]):
            if row[k] == c:
                if position % rule > room:
                    position = (position + rule - 1) // rule * rule
                if k == target:
                    return position
                position += size
    return position


@njit(cache=True)
def layout_bytes(actual, sizes, rule, fixed_slot):  # type: ignore[no-untyped-def]
    """int64[pages]: bytes of each page packed at its current classes."""
    out = np.empty(actual.shape[0], np.int64)
    for page in range(actual.shape[0]):
        out[page] = line_offset(actual[page], sizes, rule, fixed_slot, -1)
    return out


@njit(cache=True)
def packed_need(row, sizes, rule, fixed_slot, inflation):  # type: ignore[no-untyped-def]
    """Bytes of a page packed anew with exceptions of a fixed slot in the inflation room; -1 where they exceed it."""
    end = line_offset(row, sizes, rule, fixed_slot, -1)
    if fixed_slot > 0:
        exceptions = 0
        for k in range(row.shape[0]):
            if sizes[row[k]] > fixed_slot:
                exceptions += 1
        if exceptions > inflation:
            return -1
        if exceptions:
            end = (end + rule - 1) // rule * rule + sizes[-1] * exceptions
    return end


@njit(cache=True)
def resize_page(page, want, chunks, n_chunks, free, counters):  # type: ignore[no-untyped-def]
    """Give the page ``want`` chunks; False (and nothing changed) where too few are free."""
    have = n_chunks[page]
    if want > have:
        if want - have > counters[C_FREE]:
            return False
        for k in range(have, want):
            counters[C_FREE] -= 1
            chunks[page, k] = free[counters[C_FREE]]
    else:
        for k in range(want, have):
            free[counters[C_FREE]] = chunks[page, k]
            counters[C_FREE] += 1
            chunks[page, k] = -1
    n_chunks[page] = want
    return True


@njit(cache=True)
def pack_page(  # type: ignore[no-untyped-def]
    page, slot_class, actual, sizes, state, inflated, chunks, n_chunks, free, counters, rule, chunk, fixed_slot,
    inflation,
):  # fmt: skip
    """Lay the page out at its current classes; False where the chunks do not suffice (nothing changed then)."""
    most = chunks.shape[1]
    need = packed_need(actual[page], sizes, rule, fixed_slot, inflation)
    want = (need + chunk - 1) // chunk
    raw = need < 0 or want >= most
    if not resize_page(page, most if raw else want, chunks, n_chunks, free, counters):
        return False
    for k in range(inflated.shape[1]):
        inflated[page, k] = -1
    n = 0
    for k in range(actual.shape[1]):
        slot_class[page, k] = actual[page, k]
        if not raw and fixed_slot > 0 and sizes[actual[page, k]] > fixed_slot:
            inflated[page, n] = k
            n += 1
    state[page] = PAGE_RAW if raw else PAGE_PACKED
    return True


@njit(cache=True)
def populate(  # type: ignore[no-untyped-def]
    slot_class, actual, sizes, state, inflated, chunks, n_chunks, free, counters, rule, chunk, fixed_slot, inflation
):  # fmt: skip
    """Pack every page; returns the chunks missing (0: everything fits)."""
    short = 0
    counters[C_WARN] = -1
    counters[C_CRITICAL] = -1
    for page in range(state.shape[0]):
        if not pack_page(
            page, slot_class, actual, sizes, state, inflated, chunks, n_chunks, free, counters, rule, chunk,
            fixed_slot, inflation,
        ):  # fmt: skip
            need = packed_need(actual[page], sizes, rule, fixed_slot, inflation)
            short += chunks.shape[1] if need < 0 else min(chunks.shape[1], (need + chunk - 1) // chunk)
    return max(0, short - counters[C_FREE]) if short else 0


@njit(cache=True)
def stored_end(page, slot_class, sizes, state, inflated, rule, fixed_slot, page_bytes):  # type: ignore[no-untyped-def]
    """Bytes that a stored page occupies, inflation room included."""
    if state[page] == PAGE_RAW:
        return page_bytes
    end = line_offset(slot_class[page], sizes, rule, fixed_slot, -1)
    top = -1
    for k in range(inflated.shape[1]):
        if inflated[page, k] >= 0:
            top = k
    if top >= 0:
        end = (end + rule - 1) // rule * rule + sizes[-1] * (top + 1)
    return end


@njit(cache=True)
def page_places(slot_class, state, inflated, sizes, rule, fixed_slot):  # type: ignore[no-untyped-def]
    """Offset int64[pages, lines] and bytes int32[pages, lines] of every line of packed or raw pages."""
    start = np.zeros(slot_class.shape, np.int64)
    length = np.zeros(slot_class.shape, np.int32)
    for page in range(slot_class.shape[0]):
        end = (line_offset(slot_class[page], sizes, rule, fixed_slot, -1) + rule - 1) // rule * rule
        for k in range(slot_class.shape[1]):
            if state[page] == PAGE_RAW:
                start[page, k] = sizes[-1] * k
                length[page, k] = sizes[-1]
            elif state[page] == PAGE_PACKED:
                size = fixed_slot if fixed_slot > 0 else sizes[slot_class[page, k]]
                length[page, k] = size
                if size > 0:
                    start[page, k] = line_offset(slot_class[page], sizes, rule, fixed_slot, k)
                for q in range(inflated.shape[1]):
                    if inflated[page, q] == k:
                        start[page, k] = end + sizes[-1] * q
                        length[page, k] = sizes[-1]
    return start, length


@njit(cache=True)
def emit(  # type: ignore[no-untyped-def]
    row, offset, n, atom, chunk, is_write, wait, reason, what, i, address, size, write, after, why, kind, access, m
):  # fmt: skip
    """Requests for bytes [offset, offset + n) of a page, contiguous atoms in one request; returns the new count."""
    if n <= 0:
        return m
    opened = False
    for a in range(offset // atom, (offset + n - 1) // atom + 1):
        byte = a * atom
        place = np.int64(row[byte // chunk]) * chunk + byte % chunk
        if opened and np.int64(address[m - 1]) + size[m - 1] == place:
            size[m - 1] += atom
            continue
        address[m] = np.uint64(place)
        size[m] = atom
        write[m] = is_write
        after[m] = wait
        why[m] = reason
        kind[m] = what
        access[m] = i
        m += 1
        opened = True
    return m


@njit(cache=True)
def rewrite_page(  # type: ignore[no-untyped-def]
    page, i, slot_class, actual, sizes, state, inflated, chunks, n_chunks, free, counters, rule, atom, chunk,
    fixed_slot, inflation, page_bytes, address, size, write, after, why, kind, access, m,
):  # fmt: skip
    """Read a stored page and write it packed; -1 where no chunk is free (nothing changed then)."""
    old_end = stored_end(page, slot_class, sizes, state, inflated, rule, fixed_slot, page_bytes)
    old_chunks = n_chunks[page]
    old_row = chunks[page].copy()
    if not pack_page(
        page, slot_class, actual, sizes, state, inflated, chunks, n_chunks, free, counters, rule, chunk, fixed_slot,
        inflation,
    ):  # fmt: skip
        return -1
    first = m
    m = emit(old_row, 0, old_end, atom, chunk, False, -1, 0, 5, i, address, size, write, after, why, kind, access, m)
    wait = m - 1 if m > first else -1
    new_end = stored_end(page, slot_class, sizes, state, inflated, rule, fixed_slot, page_bytes)
    m = emit(
        chunks[page], 0, new_end, atom, chunk, True, wait, 2 if wait >= 0 else 0, 6, i,
        address, size, write, after, why, kind, access, m,
    )  # fmt: skip
    if n_chunks[page] > old_chunks:
        counters[C_MOVE] += 1
    else:
        counters[C_REPACK] += 1
    if state[page] == PAGE_RAW:
        counters[C_RAW] += 1
    return m
