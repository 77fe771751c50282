"""The table of schemes: every compaction and translation scheme on the same lines, against the plain channel.

Capacity, three converged gains, tail latency, metadata and SRAM of each. The plain channel has its best settings. A
scheme runs under the same ones and, for random lines, under the mapping that keeps a whole row together (`ROW_FIRST`)
with the same policy; the faster of the two is shown: where a layout straddles atoms, the mapping decides what that
costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import hypot, nan, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.stages.channel.case import ChannelCase
from linepress.stages.channel.row import TILE_LINES, capacity, configuration, spread, subject
from linepress_codecs.packing import Classes, Packing, parse_packing, stored_bytes
from linepress_hardware.channel import results
from linepress_hardware.channel.config import LINE_BYTES
from linepress_hardware.channel.evaluate import InlineSpec, Study, Subject
from linepress_hardware.channel.headline import WITH_WRITES, Settings, plain_at_best
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.published import beside
from linepress_hardware.channel.schemes import Placed, Scheme, schemes
from linepress_hardware.errors import ConfigurationError

ROW_FIRST = "RoBaRaCoCh"
PATTERNS = ("sequential", "random", "mixed")
KEEPS = 0.95
"""Share of the plain channel's random bandwidth that a scheme must keep to be named in `verdict`."""


def chosen_schemes(names: Sequence[str]) -> list[Scheme]:
    """The schemes of these names, all of them for ``all``; raises `ConfigurationError` for an unknown one."""
    known = schemes()
    for name in names:
        if name != "all" and name not in known:
            raise ConfigurationError(f"unknown scheme {name!r}: known are all, {', '.join(known)}")
    return list(known.values()) if "all" in names else [known[name] for name in dict.fromkeys(names)]


def scheme_rows(base: ChannelCase, chosen: Sequence[Scheme]) -> Iterator[dict[str, Any]]:
    """One row a scheme on the case's memory and lines; ``base.packing`` and ``base.mode`` are not looked at."""
    if base.line_bytes != LINE_BYTES:
        raise ConfigurationError(
            f"the schemes are published for lines of {LINE_BYTES} B, not of {base.line_bytes}; measure the codec "
            f"with {LINE_BYTES} B lines"
        )
    bits = spread(base.bits_histogram, TILE_LINES, base.seed)
    for scheme in chosen:
        yield _row(base, scheme, bits)


def published_rows(base: ChannelCase, chosen: Sequence[Scheme]) -> list[dict[str, str]]:
    """Published results of the schemes beside ours."""
    bits = spread(base.bits_histogram, TILE_LINES, base.seed)
    return [row for scheme in chosen for row in beside(scheme, placed_by(scheme, bits))]


def fitted_classes(bits: NDArray[np.uint16]) -> tuple[int, ...]:
    """The four class sizes with the fewest bytes on these lines."""
    return Classes(set=()).sizes_for(bits)


def placed_by(scheme: Scheme, bits: NDArray[np.uint16]) -> Placed | None:
    """The tile as a scheme with a layout of its own places it; None for packings and the inline store."""
    if scheme.rule in ("packing", "store"):
        return None
    return scheme.place(bits, fitted_classes(bits))


def study_of(base: ChannelCase, scheme: Scheme, bits: NDArray[np.uint16]) -> tuple[Study, float, float]:
    """(study on the case's memory, capacity, metadata bytes of 4 KiB) of one scheme; tables counted."""
    memory = Memory.load(base.memory)
    config = scheme.config(configuration(base, memory))
    coded = stored_bytes(bits, LINE_BYTES).astype(np.int32)
    placed = placed_by(scheme, bits)
    tables = base.table_bytes * LINE_BYTES / max(1, sum(base.bits_histogram) * LINE_BYTES)

    def study(its: Subject) -> Study:
        return Study(memory, config, its, base.n_requests, base.seed, base.within_pct / 100)

    if placed is not None:
        found = study(Subject(placed.layout, coded))
        return found, LINE_BYTES / (LINE_BYTES / placed.capacity + tables), placed.metadata_bytes_per_page
    if scheme.rule == "store":
        classes = scheme.class_sizes(fitted_classes(bits))
        layout = subject(base, bits, Classes(set=classes), "offline").layout
        found = study(Subject(layout, coded, InlineSpec(classes, rule_bytes=int(scheme.value("rule_bytes")))))
        own = float(config.metadata_entry_bytes)
        packing: Packing = Classes(set=classes)
    else:
        packing = parse_packing(scheme.packing)
        its = subject(base, bits, packing, "offline")
        found = study(its)
        own = its.layout.metadata_bytes_per_page * 4096 / its.layout.page_bytes
    ratio = float(capacity(base, bits, packing, found)["effective_capacity_ratio"])
    return found, ratio, own


