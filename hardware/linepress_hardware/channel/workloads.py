"""Streams of line accesses: sequential, random, mixed, decode, paged KV gathers, and recorded traces.

A stream is arrays, one entry a transaction of one line. Every generator is a pure function of its seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel.config import LINE_BYTES
from linepress_hardware.errors import ConfigurationError


@dataclass(frozen=True)
class LineStream:
    """Accesses in the order in which the port accepts them.

    Attributes
    ----------
    line : int64[n]
        Logical line number (byte address / line size).
    is_write : bool[n]
    partial : bool[n]
        A write that does not cover its line: read-modify-write.
    zero : bool[n]
        WriteZero: the line becomes the zero class, no data beats.
    id : int32[n]
        AXI ID; accesses of one ID and direction complete in order.
    arrival_ns : float64[n] | None
        Non-decreasing times at which they are offered; None: as fast as the port takes them.
    append : bool[n] | None
        Writes that fill a fresh page from its first line; None: no access does.
    """

    line: NDArray[np.int64]
    is_write: NDArray[np.bool_]
    partial: NDArray[np.bool_]
    zero: NDArray[np.bool_]
    id: NDArray[np.int32]
    arrival_ns: NDArray[np.float64] | None = None
    append: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return int(self.line.shape[0])

    def at_interval(self, interval_ns: float) -> LineStream:
        """The same accesses offered one every ``interval_ns``."""
        if not interval_ns > 0:
            raise ConfigurationError(
                f"interval_ns = {interval_ns:g} must be positive; leave it out for a saturated run"
            )
        arrival = np.arange(len(self), dtype=np.float64) * interval_ns
        return replace(self, arrival_ns=arrival)

    def in_bursts(self, lines: int, ids: int = 16) -> LineStream:
        """The same accesses as bursts of ``lines``: the lines of a burst share an ID, bursts take IDs in turn.

        A burst has no other standing at the port: its lines are taken one by one, and the limit may split it.
        """
        if lines < 1:
            raise ConfigurationError(f"a burst of {lines} lines moves nothing; give at least 1")
        return replace(self, id=(np.arange(len(self)) // lines % ids).astype(np.int32))

    def with_ids(self, ids: int) -> LineStream:
        """The same accesses with IDs given out in turn."""
        return replace(self, id=(np.arange(len(self)) % ids).astype(np.int32))


def stream(line: NDArray[np.int64], is_write: NDArray[np.bool_] | None = None, ids: int = 16) -> LineStream:
    """A stream of whole-line accesses, IDs in turn."""
    n = line.shape[0]
    none = np.zeros(n, np.bool_)
    return LineStream(
        np.ascontiguousarray(line, dtype=np.int64),
        none.copy() if is_write is None else np.ascontiguousarray(is_write, dtype=np.bool_),
        none.copy(),
        none.copy(),
        (np.arange(n) % ids).astype(np.int32),
    )


def _check(n: int, lines: int) -> None:
    if n <= 0 or lines <= 0:
        raise ConfigurationError(f"a workload of {n} accesses over {lines} lines is empty; give positive counts")


def sequential(n: int, lines: int, *, seed: int = 0, page_lines: int = 64, ids: int = 16) -> LineStream:
    """A weight stream: consecutive lines from a seeded page, wrapping at the end of the footprint."""
    _check(n, lines)
    rng = np.random.Generator(np.random.PCG64(seed))
    first = int(rng.integers(0, max(1, lines // page_lines))) * page_lines
    return stream((first + np.arange(n, dtype=np.int64)) % lines, ids=ids)


def random(n: int, lines: int, *, seed: int = 0, write_share: float = 0.0, ids: int = 16) -> LineStream:
    """Independent uniformly random lines; a share of them writes."""
    _check(n, lines)
    rng = np.random.Generator(np.random.PCG64(seed))
    line = rng.integers(0, lines, n, dtype=np.int64)
    return stream(line, rng.random(n) < write_share, ids=ids)


def mixed(
    n: int,
    lines: int,
    *,
    seed: int = 0,
    random_share: float = 0.5,
    write_share: float = 0.0,
    run_lines: int = 64,
    ids: int = 16,
) -> LineStream:
    """Runs of ``run_lines`` sequential lines and random lines, interleaved one by one by ``random_share``."""
    _check(n, lines)
    rng = np.random.Generator(np.random.PCG64(seed))
    is_random = rng.random(n) < random_share
    sequential_rank = np.cumsum(~is_random) - 1
    runs = int(max(0, sequential_rank[-1])) // run_lines + 1
    run_start = rng.integers(0, max(1, lines // run_lines), runs, dtype=np.int64) * run_lines
    line = (
        run_start[np.maximum(sequential_rank, 0) // run_lines] + np.maximum(sequential_rank, 0) % run_lines
    ) % lines
    line = np.where(is_random, rng.integers(0, lines, n, dtype=np.int64), line)
    return stream(line, rng.random(n) < write_share, ids=ids)


def kv_gather(
    n: int, lines: int, *, seed: int = 0, block_lines: int = 64, write_share: float = 0.0, ids: int = 16
) -> LineStream:
    """Paged KV reads: blocks of ``block_lines`` consecutive lines at random places, each read whole.

    A block is one page of a paged KV cache: 16 tokens × 128 channels × 2 B = 4 KiB for one head's keys.
    """
    _check(n, lines)
    rng = np.random.Generator(np.random.PCG64(seed))
    blocks = -(-n // block_lines)
    start = rng.integers(0, max(1, lines // block_lines), blocks, dtype=np.int64) * block_lines
    line = (start[:, None] + np.arange(block_lines, dtype=np.int64)[None, :]).reshape(-1)[:n] % lines
    return stream(line, rng.random(n) < write_share, ids=ids)


@dataclass(frozen=True)
class DecodeShape:
    """Bytes that one decode step moves through one channel, in lines.

    Attributes
    ----------
    weight_lines : int
        Lines of weights read per step.
    kv_lines : int
        Lines of keys and values read per step (all sequences of the batch).
    append_lines : int
        Lines of keys and values written per step.
    block_lines : int
        Lines of a contiguous KV block.
    """

    weight_lines: int
    kv_lines: int
    append_lines: int
    block_lines: int = 64

    @classmethod
    def of_model(
        cls,
        *,
        layers: int,
        hidden: int,
        intermediate: int,
        kv_heads: int,
        heads: int,
        head_dim: int,
        batch: int,
        context: int,
        weight_bytes: int = 2,
        kv_bytes: int = 2,
        layers_simulated: int = 1,
        line_bytes: int = LINE_BYTES,
    ) -> DecodeShape:
        """One decode step of a gated transformer: q, k, v, o and gate, up, down read once, KV of every sequence read.

        Weights of a layer = hidden × (heads + 2 kv_heads) × head_dim + heads × head_dim × hidden + 3 × hidden ×
        intermediate; KV = 2 × kv_heads × head_dim × context a sequence.
        """
        if min(layers, hidden, intermediate, kv_heads, heads, head_dim, batch, context, layers_simulated) <= 0:
            raise ConfigurationError("a decode shape needs positive layers, widths, heads, batch and context")
        weights = hidden * (heads + 2 * kv_heads) * head_dim + heads * head_dim * hidden + 3 * hidden * intermediate
        token = 2 * kv_heads * head_dim * kv_bytes
        part = min(layers, layers_simulated)
        return cls(
            weight_lines=part * weights * weight_bytes // line_bytes,
            kv_lines=part * batch * context * token // line_bytes,
            append_lines=max(1, part * batch * token // line_bytes),
            block_lines=max(1, 16 * head_dim * kv_bytes // line_bytes),
        )


def decode(n: int, lines: int, shape: DecodeShape, *, seed: int = 0, ids: int = 16) -> LineStream:
    """Decode steps: weights streamed, KV blocks gathered, new keys and values appended, in the shape's proportions.

    The first part of the footprint holds weights, the rest KV, in proportion. Weight and KV reads interleave in
    pieces of one KV block, as an accelerator that fetches the next layer while it attends to this one.
    """
    _check(n, lines)
    total = shape.weight_lines + shape.kv_lines + shape.append_lines
    if total <= 0:
        raise ConfigurationError("a decode step of no lines: give weights or KV")
    rng = np.random.Generator(np.random.PCG64(seed))
    block = shape.block_lines
    weight_region = int(lines * (shape.weight_lines / max(1, shape.weight_lines + shape.kv_lines)))
    weight_region = min(max(weight_region // block * block, block), max(block, lines - block))
    kv_region = max(block, lines - weight_region)
    pieces = -(-n // block)
    u = rng.random(pieces)
    share_weight = shape.weight_lines / total
    share_kv = shape.kv_lines / total
    kind = np.where(u < share_weight, 0, np.where(u < share_weight + share_kv, 1, 2))
    start = np.empty(pieces, np.int64)
    weight_rank = np.cumsum(kind == 0) - 1
    append_rank = np.cumsum(kind == 2) - 1
    start[:] = weight_rank * block % max(block, weight_region // block * block)
    kv_blocks = max(1, kv_region // block)
    gathered = weight_region + rng.integers(0, kv_blocks, pieces, dtype=np.int64) * block
    appended = weight_region + (append_rank % kv_blocks) * block
    start = np.where(kind == 1, gathered, np.where(kind == 2, appended, start))
    line = (start[:, None] + np.arange(block, dtype=np.int64)[None, :]).reshape(-1)[:n] % lines
    write = np.repeat(kind == 2, block)[:n]
    return replace(stream(line, write, ids=ids), append=write)


def trace_stream(
    words: Sequence[int] | NDArray[np.uint64] | bytes, ids: int = 16, line_bytes: int = LINE_BYTES
) -> LineStream:
    """A recorded trace: little-endian uint64 words ``byte_address << 1 | is_write``, any byte of a line.

    Raises `ConfigurationError` for bytes that are not a whole number of words, or none.
    """
    if isinstance(words, bytes | bytearray | memoryview):
        raw = bytes(words)
        if len(raw) % 8:
            raise ConfigurationError(
                f"a trace of {len(raw)} B is not a whole number of 8 B words; write little-endian uint64 words "
                "byte_address << 1 | is_write"
            )
        array = np.frombuffer(raw, dtype="<u8").astype(np.uint64)
    else:
        array = np.asarray(words, dtype=np.uint64)
    if not array.size:
        raise ConfigurationError("the trace is empty; give at least one access")
    line = ((array >> np.uint64(1)) // np.uint64(line_bytes)).astype(np.int64)
    return stream(line, (array & np.uint64(1)).astype(np.bool_), ids=ids)
