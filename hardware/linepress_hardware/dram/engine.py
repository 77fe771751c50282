"""The event-driven engine: command-accurate FR-FCFS over one channel, skipping each tick on which nothing can happen.

Time is counted in ticks. At an event tick, in this order: refreshes fall due, commands issue (two-bus parts: one
column, then one row command), requests are accepted. A request accepted at tick t can issue from t + 1.

Every queued atom keeps a lower bound on the tick at which its next command becomes legal. Rules only ever push that
tick later, so a bound stays valid until the bank's row changes; then it is computed afresh. If nothing can issue, the
clock jumps to the least bound, arrival or refresh.

Everything is int64 in a few arrays whose columns are named here (`state` builds them), because compiled functions
pass arrays cheaply and tuples of arrays dearly. All compiled functions and their constants stand in this one file:
the compiler's cache follows changes of a file, not of what the file imports.
"""
# Names of columns follow the array: P_ part[], N_ node, B_ bank, S_ scope, U_ bus, Q_ queue, R_ request, Z_ scalars.
# fmt: off

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.dram.jit import inlined, kernel
from linepress_hardware.dram.port import (
    L_FIRST,
    L_PLACED,
    L_TAKEN,
    M_LINES,
    M_LOOKUP,
    M_NEXT,
    NEVER,
    arrived,
    port_advance,
    port_next,
    sift_down,
    sift_up,
)

A = NDArray[np.int64]
INF = 1 << 56
SUB = 20  # the port's times are in 1/2^20 of a tick; they become ticks
GRACE = 1 << 10  # rounded up, but for 1/1,024 of a tick: what 3,000 clocks of the port round away
UP = (1 << SUB) - 1 - GRACE
# part[]: the part and the policy.
(P_BUSES, P_HALF, P_SPLIT, P_LATENCY, P_BURST, P_READS, P_WRITES, P_HIGH, P_LOW, P_PAGE, P_REFRESH, P_REFI, P_REFIPB,
 P_RFCAB, P_RFCPB, P_AAD, P_WCK_READ, P_WCK_WRITE, P_DATA_READ, P_DATA_WRITE, P_SCOPE_BANKS, P_CLOSE,
 P_RULE_AT) = range(23)
N_PART = P_RULE_AT + 12  # where the rules of each command start
RULE_LEVEL, RULE_HELD, RULE_TICKS, RULE_KIND = range(4)  # rules[column, r]
KIND_SAME, KIND_WINDOW, KIND_OTHER, KIND_LONG_WINDOW = range(4)
# path[bank]: its nodes on the five levels, its pseudo channel and scope.
LEVELS = 5
PATH_PSEUDO, PATH_SCOPE, N_PATH = LEVELS, LEVELS + 1, LEVELS + 2
# node[column, n]: earliest tick of each held command, the last three activates, the nodes under the same parent, and
# for the 32-activate window the 31 activates before the newest one as a ring, and its place.
H_ACT, H_PRE, H_PREA, H_RD, H_WR, H_REFA, H_REFB = range(7)
LONG = 31
N_PAST, N_LOW, N_HIGH, N_RING, N_RING_AT, N_NODE = 7, 10, 11, 12, 12 + LONG, 13 + LONG
(B_ROW, B_ACTIVE, B_DEADLINE, B_WAIT, B_DONE_READ, B_DONE_WRITE, B_REF_BEGIN, B_REF_END, B_HEAD_READ, B_HEAD_WRITE,
 B_REFRESH, B_CLOSE, N_BANK) = range(13)  # B_REFRESH: 1 while a refresh of this one bank waits; B_CLOSE: row timeout
S_NODE, S_OPEN, S_ACTIVE, S_OPENING, S_TURN_READ, S_TURN_WRITE, N_SCOPE = range(7)
U_FREE, U_GROUP, U_LOSS = range(3)
L_IDLE, L_FULL, L_REFRESH, L_TURN, L_WINDOW, L_ROW, L_GROUP, L_OTHER, N_LOSS = range(9)  # bus[U_LOSS + …]
N_BUS = U_LOSS + N_LOSS
# queue[which, column, place or slot]: slots oldest first, free slots; then by slot `bound × 64 + scope × 8 + kind`
# (INF in a free one) and what it holds.
READ, WRITE, ACTIVE, OPENING = range(4)
(Q_ORDER, Q_FREE, Q_KEY, Q_BANK, Q_ROW, Q_ATOM, Q_REQUEST, Q_ARRIVE, Q_OFFER, Q_OWN, Q_WRITE, Q_NEXT, Q_LAST,
 N_QUEUE) = range(14)
K_COL, K_ACT, K_PRE = range(3)
SLOT_COL, SLOT_ROW, SLOT_ANY = range(3)
(R_ATOMS, R_WRITE, R_OFFERED, R_CHILD, R_NEXT, R_DELAY, R_START, R_FINISH, R_LEFT, R_PARENT, R_WAITS, R_EARLY,
 N_REQUEST) = range(13)  # R_OFFERED -1: its line is not taken yet
A_BANK, A_ROW, A_INDEX = range(3)  # atoms[]
C_ACT, C_PRE, C_PREA, C_RD, C_WR, C_RDA, C_WRA, C_REFA, C_REFB, C_ACT2, C_CAS, N_COMMANDS = range(12)
(Z_T, Z_DRAIN, Z_NEXT_REFRESH, Z_REFRESH_BANK, Z_FIFO_AT, Z_FIFO_N, Z_FIFO_SINCE, Z_FIFO_UNTIL, Z_CURRENT, Z_ATOM,
 Z_OFFER, Z_NEXT, Z_RELEASED, Z_DONE, Z_FLYING, Z_REFUSED, Z_LAST_DATA, Z_SERVED, Z_END, Z_WCK, Z_CAS_QUEUE,
 Z_CAS_SLOT, Z_LOG, Z_HITS, Z_FORWARDED, Z_COALESCED, Z_EVENTS, Z_BLOCKED,
 Z_CLOSE) = range(29)  # Z_CLOSE: least row timeout
