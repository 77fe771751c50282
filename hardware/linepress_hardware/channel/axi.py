"""The AXI5 port's transactions: fields, protocol checks, and how bursts become line accesses.

Rules from Arm IHI 0022 (AXI5) as listed by public protocol checkers (AMD PG101, Intel AXI4 BFM): a burst is INCR of 1
to 256 beats, FIXED of 1 to 16, or WRAP of 2, 4, 8 or 16 and aligned to its beat; none crosses a 4 KiB boundary; a
beat is a power of two of bytes, at most the data width. Atomics move 1, 2, 4 or 8 bytes (compare: 2 to 32), aligned.
Exclusive accesses are answered OKAY, which tells the master that the exclusive did not succeed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel.config import ChannelConfig
from linepress_hardware.errors import ConfigurationError, HardwareError

BOUNDARY_BYTES = 4096
POISON_GRANULE_BITS = 64


class AxiProtocolError(HardwareError):
    """A transaction that the protocol forbids; raised by `check` in strict use."""


class Op(IntEnum):
    """What a transaction asks for."""

    READ = 0
    WRITE = 1
    WRITE_ZERO = 2
    ATOMIC_STORE = 3
    ATOMIC_LOAD = 4
    ATOMIC_SWAP = 5
    ATOMIC_COMPARE = 6


class Burst(IntEnum):
    """AxBURST."""

    FIXED = 0
    INCR = 1
    WRAP = 2


class Parity(IntEnum):
    """What a parity check of the transaction found (Odd_Parity_Byte_Data and _All)."""

    GOOD = 0
    BAD_DATA = 1
    BAD_ADDRESS = 2


PROBLEMS = (
    "",
    "crosses a 4 KiB boundary",
    "has a beat that is not a power of two of bytes within the data width",
    "has a number of beats its burst type does not allow",
    "is a WRAP burst not aligned to its beat",
    "is an atomic of a size or alignment that atomics do not have",
    "has an ID outside the port's range",
    "is a WriteZero or atomic with more than its one burst of whole data",
)


@dataclass(frozen=True)
class Transactions:
    """A stream of transactions, one array entry each, in the order of their address handshakes.

    Attributes
    ----------
    op : int8[n]
        `Op`.
    address : uint64[n]
        AxADDR, bytes.
    beats : int32[n]
        AxLEN + 1.
    beat_bytes : int32[n]
        1 << AxSIZE.
    burst : int8[n]
        `Burst`.
    id : int32[n]
        AxID.
    arrival_ns : float64[n]
        When AxVALID is offered, non-decreasing.
    full_strobe : bool[n]
        All WSTRB bits of the burst are set (ignored for reads).
    poison : bool[n]
        WPOISON set in any granule.
    parity : int8[n]
        `Parity` as checked at the port.
    exclusive : bool[n]
        AxLOCK.
    """

    op: NDArray[np.int8]
    address: NDArray[np.uint64]
    beats: NDArray[np.int32]
    beat_bytes: NDArray[np.int32]
    burst: NDArray[np.int8]
    id: NDArray[np.int32]
    arrival_ns: NDArray[np.float64]
    full_strobe: NDArray[np.bool_]
    poison: NDArray[np.bool_]
    parity: NDArray[np.int8]
    exclusive: NDArray[np.bool_]

    def __len__(self) -> int:
        return int(self.op.shape[0])

    def __post_init__(self) -> None:
        n = self.op.shape[0]
        for f in fields(self):
            if getattr(self, f.name).shape != (n,):
                raise ConfigurationError(f"transactions: {f.name} must have one entry a transaction, {n}")
        if n and (np.diff(self.arrival_ns) < 0).any():
            raise ConfigurationError("transactions must be in the order of their arrival; sort by arrival_ns first")

    @property
    def is_atomic(self) -> NDArray[np.bool_]:
        atomic: NDArray[np.bool_] = self.op >= Op.ATOMIC_STORE
        return atomic

    @property
    def returns_data(self) -> NDArray[np.bool_]:
        """Reads, and the atomics that answer on R as well as on B."""
        answers: NDArray[np.bool_] = (self.op == Op.READ) | (self.op >= Op.ATOMIC_LOAD)
        return answers

    @classmethod
    def of(cls, rows: list[dict[str, Any]], config: ChannelConfig) -> Transactions:
        """From dictionaries with the field names; missing fields take whole-line, full-width defaults."""
        width = config.axi_beat_bytes
        n = len(rows)

        def column(name: str, default: Any, dtype: Any) -> NDArray[Any]:
            return np.array([row.get(name, default) for row in rows], dtype=dtype).reshape(n)

        known = {f.name for f in fields(cls)}
        for row in rows:
            odd = set(row) - known
            if odd:
                raise ConfigurationError(
                    f"a transaction has no field {sorted(odd)[0]!r}: known are {', '.join(sorted(known))}"
                )
        beat_bytes = column("beat_bytes", width, np.int32)
        beats = np.array(
            [row.get("beats", max(1, config.line_bytes // int(b))) for row, b in zip(rows, beat_bytes, strict=True)],
            np.int32,
        ).reshape(n)
        return cls(
            column("op", Op.READ, np.int8),
            column("address", 0, np.uint64),
            beats,
            beat_bytes,
            column("burst", Burst.INCR, np.int8),
            column("id", 0, np.int32),
            column("arrival_ns", 0.0, np.float64),
            column("full_strobe", True, np.bool_),
            column("poison", False, np.bool_),
            column("parity", Parity.GOOD, np.int8),
            column("exclusive", False, np.bool_),
        )


def check(t: Transactions, config: ChannelConfig, *, strict: bool = False) -> NDArray[np.int8]:
    """int8[n]: index into `PROBLEMS` of the first rule each transaction breaks, 0 for none.

    ``strict`` raises `AxiProtocolError` for the first offender, as an assertion in a test bench does.
    """
    width = config.axi_beat_bytes
    address = t.address.astype(np.int64)
    size = t.beat_bytes.astype(np.int64)
    beats = t.beats.astype(np.int64)
    problem = np.zeros(len(t), np.int8)

    def flag(bad: NDArray[np.bool_], index: int) -> None:
        problem[(problem == 0) & bad] = index

    power = (size > 0) & ((size & (size - 1)) == 0) & (size <= width)
    flag(~power, 2)
    safe = np.maximum(size, 1)
    wrap, fixed, incr = t.burst == Burst.WRAP, t.burst == Burst.FIXED, t.burst == Burst.INCR
    wrap_ok = np.isin(beats, (2, 4, 8, 16))
    flag(~(incr & (beats >= 1) & (beats <= 256) | fixed & (beats >= 1) & (beats <= 16) | wrap & wrap_ok), 3)
    flag(wrap & (address % safe != 0), 4)
    aligned = address // safe * safe
    span = np.where(fixed, size, size * beats)
    flag(~wrap & (aligned // BOUNDARY_BYTES != (aligned + np.maximum(span, 1) - 1) // BOUNDARY_BYTES), 1)
    atomic = t.is_atomic
    total = size * beats
    compare = t.op == Op.ATOMIC_COMPARE
    low, high = np.where(compare, 2, 1), np.where(compare, 32, 8)
    atomic_ok = (
        (total >= low) & (total <= high) & ((total & (total - 1)) == 0) & (address % np.maximum(total, 1) == 0)
    )
    flag(atomic & ~atomic_ok, 5)
    flag((t.id < 0) | (t.id >= config.axi_ids), 6)
    flag((t.op == Op.WRITE_ZERO) & ((address % config.line_bytes != 0) | (total % config.line_bytes != 0) | ~incr), 7)
    if strict and problem.any():
        i = int(np.flatnonzero(problem)[0])
        raise AxiProtocolError(
            f"transaction {i} ({Op(int(t.op[i])).name}, address {int(t.address[i]):#x}, {int(t.beats[i])} beats of "
            f"{int(t.beat_bytes[i])} B) {PROBLEMS[problem[i]]}; split or align it"
        )
    return problem


@dataclass(frozen=True)
class LineAccesses:
    """Line accesses of transactions, in the order of the transactions.

    Attributes
    ----------
    owner : int64[m]
        Transaction of each access.
    line : int64[m]
    is_write, partial, zero : bool[m]
        ``partial``: the write leaves bytes of its line as they are.
    beats : int32[m]
        Data beats of the access on R or W.
    """

    owner: NDArray[np.int64]
    line: NDArray[np.int64]
    is_write: NDArray[np.bool_]
    partial: NDArray[np.bool_]
    zero: NDArray[np.bool_]
    beats: NDArray[np.int32]


def split(t: Transactions, legal: NDArray[np.bool_], line_bytes: int) -> LineAccesses:
    """Lines that the legal transactions touch; an atomic is a read of its line and a write of the whole line after.

    Between the two the line is decompressed, modified and compressed again.
    """
    address = t.address.astype(np.int64)
    size = t.beat_bytes.astype(np.int64)
    beats = t.beats.astype(np.int64)
    total = size * beats
    fixed, wrap = t.burst == Burst.FIXED, t.burst == Burst.WRAP
    begin = np.where(wrap, address // np.maximum(total, 1) * total, address)
    end = np.where(
        fixed, address // size * size + size, np.where(wrap, begin + total, address // size * size + total)
    )
    first, last = begin // line_bytes, (end - 1) // line_bytes
    count = np.where(legal, last - first + 1, 0)
    owner = np.repeat(np.arange(len(t)), count)
    rank = np.arange(owner.shape[0]) - np.repeat(np.cumsum(count) - count, count)
    # A WRAP burst begins in the middle of its container and comes back to the start.
    offset = np.where(wrap, address // line_bytes - first, 0)
    line = first[owner] + (rank + offset[owner]) % np.maximum(count[owner], 1)
    low = np.maximum(line * line_bytes, begin[owner])
    high = np.minimum((line + 1) * line_bytes, end[owner])
    narrow = size[owner]
    in_line = -(-high // narrow) - low // narrow
    per_access = np.where(fixed[owner], beats[owner], np.maximum(in_line, 1)).astype(np.int32)
    write = (t.op != Op.READ)[owner]
    zero = (t.op == Op.WRITE_ZERO)[owner]
    partial = write & ~zero & ((high - low < line_bytes) | ~t.full_strobe[owner])
    atomic = t.is_atomic[owner]
    # WriteZero has no data beats; one clock of the address channel stands for it.
    per_access = np.where(zero, 1, per_access).astype(np.int32)
    repeat = np.where(atomic, 2, 1)
    again = np.repeat(np.arange(owner.shape[0]), repeat)
    second = np.zeros(again.shape[0], np.bool_)
    second[1:] = (again[1:] == again[:-1]) & atomic[again[1:]]
    is_atomic = atomic[again]
    return LineAccesses(
        owner[again],
        line[again],
        np.where(is_atomic, second, write[again]),
        np.where(is_atomic, False, partial[again]),
        zero[again],
        per_access[again],
    )
