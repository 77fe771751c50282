"""The engine's loop in Numba, one turn a step: scheduler, pool of KV blocks, and the clock.

The scheduler is that of vLLM's V1 engine (vllm/v1/core/sched/scheduler.py, kv_cache_manager.py): running sequences
first, in order of admission; then waiting ones while the token budget and the places last; a sequence that finds no
block preempts the one admitted last, which frees its blocks tail first, goes to the head of the queue and computes
everything again; a step that preempted admits nobody. Freed blocks keep their content until they are needed, least
recently freed first. Other engines are the same loop under other rules (`rules.Engine`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from linepress_hardware.inference.serving.cost import kernel_step_s, roofline_step_s

PREFILL_FIRST = 1
# Places of `sums`.
STEPS, BUSY_S, PREFILL_TOKENS, DECODE_TOKENS, PREFILL_STEPS, MEMORY_STEPS = 0, 1, 2, 3, 4, 5
PREEMPTIONS, RECOMPUTED_TOKENS, CACHED_TOKENS, PEAK_BLOCKS, STUCK = 6, 7, 8, 9, 10


class Rules(NamedTuple):
    """What the loop needs of an engine, its pool and the workload."""

    max_sequences: int
    max_tokens: int
    block_tokens: int
    blocks: int  # a rank
    ranks: int
    chunked: bool
    policy: int
    reserve_answer: bool
    prefix_cache: bool
    lag: bool
    closed: bool
    window: float
    window_share: float
    state_tokens: float  # what a sequence keeps whatever its length, in tokens of KV


class Pool(NamedTuple):
    """Blocks of all ranks: doubly linked free lists (two sentinels a rank), users, and what each block holds."""

    after: Any
    before: Any
    users: Any
    content: Any  # key of a block's content, -1
    where: Any  # block of a key on each rank, -1
    free: Any  # blocks free, by rank


@njit(cache=True)
def blocks_of(rules: Rules, tokens: int) -> int:
    """Blocks that a sequence of `tokens` holds; sliding layers keep their window only, recurrent ones a state."""
    if rules.window_share == 0.0 and rules.state_tokens == 0.0:
        return (tokens + rules.block_tokens - 1) // rules.block_tokens
    held = float(tokens)
    if rules.window_share > 0.0:
        held = (1.0 - rules.window_share) * held + rules.window_share * min(held, rules.window)
    return int(np.ceil((held + rules.state_tokens) / rules.block_tokens - 1e-9))


@njit(cache=True)
def new_pool(rules: Rules, keys: int) -> Pool:
    total = rules.ranks * rules.blocks
    after = np.empty(total + 2 * rules.ranks, np.int64)
    before = np.empty(total + 2 * rules.ranks, np.int64)
    for rank in range(rules.ranks):
        head, tail = total + 2 * rank, total + 2 * rank + 1
        last = head
        for b in range(rank * rules.blocks, (rank + 1) * rules.blocks):
            after[last] = b
            before[b] = last
            last = b
        after[last] = tail
        before[tail] = last
        before[head] = -1
        after[tail] = -1
    return Pool(
        after,
        before,
        np.zeros(total, np.int64),
        np.full(total, -1, np.int64),
        np.full((rules.ranks, keys if rules.prefix_cache else 1), -1, np.int64),
        np.full(rules.ranks, rules.blocks, np.int64),
    )


@njit(cache=True)
def take(pool: Pool, rank: int, b: int) -> None:
    """One more user of a block; it leaves the free list."""
    if pool.users[b] == 0:
        pool.after[pool.before[b]] = pool.after[b]
        pool.before[pool.after[b]] = pool.before[b]
        pool.free[rank] -= 1
    pool.users[b] += 1


@njit(cache=True)
def fresh(pool: Pool, rules: Rules, rank: int) -> int:
    """The least recently freed block, its old content forgotten."""
    b = int(pool.after[rules.ranks * rules.blocks + 2 * rank])
    take(pool, rank, b)
    key = pool.content[b]
    if key >= 0:
        if pool.where[rank, key] == b:
            pool.where[rank, key] = -1
        pool.content[b] = -1
    return b


@njit(cache=True)
def give(pool: Pool, rules: Rules, rank: int, table: Any, first: int, count: int) -> None:
    """Give blocks back, the tail first, so that the head of a prompt is kept longest."""
    tail = rules.ranks * rules.blocks + 2 * rank + 1
    for j in range(first + count - 1, first - 1, -1):
        b = table[j]
        pool.users[b] -= 1
        if pool.users[b] == 0:
            last = pool.before[tail]
            pool.after[last] = b
            pool.before[b] = last
            pool.after[b] = tail
            pool.before[tail] = b
            pool.free[rank] += 1


@njit(cache=True)
def serve(
    arrival_s: Any,
    prompt: Any,
    answer: Any,
    table_at: Any,
    key: Any,
    rules: Rules,
    by_kernels: bool,
    kernels: Any,
    roofline: Any,
) -> Any:
    """Serve all requests; returns (arrival_s, first_token_s, finish_s, preempted, sums).

    arrival_s : float64[n], ascending (ignored when `rules.closed`: a client sends when its last answer is complete).
    prompt, answer : int64[n], tokens, 1 or more.
    table_at : int64[n + 1], where a request's blocks lie in the table; key : int64[table_at[n]], the content of each
    (equal keys hold the same tokens).
    """
    n = prompt.size
    arrived = np.zeros(n)
    first_s = np.zeros(n)
    finish_s = np.zeros(n)
    preempted = np.zeros(n, np.int64)
    sums = np.zeros(11)
    computed = np.zeros(n, np.int64)
    made = np.zeros(n, np.int64)
    held = np.zeros(n, np.int64)
    table = np.full(table_at[n], -1, np.int64)
    pool = new_pool(rules, int(table_at[n]))
    ranks, places = rules.ranks, rules.max_sequences
    running = np.zeros((ranks, places), np.int64)
    n_running = np.zeros(ranks, np.int64)
    reserved = np.zeros(ranks, np.int64)
    waiting_next = np.full(n, -1, np.int64)
    head = np.full(ranks, -1, np.int64)
    tail = np.full(ranks, -1, np.int64)
    n_waiting = np.zeros(ranks, np.int64)
    gone = np.zeros((ranks, places), np.int64)
    n_gone = np.zeros(ranks, np.int64)
    who = np.zeros((ranks, places), np.int64)
    todo_of = np.zeros((ranks, places), np.int64)
    n_batch = np.zeros(ranks, np.int64)
    chunk, prior, keys = np.zeros(places), np.zeros(places), np.zeros(places)
    nxt = done = inside = 0
    now = before = 0.0
    while done < n:
        see = before if rules.lag else now
        while nxt < n and ((inside < ranks * places) if rules.closed else (arrival_s[nxt] <= see)):
            rank = 0
            for e in range(1, ranks):
                if 4 * n_waiting[e] + n_running[e] < 4 * n_waiting[rank] + n_running[rank]:
                    rank = e
            if n_waiting[rank] == 0:
                head[rank] = nxt
            else:
                waiting_next[tail[rank]] = nxt
            tail[rank] = nxt
            n_waiting[rank] += 1
            arrived[nxt] = now if rules.closed else arrival_s[nxt]
            inside += 1
            nxt += 1
        scheduled = freed = 0
        for rank in range(ranks):
            n_batch[rank] = 0
            left = rules.max_tokens
            answers_wait = False
            if rules.policy == PREFILL_FIRST or not rules.chunked:
                pieces = answers = 0
                for q in range(n_running[rank]):
                    r = running[rank, q]
                    if prompt[r] + made[r] - computed[r] > 1 or made[r] == 0:
                        pieces += 1
                    else:
                        answers += 1
                fits = False
                size = 0
                if n_waiting[rank] > 0 and n_running[rank] < places:
                    r = head[rank]
                    size = prompt[r] + made[r]
                    fits = blocks_of(rules, size) <= pool.free[rank]
                    if rules.reserve_answer:
                        wanted = blocks_of(rules, prompt[r] + answer[r])
                        fits = reserved[rank] + wanted <= rules.blocks or n_running[rank] == 0
                if rules.policy == PREFILL_FIRST:
                    answers_wait = pieces > 0 or fits
                elif fits and pieces == 0:
                    # A whole prompt that has no room beside the answers goes alone: it must not starve.
                    answers_wait = rules.max_tokens - answers < size <= rules.max_tokens
            gave_up = False
            q = 0
            while q < n_running[rank] and left > 0:
                r = running[rank, q]
                total = prompt[r] + made[r]
                piece = min(total - computed[r], left)
                if piece <= 0 or (answers_wait and made[r] > 0 and total - computed[r] == 1):
                    q += 1
                    continue
                want = blocks_of(rules, computed[r] + piece) - held[r]
                lost = False
                while want > pool.free[rank]:
                    v = running[rank, n_running[rank] - 1]
                    n_running[rank] -= 1
                    preempted[v] += 1
                    sums[PREEMPTIONS] += 1.0
                    gave_up = True
                    give(pool, rules, rank, table, table_at[v], held[v])
                    held[v] = 0
                    computed[v] = 0
                    reserved[rank] -= blocks_of(rules, prompt[v] + answer[v])
                    waiting_next[v] = head[rank]
                    if n_waiting[rank] == 0:
                        tail[rank] = v
                        waiting_next[v] = -1
                    head[rank] = v
                    n_waiting[rank] += 1
                    if v == r:
                        lost = True
                        break
                if lost:
                    break
                for _ in range(max(0, want)):
                    table[table_at[r] + held[r]] = fresh(pool, rules, rank)
                    held[r] += 1
                who[rank, n_batch[rank]] = r
                todo_of[rank, n_batch[rank]] = piece
                n_batch[rank] += 1
                left -= piece
                q += 1
            while not gave_up and n_waiting[rank] > 0 and left > 0 and n_running[rank] < places:
                r = head[rank]
                total = prompt[r] + made[r]
                hits = shared = 0
                if rules.prefix_cache:
                    # The last token is always computed, for its logits.
                    for j in range((total - 1) // rules.block_tokens):
                        b = pool.where[rank, key[table_at[r] + j]]
                        if b < 0:
                            break
                        table[table_at[r] + j] = b
                        hits += 1
                        if pool.users[b] == 0:
                            shared += 1
                known = hits * rules.block_tokens
                piece = total - known
                if piece > left:
                    if not rules.chunked and piece <= rules.max_tokens:
                        break
                    piece = left
                if rules.reserve_answer:
                    wanted = blocks_of(rules, prompt[r] + answer[r])
                    if n_running[rank] > 0 and reserved[rank] + wanted > rules.blocks:
                        break
                if blocks_of(rules, total) - hits > pool.free[rank] - shared:
                    break
                head[rank] = waiting_next[r]
                n_waiting[rank] -= 1
                for j in range(hits):
                    take(pool, rank, table[table_at[r] + j])
                held[r] = hits
                computed[r] = known
                sums[CACHED_TOKENS] += known
                if preempted[r] > 0:
                    sums[RECOMPUTED_TOKENS] += total - known
                for _ in range(blocks_of(rules, known + piece) - hits):
                    table[table_at[r] + held[r]] = fresh(pool, rules, rank)
                    held[r] += 1
                reserved[rank] += blocks_of(rules, prompt[r] + answer[r])
                running[rank, n_running[rank]] = r
                n_running[rank] += 1
                who[rank, n_batch[rank]] = r
                todo_of[rank, n_batch[rank]] = piece
                n_batch[rank] += 1
                left -= piece
            for q in range(n_gone[rank]):
                r = gone[rank, q]
                give(pool, rules, rank, table, table_at[r], held[r])
                held[r] = 0
                freed += 1
            n_gone[rank] = 0
            scheduled += n_batch[rank]
            sums[PEAK_BLOCKS] = max(sums[PEAK_BLOCKS], float(rules.blocks - pool.free[rank]))
        if scheduled == 0:
            if freed == 0:
                if inside == 0 and nxt < n and not rules.closed:
                    now = max(now, arrival_s[nxt])
                elif before == now:
                    sums[STUCK] = 1.0
                    break
            before = now
            continue
        together = 0
        for rank in range(ranks):
            tokens = 0
            for q in range(n_batch[rank]):
                tokens += todo_of[rank, q]
            together = max(together, tokens)
        step = 0.0
        memory = True
        with_prompt = False
        for rank in range(ranks):
            chunks = sequences = heads = tokens = 0
            for q in range(n_batch[rank]):
                r, piece = who[rank, q], todo_of[rank, q]
                tokens += piece
                if computed[r] + piece >= prompt[r] + made[r]:
                    heads += 1
                if piece > 1 or made[r] == 0:
                    chunk[chunks] = piece
                    prior[chunks] = computed[r]
                    chunks += 1
                    sums[PREFILL_TOKENS] += piece
                    with_prompt = True
                else:
                    keys[sequences] = computed[r] + 1
                    sequences += 1
                    sums[DECODE_TOKENS] += 1.0
            if by_kernels:
                own = kernel_step_s(kernels, chunk, prior, chunks, keys, sequences, together, heads)
            else:
                own, memory = roofline_step_s(roofline, chunk, prior, chunks, keys, sequences, tokens, heads)
            step = max(step, own)
        before = now
        now += step
        sums[STEPS] += 1.0
        sums[BUSY_S] += step
        sums[PREFILL_STEPS] += 1.0 if with_prompt else 0.0
        sums[MEMORY_STEPS] += 1.0 if memory else 0.0
        for rank in range(ranks):
            for q in range(n_batch[rank]):
                r, piece = who[rank, q], todo_of[rank, q]
                old = computed[r] // rules.block_tokens
                computed[r] += piece
                if rules.prefix_cache:
                    for j in range(old, computed[r] // rules.block_tokens):
                        name = key[table_at[r] + j]
                        if pool.where[rank, name] < 0:
                            b = table[table_at[r] + j]
                            pool.where[rank, name] = b
                            pool.content[b] = name
                if computed[r] < prompt[r] + made[r]:
                    continue
                made[r] += 1
                if made[r] == 1:
                    first_s[r] = now
                if made[r] < answer[r]:
                    continue
                finish_s[r] = now
                done += 1
                inside -= 1
                reserved[rank] -= blocks_of(rules, prompt[r] + answer[r])
                at = 0
                while running[rank, at] != r:
                    at += 1
                for j in range(at, n_running[rank] - 1):
                    running[rank, j] = running[rank, j + 1]
                n_running[rank] -= 1
                if rules.lag:
                    gone[rank, n_gone[rank]] = r
                    n_gone[rank] += 1
                else:
                    give(pool, rules, rank, table, table_at[r], held[r])
                    held[r] = 0
    return arrived, first_s, finish_s, preempted, sums
