"""The event loop of continuous batching, in Numba: one turn a step of the engine."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

MIXED, PREFILL_FIRST = 0, 1


@njit(cache=True)
def run(
    arrival_s: Any,
    prompt: Any,
    answer: Any,
    weight_bytes: Any,
    raw_weight_bytes: Any,
    vector: Any,
    overhead_s: float,
    decompressor_s_per_byte: float,
    raw_kv_ratio: float,
    max_sequences: int,
    max_tokens: int,
    kv_capacity_tokens: float,
    chunked: bool,
    policy: int,
    closed: bool,
) -> Any:
    """Serve all requests; returns (start_s, first_token_s, finish_s, per-step sums).

    arrival_s : float64[n], ascending (ignored when `closed`: a request arrives when a place is free).
    prompt, answer : int64[n], tokens, 1 or more. A sequence reserves prompt + answer tokens of KV when admitted.
    The sums are steps, busy seconds, prefill tokens, decode tokens, steps with a piece of a prompt.
    """
    n = prompt.size
    start_s = np.zeros(n)
    first_s = np.zeros(n)
    finish_s = np.zeros(n)
    sums = np.zeros(6)
    ids = np.zeros(max_sequences, np.int64)
    done = np.zeros(max_sequences, np.int64)  # prompt tokens in the cache
    made = np.zeros(max_sequences, np.int64)  # answer tokens produced
    take = np.zeros(max_sequences, np.int64)  # prompt tokens of this step
    active = 0
    reserved = 0.0
    nxt = 0
    clock = 0.0
    kv_full, kv_slide, window, act = vector[0], vector[1], vector[2], vector[3]
    token_s, decode_pair_s, prefill_pair_s, head_s = vector[4], vector[5], vector[6], vector[7]
    bandwidth, talk_s, talk_token_s = vector[8], vector[9], vector[10]
    table = weight_bytes.size - 1
    slides = window > 0
    full_share = kv_full / (kv_full + kv_slide) if kv_full + kv_slide > 0 else 1.0
    while nxt < n or active > 0:
        if active == 0 and nxt < n and not closed and arrival_s[nxt] > clock:
            clock = arrival_s[nxt]
        while nxt < n and active < max_sequences and (closed or arrival_s[nxt] <= clock):
            size = float(prompt[nxt] + answer[nxt])
            if active > 0 and reserved + size > kv_capacity_tokens:
                break
            start_s[nxt] = clock
            ids[active], done[active], made[active] = nxt, 0, 0
            reserved += size
            active += 1
            nxt += 1
        budget = max_tokens
        waiting = False
        for i in range(active):
            take[i] = 0
            if done[i] < prompt[ids[i]]:
                waiting = True
        decoding = not (policy == 1 and waiting)
        tokens = 0.0
        pairs_s = 0.0
        cached = 0.0
        heads = 0.0
        if decoding:
            for i in range(active):
                if done[i] == prompt[ids[i]]:
                    keys = float(done[i] + made[i])
                    seen = keys
                    if slides:
                        near = min(keys, window)
                        seen = full_share * keys + (1.0 - full_share) * near
                    cached += seen
                    pairs_s += seen * decode_pair_s
                    tokens += 1.0
                    heads += 1.0
                    budget -= 1
        prompts = 0.0
        for i in range(active):
            left = prompt[ids[i]] - done[i]
            if left > 0:
                # A prompt longer than a step can only go in pieces, whatever the engine's setting.
                in_pieces = chunked or prompt[ids[i]] > max_tokens
                if in_pieces:
                    piece = min(left, max(budget, 0))
                else:
                    piece = left if left <= budget or (tokens == 0.0 and prompts == 0.0) else 0
                if piece > 0:
                    take[i] = piece
                    budget -= piece
                    prior = float(done[i])
                    grown = float(piece)
                    pairs = grown * prior + grown * (grown + 1.0) / 2.0
                    keys = prior + grown
                    if slides:
                        near = min(pairs, grown * window)
                        pairs = full_share * pairs + (1.0 - full_share) * near
                        keys = full_share * keys + (1.0 - full_share) * min(keys, window + grown)
                    pairs_s += pairs * prefill_pair_s
                    cached += keys
                    prompts += grown
                    if piece == left:
                        heads += 1.0
                elif not in_pieces:
                    break
        total = tokens + prompts
        read = weight_bytes[min(int(total), table)] + cached * (kv_full + kv_slide) + total * act
        memory_s = read / bandwidth
        compute_s = total * token_s + pairs_s + heads * head_s
        busy = max(memory_s, compute_s)
        if decompressor_s_per_byte > 0.0:
            raw = raw_weight_bytes[min(int(total), table)] + cached * (kv_full + kv_slide) * raw_kv_ratio
            busy = max(busy, raw * decompressor_s_per_byte)
        step = busy + overhead_s + talk_s + total * talk_token_s
        clock += step
        sums[0] += 1.0
        sums[1] += step
        sums[2] += prompts
        sums[3] += tokens
        if prompts > 0.0:
            sums[4] += 1.0
        if memory_s >= compute_s:
            sums[5] += 1.0
        i = 0
        while i < active:
            r = ids[i]
            if take[i] > 0:
                done[i] += take[i]
                if done[i] == prompt[r]:
                    made[i] = 1
                    first_s[r] = clock
            elif decoding and done[i] == prompt[r]:
                made[i] += 1
            if done[i] == prompt[r] and made[i] >= answer[r]:
                finish_s[r] = clock
                reserved -= float(prompt[r] + answer[r])
                active -= 1
                # Keep the order of arrival: shift the rest down.
                for j in range(i, active):
                    ids[j], done[j], made[j], take[j] = ids[j + 1], done[j + 1], made[j + 1], take[j + 1]
            else:
                i += 1
    return start_s, first_s, finish_s, sums
