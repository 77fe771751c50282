"""The event-driven engine: command-accurate FR-FCFS over one channel, skipping every tick on which nothing can happen.

Time is counted in ticks. At an event tick, in this order: refreshes fall due, commands issue (two-bus parts: one
column, then one row command), requests are accepted. A request accepted at tick t can issue from t + 1.

Every queued atom keeps a lower bound on the tick at which its next command becomes legal. Rules only ever push that
tick later, so a bound stays valid until the bank's row changes; then it is computed afresh. If nothing can issue, the
clock jumps to the least bound, arrival or refresh.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]

INF = np.int64(1 << 62)
# Held commands (columns of `ready`) and logged commands (`results.COMMANDS`).
H_ACT, H_PRE, H_PREA, H_RD, H_WR, H_REFA, H_REFB = range(7)
C_ACT, C_PRE, C_PREA, C_RD, C_WR, C_RDA, C_WRA, C_REFA, C_REFB, C_ACT2, C_CAS = range(11)
N_COMMANDS = 11
# Queues.
Q_READ, Q_WRITE, Q_ACTIVE, Q_OPENING = range(4)
# What `q_cls` tells of an atom's next command: a column command, a row command.
CLS_COL, CLS_ROW = 1, 2
# Reasons of lost bus time (`results.LOSS_CAUSES`).
L_IDLE, L_FULL, L_REFRESH, L_TURN, L_WINDOW, L_ROW, L_GROUP, L_OTHER = range(8)
N_LOSS = 8
# Policies.
PAGE_OPEN, PAGE_CLOSED, PAGE_ADAPTIVE = range(3)
REF_NONE, REF_ALL, REF_BANK = range(3)
ROW_CLOSED, ROW_OPENING = np.int64(-1), np.int64(-2)
# Counters returned.
N_ROW_HITS, N_FORWARDED, N_COALESCED, N_LOG, END_TICK, N_EVENTS, N_UNSERVED = range(7)
N_COUNTERS = 7


@numba.njit(cache=True)
def _earliest(held: int, bank: int, ready: I64, path: I32, held_levels: I32, held_count: I32) -> int:
    """First tick at which no rule holds the command back."""
    t = np.int64(0)
    for k in range(held_count[held]):
        t = max(t, ready[path[bank, held_levels[held, k]], held])
    return t


@numba.njit(cache=True)
def _issue(
    command: int,
    bank: int,
    t: int,
    ready: I64,
    history: I64,
    path: I32,
    node_low: I32,
    node_high: I32,
    rule_at: I32,
    rule_level: I32,
    rule_held: I32,
    rule_ticks: I64,
    rule_kind: I32,
) -> None:
    """Push the earliest ticks of everything that the command's rules hold back."""
    for k in range(rule_at[command], rule_at[command + 1]):
        node = path[bank, rule_level[k]]
        held = rule_held[k]
        kind = rule_kind[k]
        if kind == 0:
            ready[node, held] = max(ready[node, held], t + rule_ticks[k])
        elif kind == 1:  # four-activate window: counts from the third activate before this one
            oldest = history[node, 0]
            history[node, 0] = history[node, 1]
            history[node, 1] = history[node, 2]
            history[node, 2] = t
            if oldest >= 0:
                ready[node, held] = max(ready[node, held], oldest + rule_ticks[k])
        else:
            for other in range(node_low[node], node_high[node]):
                if other != node:
                    ready[other, held] = max(ready[other, held], t + rule_ticks[k])


@numba.njit(cache=True)
def _heap_push(tick: I64, index: I64, n: int, t: int, i: int) -> int:
    """Binary heap ordered by (tick, index); returns the new size."""
    k = n
    while k > 0:
        parent = (k - 1) >> 1
        if tick[parent] < t or (tick[parent] == t and index[parent] <= i):
            break
        tick[k] = tick[parent]
        index[k] = index[parent]
        k = parent
    tick[k] = t
    index[k] = i
    return n + 1


@numba.njit(cache=True)
def _heap_pop(tick: I64, index: I64, n: int) -> int:
    """Remove the least entry; returns the new size."""
    n -= 1
    t = tick[n]
    i = index[n]
    k = 0
    while True:
        child = 2 * k + 1
        if child >= n:
            break
        if child + 1 < n and (
            tick[child + 1] < tick[child] or (tick[child + 1] == tick[child] and index[child + 1] < index[child])
        ):
            child += 1
        if t < tick[child] or (t == tick[child] and i <= index[child]):
            break
        tick[k] = tick[child]
        index[k] = index[child]
        k = child
    tick[k] = t
    index[k] = i
    return n