Z_N, Z_LEAST, Z_COMMANDS = 29, 33, 45  # queue lengths; least bound by queue and kind; commands issued
Z_HOLD = Z_COMMANDS + N_COMMANDS  # scratch of `pick`: by scope (at most 8) and kind
N_SCALARS = Z_HOLD + 64
MAX_SCOPES = 8
PAGE_OPEN, PAGE_CLOSED, PAGE_ADAPTIVE, PAGE_TIMEOUT = range(4)
REF_NONE, REF_ALL, REF_BANK = range(3)
ROW_CLOSED, ROW_OPENING = -1, -2


@inlined
def earliest(part: A, path: A, node: A, h: int, b: int) -> int:
    """First tick at which no rule holds command h back on bank b and the clock has the edge it needs.

    Five levels, written out: of a loop the compiler makes gathers, which take several times as long. Levels without
    a rule for h stay at 0.
    """
    nodes, first = path[b], node[h]
    e: int = max(max(first[0], first[nodes[1]]), max(first[nodes[2]], max(first[nodes[3]], first[nodes[4]])))
    if part[P_HALF] != 0 and h != H_PRE and h != H_PREA and (e & 1) == 0:
        e += 1
    return e


@inlined
def issue(part: A, rules: A, path: A, node: A, z: A, log: A, command: int, b: int, row: int) -> None:
    """Push the earliest ticks of everything that the command's rules hold back; count and log it."""
    t, nodes = z[Z_T], path[b]
    for r in range(part[P_RULE_AT + command], part[P_RULE_AT + command + 1]):
        n, h, kind = nodes[rules[RULE_LEVEL, r]], rules[RULE_HELD, r], rules[RULE_KIND, r]
        if kind == KIND_SAME:
            node[h, n] = max(node[h, n], t + rules[RULE_TICKS, r])
        elif kind == KIND_WINDOW:  # four-activate window: counts from the third activate before this one
            oldest = node[N_PAST, n]
            node[N_PAST, n], node[N_PAST + 1, n] = node[N_PAST + 1, n], node[N_PAST + 2, n]
            node[N_PAST + 2, n] = t
            if oldest >= 0:
                node[h, n] = max(node[h, n], oldest + rules[RULE_TICKS, r])
        elif kind == KIND_LONG_WINDOW:  # 32-activate window: counts from the 31st activate before this one
            at = node[N_RING_AT, n]
            oldest = node[N_RING + at, n]
            node[N_RING + at, n] = t
            node[N_RING_AT, n] = (at + 1) % LONG
            if oldest >= 0:
                node[h, n] = max(node[h, n], oldest + rules[RULE_TICKS, r])
        else:
            for other in range(node[N_LOW, n], node[N_HIGH, n]):
                if other != n:
                    node[h, other] = max(node[h, other], t + rules[RULE_TICKS, r])
    z[Z_COMMANDS + command] += 1
    if log.shape[0] > 0:
        if z[Z_LOG] < log.shape[0]:
            log[z[Z_LOG], 0], log[z[Z_LOG], 1], log[z[Z_LOG], 2], log[z[Z_LOG], 3] = t, command, b, row
        z[Z_LOG] += 1


@inlined
def rekey(part: A, path: A, node: A, bank: A, q: A, z: A, which: int, k: int, after: int) -> None:
    """Kind and bound of the next command of slot k of the read or write queue, not before tick ``after``."""
    b = q[which, Q_BANK, k]
    state = bank[b, B_ROW]
    blocked = False
    if state == q[which, Q_ROW, k]:
        kind, h, blocked = K_COL, (H_WR if which == WRITE else H_RD), bank[b, B_REFRESH] != 0
    elif state == ROW_CLOSED:
        kind, h, blocked = K_ACT, H_ACT, bank[b, B_REFRESH] != 0
    else:
        # A row is not closed under the request that opened it, nor while it is opening.
        kind, h, blocked = K_PRE, H_PRE, bank[b, B_ACTIVE] > 0 or state == ROW_OPENING
    e = INF
    if not blocked:
        e = earliest(part, path, node, h, b)
        if e < after:
            e = after
            if part[P_HALF] != 0 and h != H_PRE and (e & 1) == 0:
                e += 1
        z[Z_LEAST + 3 * which + kind] = min(z[Z_LEAST + 3 * which + kind], e)
    q[which, Q_KEY, k] = e * 64 + path[b, PATH_SCOPE] * 8 + kind


@inlined
def append(q: A, z: A, which: int) -> int:
    """A slot at the young end of a queue."""
    n = z[Z_N + which]
    k = q[which, Q_FREE, n]
    q[which, Q_ORDER, n] = k
    z[Z_N + which] = n + 1
    return int(k)


