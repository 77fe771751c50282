"""One codec in one memory: bandwidth, latency and energy that its line sizes give, beside closed forms.

The plain channel runs the same accesses through the same port on the same memory; its runs are cached, since many
codecs share them.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel import closed_form, workloads
from linepress_hardware.channel.compaction import CompressedStore
from linepress_hardware.channel.config import LINE_BYTES, ChannelConfig, default_config
from linepress_hardware.channel.converge import WITHIN, Rate, Steady, settle
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.plan import RequestPlan
from linepress_hardware.channel.simulate import ChannelRun, Timing, run
from linepress_hardware.channel.translation import StaticLayout, expand_static, plain_layout
from linepress_hardware.channel.workloads import DecodeShape, LineStream
from linepress_hardware.errors import ConfigurationError

WORKLOADS = ("sequential", "random", "mixed", "decode", "kv-gather")
RUN_BYTES = 4096
"""A run of neighbouring lines: an operating system's page, or 16 tokens × 128 channels × 2 B of one head's keys."""


def decode_shape(line_bytes: int) -> DecodeShape:
    """Llama-3.1-8B, batch 16, context 8,192: the shape of the ``decode`` workload."""
    return DecodeShape.of_model(
        layers=32,
        hidden=4096,
        intermediate=14336,
        kv_heads=8,
        heads=32,
        head_dim=128,
        batch=16,
        context=8192,
        line_bytes=line_bytes,
    )


@dataclass(frozen=True)
class InlineSpec:
    """A store compressed both ways: class sizes (the last one a raw line's) and, for slots, the slot size."""

    classes: tuple[int, ...]
    fixed_slot: int = 0
    rule_bytes: int = 0
    """Atom of the packing's placement rule; 0: the memory's."""


@dataclass(frozen=True)
class Subject:
    """What is held against the plain channel.

    Attributes
    ----------
    layout : StaticLayout
        Placement of the lines; also gives the sizes that an inline store starts from.
    coded_bytes : int32[t]
        Coded bytes of the lines of a tile before a packing rounds them; writes draw from these.
    inline : InlineSpec | None
        None: compressed offline, read-only.
    """

    layout: StaticLayout
    coded_bytes: NDArray[np.int32]
    inline: InlineSpec | None = None

    @property
    def mode(self) -> str:
        return "offline" if self.inline is None else "inline"


def footprint_lines(memory: Memory, config: ChannelConfig) -> int:
    """Lines that random accesses range over: the configured footprint, at most half of the part, whole pages."""
    raw = min(config.footprint_bytes, memory.capacity_bytes // 2)
    lines = raw // config.page_bytes * (config.page_bytes // config.line_bytes)
    if lines <= 0:
        raise ConfigurationError(f"{memory.name} of {memory.capacity_bytes} B a channel is too small for a page")
    return lines


def accesses(pattern: str, n: int, lines: int, config: ChannelConfig, *, seed: int, inline: bool) -> LineStream:
    """The accesses of a named workload; writes only where the memory is compressed inline."""
    ids = config.axi_ids
    writes = config.write_share if inline else 0.0
    run = RUN_BYTES // config.line_bytes
    if pattern == "sequential":
        return workloads.sequential(n, lines, seed=seed, page_lines=run, ids=ids).in_bursts(config.burst_lines, ids)
    if pattern == "random":
        return workloads.random(n, lines, seed=seed, ids=ids)
    if pattern == "mixed":
        return workloads.mixed(
            n, lines, seed=seed, random_share=config.random_share, write_share=writes, run_lines=run, ids=ids
        )
    if pattern == "kv-gather":
        return workloads.kv_gather(n, lines, seed=seed, block_lines=run, ids=ids).in_bursts(config.burst_lines, ids)
    if pattern == "decode":
        shape = decode_shape(config.line_bytes)
        shape = shape if inline else replace(shape, append_lines=0)
        return workloads.decode(n, lines, shape, seed=seed, ids=ids).in_bursts(config.burst_lines, ids)
    raise ConfigurationError(f"unknown workload {pattern!r}: known are {', '.join(WORKLOADS)}")


PLAIN_FIELDS = (
    "line_bytes",
    "axi_data_bits",
    "axi_clock_GHz",
    "axi_outstanding",
    "burst_lines",
    "axi_ids",
    "axi_ports",
    "engine_clock_GHz",
    "ecc_decode_cycles",
    "page_bytes",
    "footprint_bytes",
    "write_share",
    "random_share",
)


def plain_config(config: ChannelConfig) -> ChannelConfig:
    """The parameters that the plain channel depends on; all others at their defaults, so that runs are shared."""
    names = PLAIN_FIELDS if config.line_bytes >= LINE_BYTES else (*PLAIN_FIELDS, "line_buffer_lines")
    return replace(default_config(), **{name: getattr(config, name) for name in names})


@lru_cache(maxsize=16)
def plain_run(
    memory_name: str,
    mapping: str | None,
    policy: str | None,
    config: ChannelConfig,
    pattern: str,
    n: int,
    seed: int,
    inline: bool,
    interval_ns: float | None,
) -> ChannelRun:
    """The plain channel under a workload; saturated (closed loop) where ``interval_ns`` is None."""
    return _plain_run(Memory.load(memory_name, mapping, policy), config, pattern, n, seed, inline, interval_ns)


def _plain_run(
    memory: Memory,
    config: ChannelConfig,
    pattern: str,
    n: int,
    seed: int,
    inline: bool,
    interval_ns: float | None,
) -> ChannelRun:
    lines = footprint_lines(memory, config)
    stream = accesses(pattern, n, lines, config, seed=seed, inline=inline)
    if interval_ns is not None:
        stream = stream.at_interval(interval_ns)
    return run(stream, _plain_plan(stream, memory, lines, config), memory, config, Timing.plain(config))


def _plain_plan(stream: LineStream, memory: Memory, lines: int, config: ChannelConfig) -> RequestPlan:
    layout = plain_layout(lines, config.line_bytes)
    return expand_static(stream, layout, atom_bytes=memory.atom_bytes, config=config)


@lru_cache(maxsize=256)
def _plain_rate(
    memory_name: str,
    mapping: str | None,
    policy: str | None,
    config: ChannelConfig,
    pattern: str,
    least: int,
    seed: int,
    inline: bool,
    within: float,
) -> Steady:
    memory = Memory.load(memory_name, mapping, policy)
    run, rate = settle(
        lambda n: _plain_run(memory, config, pattern, n, seed, inline, None), memory.period_ns, least, within=within
    )
    return Steady.of(run, rate)


@dataclass(frozen=True)
class Study:
    """Runs one subject against the plain channel on one memory.

    Attributes
    ----------
    memory : Memory
    config : ChannelConfig
        Latencies of the codec included (``decode_latency_ns`` and so on).
    subject : Subject
    n : int
        Accesses of a run at a given load, and the least of a saturated one, which goes on until its rate converges
        (`converge.settle`).
    seed : int
    within : float
        Largest relative half-width of a gain; saturated runs go on until it is reached.
    """

    memory: Memory
    config: ChannelConfig
    subject: Subject
    n: int
    seed: int
    within: float = WITHIN

    def __post_init__(self) -> None:
        if self.n < 100:
            raise ConfigurationError(f"n_requests = {self.n} is too few for a percentile; give at least 100")
        if not 0 < self.within < 1:
            raise ConfigurationError(f"within = {self.within:g} must lie between 0 and 1, as in 0.01 for one percent")

    @property
    def lines(self) -> int:
        return footprint_lines(self.memory, self.config)

    @property
    def inline(self) -> bool:
        return self.subject.inline is not None

    def plain(self, pattern: str, interval_ns: float | None = None, n: int | None = None) -> ChannelRun:
        """The same accesses on the plain channel."""
        m = self.memory
        return plain_run(
            m.name,
            m.mapping,
            m.policy,
            plain_config(self.config),
            pattern,
            n or self.n,
            self.seed,
            self.inline,
            interval_ns,
        )

    def compressed(self, pattern: str, interval_ns: float | None = None, n: int | None = None) -> ChannelRun:
        """The subject under a workload; saturated (closed loop) where ``interval_ns`` is None."""
        n = n or self.n
        stream = accesses(pattern, n, self.lines, self.config, seed=self.seed, inline=self.inline)
        if interval_ns is not None:
            stream = stream.at_interval(interval_ns)
        return self.over(stream, None if pattern == "sequential" else self.long_past())

    def long_past(self) -> LineStream:
        """Accesses that leave the metadata cache as a long run of random ones would: eight look-ups an entry."""
        entries = self.config.metadata_cache_bytes // self.config.metadata_entry_bytes
        pages = -(-self.lines * self.config.line_bytes // self.config.page_bytes)
        n = max(1, min(8 * min(entries, pages), 2_000_000))
        return workloads.random(n, self.lines, seed=self.seed + 1)

    def compressed_rate(self, pattern: str) -> tuple[ChannelRun, Rate]:
        """The last and longest saturated run of the subject, and its rate."""
        return settle(lambda n: self.compressed(pattern, n=n), self.memory.period_ns, self.n, within=self.within)

    def plain_rate(self, pattern: str) -> Steady:
        """The rate of the plain channel, and what its last run moved."""
        m = self.memory
        return _plain_rate(
            m.name,
            m.mapping,
            m.policy,
            plain_config(self.config),
            pattern,
            self.n,
            self.seed,
            self.inline,
            self.within,
        )

    def over(self, stream: LineStream, past: LineStream | None = None) -> ChannelRun:
        """The subject under any stream, for instance a trace; ``past`` accesses have warmed the metadata cache."""
        plan = self._plan(stream, past)
        return run(stream, plan, self.memory, self.config, self.timing())

    def plain_over(self, stream: LineStream) -> ChannelRun:
        """The plain channel under any stream."""
        return run(stream, self.plain_plan(stream), self.memory, self.config, Timing.plain(self.config))

    def plain_plan(self, stream: LineStream) -> RequestPlan:
        """Memory requests of any stream on the plain channel."""
        return _plain_plan(stream, self.memory, self.lines, self.config)

    def timing(self) -> Timing:
        """Latencies of the engine; compression off (raw lines in place, no metadata) is the plain channel's."""
        atoms, _ = self.metadata_unit()
        if not self.inline and self.subject.layout.plain:
            return Timing.plain(self.config)
        return Timing.compressed(self.config, metadata=atoms > 0)

    def _plan(self, stream: LineStream, past: LineStream | None) -> RequestPlan:
        if self.subject.inline is None:
            return expand_static(
                stream,
                replace(self.subject.layout, lines=self.lines),
                atom_bytes=self.memory.atom_bytes,
                config=self.config,
                before=past,
            )
        store = self.store()
        if past is not None:
            store.warm(past)
        return store.expand(stream, self.write_lengths(len(stream)))

    def store(self) -> CompressedStore:
        """A fresh populated store with room for every line raw: bandwidth is measured without capacity pressure."""
        return deepcopy(self._populated)

    @cached_property
    def _populated(self) -> CompressedStore:
        inline = self.subject.inline
        if inline is None:
            raise ConfigurationError("this subject is compressed offline and has no store; give it an InlineSpec")
        tile = self.subject.coded_bytes
        length = tile[np.arange(self.lines) % tile.shape[0]]
        return CompressedStore(
            length,
            inline.classes,
            self.lines * self.config.line_bytes,
            self.config,
            self.memory.atom_bytes,
            inline.fixed_slot,
            rule_bytes=inline.rule_bytes,
        )

    def write_lengths(self, n: int) -> NDArray[np.int32]:
        """Coded bytes that each of n accesses would write, drawn from the tile."""
        rng = np.random.Generator(np.random.PCG64(self.seed + 2))
        return self.subject.coded_bytes[rng.integers(0, self.subject.coded_bytes.shape[0], n)]

    def delivery_limit(self) -> float:
        """GB/s that decoders and R channels can deliver."""
        line_bytes, interval = self.config.line_bytes, self.config.decode_interval_ns
        port = line_bytes / self.config.line_interval_ns
        return min(port, self.config.decoder_count * line_bytes / interval) if interval > 0 else port

    def closed_form(
        self, packed_bytes_per_line: float, plain_sequential_GBps: float, plain_random_GBps: float
    ) -> closed_form.Gains:
        """Closed-form gains; the plain channel's simulated bandwidths enter through ceiling and mixture."""
        config, atom = self.config, self.memory.atom_bytes
        start, length = self.places()
        t = start.shape[0]
        alone = self.atoms_alone()
        parts = ((start, length),) if self.inline else self.subject.layout.extents()
        at, run_length = (np.concatenate(column) for column in zip(*parts, strict=True))
        pointer = self.pointer_share()
        entry_atoms, lines_per_entry = self.metadata_unit()
        needed = 1.0 if self.inline else self.subject.layout.metadata_share
        metadata_rows = needed * max(1.0, entry_atoms * atom / self.memory.run_bytes) if entry_atoms else 0.0
        entry_atoms *= needed
        whole = (start % atom == 0) & (length % atom == 0)
        write_atoms = float((alone * np.where(whole, 1, 2)).mean()) if self.inline else 0.0
        hit = self.closed_form_hit_rate()
        return closed_form.gains(
            line_bytes=config.line_bytes,
            atom_bytes=atom,
            sequential_atoms_per_line=closed_form.atoms_sequential(at, run_length, atom) / t + pointer,
            random_atoms_per_line=float(alone.mean()) + pointer,
            metadata_atoms_per_page=entry_atoms,
            lines_per_page=lines_per_entry,
            metadata_hit_rate=hit,
            packed_bytes_per_line=packed_bytes_per_line,
            plain_sequential_GBps=plain_sequential_GBps,
            plain_random_GBps=plain_random_GBps,
            ceiling_GBps=self.delivery_limit(),
            port_GBps=config.line_bytes / config.line_interval_ns,
            peak_GBps=self.memory.peak_GBps,
            random_share=config.random_share,
            write_share=config.write_share if self.inline else 0.0,
            write_atoms_per_line=write_atoms + (1 - hit) * entry_atoms,
            random_rows_per_line=float(self._touched(self.memory.run_bytes).mean()) + pointer,
            metadata_rows_per_page=metadata_rows,
            plain_rows_per_line=max(1.0, config.line_bytes / self.memory.run_bytes),
            row_ns=self.memory.row_ns,
        )

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Start and length of the lines of one tile as this subject lays them out."""
        layout = self.subject.layout
        if not self.inline:
            return layout.start_bytes, layout.length_bytes
        per_page = self.config.page_bytes // self.config.line_bytes
        return self._populated.placement(max(1, layout.start_bytes.shape[0] // per_page))

    def atoms_alone(self) -> NDArray[np.int64]:
        """Atoms that each line of one tile touches when it is read alone, int64[t]."""
        return self._touched(self.memory.atom_bytes)

    def _touched(self, unit_bytes: int) -> NDArray[np.int64]:
        """Aligned units of ``unit_bytes`` that each line of one tile touches alone, int64[t]."""
        parts = (self.places(),) if self.inline else self.subject.layout.extents()
        touched = [closed_form.atoms_of_places(start, n, unit_bytes) for start, n in parts]
        out: NDArray[np.int64] = np.sum(touched, axis=0)
        return out

    def pointer_share(self) -> float:
        """Share of lines found only after reading their slot; an inline store keeps pointers in its metadata."""
        pointer = self.subject.layout.pointer_bytes
        return 0.0 if pointer is None or self.inline else float((pointer >= 0).mean())

    def metadata_unit(self) -> tuple[float, int]:
        """Atoms of one metadata fetch, and the lines it tells about."""
        config, layout, atom = self.config, self.subject.layout, self.memory.atom_bytes
        if self.inline:
            return -(-config.metadata_entry_bytes // atom), config.page_bytes // config.line_bytes
        entry = layout.entry_bytes(config)
        return -(-entry // atom), layout.lines_per_page * layout.pages_per_entry(config)

    def closed_form_hit_rate(self) -> float:
        """Share of the footprint that the metadata cache reaches."""
        atoms, lines_per_entry = self.metadata_unit()
        if not atoms:
            return 1.0
        entry = max(
            self.config.metadata_entry_bytes, 0 if self.inline else self.subject.layout.entry_bytes(self.config)
        )
        return closed_form.metadata_hit_rate_random(
            self.config.metadata_cache_bytes,
            entry,
            lines_per_entry * self.config.line_bytes,
            self.lines * self.config.line_bytes,
        )

    @property
    def idle_interval_ns(self) -> float:
        """Time between accesses of an idle channel: at most 2 % of the pin peak, and one access at a time."""
        return max(self.config.line_bytes / (0.02 * self.memory.peak_GBps), 4 * self.memory.idle_read_ns)

    def closed_form_latency_added_ns(self) -> float:
        """Latency added to an idle random read: look-up, misses at a lone read, decode, straddled atoms."""
        config, memory = self.config, self.memory
        length = self.places()[1]
        coded = (length > 0) & ((length < config.line_bytes) | (not config.bypass_raw))
        atoms, _ = self.metadata_unit()
        hit = self.closed_form_hit_rate() if atoms else 1.0
        pointer = self.pointer_share()
        opens = (2.0 - hit + pointer) / self.idle_interval_ns
        then_ns = config.ecc_decode_ns + config.metadata_hit_ns
        alone = float(self.atoms_alone().mean())
        added = closed_form.latency_added_ns(
            decode_ns=config.decode_latency_ns * float(coded.mean()),
            ecc_ns=0.0,
            metadata_hit_ns=config.metadata_hit_ns if atoms else 0.0,
            metadata_hit_rate=hit,
            idle_read_ns=memory.lone_read_ns(atoms, opens) + then_ns,
        )
        further = (alone - max(1.0, config.line_bytes / memory.atom_bytes)) * memory.column_ns
        return added + further + pointer * (memory.lone_read_ns(1.0, opens) + then_ns)