def _row(base: ChannelCase, scheme: Scheme, bits: NDArray[np.uint16]) -> dict[str, Any]:
    study, ratio, metadata = study_of(base, scheme, bits)
    atoms, _ = study.metadata_unit()
    row: dict[str, Any] = {
        "scheme": scheme.name,
        "memory": study.memory.name,
        "data": base.data,
        "mode": study.subject.mode,
        "capacity": ratio,
    }
    for pattern in PATTERNS:
        gained, settings = _gain(base, study, pattern)
        row.update(gained)
        if pattern == "random":
            row.update(_tail(base, study, settings))
    row["metadata_bytes_per_4KiB"] = metadata
    row["metadata_cache_bytes"] = study.config.metadata_cache_bytes if atoms else 0
    row["sram_bytes"] = scheme.sram_bytes(
        study.config, metadata=atoms > 0, coded=study.inline or not study.subject.layout.plain
    )
    return row


def _is_plain(study: Study) -> bool:
    """Whether the scheme left every line raw in its place, which is the plain channel request for request."""
    return not study.inline and study.subject.layout.plain


def _thinned(study: Study) -> Study:
    """Fewer random accesses where each reads a block: it costs as much memory as dozens of lines."""
    per_line = max(1.0, float(study.atoms_alone().mean()) * study.memory.atom_bytes / LINE_BYTES)
    return replace(study, n=max(1000, int(study.n / per_line)))


def _at(base: ChannelCase, study: Study, settings: Settings) -> Study:
    return replace(study, memory=Memory.load(base.memory, settings.mapping, settings.policy))


def _best(study: Study, pattern: str) -> Settings:
    searched = f"{pattern}+writes" if study.inline and pattern in WITH_WRITES else pattern
    found = plain_at_best(study.memory.name, searched)
    return found.settings if found else Settings()


def _gain(base: ChannelCase, study: Study, pattern: str) -> tuple[dict[str, Any], Settings]:
    """Gain over the plain channel at its best with its interval, and the settings that gave it: its own or, for
    random lines, those with `ROW_FIRST`."""
    best = _best(study, pattern)
    plain = _at(base, study, best).plain_rate(pattern).rate
    tried = {best: plain} if _is_plain(study) else {}
    if not tried:
        others = (Settings(ROW_FIRST, best.policy),) if best.mapping and pattern != "sequential" else ()
        lone = _thinned(study) if pattern != "sequential" else study
        for settings in dict.fromkeys((best, *others)):
            tried[settings] = _at(base, lone, settings).compressed_rate(pattern)[1]
    settings = max(tried, key=lambda s: tried[s].GBps)
    rate = tried[settings]
    wide = hypot(rate.half_width, plain.half_width)
    known = max(rate.half_width, plain.half_width) <= study.within / sqrt(2) * (1 + 1e-9)
    return {
        f"gain_{pattern}": rate.GBps / plain.GBps if known and plain.GBps > 0 else nan,
        f"gain_{pattern}_half_width_pct": 100 * wide,
        f"settings_{pattern}": " ".join(filter(None, (settings.mapping, settings.policy))) or "default",
        f"mapping_changed_{pattern}": settings != best,
    }, settings


def _tail(base: ChannelCase, study: Study, settings: Settings) -> dict[str, Any]:
    """99th percentile of random reads at the offered load, plain and under the scheme; whether it is sustained."""
    interval_ns = LINE_BYTES / (study.memory.peak_GBps * base.load_pct_peak / 100)
    plain = _at(base, study, _best(study, "random")).plain("random", interval_ns)
    run = plain if _is_plain(study) else _at(base, _thinned(study), settings).compressed("random", interval_ns)
    return {
        "load_pct_peak": base.load_pct_peak,
        "p99_ns": results.Latency.of(run.read_latency_ns).p99_ns,
        "plain_p99_ns": results.Latency.of(plain.read_latency_ns).p99_ns,
        "load_sustained": run.bandwidth_GBps >= 0.95 * LINE_BYTES / interval_ns,
    }


def verdict(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Which scheme keeps random lines, and at what capacity: one sentence for each memory and kind of data."""
    said = []
    for memory, data in dict.fromkeys((row["memory"], row["data"]) for row in rows):
        mine = [
            r for r in rows if (r["memory"], r["data"]) == (memory, data) and r["gain_random"] == r["gain_random"]
        ]
        if not mine:
            continue
        keeps = [r for r in mine if r["gain_random"] >= KEEPS]
        most = max(mine, key=lambda r: r["capacity"])
        beyond = [r for r in keeps if r["capacity"] > 1.005]
        where = f"{memory}, {data}: "
        if beyond:
            top = max(beyond, key=lambda r: r["capacity"])
            said.append(
                f"{where}{top['scheme']} keeps {top['gain_random']:.2f} of plain's random bandwidth at capacity "
                f"{top['capacity']:.3f}, {most['capacity'] - top['capacity']:.3f} below the most ({most['scheme']} "
                f"{most['capacity']:.3f}, which keeps {most['gain_random']:.2f})"
            )
            continue
        near = max((r for r in mine if r["capacity"] > 1.005), key=lambda r: r["gain_random"], default=None)
        nearest = f"; nearest {near['scheme']}: {near['gain_random']:.2f} at {near['capacity']:.3f}" if near else ""
        said.append(f"{where}no scheme keeps {KEEPS:g} of plain's random bandwidth with any capacity{nearest}")
    return said