@inlined
def remove(bank: A, q: A, z: A, which: int, k: int) -> None:
    """Take slot k out of its queue, keeping the order of the others."""
    n = z[Z_N + which] - 1
    z[Z_N + which] = n
    order, i = q[which, Q_ORDER], 0
    while order[i] != k:
        i += 1
    younger = order[i:]
    for j in range(n - i):
        younger[j] = younger[j + 1]
    q[which, Q_FREE, n] = k
    q[which, Q_KEY, k] = INF * 64
    if which <= WRITE:
        last, following = q[which, Q_LAST, k], q[which, Q_NEXT, k]
        if last >= 0:
            q[which, Q_NEXT, last] = following
        else:
            bank[q[which, Q_BANK, k], B_HEAD_READ + which] = following
        if following >= 0:
            q[which, Q_LAST, following] = last


@inlined
def pick(part: A, path: A, node: A, scope: A, q: A, z: A, which: int, slot: int) -> int:
    """Slot of the oldest read or write whose next command is legal now and fits the bus slot; -1 if none.

    Raises the bounds of the atoms it finds illegal, and leaves the least bound of each kind.
    """
    t = z[Z_T]
    no_activate = z[Z_N + OPENING] > 0  # a half-issued activate comes first
    falling = part[P_HALF] != 0 and (t & 1) == 0
    h_col = H_WR if which == WRITE else H_RD
    # What holds a kind of command back on a whole scope; asked before an atom's own rules.
    for s in range(scope.shape[0]):
        n = scope[s, S_NODE]
        z[Z_HOLD + 8 * s + K_COL] = max(node[h_col, 0], node[h_col, n])
        z[Z_HOLD + 8 * s + K_ACT] = t + 1 if no_activate else max(node[H_ACT, 0], node[H_ACT, n])
        z[Z_HOLD + 8 * s + K_PRE] = max(node[H_PRE, 0], node[H_PRE, n])
    found = -1
    keys, order, banks, hold = q[which, Q_KEY], q[which, Q_ORDER], q[which, Q_BANK], z[Z_HOLD:]
    for i in range(z[Z_N + which]):
        k = order[i]
        key = keys[k]
        kind = key & 7
        if max(key >> 6, hold[key & 63]) <= t and (slot == SLOT_ANY or (kind == K_COL) == (slot == SLOT_COL)):
            h = H_ACT if kind == K_ACT else H_PRE
            if kind == K_COL:
                h = h_col
            e = earliest(part, path, node, h, banks[k])
            if e <= t and falling and kind != K_PRE:
                e = t + 1
            if e <= t:
                found = k
                break
            keys[k] = e * 64 + (key & 63)
    if found >= 0 and keys[found] & 7 == K_COL:
        # What the column command holds back bounds the others more than their own ticks do; the least bounds stay
        # low, and the next look that finds nothing makes them exact.
        return found
    # The least bounds of what is left: a loop without branches.
    least_col, least_act, least_pre = INF, INF, INF
    for k in range(part[P_READS + which]):
        key = keys[k]
        kind = key & 7
        e = max(key >> 6, hold[key & 63]) if k != found else INF
        least_col = min(least_col, e if kind == K_COL else INF)
        least_act = min(least_act, e if kind == K_ACT else INF)
        least_pre = min(least_pre, e if kind == K_PRE else INF)
    z[Z_LEAST + 3 * which + K_COL] = least_col
    z[Z_LEAST + 3 * which + K_ACT] = least_act
    z[Z_LEAST + 3 * which + K_PRE] = least_pre
    return found


@inlined
def pick_owner(part: A, path: A, node: A, q: A, z: A) -> int:
    """As `pick`, among the requests whose own activate was issued: the first to arrive, then to activate."""
    t, found, least = z[Z_T], -1, INF
    for i in range(z[Z_N + ACTIVE]):
        k = q[ACTIVE, Q_ORDER, i]
        e = q[ACTIVE, Q_KEY, k] >> 6
        if e <= t:
            e = earliest(part, path, node, H_RD + q[ACTIVE, Q_WRITE, k], q[ACTIVE, Q_BANK, k])
            if e > t:
                q[ACTIVE, Q_KEY, k] = e * 64
            elif found < 0 or q[ACTIVE, Q_ARRIVE, k] < q[ACTIVE, Q_ARRIVE, found]:
                if found >= 0:
                    least = t
                found = k
                continue
        least = min(least, e)
    z[Z_LEAST + 3 * ACTIVE] = least
    return found


@inlined
def drain_rule(part: A, z: A) -> int:
    """1 to serve writes: from above the high mark, or without reads, to below the low mark with reads."""
    if z[Z_DRAIN] == 0:
        return 1 if z[Z_N + WRITE] > part[P_HIGH] or z[Z_N + READ] == 0 else 0
    return 0 if z[Z_N + WRITE] < part[P_LOW] and z[Z_N + READ] != 0 else 1


@kernel
def complete(z: A, req: A, released: A, done: A, m: A, lines: A, waits: A, ready: A, r: int, window: int,
             singly: int) -> None:
    """A request has all its data: free its place in the window, release what waits for it."""
    finish = req[r, R_FINISH]
    z[Z_SERVED] += 1
    z[Z_END] = max(z[Z_END], finish)
    if window > 0 and singly == 0:
        sift_up(done, z[Z_DONE], finish, r)
        z[Z_DONE] += 1
    child = req[r, R_CHILD]
    while child >= 0:
        if req[child, R_OFFERED] >= 0:
            sift_up(released, z[Z_RELEASED], max(req[child, R_OFFERED], finish + req[child, R_DELAY]), child)
            z[Z_RELEASED] += 1
        child = req[child, R_NEXT]
    if req[r, R_WAITS] >= 0 and req[r, R_WRITE] == 0:
        arrived(m, lines, waits, ready, req[r, R_WAITS], finish << SUB)


