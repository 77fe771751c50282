"""The event loop of the packet simulation, in Numba: links, input buffers with credits, switches that reduce.

A *channel* is one direction of a physical link; it carries one packet at a time. A *queue* is a channel's virtual
channel: its index is channel × virtual channels + virtual channel, and it owns the buffer slots (credits) at the
far end. A message is cut into packets that follow one path, a list of queues. Outputs serve waiting packets in order
of arrival, before what their own endpoint injects; a packet that cannot leave keeps its slot, so congestion spreads
upstream.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

TRANSIT, FINAL, TRY, RELEASE, COMBINE = 0, 1, 2, 3, 4


@njit(cache=True)
def run(
    ns_per_byte: Any,
    latency_ns: Any,
    forward_ns: Any,
    floor_ns: Any,
    virtual: int,
    cut_through: bool,
    slots: Any,
    path_start: Any,
    path: Any,
    n_packets: Any,
    packet_bytes: Any,
    last_bytes: Any,
    needs: Any,
    next_start: Any,
    nexts: Any,
    delay_ns: Any,
    group: Any,
    root_order: Any,
    root_ns: Any,
    group_expects: Any,
    group_start: Any,
    group_ns: Any,
    out_start: Any,
    outs: Any,
    flit_error: float,
    flit_bytes: float,
    replay_ns: float,
    random: Any,
    packet_room: int,
    heap_room: int,
) -> Any:
    """Deliver every message; returns (released_ns, done_ns, busy_ns, deepest, counters).

    ns_per_byte, latency_ns, forward_ns, floor_ns : float64[channels]
        Serialisation, flight, latency of the node at the far end when it forwards, and the least time a packet
        takes to arrive (a flit is sent and checked whole, whatever it holds).
    cut_through : bool
        Whether a node passes a packet on once its first `floor_ns` have come in, or only the whole packet.
    slots : int64[queues]
        Packets that the buffer at the far end holds.
    path_start, path : int64[m + 1], int32[…]
        Queues that each message crosses.
    n_packets, packet_bytes, last_bytes : int32[m], float64[m], float64[m]
        Bytes on the wire of each packet, of the last one; 0 packets make a message a mere join of others.
    needs, next_start, nexts : int32[m], int64[m + 1], int32[…]
        Messages it waits for (changed in place), and those that wait for it.
    delay_ns : float64[m], group : int32[m]
        Time between its last need and its release; group whose switch combines its packets, -1 for none.
    root_order, root_ns : int32[r], float64[m]
        Messages without needs in order of release; when.
    group_expects, group_start, group_ns, out_start, outs
        Contributions per packet, first counter, latency of the combination, messages that carry the result on.
    flit_error, flit_bytes, replay_ns, random (a Generator)
        Probability that a flit of so many bytes arrives broken, and the time from its start to its start anew; until
        then the receiver discards what follows (go-back-N), so the channel delivers nothing.
    packet_room, heap_room : int
        Packets under way and events waiting at most; the last counter is 1 when one was too small, and the rest of
        the result is then void.

    busy_ns is per channel, deepest (most packets waiting) per queue; counters are packets sent by sources, packet
    hops, events, credit stalls, undelivered messages, whether a room was too small, and replays.
    """
    n_channels = ns_per_byte.size
    n_queues = slots.size
    channel_of = np.arange(n_queues) // virtual  # integer division is dear in the loop
    n_messages = n_packets.size
    inf = np.inf
    busy_until = np.zeros(n_channels)
    busy_ns = np.zeros(n_channels)
    due_last = np.zeros(n_channels)  # latest times that a packet on this channel was, or will be, passed on, arrived
    arrival_last = np.zeros(n_channels)
    try_at = np.full(n_channels, inf)
    turn = np.zeros(n_channels, np.int64)
    waiting = np.zeros(n_channels, np.int64)
    flying = np.full((2, n_channels), -1, np.int32)  # first packet in flight, transit and final
    flying_last = np.full((2, n_channels), -1, np.int32)
    first = np.full(n_queues, -1, np.int32)
    last = np.full(n_queues, -1, np.int32)
    depth = np.zeros(n_queues, np.int64)
    deepest = np.zeros(n_queues, np.int64)
    source = np.full(n_queues, -1, np.int32)
    source_last = np.full(n_queues, -1, np.int32)
    source_next = np.full(n_messages, -1, np.int32)
    credit = slots.copy()
    blocked = np.zeros(n_queues, np.bool_)
    ring = np.zeros(n_queues + 1, np.int64)
    for q in range(n_queues):
        ring[q + 1] = ring[q] + slots[q]
    back_ns = np.zeros(ring[n_queues])  # when credits on their way arrive, a ring for each queue
    back_head = np.zeros(n_queues, np.int64)
    back_count = np.zeros(n_queues, np.int64)
    back_last = np.zeros(n_queues)
    sent = np.zeros(n_messages, np.int32)
    released_ns = np.full(n_messages, np.nan)
    done_ns = np.full(n_messages, np.nan)
    left = n_messages
    n_counts = group_start[-1]
    count = np.zeros(n_counts, np.int32)
    combined_tail = np.zeros(n_counts)
    held = np.full(n_counts, -1, np.int32)
    for g in range(group_expects.size):
        for k in range(group_start[g], group_start[g + 1]):
            count[k] = group_expects[g]

    room = packet_room
    p_message = np.zeros(room, np.int32)
    p_hop = np.zeros(room, np.int32)
    p_number = np.zeros(room, np.int32)
    p_next = np.arange(1, room + 1).astype(np.int32)
    p_next[room - 1] = -1
    p_tail = np.zeros(room)  # when its last byte can leave the node it is at
    p_event = np.zeros(room)
    free = np.int32(0)
    n_free = room

    most_out = 4  # packets that one combination sets free at most
    for g in range(group_expects.size):
        most_out = max(most_out, out_start[g + 1] - out_start[g])
    # Events: a binary heap of (time, serial number, code). New ones wait in a buffer until the turn is over; the
    # first of them takes the place of the event that the turn took, which saves closing the gap. No array is replaced
    # in the loop: Numba would count references to it at every turn.
    h_time = np.zeros(heap_room)
    h_serial = np.zeros(heap_room, np.int64)
    h_code = np.zeros(heap_room, np.int64)
    h_size = 0
    taken = False
    serial = 0
    new_ns = np.zeros(n_messages + 4 * n_channels + 64)
    new_code = np.zeros(n_messages + 4 * n_channels + 64, np.int64)
    n_new = 0
    todo = np.zeros(n_channels, np.int32)
    marked = np.zeros(n_channels, np.bool_)
    n_todo = 0
    ready = np.zeros(n_messages + 1, np.int32)
    n_ready = 0
    counters = np.zeros(7, np.int64)
    root = 0
    n_roots = root_order.size

    while True:
        if h_size + n_new > heap_room or n_free < n_channels + most_out:
            counters[5] = 1
            break
        j = 0
        while j < n_new or taken:
            if j < n_new:
                at_ns, number, code = new_ns[j], serial, new_code[j]
                serial += 1
                j += 1
            else:  # nothing to put into the gap but the last event
                h_size -= 1
                at_ns, number, code = h_time[h_size], h_serial[h_size], h_code[h_size]
            i = h_size
            if taken:  # the smaller children move up from the gap to a leaf
                taken = False
                i = 0
                child = 1
                while child < h_size:
                    other = child + 1
                    if other < h_size and (
                        h_time[other] < h_time[child]
                        or (h_time[other] == h_time[child] and h_serial[other] < h_serial[child])
                    ):
                        child = other
                    h_time[i], h_serial[i], h_code[i] = h_time[child], h_serial[child], h_code[child]
                    i = child
                    child = 2 * i + 1
            else:
                h_size += 1
            while i > 0:  # the event rises from there
                parent = (i - 1) >> 1
                if h_time[parent] < at_ns or (h_time[parent] == at_ns and h_serial[parent] < number):
                    break
                h_time[i], h_serial[i], h_code[i] = h_time[parent], h_serial[parent], h_code[parent]
                i = parent
            h_time[i], h_serial[i], h_code[i] = at_ns, number, code
        n_new = 0
        if root < n_roots and (h_size == 0 or root_ns[root_order[root]] <= h_time[0]):
            t = root_ns[root_order[root]]
            ready[0] = root_order[root]
            n_ready = 1
            root += 1
        elif h_size > 0:
            t = h_time[0]
            code = h_code[0]
            taken = True
            counters[2] += 1
            kind = code & 7
            c = (code >> 3) & 0xFFFFFFFF
            if kind == TRY:
                if t != try_at[c]:
                    continue
                try_at[c] = inf
                todo[0] = c
                n_todo = 1
                marked[c] = True
            elif kind == TRANSIT:
                p = flying[0, c]
                flying[0, c] = p_next[p]
                if p_next[p] >= 0:
                    new_ns[n_new], new_code[n_new] = p_event[p_next[p]], (c << 3) | TRANSIT
                    n_new += 1
                m = p_message[p]
                p_hop[p] += 1
                at = path_start[m] + p_hop[p]
                if at < path_start[m + 1]:
                    q = path[at]
                    p_next[p] = -1
                    if first[q] < 0:
                        first[q] = p
                    else:
                        p_next[last[q]] = p
                    last[q] = p
                    depth[q] += 1
                    deepest[q] = max(deepest[q], depth[q])
                    out = channel_of[q]
                    waiting[out] += 1
                    todo[0] = out
                    n_todo = 1
                    marked[out] = True
                else:  # a contribution to a combination in this switch
                    k = group_start[group[m]] + p_number[p]
                    combined_tail[k] = max(combined_tail[k], p_tail[p])
                    p_next[p] = held[k]
                    held[k] = p
                    count[k] -= 1
                    if p_number[p] == n_packets[m] - 1:
                        done_ns[m] = t
                        left -= 1
                    if count[k] == 0:
                        tail = combined_tail[k]
                        p = held[k]
                        while p >= 0:
                            q = path[path_start[p_message[p] + 1] - 1]
                            c = channel_of[q]
                            back = max(back_last[q], tail - forward_ns[c] + latency_ns[c])
                            back_last[q] = back
                            place = back_head[q] + back_count[q]
                            if place >= slots[q]:
                                place -= slots[q]
                            back_ns[ring[q] + place] = back
                            back_count[q] += 1
                            if blocked[q]:
                                blocked[q] = False
                                if try_at[c] > back:
                                    try_at[c] = back
                                    new_ns[n_new], new_code[n_new] = back, (c << 3) | TRY
                                    n_new += 1
                            following = p_next[p]
                            p_next[p] = free
                            free = p
                            n_free += 1
                            p = following
                        combined_tail[k] = tail + group_ns[group[m]]
                        what = (np.int64(k) << 35) | (np.int64(group[m]) << 3) | COMBINE
                        new_ns[n_new], new_code[n_new] = t + group_ns[group[m]], what
                        n_new += 1
            elif kind == FINAL:
                p = flying[1, c]
                flying[1, c] = p_next[p]
                if p_next[p] >= 0:
                    new_ns[n_new], new_code[n_new] = p_event[p_next[p]], (c << 3) | FINAL
                    n_new += 1
                m = p_message[p]
                p_next[p] = free
                free = p
                n_free += 1
                done_ns[m] = t
                left -= 1
                for i in range(next_start[m], next_start[m + 1]):
                    after = nexts[i]
                    needs[after] -= 1
                    if needs[after] == 0:
                        if delay_ns[after] > 0.0:
                            what = (np.int64(after) << 3) | RELEASE
                            new_ns[n_new], new_code[n_new] = t + delay_ns[after], what
                            n_new += 1
                        else:
                            ready[n_ready] = after
                            n_ready += 1
            elif kind == RELEASE:
                ready[0] = c
                n_ready = 1
            else:
                g = c
                k = code >> 35
                for i in range(out_start[g], out_start[g + 1]):
                    m = outs[i]
                    if np.isnan(released_ns[m]):
                        released_ns[m] = t
                    p = free
                    free = p_next[p]
                    n_free -= 1
                    p_message[p] = m
                    p_hop[p] = 0
                    p_number[p] = k - group_start[g]
                    p_tail[p] = combined_tail[k]
                    p_next[p] = -1
                    q = path[path_start[m]]
                    if first[q] < 0:
                        first[q] = p
                    else:
                        p_next[last[q]] = p
                    last[q] = p
                    depth[q] += 1
                    deepest[q] = max(deepest[q], depth[q])
                    out = channel_of[q]
                    waiting[out] += 1
                    if not marked[out]:
                        marked[out] = True
                        todo[n_todo] = out
                        n_todo += 1
        else:
            break

        at_ready = 0
        while at_ready < n_ready:  # first come, first served: a schedule's order of sends is kept
            m = ready[at_ready]
            at_ready += 1
            released_ns[m] = t
            if n_packets[m] > 0:
                q = path[path_start[m]]
                source_next[m] = -1
                if source[q] < 0:
                    source[q] = m
                else:
                    source_next[source_last[q]] = m
                source_last[q] = m
                out = channel_of[q]
                waiting[out] += 1
                if not marked[out]:
                    marked[out] = True
                    todo[n_todo] = out
                    n_todo += 1
                continue
            done_ns[m] = t
            left -= 1
            for i in range(next_start[m], next_start[m + 1]):
                after = nexts[i]
                needs[after] -= 1
                if needs[after] == 0:
                    if delay_ns[after] > 0.0:
                        what = (np.int64(after) << 3) | RELEASE
                        new_ns[n_new], new_code[n_new] = t + delay_ns[after], what
                        n_new += 1
                    else:
                        ready[n_ready] = after
                        n_ready += 1

        n_ready = 0
        while n_todo > 0:
            n_todo -= 1
            c = todo[n_todo]
            marked[c] = False
            if waiting[c] == 0:
                continue
            if busy_until[c] > t:
                if try_at[c] > busy_until[c]:
                    try_at[c] = busy_until[c]
                    new_ns[n_new], new_code[n_new] = busy_until[c], (np.int64(c) << 3) | TRY
                    n_new += 1
                continue
            soon = inf
            chosen = -1
            for j in range(2 * virtual):
                # What is under way goes before what is new (else rings choke), virtual channels by turns.
                fresh = j >= virtual
                lane = (turn[c] + j) % virtual
                q = c * virtual + lane
                if (source[q] if fresh else first[q]) < 0:
                    continue
                while back_count[q] > 0 and back_ns[ring[q] + back_head[q]] <= t:
                    back_head[q] += 1
                    if back_head[q] == slots[q]:
                        back_head[q] = 0
                    back_count[q] -= 1
                    credit[q] += 1
                if credit[q] == 0:
                    counters[3] += 1
                    if back_count[q] > 0:
                        soon = min(soon, back_ns[ring[q] + back_head[q]])
                    else:
                        blocked[q] = True
                    continue
                chosen = 2 * lane + fresh
                break
            if chosen < 0:
                if soon < try_at[c]:
                    try_at[c] = soon
                    new_ns[n_new], new_code[n_new] = soon, (np.int64(c) << 3) | TRY
                    n_new += 1
                continue
            turn[c] = (chosen >> 1) + 1 if (chosen >> 1) + 1 < virtual else 0
            q = c * virtual + (chosen >> 1)
            if chosen & 1 == 0:
                p = first[q]
                first[q] = p_next[p]
                depth[q] -= 1
                waiting[c] -= 1
                m = p_message[p]
            else:
                m = source[q]
                p = free
                free = p_next[p]
                n_free -= 1
                p_message[p] = m
                p_hop[p] = 0
                p_number[p] = sent[m]
                p_tail[p] = 0.0
                sent[m] += 1
                counters[0] += 1
                if sent[m] == n_packets[m]:
                    source[q] = source_next[m]
                    waiting[c] -= 1
            credit[q] -= 1
            counters[1] += 1
            ending = p_number[p] == n_packets[m] - 1
            on_wire = (last_bytes[m] if ending else packet_bytes[m]) * ns_per_byte[c]
            finish = t + on_wire
            if cut_through and p_tail[p] > finish:
                finish = p_tail[p]
            late = 0.0
            if flit_error > 0.0:
                flits = on_wire / (flit_bytes * ns_per_byte[c])
                if flits < 1.0 and busy_until[c] < t:
                    flits = 1.0  # the first packet after a pause takes a flit of its own
                broken = random.poisson(flits * flit_error / (1.0 - flit_error))
                counters[6] += broken
                late = broken * replay_ns
                finish += late
            busy_until[c] = finish
            busy_ns[c] += on_wire
            # The first packet of a message waits for its flit; those behind it fill the rest of that flit.
            due = t + late + floor_ns[c]
            arrival = max(finish, due) if p_number[p] == 0 else finish
            due_last[c] = max(due_last[c], due if p_number[p] == 0 else min(due, finish))
            arrival_last[c] = max(arrival_last[c], arrival)
            arrival = arrival_last[c] + latency_ns[c]
            hop = p_hop[p]
            if hop > 0:  # its slot at this node is free when its last byte has left
                previous = path[path_start[m] + hop - 1]
                before = channel_of[previous]
                back = max(back_last[previous], finish + latency_ns[before])
                back_last[previous] = back
                place = back_head[previous] + back_count[previous]
                if place >= slots[previous]:
                    place -= slots[previous]
                back_ns[ring[previous] + place] = back
                back_count[previous] += 1
                if blocked[previous]:
                    blocked[previous] = False
                    if try_at[before] > back:
                        try_at[before] = back
                        what = (np.int64(before) << 3) | TRY
                        new_ns[n_new], new_code[n_new] = back, what
                        n_new += 1
            if path_start[m] + hop + 1 < path_start[m + 1] or group[m] >= 0:
                p_tail[p] = arrival + forward_ns[c]
                p_event[p] = due_last[c] + latency_ns[c] + forward_ns[c] if cut_through else p_tail[p]
                kind = TRANSIT
            else:
                back = max(back_last[q], arrival + latency_ns[c])
                back_last[q] = back
                place = back_head[q] + back_count[q]
                if place >= slots[q]:
                    place -= slots[q]
                back_ns[ring[q] + place] = back
                back_count[q] += 1
                if ending and next_start[m + 1] > next_start[m]:
                    p_event[p] = arrival
                    kind = FINAL
                else:  # nobody waits for it: no event needed
                    if ending:
                        done_ns[m] = arrival
                        left -= 1
                    p_next[p] = free
                    free = p
                    n_free += 1
                    kind = -1
            if kind >= 0:
                p_next[p] = -1
                if flying[kind, c] < 0:
                    flying[kind, c] = p
                    new_ns[n_new], new_code[n_new] = p_event[p], (np.int64(c) << 3) | kind
                    n_new += 1
                else:
                    p_next[flying_last[kind, c]] = p
                flying_last[kind, c] = p
            if waiting[c] > 0 and try_at[c] > finish:
                try_at[c] = finish
                new_ns[n_new], new_code[n_new] = finish, (np.int64(c) << 3) | TRY
                n_new += 1
    counters[4] = left
    return released_ns, done_ns, busy_ns, deepest, counters