@numba.njit(cache=True)
def _pick(
    q: int,
    cls: int,
    t: int,
    half_clock: int,
    no_activate: bool,
    q_n: I64,
    q_order: I32,
    q_bound: I64,
    q_cls: I32,
    q_held: I32,
    q_bank: I32,
    q_least: I64,
    ready: I64,
    path: I32,
    held_levels: I32,
    held_count: I32,
) -> int:
    """Place in a queue's order of the oldest atom whose next command, of class ``cls``, is legal at t; -1 if none.

    ``no_activate``: the first half of a split activate waits for its second, and no other may start. Raises the
    bounds of the atoms it finds illegal, and leaves lower bounds by class in ``q_least[q]``.
    """
    least_col, least_row = INF, INF
    falling = half_clock != 0 and (t & 1) == 0
    for i in range(q_n[q]):
        k = q_order[q, i]
        c = q_cls[q, k]
        if c & cls == 0:
            continue
        e = q_bound[q, k]
        if e <= t:
            held = q_held[q, k]
            if no_activate and held == H_ACT:
                least_row = min(least_row, e)
                continue
            e = ready[0, held]
            if e <= t:
                e = _earliest(held, q_bank[q, k], ready, path, held_levels, held_count)
                if half_clock != 0 and held != H_PRE:
                    if e <= t:
                        if falling:
                            e = t + 1
                    elif (e & 1) == 0:
                        e += 1
                if e <= t:
                    # The younger atoms are not looked at: their bounds may be due as well.
                    if cls & CLS_COL:
                        q_least[q, CLS_COL] = t
                    if cls & CLS_ROW:
                        q_least[q, CLS_ROW] = t
                    return i
                q_bound[q, k] = e
        if c == CLS_COL:
            least_col = min(least_col, e)
        else:
            least_row = min(least_row, e)
    if cls & CLS_COL:
        q_least[q, CLS_COL] = least_col
    if cls & CLS_ROW:
        q_least[q, CLS_ROW] = least_row
    return -1


@numba.njit(cache=True)
def _pick_owner(
    t: int,
    q_n: I64,
    q_order: I32,
    q_bound: I64,
    q_held: I32,
    q_bank: I32,
    q_arrive: I64,
    q_least: I64,
    ready: I64,
    path: I32,
    held_levels: I32,
    held_count: I32,
) -> int:
    """As `_pick`, among the requests whose own activate was issued: they stand in order of activation, the earliest
    to arrive goes first. Not to be asked on the second half of a clock."""
    best = -1
    least = INF
    for i in range(q_n[Q_ACTIVE]):
        k = q_order[Q_ACTIVE, i]
        e = q_bound[Q_ACTIVE, k]
        if e <= t:
            held = q_held[Q_ACTIVE, k]
            e = ready[0, held]
            if e <= t:
                e = _earliest(held, q_bank[Q_ACTIVE, k], ready, path, held_levels, held_count)
                if e > t:
                    q_bound[Q_ACTIVE, k] = e
                elif best < 0 or q_arrive[Q_ACTIVE, k] < q_arrive[Q_ACTIVE, q_order[Q_ACTIVE, best]]:
                    if best >= 0:
                        least = t
                    best = i
                    continue
        least = min(least, e)
    q_least[Q_ACTIVE, CLS_COL] = least
    return best


@numba.njit(cache=True)
def _requeue(
    q: int,
    low: int,
    high: int,
    half_clock: int,
    q_n: I64,
    q_order: I32,
    q_bound: I64,
    q_cls: I32,
    q_held: I32,
    q_bank: I32,
    q_row: I64,
    q_least: I64,
    open_row: I64,
    active: I32,
    ready: I64,
    path: I32,
    held_levels: I32,
    held_count: I32,
) -> None:
    """Next command and bound of every atom of a queue in banks ``low:high``, after their rows or owners changed."""
    for i in range(q_n[q]):
        k = q_order[q, i]
        bank = q_bank[q, k]
        if bank < low or bank >= high:
            continue
        state = open_row[bank]
        blocked = False
        if state == q_row[q, k]:
            held = H_WR if q == Q_WRITE else H_RD
            cls = CLS_COL
        elif state == ROW_CLOSED:
            held = H_ACT
            cls = CLS_ROW
        else:
            held = H_PRE
            cls = CLS_ROW
            # A row is not closed under the request that opened it, nor while it is opening.
            blocked = active[bank] > 0 or state == ROW_OPENING
        q_held[q, k] = held
        q_cls[q, k] = cls
        if blocked:
            q_bound[q, k] = INF
        else:
            e = _earliest(held, bank, ready, path, held_levels, held_count)
            if half_clock != 0 and held != H_PRE and (e & 1) == 0:
                e += 1
            q_bound[q, k] = e
            q_least[q, cls] = min(q_least[q, cls], e)