@inlined
def take_lines(z: A, req: A, released: A, m: A, lines: A, ready: A, decoded: A, over: A, units: A, heads: A,
               until: int) -> None:
    """Let the port take what it can by tick ``until``; hand the requests of each line to the controller."""
    while True:
        i = port_advance(m, lines, ready, decoded, over, units, heads, (until << SUB) + GRACE)
        if i < 0:
            break
        for r in range(lines[i, L_FIRST], lines[i + 1, L_FIRST]):
            at = lines[i, L_TAKEN] + m[M_LOOKUP] if req[r, R_EARLY] != 0 else lines[i, L_PLACED]
            req[r, R_OFFERED] = (at + UP) >> SUB
            parent = req[r, R_PARENT]
            if parent < 0 or req[parent, R_LEFT] == 0:
                offered = req[r, R_OFFERED]
                if parent >= 0:
                    offered = max(offered, req[parent, R_FINISH] + req[r, R_DELAY])
                sift_up(released, z[Z_RELEASED], offered, r)
                z[Z_RELEASED] += 1


@inlined
def account(part: A, path: A, bank: A, scope: A, bus: A, q: A, z: A, which: int, k: int) -> None:
    """Say where the time of the atom's data bus went between the burst before and the one that starts now.

    The gap is cut up in a fixed order: waiting refreshes; time before the atom was accepted (refused by a full
    queue, or not there); turnaround; the activate of its row, first the part for which the activate waited for
    others (tRRD, tFAW); column spacing; the rest.
    """
    t, b, writing = z[Z_T], q[which, Q_BANK, k], q[which, Q_WRITE, k]
    u, s = path[b, PATH_PSEUDO], path[b, PATH_SCOPE]
    # The wires are free from U_FREE on; g is when this command would have had to issue to use that.
    delay = part[P_DATA_READ + writing]
    g = bus[u, U_FREE] - delay
    bus[u, U_FREE] = t + delay + part[P_BURST]
    if t <= g:
        bus[u, U_LOSS + L_TURN] += t - g  # below 0 only where a part's own timings let bursts overlap
        return
    lo, hi, since, until = bank[b, B_REF_BEGIN], bank[b, B_REF_END], z[Z_FIFO_SINCE], z[Z_FIFO_UNTIL]
    if part[P_REFRESH] == REF_ALL and since >= 0 and since < t and (until < 0 or until > g):
        until = t if until < 0 else until
        if hi < g or hi < since:
            lo, hi = since, until
        else:
            lo, hi = min(lo, since), max(hi, until)
    piece = max(0, min(t, hi) - max(g, lo))
    bus[u, U_LOSS + L_REFRESH] += piece
    rest = t - g - piece
    arrive = min(t, q[which, Q_ARRIVE, k])
    piece = max(0, arrive - g) - max(0, min(arrive, hi) - max(g, lo))
    piece = min(rest, max(0, piece))
    refused = min(piece, max(0, arrive - max(g, q[which, Q_OFFER, k])))
    bus[u, U_LOSS + L_FULL] += refused
    bus[u, U_LOSS + L_IDLE] += piece - refused
    rest -= piece
    begin = max(g, arrive)
    piece = min(rest, max(0, scope[s, S_TURN_READ + writing] - begin))
    bus[u, U_LOSS + L_TURN] += piece
    rest -= piece
    # Had the activate not waited for the window, the data would have come that much earlier.
    exposed = min(rest, max(0, bank[b, B_DONE_READ + writing] - begin))
    piece = min(exposed, bank[b, B_WAIT])
    bus[u, U_LOSS + L_WINDOW] += piece
    bus[u, U_LOSS + L_ROW] += exposed - piece
    rest -= exposed
    piece = min(rest, max(0, bus[u, U_GROUP] - begin))
    bus[u, U_LOSS + L_GROUP] += piece
    bus[u, U_LOSS + L_OTHER] += rest - piece


@inlined
def close_row(path: A, bank: A, scope: A, b: int) -> None:
    """Mark a bank precharged."""
    if bank[b, B_ROW] != ROW_CLOSED:
        bank[b, B_ROW] = ROW_CLOSED
        scope[path[b, PATH_SCOPE], S_OPEN] -= 1


@inlined
def column_command(part: A, bank: A, q: A, which: int, k: int) -> int:
    """The read or write of slot k, with or without precharge by the page policy."""
    b = q[which, Q_BANK, k]
    closing = part[P_PAGE] != PAGE_OPEN and part[P_PAGE] != PAGE_TIMEOUT
    closing = closing and bank[b, B_ACTIVE] == (1 if which == ACTIVE else 0)
    if closing and part[P_PAGE] == PAGE_ADAPTIVE:
        for other in range(2):
            j = bank[b, B_HEAD_READ + other]
            while j >= 0:
                if q[other, Q_ROW, j] == q[which, Q_ROW, k] and not (other == which and j == k):
                    closing = False
                j = q[other, Q_NEXT, j]
    return C_RD + int(q[which, Q_WRITE, k]) + (2 if closing else 0)


