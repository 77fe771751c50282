"""Amaranth's own simulator: no compiler, a few dozen to a thousand lines a second."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from amaranth.sim import Simulator

from linepress_hardware.rtl.line import LineEncoder, LineEngine
from linepress_hardware.rtl.simulate.vectors import Outcome, Vectors

AMARANTH = "amaranth"
SILENCE = 10_000
"""Clocks without an answer after which a design hangs."""


def interpret(engine: LineEngine, sets: Sequence[Vectors]) -> Outcome:
    """Every set through ``engine``, each with its tables: half of a set without a pause, half with random ones."""
    outcomes: list[Outcome] = []

    async def bench(ctx: Any) -> None:
        for vectors in sets:
            began = time.perf_counter()
            found = await _run(ctx, engine, vectors)
            outcomes.append(replace(found, run_s=time.perf_counter() - began))

    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        simulator = Simulator(engine)
        simulator.add_clock(1e-9)
        simulator.add_testbench(bench)
        built = time.perf_counter() - began
        simulator.run()
    return replace(reduce(lambda before, now: now.after(before), outcomes), build_s=built)


async def _run(ctx: Any, engine: LineEngine, vectors: Vectors) -> Outcome:
    total, steady = len(vectors), (len(vectors) + 1) // 2
    cycles, differing, refused, steady_clocks = [], [], 0, 0
    wanted, given = vectors.masked(), vectors.given
    random = np.random.default_rng(0)
    line_mask = (1 << engine.line_bits) - 1
    ctx.set(engine.valid, 0)
    ctx.set(engine.cfg_we, 1)
    for address, data in vectors.config:
        ctx.set(engine.cfg_addr, address)
        ctx.set(engine.cfg_data, data)
        await ctx.tick()
    ctx.set(engine.cfg_we, 0)
    sent = got = now = answered = 0
    taken: deque[int] = deque()
    while got < total:
        offer = sent < total and (sent < steady or random.integers(3) > 0)
        ctx.set(engine.valid, int(offer))
        if offer:
            ctx.set(engine.line, int.from_bytes(given[sent].tobytes(), "little") & line_mask)
            ctx.set(engine.size, int(vectors.size[sent]))
            if ctx.get(engine.ready):
                taken.append(now)
                sent += 1
                steady_clocks = now if sent == steady else steady_clocks
        await ctx.tick()
        now += 1
        if ctx.get(engine.out_valid):
            answered = now
            cycles.append(now - 1 - taken.popleft())
            error = bool(ctx.get(engine.error))
            bits = int(vectors.wanted_bits[got])
            same = ctx.get(engine.data) & ((1 << bits) - 1) == int.from_bytes(wanted[got].tobytes(), "little")
            if isinstance(engine, LineEncoder):
                same &= ctx.get(engine.out_size) == bits
            refused += error
            if error != bool(vectors.error[got]) or not (error or same):
                differing.append(got)
            got += 1
        if now - answered > SILENCE:
            differing.append(got)
            break
    return Outcome(
        simulator=AMARANTH, lines=len(cycles), refused=refused, differ=len(differing),
        first=differing[0] if differing else -1,
        cycles_least=min(cycles, default=0), cycles_most=max(cycles, default=0),
        interval=steady_clocks / (steady - 1) if steady > 1 else 0.0, build_s=0.0, run_s=0.0,
    )  # fmt: skip