@numba.njit(cache=True)
def _next_column(t: int, least: int, floor: int, half_clock: int) -> int:
    """First tick after t at which a column command with these lower bounds could issue."""
    e = max(t + 1, max(least, floor))
    if half_clock != 0 and (e & 1) == 0:
        e += 1
    return e


@numba.njit(cache=True)
def run(
    config: I64,
    path: I32,
    node_low: I32,
    node_high: I32,
    rule_at: I32,
    rule_level: I32,
    rule_held: I32,
    rule_ticks: I64,
    rule_kind: I32,
    held_levels: I32,
    held_count: I32,
    scope_low: I32,
    scope_of: I32,
    pseudo_of: I32,
    atom_at: I64,
    bank: I32,
    row: I64,
    atom: NDArray[np.uint64],
    is_write: NDArray[np.bool_],
    offered: I64,
    order: I64,
    first_child: I64,
    next_child: I64,
    child_delay: I64,
    window: int,
    start: I64,
    finish: I64,
    commands: I64,
    loss: I64,
    log_tick: I64,
    log_command: NDArray[np.int8],
    log_bank: I32,
    log_row: I64,
    counters: I64,
) -> None:
    """Serve every request; see `simulate` for the meaning of the arrays, all times in ticks.

    ``order`` lists the requests that wait for no other, by time of offer; children of request p are linked from
    ``first_child[p]`` through ``next_child``. Fills ``start``, ``finish``, ``commands``, ``loss``, the log (length 0:
    none) and ``counters``.
    """
    buses, half_clock, split = config[0], config[1], config[2]
    read_latency, burst = config[3], config[4]
    read_queue, write_queue, drain_high, drain_low = config[5], config[6], config[7], config[8]
    page, refresh = config[9], config[10]
    refi, refipb, rfcab, rfcpb = config[11], config[12], config[13], config[14]
    aad, wck_read, wck_write, cas_guard = config[15], config[16], config[17], config[18]
    n_nodes, scope_banks = config[19], config[21]
    n_banks = path.shape[0]
    n_scopes = scope_low.shape[0]
    n_pseudo = loss.shape[0]
    n_requests = is_write.shape[0]
    logging = log_tick.shape[0] > 0

    ready = np.zeros((n_nodes, 7), np.int64)
    history = np.full((n_nodes, 3), -1, np.int64)
    open_row = np.full(n_banks, ROW_CLOSED, np.int64)
    open_banks = np.zeros(n_scopes, np.int64)
    active = np.zeros(n_banks, np.int32)
    active_scope = np.zeros(n_scopes, np.int64)
    opening_scope = np.zeros(n_scopes, np.int64)

    size = max(read_queue, write_queue, n_banks) + 1
    q_n = np.zeros(4, np.int64)
    q_order = np.zeros((4, size), np.int32)  # slots in use, oldest first
    q_free = np.zeros((4, size), np.int32)  # slots not in use, after the first q_n
    for q in range(4):
        for k in range(size):
            q_free[q, k] = k
    q_bound = np.zeros((4, size), np.int64)
    q_cls = np.zeros((4, size), np.int32)
    q_held = np.zeros((4, size), np.int32)
    q_bank = np.zeros((4, size), np.int32)
    q_row = np.zeros((4, size), np.int64)
    q_index = np.zeros((4, size), np.uint64)  # atom index
    q_request = np.zeros((4, size), np.int64)
    q_arrive = np.zeros((4, size), np.int64)
    q_own = np.zeros((4, size), np.int32)  # 1 once the atom had an activate or precharge issued for itself
    q_write = np.zeros((4, size), np.int32)
    q_offer = np.zeros((4, size), np.int64)
    q_least = np.full((4, 3), INF, np.int64)  # [queue, class]
    queued = np.zeros(n_banks, np.int64)  # atoms of the read and write queues, by bank

    # Refreshes that fell due, in order: scope (all-bank) or bank (per-bank).
    fifo_size = max(4096, 2 * n_banks)
    fifo = np.zeros(fifo_size, np.int64)
    fifo_at, fifo_n = 0, 0
    next_refresh = INF
    if refresh == REF_ALL:
        next_refresh = refi
    elif refresh == REF_BANK:
        next_refresh = refipb
    refresh_bank = 0
    fifo_since, fifo_until = INF, np.int64(-1)  # last span in which a refresh waited
    ref_begin = np.full(n_banks, -1, np.int64)
    ref_end = np.full(n_banks, -1, np.int64)

    # Requests waiting for another, and completions for the window.
    released_tick = np.zeros(max(1, n_requests - order.shape[0]), np.int64)
    released_index = np.zeros(max(1, n_requests - order.shape[0]), np.int64)
    n_released = 0
    done_tick = np.zeros(max(1, min(window, n_requests) + 1), np.int64)
    done_index = np.zeros(max(1, min(window, n_requests) + 1), np.int64)
    n_done = 0
    outstanding = 0
    left = np.empty(n_requests, np.int64)
    for r in range(n_requests):
        left[r] = atom_at[r + 1] - atom_at[r]
        start[r] = -1
        finish[r] = 0

    # Data-bus bookkeeping for the breakdown.
    bus_free = np.zeros(n_pseudo, np.int64)
    turn_ready = np.zeros((n_scopes, 2), np.int64)  # earliest read, write as far as turnaround goes
    group_ready = np.zeros(n_pseudo, np.int64)
    act_wait = np.zeros(n_banks, np.int64)
    act_done = np.zeros((n_banks, 2), np.int64)  # when the open row takes a read, a write

    opening_deadline = np.full(n_banks, INF, np.int64)
    wck_until = np.int64(0)
    cas_queue, cas_slot = -1, -1

    write_mode = False
    current = -1
    current_atom = np.int64(0)
    current_offer = np.int64(0)
    next_independent = 0
    last_data = np.int64(0)
    served = 0
    n_log = 0
    row_hits, forwarded, coalesced, events = 0, 0, 0, 0
    end = np.int64(0)
    t = np.int64(0)
    previous = np.int64(-1)
    accepted_full = False  # the request at the head was refused for want of a queue entry

    while served < n_requests:
        events += 1
        # Ticks skipped since the last event would each have looked at the write drain rule.
        if t > previous + 1 and fifo_n == 0 and previous >= 0:
            if not write_mode:
                write_mode = q_n[Q_WRITE] > drain_high or q_n[Q_READ] == 0
            elif q_n[Q_WRITE] < drain_low and q_n[Q_READ] != 0:
                write_mode = False
        previous = t

        while n_done > 0 and done_tick[0] <= t:
            n_done = _heap_pop(done_tick, done_index, n_done)
            outstanding -= 1

        if t > 0:
            # Refreshes that fall due now.
            while next_refresh <= t:
                if refresh == REF_ALL:
                    for s in range(n_scopes):
                        fifo[(fifo_at + fifo_n) % fifo_size] = s
                        fifo_n += 1
                    next_refresh += refi
                else:
                    for s in range(n_scopes):
                        fifo[(fifo_at + fifo_n) % fifo_size] = scope_low[s] + refresh_bank
                        fifo_n += 1
                    refresh_bank = (refresh_bank + 1) % scope_banks
                    next_refresh += refipb
                if fifo_since == INF or fifo_until >= 0:
                    fifo_since = t
                    fifo_until = -1

            slots = buses
            slot = 0
            while slot < slots:
                # Two buses: slot 0 columns, slot 1 rows. One bus: either.
                if buses == 2:
                    cls = CLS_COL if slot == 0 else CLS_ROW
                else:
                    cls = 3
                slot += 1
                if half_clock != 0 and cls == CLS_COL and (t & 1) == 0:
                    continue
                queue = -1
                pick = -1
                urgent = False

                if split != 0 and q_n[Q_OPENING] > 0:
                    # At most one activate is half issued.
                    if opening_deadline[q_bank[Q_OPENING, q_order[Q_OPENING, 0]]] <= t:
                        queue, pick = Q_OPENING, 0
                        urgent = True
                if cas_queue >= 0:
                    # The column command that the clock was started for.
                    queue, pick = cas_queue, cas_slot
                    cas_queue = -1
                    urgent = True

                # 1. Requests whose own activate has been issued.
                if pick < 0 and cls != CLS_ROW and q_least[Q_ACTIVE, CLS_COL] <= t:
                    pick = _pick_owner(
                        t, q_n, q_order, q_bound, q_held, q_bank, q_arrive, q_least,
                        ready, path, held_levels, held_count,
                    )  # fmt: skip
                    if pick >= 0:
                        queue = Q_ACTIVE

                # 2. Refresh, oldest first; nothing new starts while one waits.
                if pick < 0 and fifo_n > 0 and cls != CLS_COL:
                    head = fifo[fifo_at]
                    if refresh == REF_ALL:
                        scope = head
                        target = scope_low[scope]
                        if open_banks[scope] > 0 or opening_scope[scope] > 0:
                            command, held = C_PREA, H_PREA
                        else:
                            command, held = C_REFA, H_REFA
                        free = active_scope[scope] == 0 and opening_scope[scope] == 0
                    else:
                        target = head
                        scope = np.int64(scope_of[target])
                        if open_row[target] != ROW_CLOSED:
                            command, held = C_PRE, H_PRE
                        else:
                            command, held = C_REFB, H_REFB
                        free = active[target] == 0 and open_row[target] != ROW_OPENING
                    if command == C_REFA or command == C_REFB:
                        free = True
                    falling = half_clock != 0 and (t & 1) == 0 and (command == C_REFA or command == C_REFB)
                    if free and not falling and _earliest(held, target, ready, path, held_levels, held_count) <= t:
                        _issue(
                            command, target, t, ready, history, path, node_low, node_high,
                            rule_at, rule_level, rule_held, rule_ticks, rule_kind,
                        )  # fmt: skip
                        commands[command] += 1
                        if logging:
                            if n_log < log_tick.shape[0]:
                                log_tick[n_log] = t
                                log_command[n_log] = command
                                log_bank[n_log] = target
                                log_row[n_log] = -1
                            n_log += 1
                        low, high = np.int64(target), np.int64(target + 1)
                        if refresh == REF_ALL:
                            high = np.int64(target + scope_banks)
                        if command == C_PREA or command == C_PRE:
                            for b in range(low, high):
                                if open_row[b] != ROW_CLOSED:
                                    open_banks[scope] -= 1
                                    open_row[b] = ROW_CLOSED
                            for q in range(2):
                                _requeue(
                                    q, low, high, half_clock, q_n, q_order, q_bound, q_cls, q_held, q_bank, q_row,
                                    q_least, open_row, active, ready, path, held_levels, held_count,
                                )  # fmt: skip
                        else:
                            length = rfcab if refresh == REF_ALL else rfcpb
                            for b in range(low, high):
                                ref_begin[b] = fifo_since
                                ref_end[b] = t + length
                            fifo_at = (fifo_at + 1) % fifo_size
                            fifo_n -= 1
                            if fifo_n == 0:
                                fifo_until = t
                        if buses == 1:
                            break
                        continue

                # 3. Reads or writes, by the drain rule.
                if pick < 0 and fifo_n == 0:
                    if not write_mode:
                        write_mode = q_n[Q_WRITE] > drain_high or q_n[Q_READ] == 0
                    elif q_n[Q_WRITE] < drain_low and q_n[Q_READ] != 0:
                        write_mode = False
                    queue = Q_WRITE if write_mode else Q_READ
                    if (cls & CLS_COL and q_least[queue, CLS_COL] <= t) or (
                        cls & CLS_ROW and q_least[queue, CLS_ROW] <= t
                    ):
                        pick = _pick(
                            queue, cls, t, half_clock, q_n[Q_OPENING] > 0, q_n, q_order, q_bound, q_cls, q_held, q_bank,
                            q_least, ready, path, held_levels, held_count,
                        )  # fmt: skip

                # 4. The second half of a split activate, when nothing else can use the bus.
                if pick < 0 and split != 0 and q_n[Q_OPENING] > 0:
                    queue, pick = Q_OPENING, 0
                if pick < 0:
                    continue
                x = q_order[queue, pick]

                if split != 0 and not urgent and queue != Q_OPENING and q_cls[queue, x] == CLS_COL and t >= wck_until:
                    # The data clock stopped: start it (CAS) and keep the next tick for the column command, unless
                    # that would let the split activate miss its deadline. The atom stays where it is, and due.
                    q_least[queue, CLS_COL] = min(q_least[queue, CLS_COL], t)
                    if q_n[Q_OPENING] > 0 and (
                        opening_deadline[q_bank[Q_OPENING, q_order[Q_OPENING, 0]]] <= t + cas_guard
                    ):
                        queue, pick = Q_OPENING, 0
                        x = q_order[queue, pick]
                    else:
                        commands[C_CAS] += 1
                        if logging:
                            if n_log < log_tick.shape[0]:
                                log_tick[n_log] = t
                                log_command[n_log] = C_CAS
                                log_bank[n_log] = q_bank[queue, x]
                                log_row[n_log] = -1
                            n_log += 1
                        cas_queue, cas_slot = queue, pick
                        continue

                b = np.int64(q_bank[queue, x])
                scope = np.int64(scope_of[b])
                held = q_held[queue, x]
                request = q_request[queue, x]
                remove = False

                if queue == Q_OPENING:
                    command = C_ACT2
                    open_row[b] = q_row[queue, x]
                    opening_scope[scope] -= 1
                    opening_deadline[b] = INF
                elif q_cls[queue, x] == CLS_COL:
                    writing = q_write[queue, x] != 0
                    closing = False
                    if page != PAGE_OPEN and active[b] == (1 if queue == Q_ACTIVE else 0):
                        closing = True
                        if page == PAGE_ADAPTIVE:
                            for q in range(2):
                                for i in range(q_n[q]):
                                    k = q_order[q, i]
                                    same = q_bank[q, k] == b and q_row[q, k] == q_row[queue, x]
                                    if same and not (q == queue and k == x):
                                        closing = False
                    if writing:
                        command = C_WRA if closing else C_WR
                    else:
                        command = C_RDA if closing else C_RD
                    held = H_WR if writing else H_RD

                    # Where the data bus time since the last burst went.
                    bus = np.int64(pseudo_of[b])
                    g = bus_free[bus]
                    gap = t - g
                    if gap > 0:
                        lo, hi = ref_begin[b], ref_end[b]
                        if fifo_since < t and (fifo_until < 0 or fifo_until > g):
                            until = t if fifo_until < 0 else fifo_until
                            if hi < g or hi < fifo_since:
                                lo, hi = fifo_since, until
                            else:
                                lo, hi = min(lo, fifo_since), max(hi, until)
                        piece = max(np.int64(0), min(t, hi) - max(g, lo))
                        loss[bus, L_REFRESH] += piece
                        rest = gap - piece
                        arrived = q_arrive[queue, x]
                        early = max(np.int64(0), min(t, arrived) - g)
                        early -= max(np.int64(0), min(min(t, arrived), hi) - max(g, lo))
                        piece = min(rest, max(np.int64(0), early))
                        if q_offer[queue, x] < arrived:
                            blocked_for = min(piece, arrived - max(g, q_offer[queue, x]))
                            loss[bus, L_FULL] += max(np.int64(0), blocked_for)
                            loss[bus, L_IDLE] += piece - max(np.int64(0), blocked_for)
                        else:
                            loss[bus, L_IDLE] += piece
                        rest -= piece
                        since = max(g, arrived)
                        piece = min(rest, max(np.int64(0), turn_ready[scope, 1 if writing else 0] - since))
                        loss[bus, L_TURN] += piece
                        rest -= piece
                        # Had the activate not waited for the window, the data would have come that much earlier.
                        exposed = min(rest, max(np.int64(0), act_done[b, 1 if writing else 0] - since))
                        piece = min(exposed, act_wait[b])
                        loss[bus, L_WINDOW] += piece
                        loss[bus, L_ROW] += exposed - piece
                        rest -= exposed
                        piece = min(rest, max(np.int64(0), group_ready[bus] - since))
                        loss[bus, L_GROUP] += piece
                        loss[bus, L_OTHER] += rest - piece
                    bus_free[bus] = t + burst
                    if q_own[queue, x] == 0:
                        row_hits += 1
                    if split != 0:
                        wck_until = max(wck_until, t + (wck_write if writing else wck_read))
                    remove = True
                elif held == H_ACT:
                    command = C_ACT
                    bank_ready = max(q_arrive[queue, x] + 1, ready[path[b, 4], H_ACT])
                    window_ready = _earliest(H_ACT, b, ready, path, held_levels, held_count)
                    act_wait[b] = max(np.int64(0), min(t, window_ready) - bank_ready)
                    open_row[b] = ROW_OPENING if split != 0 else q_row[queue, x]
                    open_banks[scope] += 1
                    q_own[queue, x] = 1
                else:
                    command = C_PRE
                    open_row[b] = ROW_CLOSED
                    open_banks[scope] -= 1
                    q_own[queue, x] = 1

                _issue(
                    command, b, t, ready, history, path, node_low, node_high,
                    rule_at, rule_level, rule_held, rule_ticks, rule_kind,
                )  # fmt: skip
                if command == C_ACT:
                    act_done[b, 0] = ready[path[b, 4], H_RD]
                    act_done[b, 1] = ready[path[b, 4], H_WR]
                commands[command] += 1
                if logging:
                    if n_log < log_tick.shape[0]:
                        log_tick[n_log] = t
                        log_command[n_log] = command
                        log_bank[n_log] = b
                        log_row[n_log] = -1 if command == C_PRE else q_row[queue, x]
                    n_log += 1

                changed = not remove
                if remove:
                    # The turnaround and group spacings that this burst imposes, for the breakdown.
                    for k in range(rule_at[command], rule_at[command + 1]):
                        if rule_kind[k] == 0 and rule_level[k] < 4:
                            if rule_held[k] == H_RD and (command == C_WR or command == C_WRA):
                                turn_ready[scope, 0] = max(turn_ready[scope, 0], t + rule_ticks[k])
                            elif rule_held[k] == H_WR and (command == C_RD or command == C_RDA):
                                turn_ready[scope, 1] = max(turn_ready[scope, 1], t + rule_ticks[k])
                            elif rule_level[k] >= 3:
                                bus = np.int64(pseudo_of[b])
                                group_ready[bus] = max(group_ready[bus], t + rule_ticks[k])
                    if q_write[queue, x] != 0:
                        fin = t
                    else:
                        fin = max(t + read_latency, last_data)
                        last_data = fin
                    left[request] -= 1
                    finish[request] = max(finish[request], fin)
                    if left[request] == 0:
                        served += 1
                        end = max(end, finish[request])
                        if window > 0:
                            n_done = _heap_push(done_tick, done_index, n_done, finish[request], request)
                        child = first_child[request]
                        while child >= 0:
                            due = max(offered[child], finish[request] + child_delay[child])
                            n_released = _heap_push(released_tick, released_index, n_released, due, child)
                            child = next_child[child]
                    if queue == Q_ACTIVE:
                        active[b] -= 1
                        active_scope[scope] -= 1
                        changed = True
                    if command == C_RDA or command == C_WRA:
                        open_row[b] = ROW_CLOSED
                        open_banks[scope] -= 1
                        changed = True

                # Activates move their atom to the queue of owners; columns leave.
                target_queue = -1
                if command == C_ACT:
                    target_queue = Q_OPENING if split != 0 else Q_ACTIVE
                elif command == C_ACT2:
                    target_queue = Q_ACTIVE
                if target_queue >= 0:
                    n = q_n[target_queue]
                    k = q_free[target_queue, n]
                    q_order[target_queue, n] = k
                    q_n[target_queue] = n + 1
                    q_bank[target_queue, k] = q_bank[queue, x]
                    q_row[target_queue, k] = q_row[queue, x]
                    q_request[target_queue, k] = request
                    q_arrive[target_queue, k] = q_arrive[queue, x]
                    q_offer[target_queue, k] = q_offer[queue, x]
                    q_own[target_queue, k] = 1
                    q_write[target_queue, k] = q_write[queue, x]
                    q_cls[target_queue, k] = CLS_COL
                    q_held[target_queue, k] = H_WR if q_write[queue, x] != 0 else H_RD
                    if target_queue == Q_OPENING:
                        opening_deadline[b] = t + aad
                        opening_scope[scope] += 1
                    else:
                        active[b] += 1
                        active_scope[scope] += 1
                        e = _earliest(q_held[target_queue, k], b, ready, path, held_levels, held_count)
                        if half_clock != 0 and (e & 1) == 0:
                            e += 1
                        q_bound[target_queue, k] = e
                        q_least[Q_ACTIVE, CLS_COL] = min(q_least[Q_ACTIVE, CLS_COL], e)
                    remove = True
                if remove:
                    n = q_n[queue] - 1
                    q_n[queue] = n
                    for i in range(pick, n):
                        q_order[queue, i] = q_order[queue, i + 1]
                    q_free[queue, n] = x
                    if queue <= Q_WRITE:
                        queued[b] -= 1
                if changed and queued[b] > 0:
                    for q in range(2):
                        _requeue(
                            q, b, b + 1, half_clock, q_n, q_order, q_bound, q_cls, q_held, q_bank, q_row, q_least,
                            open_row, active, ready, path, held_levels, held_count,
                        )  # fmt: skip

        # Accept requests, in order, as many atoms as the queues take.
        accepted_full = False
        while True:
            if current < 0:
                candidate = np.int64(-1)
                due = INF
                if next_independent < order.shape[0]:
                    candidate = order[next_independent]
                    due = offered[candidate]
                dependent = n_released > 0 and (
                    released_tick[0] < due or (released_tick[0] == due and released_index[0] < candidate)
                )
                if dependent:
                    candidate = released_index[0]
                    due = released_tick[0]
                if due > t or (window > 0 and outstanding >= window):
                    break
                if dependent:
                    n_released = _heap_pop(released_tick, released_index, n_released)
                else:
                    next_independent += 1
                current = candidate
                current_atom = atom_at[candidate]
                current_offer = due
                outstanding += 1
            a = current_atom
            writing = is_write[current]
            index = atom[a]
            merged = False
            for i in range(q_n[Q_WRITE]):
                if q_index[Q_WRITE, q_order[Q_WRITE, i]] == index:
                    merged = True
                    break
            queue = Q_WRITE if writing else Q_READ
            if merged:
                # A read of a queued write is answered from the queue, in order with the data before it; a write to a
                # queued address replaces it.
                if writing:
                    coalesced += 1
                    fin = t
                else:
                    forwarded += 1
                    fin = max(t + 1, last_data)
                    last_data = fin
                left[current] -= 1
                finish[current] = max(finish[current], fin)
            else:
                if q_n[queue] >= (write_queue if writing else read_queue):
                    accepted_full = True
                    break
                n = q_n[queue]
                k = q_free[queue, n]
                q_order[queue, n] = k
                q_n[queue] = n + 1
                b = np.int64(bank[a])
                queued[b] += 1
                q_bank[queue, k] = b
                q_row[queue, k] = row[a]
                q_index[queue, k] = index
                q_request[queue, k] = current
                q_arrive[queue, k] = t
                q_offer[queue, k] = current_offer
                q_own[queue, k] = 0
                q_write[queue, k] = 1 if writing else 0
                state = open_row[b]
                blocked = False
                if state == row[a]:
                    held = H_WR if writing else H_RD
                    q_cls[queue, k] = CLS_COL
                elif state == ROW_CLOSED:
                    held = H_ACT
                    q_cls[queue, k] = CLS_ROW
                else:
                    held = H_PRE
                    q_cls[queue, k] = CLS_ROW
                    blocked = active[b] > 0 or state == ROW_OPENING
                q_held[queue, k] = held
                if blocked:
                    q_bound[queue, k] = INF
                else:
                    e = max(t + 1, _earliest(held, b, ready, path, held_levels, held_count))
                    if half_clock != 0 and held != H_PRE and (e & 1) == 0:
                        e += 1
                    q_bound[queue, k] = e
                    cls = q_cls[queue, k]
                    q_least[queue, cls] = min(q_least[queue, cls], e)
            if start[current] < 0:
                start[current] = t
            current_atom += 1
            if current_atom == atom_at[current + 1]:
                if left[current] == 0:
                    served += 1
                    end = max(end, finish[current])
                    if window > 0:
                        n_done = _heap_push(done_tick, done_index, n_done, finish[current], current)
                    child = first_child[current]
                    while child >= 0:
                        due = max(offered[child], finish[current] + child_delay[child])
                        n_released = _heap_push(released_tick, released_index, n_released, due, child)
                        child = next_child[child]
                current = -1

        # The next tick on which anything can happen.
        upcoming = next_refresh
        if not accepted_full:
            if window > 0 and outstanding >= window:
                if n_done > 0:
                    upcoming = min(upcoming, done_tick[0])
            else:
                if next_independent < order.shape[0]:
                    upcoming = min(upcoming, offered[order[next_independent]])
                if n_released > 0:
                    upcoming = min(upcoming, released_tick[0])
        if cas_queue >= 0 or q_n[Q_OPENING] > 0:
            upcoming = t + 1
        # Whatever a rule holds back on the whole channel bounds every atom, however stale its own bound.
        upcoming = min(
            upcoming, _next_column(t, q_least[Q_ACTIVE, CLS_COL], min(ready[0, H_RD], ready[0, H_WR]), half_clock)
        )
        if fifo_n > 0:
            head = fifo[fifo_at]
            if refresh == REF_ALL:
                scope = head
                target = scope_low[scope]
                if open_banks[scope] > 0:
                    if active_scope[scope] == 0 and opening_scope[scope] == 0:
                        e = _earliest(H_PREA, target, ready, path, held_levels, held_count)
                        upcoming = min(upcoming, e)
                else:
                    e = _earliest(H_REFA, target, ready, path, held_levels, held_count)
                    upcoming = min(upcoming, e)
            else:
                target = head
                if open_row[target] != ROW_CLOSED:
                    if active[target] == 0 and open_row[target] != ROW_OPENING:
                        upcoming = min(upcoming, _earliest(H_PRE, target, ready, path, held_levels, held_count))
                else:
                    upcoming = min(upcoming, _earliest(H_REFB, target, ready, path, held_levels, held_count))
        else:
            mode = write_mode
            if not mode:
                mode = q_n[Q_WRITE] > drain_high or q_n[Q_READ] == 0
            elif q_n[Q_WRITE] < drain_low and q_n[Q_READ] != 0:
                mode = False
            queue = Q_WRITE if mode else Q_READ
            floor = ready[0, H_WR] if mode else ready[0, H_RD]
            upcoming = min(upcoming, _next_column(t, q_least[queue, CLS_COL], floor, half_clock))
            upcoming = min(upcoming, max(q_least[queue, CLS_ROW], min(ready[0, H_ACT], ready[0, H_PRE])))
        if upcoming >= INF:
            break
        t = max(t + 1, upcoming)

    for p in range(n_pseudo):
        loss[p, L_IDLE] += max(np.int64(0), end - bus_free[p])
    counters[N_ROW_HITS] = row_hits
    counters[N_FORWARDED] = forwarded
    counters[N_COALESCED] = coalesced
    counters[N_LOG] = n_log
    counters[END_TICK] = end
    counters[N_EVENTS] = events
    counters[N_UNSERVED] = n_requests - served