@inlined
def retire(part: A, rules: A, path: A, bank: A, scope: A, bus: A, q: A, z: A, req: A, released: A, done: A,
           m: A, lines: A, waits: A, ready: A, which: int, k: int, command: int, window: int, singly: int) -> None:
    """After the read or write of slot k: what the burst imposes on later ones, when its data is there, who waits."""
    t, b, r, writing = z[Z_T], q[which, Q_BANK, k], q[which, Q_REQUEST, k], q[which, Q_WRITE, k]
    s, u = path[b, PATH_SCOPE], path[b, PATH_PSEUDO]
    if q[which, Q_OWN, k] == 0:
        z[Z_HITS] += 1
    for i in range(part[P_RULE_AT + command], part[P_RULE_AT + command + 1]):
        h, until = rules[RULE_HELD, i], t + rules[RULE_TICKS, i]
        if rules[RULE_KIND, i] == 0 and h in (H_RD, H_WR):
            if h - H_RD != writing:
                scope[s, S_TURN_READ + h - H_RD] = max(scope[s, S_TURN_READ + h - H_RD], until)
            elif rules[RULE_LEVEL, i] >= 3:
                bus[u, U_GROUP] = max(bus[u, U_GROUP], until)
    finish = t
    if writing == 0:
        finish = t + part[P_LATENCY]
        z[Z_LAST_DATA] = finish
    z[Z_WCK] = max(z[Z_WCK], t + part[P_WCK_READ + writing])
    req[r, R_LEFT] -= 1
    req[r, R_FINISH] = max(req[r, R_FINISH], finish)
    if window > 0 and singly != 0:
        sift_up(done, z[Z_DONE], finish, r)
        z[Z_DONE] += 1
    if req[r, R_LEFT] == 0:
        complete(z, req, released, done, m, lines, waits, ready, r, window, singly)
    if which == ACTIVE:
        bank[b, B_ACTIVE] -= 1
        scope[s, S_ACTIVE] -= 1
    if command >= C_RDA:
        close_row(path, bank, scope, b)
    elif part[P_PAGE] == PAGE_TIMEOUT:
        bank[b, B_CLOSE] = t + part[P_CLOSE]
        z[Z_CLOSE] = min(z[Z_CLOSE], bank[b, B_CLOSE])


@kernel
def timed_out(part: A, path: A, node: A, bank: A, q: A, z: A) -> int:
    """A bank whose row has not been used for the timeout and can be precharged now; -1 if none.

    A row that somebody still waits for, or whose activate is still owed an access, starts its time with that access.
    """
    t, found, least = z[Z_T], -1, INF
    for b in range(bank.shape[0]):
        e = bank[b, B_CLOSE]
        if e <= t:
            wanted = bank[b, B_ROW] < 0 or bank[b, B_ACTIVE] > 0 or bank[b, B_REFRESH] != 0
            for which in range(2):
                j = bank[b, B_HEAD_READ + which]
                while j >= 0:
                    wanted = wanted or q[which, Q_ROW, j] == bank[b, B_ROW]
                    j = q[which, Q_NEXT, j]
            e = INF if wanted else earliest(part, path, node, H_PRE, b)
            if e <= t and found < 0:
                found, e = b, INF
            bank[b, B_CLOSE] = e
        least = min(least, e)
    z[Z_CLOSE] = least
    return found


@inlined
def opened(part: A, path: A, node: A, bank: A, scope: A, q: A, z: A, which: int, k: int,
           command: int) -> None:
    """After either half of an activate for slot k: the row's state; the atom joins the owners of an activate."""
    b = q[which, Q_BANK, k]
    s, to = path[b, PATH_SCOPE], ACTIVE
    bank[b, B_ROW] = q[which, Q_ROW, k]
    if command == C_ACT2:
        bank[b, B_DEADLINE] = INF
        scope[s, S_OPENING] -= 1
    else:
        bank[b, B_DONE_READ], bank[b, B_DONE_WRITE] = node[H_RD, path[b, 4]], node[H_WR, path[b, 4]]
        scope[s, S_OPEN] += 1
        if part[P_SPLIT] != 0:
            to = OPENING
            bank[b, B_ROW], bank[b, B_DEADLINE] = ROW_OPENING, z[Z_T] + part[P_AAD]
            scope[s, S_OPENING] += 1
    j = append(q, z, to)
    for c in range(Q_BANK, Q_WRITE + 1):
        q[to, c, j] = q[which, c, k]
    q[to, Q_OWN, j] = 1
    if to == ACTIVE:
        bank[b, B_ACTIVE] += 1
        scope[s, S_ACTIVE] += 1
        e = earliest(part, path, node, H_RD + q[to, Q_WRITE, j], b)
        q[to, Q_KEY, j] = e * 64
        z[Z_LEAST + 3 * ACTIVE] = min(z[Z_LEAST + 3 * ACTIVE], e)


@kernel
def refresh_due(part: A, bank: A, scope: A, fifo: A, q: A, z: A) -> None:
    """Queue the refreshes whose time has come: one per scope, of all its banks or of the next one.

    Waiting for its refresh, a bank takes no new request (the owner of its row still finishes); the others go on.
    """
    while z[Z_NEXT_REFRESH] <= z[Z_T]:
        if z[Z_FIFO_N] == 0:
            z[Z_FIFO_SINCE], z[Z_FIFO_UNTIL] = z[Z_T], -1
        for s in range(scope.shape[0]):
            b = s * part[P_SCOPE_BANKS] + z[Z_REFRESH_BANK]
            fifo[(z[Z_FIFO_AT] + z[Z_FIFO_N]) % fifo.shape[0]] = b
            z[Z_FIFO_N] += 1
            if part[P_REFRESH] == REF_BANK:
                bank[b, B_REFRESH], bank[b, B_REF_BEGIN], bank[b, B_REF_END] = 1, z[Z_T], INF
                for which in range(2):
                    k = bank[b, B_HEAD_READ + which]
                    while k >= 0:
                        if q[which, Q_KEY, k] & 7 != K_PRE:
                            q[which, Q_KEY, k] = INF * 64 + (q[which, Q_KEY, k] & 63)
                        k = q[which, Q_NEXT, k]
        z[Z_NEXT_REFRESH] += part[P_REFI] if part[P_REFRESH] == REF_ALL else part[P_REFIPB]
        if part[P_REFRESH] == REF_BANK:
            z[Z_REFRESH_BANK] = (z[Z_REFRESH_BANK] + 1) % part[P_SCOPE_BANKS]


