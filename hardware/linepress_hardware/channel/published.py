"""Published results of compaction schemes that a synthetic workload can check, beside what the model gives.

Each check counts requests and atoms of a translated stream; none needs a memory. Results that depend on programs
nobody can run here (`Published.why`) have no check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel import workloads
from linepress_hardware.channel.config import LINE_BYTES, ChannelConfig, default_config
from linepress_hardware.channel.plan import RequestPlan
from linepress_hardware.channel.schemes import Placed, Scheme
from linepress_hardware.channel.translation import expand_static
from linepress_hardware.channel.workloads import LineStream

TILE, READS = 65_536, 40_000


def _bits(size_bytes: int) -> NDArray[np.uint16]:
    return np.full(TILE, 8 * size_bytes, np.uint16)


def _plan(scheme: Scheme, bits: NDArray[np.uint16], reads: LineStream, past: LineStream | None = None) -> RequestPlan:
    """Requests of reads over the scheme's layout of these lines, tiled over the default footprint."""
    config = scheme.config(default_config())
    layout = replace(scheme.place(bits).layout, lines=_lines(config))
    return expand_static(reads, layout, atom_bytes=32, config=config, before=past)


def _lines(config: ChannelConfig) -> int:
    return config.footprint_bytes // LINE_BYTES


def _random(n: int = READS, seed: int = 1) -> LineStream:
    return workloads.random(n, _lines(default_config()), seed=seed)


def reach(scheme: Scheme, _: Placed | None) -> str:
    """Hit rate of uniform random reads over the footprint, and the bytes that the cache reaches by arithmetic."""
    bits = _bits(16)
    config = scheme.config(default_config())
    layout = scheme.place(bits).layout
    entries = config.metadata_cache_bytes // max(config.metadata_entry_bytes, layout.entry_bytes(config))
    reached = entries * layout.pages_per_entry(config) * layout.page_bytes
    expected = min(1.0, reached / config.footprint_bytes)
    plan = _plan(scheme, bits, _random(), _random(min(8 * entries, 200_000), 2))
    hits = plan.counters["metadata_hits"] / plan.counters["metadata_lookups"]
    return (
        f"{reached / 2**20:,.0f} MiB; uniform random over {config.footprint_bytes >> 20} MiB hits {100 * hits:.1f} % "
        f"(reach / footprint {100 * expected:.1f} %)"
    )


def accesses_per_line(scheme: Scheme, pattern: str) -> float:
    """Requests a read where every line is 15 B, so that four fit a slot."""
    reads = _random() if pattern == "random" else workloads.stream(np.arange(TILE, dtype=np.int64))
    return _plan(scheme, _bits(15), reads).requests / len(reads)


def short_share(scheme: Scheme) -> float:
    """Share of short lines c at which halves give the published ideal gain on bandwidth: 2 / (2 − c)."""
    return 2 - 2 / scheme.value("ideal_gain")


def halves_gain(scheme: Scheme) -> float:
    """Atoms of 32 B saved by the predictor on random reads, at the share of short lines fitted to the ideal gain."""
    bits = np.full(TILE, 512, np.uint16)
    bits[np.random.Generator(np.random.PCG64(3)).permutation(TILE)[: round(short_share(scheme) * TILE)]] = 200
    plan = _plan(scheme, bits, _random())
    return 2 * READS / (int(plan.size_bytes.sum()) / 32)


def halves_with_metadata(scheme: Scheme) -> float:
    """The same with a metadata cache of the published hit rate instead: one atom a miss."""
    return 2 / (2 - short_share(scheme) + (1 - scheme.value("metadata_hit_share")))


def collisions(scheme: Scheme) -> float:
    """Share of raw lines that read a displaced bit."""
    bits = np.full(1 << 18, 512, np.uint16)
    bits[:128] = 200
    pointer = scheme.place(bits).layout.pointer_bytes
    return 0.0 if pointer is None else float((pointer >= 0).sum()) / ((1 << 18) - 128)


def split_shares(scheme: Scheme) -> tuple[float, float, float]:
    """(persistence, share of split accesses unaligned, aligned): lines keep the size of the line before with the
    persistence that makes the first one the published share, else draw 0 to 64 B alike; in line order, each page from
    a 64 B boundary. The second share is then a prediction."""
    before, after = (scheme.figures[name].value for name in ("unaligned_bytes", "class_bytes"))
    rng = np.random.Generator(np.random.PCG64(5))
    fresh, coin = rng.integers(0, LINE_BYTES + 1, TILE), rng.random(TILE)

    def split(classes: list[int], keep: float) -> float:
        last = np.maximum.accumulate(np.where(coin >= keep, np.arange(TILE), 0))
        sizes = np.array(classes)
        length = sizes[np.searchsorted(sizes, fresh[last])].reshape(-1, 64)
        start = np.cumsum(length, axis=1) - length
        crossed = (length > 0) & ((start + length - 1) // LINE_BYTES != start // LINE_BYTES)
        return float(crossed.sum() / (length > 0).sum())

    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if split(before, middle) > scheme.value("unaligned_split_share") else (low, middle)
    return low, split(before, low), split(after, low)


def _splits(scheme: Scheme, _: Placed | None) -> str:
    keep, before, after = split_shares(scheme)
    return f"{100 * before:.1f} % (fitted, sizes persist with {keep:.2f}), {100 * after:.1f} % predicted"


CHECKS: dict[str, Callable[[Scheme, Placed | None], str]] = {
    "reach": reach,
    "splits": _splits,
    "quads-sequential": lambda s, _: f"{accesses_per_line(s, 'sequential'):.3f}",
    "quads-random": lambda s, _: f"{accesses_per_line(s, 'random'):.3f}",
    "halves-predictor": lambda s, _: (
        f"+ {100 * (halves_gain(s) - 1):.1f} % of bandwidth (share of short lines fitted to + 17 %: "
        f"{short_share(s):.2f})"
    ),
    "halves-metadata": lambda s, _: f"+ {100 * (halves_with_metadata(s) - 1):.1f} %, one 32 B atom a miss",
    "collisions": lambda s, _: f"{100 * collisions(s):.4f} %",
    "block-capacity": lambda s, placed: "" if placed is None else f"{placed.capacity:.2f} on these lines, our code",
}


def beside(scheme: Scheme, placed: Placed | None = None) -> list[dict[str, str]]:
    """Each published result of a scheme with ours: figure, workload, status, ours (or why there is none)."""
    return [
        {
            "scheme": scheme.name,
            "published": p.figure,
            "workload": p.workload,
            "status": p.status,
            "ours": CHECKS[p.check](scheme, placed) if p.check else f"not checked: {p.why}",
        }
        for p in scheme.published
    ]
