"""The translation of a stream of accesses against an inline-compressed store, as one kernel."""

from __future__ import annotations

import numpy as np
from numba import njit

from linepress_hardware.channel.metadata_cache import holds, lookup, victim
from linepress_hardware.channel.page_kernel import (
    C_ATOM,
    C_BUFFER,
    C_CRITICAL,
    C_FREE,
    C_HIT,
    C_INFLATE,
    C_LOOKUP,
    C_METAWRITE,
    C_OVERFLOW,
    C_REFUSED,
    C_RMW,
    C_SEAL,
    C_SPILL,
    C_STAGED,
    C_WARN,
    PAGE_EMPTY,
    PAGE_PACKED,
    PAGE_RAW,
    PAGE_STAGED,
    emit,
    line_offset,
    pack_page,
    packed_need,
    resize_page,
    rewrite_page,
    stored_end,
)


@njit(cache=True)
def expand_inline(  # type: ignore[no-untyped-def]
    line, is_write, partial, append, new_class, lines, per_page, slot_class, actual, sizes, state, inflated, chunks,
    n_chunks, written, free, counters, rule, atom, chunk, fixed_slot, inflation, staging, metadata_base, entry,
    tag, stamp, dirty, pending, ahead, prefetch_entries, buffer_atom, buffer_request, buffer_stamp,
    thresholds,
    address, size, write, after, why, kind, access, first, last, shared, metadata, out_length, failed,
):  # fmt: skip
    """Translate a stream against the store; returns the number of requests, -1 where the buffers are too small."""
    line_bytes = sizes[-1]
    page_bytes = per_page * line_bytes
    margin = 8 * (page_bytes // atom) + 32
    room_for = address.shape[0]
    slots = buffer_atom.shape[0]
    staged = np.full(max(1, staging), -1, np.int64)
    n_staged = 0
    for page in range(state.shape[0]):  # pages still staged from the call before
        if state[page] == PAGE_STAGED and n_staged < staged.shape[0]:
            staged[n_staged] = page
            n_staged += 1
    total = free.shape[0]
    m = 0
    for i in range(line.shape[0]):
        if m + margin > room_for:
            return -1
        first[i] = m
        metadata[i] = -1
        shared[i, 0] = -1
        shared[i, 1] = -1
        here = line[i]
        if here < 0 or here >= lines:
            failed[i] = 3
            last[i] = m
            continue
        depends = -1
        reason = 0
        page = here // per_page
        k = here % per_page
        # ---- metadata ------------------------------------------------------------------------------------------
        counters[C_LOOKUP] += 1
        sets = tag.shape[0]
        way = lookup(tag, stamp, page, i)
        onward = False
        if way >= 0:
            counters[C_HIT] += 1
            onward = ahead[page % sets, way] != 0
            ahead[page % sets, way] = 0
            fetched = pending[page % sets, way]
            if fetched >= 0:  # perhaps still on its way
                depends = fetched
                reason = 1
                metadata[i] = fetched
        for target in (page, page + 1):
            if target == page:
                if way >= 0:
                    continue
                onward = page > 0 and holds(tag, page - 1)
            elif not (onward and prefetch_entries) or target >= state.shape[0] or holds(tag, target):
                continue
            address[m] = np.uint64(metadata_base + target * entry)
            size[m] = (entry + atom - 1) // atom * atom
            write[m] = False
            after[m] = -1
            why[m] = 0
            kind[m] = 2
            access[m] = i
            fetch = m
            m += 1
            if target == page:
                depends = fetch
                reason = 1
                metadata[i] = fetch
            room = victim(tag, stamp, target)
            if room < 0:
                continue
            s = target % sets
            old = tag[s, room]
            if old >= 0 and dirty[s, room]:
                # Eviction of a changed page is the moment to win back a chunk (Compresso).
                if state[old] == PAGE_PACKED or state[old] == PAGE_RAW:
                    need = packed_need(actual[old], sizes, rule, fixed_slot, inflation)
                    if need >= 0 and (need + chunk - 1) // chunk < n_chunks[old]:
                        m = rewrite_page(
                            old, i, slot_class, actual, sizes, state, inflated, chunks, n_chunks, free, counters,
                            rule, atom, chunk, fixed_slot, inflation, page_bytes,
                            address, size, write, after, why, kind, access, m,
                        )  # fmt: skip
                address[m] = np.uint64(metadata_base + old * entry)
                size[m] = (entry + atom - 1) // atom * atom
                write[m] = True
                after[m] = -1
                why[m] = 0
                kind[m] = 3
                access[m] = i
                counters[C_METAWRITE] += 1
                m += 1
            tag[s, room] = target
            stamp[s, room] = i
            dirty[s, room] = 0
            pending[s, room] = fetch
            ahead[s, room] = target != page
            if target == page:
                way = room
        changed = False
        # ---- fresh pages collect in staging --------------------------------------------------------------------
        if is_write[i] and append[i] and k == 0:
            for q in range(n_staged):
                if staged[q] == page:
                    n_staged -= 1
                    staged[q] = staged[n_staged]
                    break
            refused = False
            if staging > 0 and n_staged == staging:
                spilled = staged[0]
                if resize_page(spilled, chunks.shape[1], chunks, n_chunks, free, counters):
                    state[spilled] = PAGE_RAW
                    m = emit(
                        chunks[spilled], 0, written[spilled] * line_bytes, atom, chunk, True, -1, 0, 6, i,
                        address, size, write, after, why, kind, access, m,
                    )  # fmt: skip
                    counters[C_SPILL] += 1
                    for q in range(1, n_staged):
                        staged[q - 1] = staged[q]
                    n_staged -= 1
                else:
                    refused = True
            if (
                not refused
                and staging == 0
                and not resize_page(page, chunks.shape[1], chunks, n_chunks, free, counters)
            ):
                refused = True
            if refused:
                failed[i] = 1
                counters[C_REFUSED] += 1
                last[i] = m
                continue
            for q in range(per_page):
                actual[page, q] = 0
                slot_class[page, q] = 0
            for q in range(inflated.shape[1]):
                inflated[page, q] = -1
            written[page] = 0
            changed = True
            if staging > 0:
                resize_page(page, 0, chunks, n_chunks, free, counters)
                state[page] = PAGE_STAGED
                staged[n_staged] = page
                n_staged += 1
            else:
                state[page] = PAGE_RAW
        elif is_write[i] and state[page] == PAGE_EMPTY:
            # A write into a page that nobody filled from its start: raw until a rewrite packs it.
            if not resize_page(page, chunks.shape[1], chunks, n_chunks, free, counters):
                failed[i] = 1
                counters[C_REFUSED] += 1
                last[i] = m
                continue
            state[page] = PAGE_RAW
            changed = True
        # ---- where the line is ---------------------------------------------------------------------------------
        where = -1
        length = 0
        hole = -1
        mine = -1
        if state[page] == PAGE_RAW:
            where = line_bytes * k
            length = line_bytes
        elif state[page] == PAGE_PACKED:
            for q in range(inflated.shape[1] if inflation > 0 else 0):
                if inflated[page, q] == k:
                    mine = q
                elif inflated[page, q] < 0 and hole < 0:
                    hole = q
            if mine >= 0:
                end = line_offset(slot_class[page], sizes, rule, fixed_slot, -1)
                where = (end + rule - 1) // rule * rule + line_bytes * mine
                length = line_bytes
            else:
                length = fixed_slot if fixed_slot > 0 else sizes[slot_class[page, k]]
                if length > 0:
                    where = line_offset(slot_class[page], sizes, rule, fixed_slot, k)
        if not is_write[i]:
            if state[page] == PAGE_STAGED or state[page] == PAGE_EMPTY:
                counters[C_STAGED] += 1 if state[page] == PAGE_STAGED else 0
                out_length[i] = 0
            else:
                out_length[i] = length
                opened = False
                for a in range(where // atom, (where + length - 1) // atom + 1 if length > 0 else where // atom):
                    byte = a * atom
                    place = np.int64(chunks[page, byte // chunk]) * chunk + byte % chunk
                    hit = -1
                    counters[C_ATOM] += 1
                    for b in range(slots):
                        if buffer_atom[b] == place // atom:
                            hit = b
                            break
                    if hit >= 0:
                        opened = False
                        counters[C_BUFFER] += 1
                        buffer_stamp[hit] = m + i
                        if shared[i, 0] < 0:
                            shared[i, 0] = buffer_request[hit]
                        else:
                            shared[i, 1] = buffer_request[hit]
                        continue
                    if opened and np.int64(address[m - 1]) + size[m - 1] == place:
                        size[m - 1] += atom
                    else:
                        address[m] = np.uint64(place)
                        size[m] = atom
                        write[m] = False
                        after[m] = depends
                        why[m] = reason
                        kind[m] = 0
                        access[m] = i
                        m += 1
                        opened = True
                    if slots > 0:
                        oldest = 0
                        for b in range(slots):
                            if buffer_stamp[b] < buffer_stamp[oldest]:
                                oldest = b
                        buffer_atom[oldest] = place // atom
                        buffer_request[oldest] = m - 1
                        buffer_stamp[oldest] = m + i
        else:
            # ---- a write -----------------------------------------------------------------------------------------
            c = new_class[i]
            before = actual[page, k]
            out_length[i] = sizes[c]
            wait, cause = depends, reason
            if state[page] == PAGE_STAGED:
                counters[C_STAGED] += 1
                actual[page, k] = c
            else:
                if partial[i] and length > 0:
                    start = m
                    m = emit(
                        chunks[page], where, length, atom, chunk, False, depends, reason, 4, i,
                        address, size, write, after, why, kind, access, m,
                    )  # fmt: skip
                    counters[C_RMW] += m - start
                    wait, cause = m - 1, 2
                actual[page, k] = c
                rewritten = False
                if state[page] == PAGE_PACKED:
                    held = fixed_slot if fixed_slot > 0 else sizes[slot_class[page, k]]
                    if sizes[c] <= held:
                        if mine >= 0:
                            inflated[page, mine] = -1
                            changed = True
                        length = sizes[c]
                        where = line_offset(slot_class[page], sizes, rule, fixed_slot, k) if length > 0 else -1
                    elif mine < 0:
                        counters[C_OVERFLOW] += 1
                        changed = True
                        fits = False
                        if hole >= 0 and inflation > 0:
                            end = line_offset(slot_class[page], sizes, rule, fixed_slot, -1)
                            where = (end + rule - 1) // rule * rule + line_bytes * hole
                            want = (where + line_bytes + chunk - 1) // chunk
                            if want < chunks.shape[1]:
                                if not resize_page(page, max(want, n_chunks[page]), chunks, n_chunks, free, counters):
                                    failed[i] = 1
                                else:
                                    fits = True
                                    inflated[page, hole] = k
                                    length = line_bytes
                                    counters[C_INFLATE] += 1
                        if not fits and failed[i] == 0:
                            grown = rewrite_page(
                                page, i, slot_class, actual, sizes, state, inflated, chunks, n_chunks, free, counters,
                                rule, atom, chunk, fixed_slot, inflation, page_bytes,
                                address, size, write, after, why, kind, access, m,
                            )  # fmt: skip
                            if grown < 0:
                                failed[i] = 1
                            else:
                                m = grown
                                rewritten = True
                    if actual[page, k] != before:
                        changed = True
                if failed[i] != 0:
                    actual[page, k] = before
                    counters[C_REFUSED] += 1
                elif not rewritten and length > 0:
                    if where % atom != 0 or length % atom != 0:
                        # An atom covered in part is read and merged before it is written.
                        start = m
                        m = emit(
                            chunks[page], where, length, atom, chunk, False, wait, cause, 4, i,
                            address, size, write, after, why, kind, access, m,
                        )  # fmt: skip
                        counters[C_RMW] += m - start
                        wait, cause = m - 1, 2
                    low = m
                    m = emit(
                        chunks[page], where, length, atom, chunk, True, wait, cause, 1, i,
                        address, size, write, after, why, kind, access, m,
                    )  # fmt: skip
                    for r in range(low, m):
                        for b in range(slots):
                            a = buffer_atom[b]
                            if np.int64(address[r]) // atom <= a < (np.int64(address[r]) + size[r]) // atom:
                                buffer_atom[b] = -1
            # ---- a fresh page is complete ------------------------------------------------------------------------
            if append[i] and failed[i] == 0 and written[page] < per_page:
                written[page] += 1
                if written[page] == per_page:
                    changed = True
                    if state[page] == PAGE_STAGED:
                        if pack_page(
                            page, slot_class, actual, sizes, state, inflated, chunks, n_chunks, free, counters, rule,
                            chunk, fixed_slot, inflation,
                        ):  # fmt: skip
                            counters[C_SEAL] += 1
                            new_end = stored_end(
                                page, slot_class, sizes, state, inflated, rule, fixed_slot, page_bytes
                            )
                            m = emit(
                                chunks[page], 0, new_end, atom, chunk, True, -1, 0, 1, i,
                                address, size, write, after, why, kind, access, m,
                            )  # fmt: skip
                            for q in range(n_staged):
                                if staged[q] == page:
                                    for r in range(q + 1, n_staged):
                                        staged[r - 1] = staged[r]
                                    n_staged -= 1
                                    break
                        else:
                            failed[i] = 1
                            counters[C_REFUSED] += 1
                            written[page] -= 1
                    elif state[page] == PAGE_RAW:
                        need = packed_need(actual[page], sizes, rule, fixed_slot, inflation)
                        if need >= 0 and (need + chunk - 1) // chunk < chunks.shape[1]:
                            m = rewrite_page(
                                page, i, slot_class, actual, sizes, state, inflated, chunks, n_chunks, free, counters,
                                rule, atom, chunk, fixed_slot, inflation, page_bytes,
                                address, size, write, after, why, kind, access, m,
                            )  # fmt: skip
                        counters[C_SEAL] += 1
        if changed:
            if way >= 0:
                dirty[page % sets, way] = 1
            else:
                address[m] = np.uint64(metadata_base + page * entry)
                size[m] = (entry + atom - 1) // atom * atom
                write[m] = True
                after[m] = metadata[i]
                why[m] = 1
                kind[m] = 3
                access[m] = i
                counters[C_METAWRITE] += 1
                m += 1
        used = total - counters[C_FREE]
        if counters[C_WARN] < 0 and used >= thresholds[0]:
            counters[C_WARN] = i
        if counters[C_CRITICAL] < 0 and used >= thresholds[1]:
            counters[C_CRITICAL] = i
        last[i] = m
    return m