@kernel
def refresh_next(part: A, path: A, node: A, bank: A, scope: A, fifo: A, z: A) -> tuple[int, int]:
    """What the oldest waiting refresh needs next, and the first tick at which that is legal (INF: not yet known)."""
    b = fifo[z[Z_FIFO_AT]]
    s = path[b, PATH_SCOPE]
    if part[P_REFRESH] == REF_ALL:
        blocked = scope[s, S_ACTIVE] > 0 or scope[s, S_OPENING] > 0
        command, h = (C_REFA, H_REFA) if scope[s, S_OPEN] == 0 else (C_PREA, H_PREA)
    else:
        blocked = bank[b, B_ACTIVE] > 0 or bank[b, B_ROW] == ROW_OPENING
        command, h = (C_REFB, H_REFB) if bank[b, B_ROW] == ROW_CLOSED else (C_PRE, H_PRE)
    return command, INF if blocked else earliest(part, path, node, h, b)


@inlined
def refreshed(part: A, path: A, bank: A, scope: A, fifo: A, z: A, command: int, first: int, after: int) -> None:
    """After a command for the oldest waiting refresh on banks ``first:after``."""
    for b in range(first, after):
        if command in (C_PREA, C_PRE):
            close_row(path, bank, scope, b)
        else:
            if command == C_REFA:
                bank[b, B_REF_BEGIN] = z[Z_FIFO_SINCE]
            bank[b, B_REFRESH] = 0
            bank[b, B_REF_END] = z[Z_T] + part[P_RFCAB if command == C_REFA else P_RFCPB]
    if command in (C_REFA, C_REFB):
        z[Z_FIFO_AT] = (z[Z_FIFO_AT] + 1) % fifo.shape[0]
        z[Z_FIFO_N] -= 1
        if z[Z_FIFO_N] == 0:
            z[Z_FIFO_UNTIL] = z[Z_T]


@inlined
def serve_slot(part: A, rules: A, path: A, node: A, bank: A, scope: A, bus: A, fifo: A, q: A, z: A, log: A,
               req: A, released: A, done: A, m: A, lines: A, waits: A, ready: A, slot: int, window: int,
               singly: int) -> None:
    """Issue at most one command on a bus slot of this tick."""
    t, which, k, urgent = z[Z_T], -1, -1, False
    command, b, row, after = -1, -1, -1, -1
    opening = q[OPENING, Q_ORDER, 0] if z[Z_N + OPENING] > 0 else -1
    deadline = bank[q[OPENING, Q_BANK, opening], B_DEADLINE] if opening >= 0 else INF
    if deadline <= t:
        which, k, urgent = OPENING, opening, True
    if z[Z_CAS_QUEUE] >= 0:  # the column command that the data clock was started for
        which, k, urgent = z[Z_CAS_QUEUE], z[Z_CAS_SLOT], True
        z[Z_CAS_QUEUE] = -1
    # 1. Requests whose own activate has been issued.
    if k < 0 and slot != SLOT_ROW and z[Z_LEAST + 3 * ACTIVE] <= t:
        which, k = ACTIVE, pick_owner(part, path, node, q, z)
    # 2. Refresh, oldest first; no read or write starts anything new on the banks that wait for one.
    if k < 0 and z[Z_FIFO_N] > 0 and slot != SLOT_COL:
        need, e = refresh_next(part, path, node, bank, scope, fifo, z)
        falling = part[P_HALF] != 0 and (t & 1) == 0 and need in (C_REFA, C_REFB)
        if e <= t and not falling:
            command, b = need, fifo[z[Z_FIFO_AT]]
            after = b + (part[P_SCOPE_BANKS] if part[P_REFRESH] == REF_ALL else 1)
    # 3. Reads or writes, by the drain rule.
    if k < 0 and command < 0 and (z[Z_FIFO_N] == 0 or part[P_REFRESH] == REF_BANK):
        z[Z_DRAIN] = drain_rule(part, z)
        which = WRITE if z[Z_DRAIN] != 0 else READ
        least = z[Z_LEAST + 3 * which] if slot != SLOT_ROW else INF
        if slot != SLOT_COL:
            least = min(least, min(z[Z_LEAST + 3 * which + K_ACT], z[Z_LEAST + 3 * which + K_PRE]))
        if least <= t:
            k = pick(part, path, node, scope, q, z, which, slot)
    # 4. The second half of a split activate, when nothing else can use the bus.
    if k < 0 and command < 0 and opening >= 0:
        which, k = OPENING, opening
    # 5. A row that nobody has used for long.
    if k < 0 and command < 0 and slot != SLOT_COL and z[Z_CLOSE] <= t:
        b = timed_out(part, path, node, bank, q, z)
        if b >= 0:
            command, after = C_PRE, b + 1
    if k >= 0:
        kind = K_COL if which == ACTIVE else q[which, Q_KEY, k] & 7
        command = C_ACT2
        if which != OPENING:
            command = C_ACT if kind == K_ACT else C_PRE
            if kind == K_COL:
                command = column_command(part, bank, q, which, k)
        if part[P_SPLIT] != 0 and which != OPENING and kind == K_COL and not urgent and t >= z[Z_WCK]:
            # The data clock stopped: start it (CAS) and keep the next tick for the column command, unless that would
            # let the half-issued activate miss its deadline. The atom stays where it is, and due.
            z[Z_LEAST + 3 * which] = min(z[Z_LEAST + 3 * which], t)
            if deadline > t + 1:
                command = C_CAS
                z[Z_CAS_QUEUE], z[Z_CAS_SLOT] = which, k
            else:
                which, k, command = OPENING, opening, C_ACT2
        b = q[which, Q_BANK, k]
        if C_RD <= command <= C_WRA:
            account(part, path, bank, scope, bus, q, z, which, k)
        if command == C_ACT:
            bank_ready = max(q[which, Q_ARRIVE, k] + 1, node[H_ACT, path[b, 4]])
            window_ready = min(t, max(node[H_ACT, 0], node[H_ACT, scope[path[b, PATH_SCOPE], S_NODE]]))
            bank[b, B_WAIT] = max(0, window_ready - bank_ready)
        if command != C_PRE and command != C_CAS:
            row = q[which, Q_ROW, k]
    if command < 0:
        return
    issue(part, rules, path, node, z, log, command, b, row)
    if k < 0:
        refreshed(part, path, bank, scope, fifo, z, command, b, after)
    elif command == C_CAS:
        return
    else:
        after = b + 1
        if command == C_PRE:
            q[which, Q_OWN, k] = 1
            close_row(path, bank, scope, b)
        else:
            if command in (C_ACT, C_ACT2):
                opened(part, path, node, bank, scope, q, z, which, k, command)
            else:
                retire(part, rules, path, bank, scope, bus, q, z, req, released, done, m, lines, waits, ready,
                       which, k, command, window, singly)
                if command < C_RDA and which != ACTIVE:
                    after = b  # the bank is as it was
            remove(bank, q, z, which, k)
    # Reads and writes of banks whose row or owner changed need another command now.
    while b < after:
        for queue in range(2):
            j = bank[b, B_HEAD_READ + queue]
            while j >= 0:
                rekey(part, path, node, bank, q, z, queue, j, 0)
                j = q[queue, Q_NEXT, j]
        b += 1


