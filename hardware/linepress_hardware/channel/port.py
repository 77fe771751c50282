"""The whole channel as its master sees it: AXI5 transactions in, responses with times, RESP and poison out.

What goes wrong is answered as the protocol and the RAS policy say, and logged: a forbidden burst, an address parity
error, a write into read-only memory or past the capacity end in SLVERR without touching memory; an address outside
the memory in DECERR; uncorrected data in poison with OKAY (or SLVERR by policy); uncorrected metadata in SLVERR and a
critical error. Poison in any granule of a write poisons its whole line, since the line is coded as one; so does bad
data parity on W. A poisoned line stays so until a whole clean line or WriteZero replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel.axi import Op, Parity, Transactions, check, split
from linepress_hardware.channel.compaction import CompressedStore
from linepress_hardware.channel.config import LINE_BYTES, ChannelConfig
from linepress_hardware.channel.faults import OUTCOMES
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.plan import (
    DATA_READ,
    REFUSED_CAPACITY,
    REFUSED_READ_ONLY,
    REFUSED_UNMAPPED,
    RMW_READ,
    RequestPlan,
)
from linepress_hardware.channel.ras import ErrorLog, RasPolicy, Response, Severity, Source
from linepress_hardware.channel.simulate import ChannelRun, Timing, run
from linepress_hardware.channel.translation import StaticLayout, expand_static
from linepress_hardware.channel.workloads import LineStream
from linepress_hardware.errors import ConfigurationError


@dataclass(frozen=True)
class BadMemory:
    """Damaged code words as a fault campaign found them.

    Attributes
    ----------
    address_bytes : int64[w]
        First byte of each damaged data word, ascending.
    word_bytes : int
        Data bytes of a code word.
    outcome : int8[w]
        Index into `linepress_hardware.channel.faults.OUTCOMES`.
    syndrome : uint32[w]
    metadata_entries : int64[e]
        Metadata entries that are lost, ascending.
    """

    address_bytes: NDArray[np.int64]
    word_bytes: int
    outcome: NDArray[np.int8]
    syndrome: NDArray[np.uint32]
    metadata_entries: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        n = self.address_bytes.shape
        if self.outcome.shape != n or self.syndrome.shape != n:
            raise ConfigurationError("every damaged word needs an outcome and a syndrome")
        for values in (self.address_bytes, self.metadata_entries):
            if values.size and bool((np.diff(values) < 0).any()):
                raise ConfigurationError("damaged words and metadata entries must be in ascending order")

    def worst_in(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
        """For byte ranges [low, high): worst outcome (-1 none) and the index of a word with it, int8[n], int64[n]."""
        begin = np.searchsorted(self.address_bytes, low - self.word_bytes + 1)
        end = np.searchsorted(self.address_bytes, high)
        worst = np.full(low.shape[0], -1, np.int8)
        which = np.full(low.shape[0], -1, np.int64)
        for i in np.flatnonzero((end > begin) & (high > low)):
            words = np.arange(begin[i], end[i])
            # Detected needs action; silent and miscorrected words go out as if they were right.
            rank = np.array([1, 3, 2, 2])[self.outcome[words]]
            which[i] = words[int(np.argmax(rank))]
            worst[i] = self.outcome[which[i]]
        return worst, which


@dataclass(frozen=True)
class Responses:
    """Answers, one a transaction.

    Attributes
    ----------
    resp : int8[n]
        `Response` on R or B (the worst of its beats).
    poison : bool[n]
        RPOISON set on the data returned.
    wrong : bool[n]
        Data that is wrong and not marked: miscorrected or silent errors, known to the model alone.
    first_ns, done_ns : float64[n]
        End of the first line's beats and of the last (B of a write); arrival plus one clock where refused.
    problem : int8[n]
        Index into `linepress_hardware.channel.axi.PROBLEMS`.
    run : ChannelRun
        The line accesses behind.
    """

    resp: NDArray[np.int8]
    poison: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    first_ns: NDArray[np.float64]
    done_ns: NDArray[np.float64]
    problem: NDArray[np.int8]
    run: ChannelRun

    def count(self, response: Response) -> int:
        return int((self.resp == response).sum())


@dataclass
class AxiPort:
    """A channel behind an AXI5 port. State that outlives a call: the store, the poisoned lines, the error log.

    Attributes
    ----------
    memory : Memory
    backing : StaticLayout | CompressedStore
        Read-only or plain layout, or a store compressed inline.
    config : ChannelConfig
    write_length : int32[t]
        Coded bytes of the lines that writes bring, taken by line number modulo t.
    policy : RasPolicy
    """

    memory: Memory
    backing: StaticLayout | CompressedStore
    config: ChannelConfig
    write_length: NDArray[np.int32] = field(default_factory=lambda: np.full(1, LINE_BYTES, np.int32))
    policy: RasPolicy = field(default_factory=RasPolicy)
    log: ErrorLog = field(init=False)
    poisoned: set[int] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        if isinstance(self.backing, StaticLayout) and self.backing.rest_bytes is not None:
            raise ConfigurationError(
                "the port follows damage in lines of one piece only; use a packing other than spill"
            )
        self.log = ErrorLog(self.config.error_log_records)

    @property
    def timing(self) -> Timing:
        """The plain channel's where lines lie raw in place and no metadata is kept."""
        backing = self.backing
        if isinstance(backing, StaticLayout):
            metadata = backing.entry_bytes(self.config) > 0
            if not metadata and bool((backing.length_bytes == self.config.line_bytes).all()):
                return Timing.plain(self.config)
            return Timing.compressed(self.config, metadata=metadata)
        return Timing.compressed(self.config)

    def submit(self, t: Transactions, bad: BadMemory | None = None) -> Responses:
        """Answer every transaction; ``bad`` is the damage in the memory while they run."""
        n = len(t)
        problem = check(t, self.config)
        lost_address = t.parity == Parity.BAD_ADDRESS
        legal = (problem == 0) & ~lost_address
        a = split(t, legal, self.config.line_bytes)
        stream = LineStream(
            a.line,
            a.is_write,
            a.partial,
            a.zero,
            t.id[a.owner].astype(np.int32),
            t.arrival_ns[a.owner],
        )
        plan = self._translate(stream)
        done = run(stream, plan, self.memory, self.config, self.timing, beats=a.beats)
        resp = np.zeros(n, np.int8)
        poison = np.zeros(n, np.bool_)
        wrong = np.zeros(n, np.bool_)
        for i in np.flatnonzero(~legal):
            resp[i] = Response.SLVERR
            source = Source.PARITY if lost_address[i] else Source.PROTOCOL
            self.log.log(int(t.address[i]), int(problem[i]), Severity.UNCORRECTED, source)
        self._refusals(a.owner, stream, plan, resp)
        if bad is not None:
            self._damage(a.owner, stream, plan, bad, resp, poison, wrong)
        self._poison(t, a.owner, stream, plan, resp, poison)
        first = t.arrival_ns + self.config.axi_clock_ns
        last = first.copy()
        if a.owner.size:
            earliest = np.full(n, np.inf)
            np.minimum.at(earliest, a.owner, done.done_ns)
            first = np.where(np.isfinite(earliest), earliest, first)
            np.maximum.at(last, a.owner, done.done_ns)
        return Responses(resp, poison, wrong, first, last, problem, done)

    def _translate(self, stream: LineStream) -> RequestPlan:
        if isinstance(self.backing, CompressedStore):
            length = self.write_length[np.maximum(stream.line, 0) % self.write_length.shape[0]]
            return self.backing.expand(stream, length)
        return expand_static(stream, self.backing, atom_bytes=self.memory.atom_bytes, config=self.config)

    def _refusals(
        self, owner: NDArray[np.int64], stream: LineStream, plan: RequestPlan, resp: NDArray[np.int8]
    ) -> None:
        for k in np.flatnonzero(plan.failed):
            i, reason = int(owner[k]), int(plan.failed[k])
            if reason == REFUSED_UNMAPPED:
                resp[i] = max(int(resp[i]), int(Response.DECERR))
                continue
            resp[i] = max(int(resp[i]), int(Response.SLVERR))
            source = Source.CAPACITY if reason == REFUSED_CAPACITY else Source.PROTOCOL
            if reason in (REFUSED_CAPACITY, REFUSED_READ_ONLY):
                self.log.log(int(stream.line[k]) * self.config.line_bytes, 0, Severity.UNCORRECTED, source)

    def _damage(
        self,
        owner: NDArray[np.int64],
        stream: LineStream,
        plan: RequestPlan,
        bad: BadMemory,
        resp: NDArray[np.int8],
        poison: NDArray[np.bool_],
        wrong: NDArray[np.bool_],
    ) -> None:
        low, high = self._places(stream, plan)
        worst, which = bad.worst_in(low, high)
        entry = self._entry_of(stream.line)
        lost = np.isin(entry, bad.metadata_entries) & (entry >= 0) & (plan.failed == 0)
        for k in np.flatnonzero((worst >= 0) | lost):
            i, line = int(owner[k]), int(stream.line[k])
            if lost[k]:
                response, _, severity = self.policy.on_metadata_error()
                resp[i] = max(int(resp[i]), int(response))
                self.log.log(line * self.config.line_bytes, 0, severity, Source.METADATA)
                continue
            if plan.failed[k]:
                continue
            outcome = OUTCOMES[worst[k]]
            address, syndrome = int(bad.address_bytes[which[k]]), int(bad.syndrome[which[k]])
            if outcome in ("miscorrected", "silent"):
                wrong[i] = True
            if outcome in ("corrected", "miscorrected"):
                self.log.log(address, syndrome, Severity.CORRECTED, Source.DATA)
            elif outcome == "detected":
                if stream.is_write[k]:
                    # The old code cannot be merged: what is written back is marked.
                    self.poisoned.add(line)
                    self.log.log(address, syndrome, Severity.DEFERRED, Source.DATA)
                    continue
                response, marked, severity = self.policy.on_data_error()
                resp[i] = max(int(resp[i]), int(response))
                poison[i] |= marked
                self.log.log(address, syndrome, severity, Source.DATA)

    def _places(self, stream: LineStream, plan: RequestPlan) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Physical byte range [low, high) whose code words each access decodes; empty where it reads nothing.

        Exact for a static layout. For a store it is the range of atoms read (own or shared), since its lines move.
        """
        n = len(stream)
        if isinstance(self.backing, StaticLayout):
            layout = self.backing
            tile = layout.start_bytes.shape[0]
            line = np.maximum(stream.line, 0)
            low = line // tile * layout.tile_stride_bytes(self.memory.atom_bytes) + layout.start_bytes[line % tile]
            high = low + layout.length_bytes[line % tile]
            reads = (plan.failed == 0) & (~stream.is_write | stream.partial)
            return low, np.where(reads, high, low)
        low = np.full(n, np.iinfo(np.int64).max)
        high = np.zeros(n, np.int64)
        data = np.flatnonzero(np.isin(plan.kind, (DATA_READ, RMW_READ)))
        begin = plan.address_bytes.astype(np.int64)
        np.minimum.at(low, plan.access[data], begin[data])
        np.maximum.at(high, plan.access[data], (begin + plan.size_bytes)[data])
        for column in (plan.shared[:, 0], plan.shared[:, 1]):
            has = np.flatnonzero(column >= 0)
            low[has] = np.minimum(low[has], begin[column[has]])
            high[has] = np.maximum(high[has], (begin + plan.size_bytes)[column[has]])
        return np.minimum(low, high), high

    def _entry_of(self, line: NDArray[np.int64]) -> NDArray[np.int64]:
        """Metadata entry of each line, -1 without metadata."""
        if isinstance(self.backing, CompressedStore):
            return line // (self.config.page_bytes // self.config.line_bytes)
        if self.backing.entry_bytes(self.config) == 0:
            return np.full(line.shape[0], -1, np.int64)
        return line // (self.backing.lines_per_page * self.backing.pages_per_entry(self.config))

    def _poison(
        self,
        t: Transactions,
        owner: NDArray[np.int64],
        stream: LineStream,
        plan: RequestPlan,
        resp: NDArray[np.int8],
        poison: NDArray[np.bool_],
    ) -> None:
        brings = (t.poison | (t.parity == Parity.BAD_DATA)) & (t.op != Op.READ)
        marked = brings[owner] & stream.is_write
        touched = set(stream.line[marked].tolist()) | self.poisoned
        if not touched:
            return
        for k in np.flatnonzero(np.isin(stream.line, np.fromiter(touched, np.int64, len(touched)))):
            if plan.failed[k]:
                continue
            line, i = int(stream.line[k]), int(owner[k])
            if stream.is_write[k]:
                if marked[k]:
                    self.poisoned.add(line)
                    if t.parity[i] == Parity.BAD_DATA:
                        self.log.log(line * self.config.line_bytes, 0, Severity.DEFERRED, Source.PARITY)
                elif not stream.partial[k]:
                    self.poisoned.discard(line)
            elif line in self.poisoned:
                response, mark, _ = self.policy.on_data_error()
                resp[i] = max(int(resp[i]), int(response))
                poison[i] |= mark