@inlined
def accept(part: A, path: A, node: A, bank: A, q: A, z: A, req: A, atoms: A, order: A, released: A, done: A,
           m: A, lines: A, waits: A, ready: A, window: int, singly: int) -> None:
    """Accept requests in order, as many atoms as the queues take."""
    t = z[Z_T]
    z[Z_REFUSED] = z[Z_BLOCKED] = 0
    while True:
        if z[Z_CURRENT] < 0:
            r, due = -1, INF
            if z[Z_NEXT] < order.shape[0]:
                r = order[z[Z_NEXT]]
                due = req[r, R_OFFERED]
            waited = z[Z_RELEASED] > 0 and (
                released[0, 0] < due or (released[0, 0] == due and released[0, 1] < r)
            )
            if waited:
                due, r = released[0, 0], released[0, 1]
            if due > t:
                return
            places = req[r + 1, R_ATOMS] - req[r, R_ATOMS] if singly != 0 else 1
            if window > 0 and z[Z_FLYING] > 0 and z[Z_FLYING] + places > window:
                z[Z_BLOCKED] = 1
                return
            if waited:
                sift_down(released, z[Z_RELEASED])
                z[Z_RELEASED] -= 1
            else:
                z[Z_NEXT] += 1
            z[Z_CURRENT], z[Z_ATOM], z[Z_OFFER] = r, req[r, R_ATOMS], due
            z[Z_FLYING] += places
        r, a = z[Z_CURRENT], z[Z_ATOM]
        which = req[r, R_WRITE]
        merged = False
        index, queued, writes = atoms[a, A_INDEX], q[WRITE, Q_ATOM], q[WRITE, Q_ORDER]
        for i in range(z[Z_N + WRITE]):
            if queued[writes[i]] == index:
                merged = True
                break
        if merged:
            # A read of a queued write is answered from the queue, behind the data on its way; a write to a queued
            # address replaces it.
            z[Z_COALESCED if which == WRITE else Z_FORWARDED] += 1
            finish = t if which == WRITE else max(t + 1, z[Z_LAST_DATA])
            req[r, R_LEFT] -= 1
            req[r, R_FINISH] = max(req[r, R_FINISH], finish)
            if window > 0 and singly != 0:
                sift_up(done, z[Z_DONE], finish, r)
                z[Z_DONE] += 1
        else:
            if z[Z_N + which] >= part[P_READS + which]:
                z[Z_REFUSED] = 1
                return
            k, b = append(q, z, which), atoms[a, A_BANK]
            q[which, Q_BANK, k], q[which, Q_ROW, k], q[which, Q_ATOM, k] = b, atoms[a, A_ROW], atoms[a, A_INDEX]
            q[which, Q_REQUEST, k], q[which, Q_ARRIVE, k], q[which, Q_OFFER, k] = r, t, z[Z_OFFER]
            q[which, Q_OWN, k], q[which, Q_WRITE, k] = 0, which
            head = bank[b, B_HEAD_READ + which]
            q[which, Q_NEXT, k], q[which, Q_LAST, k] = head, -1
            if head >= 0:
                q[which, Q_LAST, head] = k
            bank[b, B_HEAD_READ + which] = k
            rekey(part, path, node, bank, q, z, which, k, t + 1)
        if req[r, R_START] < 0:
            req[r, R_START] = t
        z[Z_ATOM] = a + 1
        if a + 1 == req[r + 1, R_ATOMS]:
            if which == WRITE and req[r, R_WAITS] >= 0:
                arrived(m, lines, waits, ready, req[r, R_WAITS], t << SUB)
            if req[r, R_LEFT] == 0:
                complete(z, req, released, done, m, lines, waits, ready, r, window, singly)
            z[Z_CURRENT] = -1


@inlined
def next_event(part: A, path: A, node: A, bank: A, scope: A, fifo: A, z: A, req: A, order: A, released: A,
               done: A, m: A, lines: A, ready: A, decoded: A, over: A, units: A) -> int:
    """The next tick on which anything can happen; INF: never."""
    t = z[Z_T]
    if z[Z_CAS_QUEUE] >= 0 or z[Z_N + OPENING] > 0:
        return int(t + 1)
    e = z[Z_NEXT_REFRESH]
    if z[Z_REFUSED] == 0:
        if m[M_NEXT] < m[M_LINES]:
            wake = port_next(m, lines, ready, decoded, over, units)
            if wake < NEVER:
                e = min(e, (wake + UP) >> SUB)
        if z[Z_BLOCKED] != 0:
            e = min(e, done[0, 0])
        else:
            if z[Z_NEXT] < order.shape[0]:
                e = min(e, req[order[z[Z_NEXT]], R_OFFERED])
            if z[Z_RELEASED] > 0:
                e = min(e, released[0, 0])
    # Whatever holds a command back on every bank bounds each atom, however stale the atom's own bound.
    reads, writes, acts, pres = INF, INF, INF, INF
    for s in range(scope.shape[0]):
        n = scope[s, S_NODE]
        reads, writes = min(reads, node[H_RD, n]), min(writes, node[H_WR, n])
        acts, pres = min(acts, node[H_ACT, n]), min(pres, node[H_PRE, n])
    reads, writes = max(reads, node[H_RD, 0]), max(writes, node[H_WR, 0])
    acts, pres = max(acts, node[H_ACT, 0]), max(pres, node[H_PRE, 0])
    col = max(z[Z_LEAST + 3 * ACTIVE], min(reads, writes))
    act = INF
    if z[Z_FIFO_N] > 0:
        e = min(e, refresh_next(part, path, node, bank, scope, fifo, z)[1])
    if z[Z_FIFO_N] == 0 or part[P_REFRESH] == REF_BANK:
        which = WRITE if drain_rule(part, z) != 0 else READ
        col = min(col, max(z[Z_LEAST + 3 * which], writes if which == WRITE else reads))
        act = max(z[Z_LEAST + 3 * which + K_ACT], acts)
        e = min(e, max(z[Z_LEAST + 3 * which + K_PRE], pres))
    edge = max(t + 1, min(col, act))
    if part[P_HALF] != 0 and (edge & 1) == 0:
        edge += 1
    e = min(e, min(edge, z[Z_CLOSE]))
    return int(e if e >= INF else max(t + 1, e))


@kernel
def run(part: A, rules: A, path: A, node: A, bank: A, scope: A, bus: A, fifo: A, q: A, z: A, log: A, req: A,
        atoms: A, order: A, released: A, done: A, window: int, singly: int, m: A, lines: A, waits: A, ready: A,
        decoded: A, over: A, units: A, heads: A) -> None:
    """Serve every request; with lines, once the port has taken the line of each.

    ``window`` places limit what is in flight (0: no limit): a request takes one and frees it with its last atom, or
    with ``singly`` one for each of its atoms, which free them one by one.

    Fills start and finish of ``req``, the losses of ``bus``, the counters of ``z`` and the log. Stops early only if
    nothing can ever happen again; ``z[Z_SERVED]`` tells.
    """
    n = req.shape[0] - 1
    z[Z_NEXT_REFRESH] = INF
    if part[P_REFRESH] != REF_NONE:
        z[Z_NEXT_REFRESH] = part[P_REFI] if part[P_REFRESH] == REF_ALL else part[P_REFIPB]
    while True:
        if m[M_NEXT] < m[M_LINES]:
            take_lines(z, req, released, m, lines, ready, decoded, over, units, heads, z[Z_T])
        accept(part, path, node, bank, q, z, req, atoms, order, released, done, m, lines, waits, ready, window,
               singly)
        if z[Z_SERVED] == n and m[M_NEXT] == m[M_LINES]:
            break
        t = next_event(part, path, node, bank, scope, fifo, z, req, order, released, done, m, lines, ready,
                       decoded, over, units)
        if t >= INF:
            return
        # Ticks skipped since the last event would each have applied the drain rule.
        if t > z[Z_T] + 1 and (z[Z_FIFO_N] == 0 or part[P_REFRESH] == REF_BANK):
            z[Z_DRAIN] = drain_rule(part, z)
        z[Z_T] = t
        z[Z_EVENTS] += 1
        while z[Z_DONE] > 0 and done[0, 0] <= t:
            sift_down(done, z[Z_DONE])
            z[Z_DONE] -= 1
            z[Z_FLYING] -= 1
        if z[Z_NEXT_REFRESH] <= t:
            refresh_due(part, bank, scope, fifo, q, z)
        for slot in range(part[P_BUSES]):
            if slot == SLOT_ROW or part[P_HALF] == 0 or (t & 1) == 1:
                serve_slot(part, rules, path, node, bank, scope, bus, fifo, q, z, log, req, released, done, m,
                           lines, waits, ready, slot if part[P_BUSES] == 2 else SLOT_ANY, window, singly)
    take_lines(z, req, released, m, lines, ready, decoded, over, units, heads, (NEVER >> SUB) - 1)
    for u in range(bus.shape[0]):
        bus[u, U_LOSS + L_IDLE] += max(0, z[Z_END] - bus[u, U_FREE])
