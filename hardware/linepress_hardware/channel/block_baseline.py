"""A block codec in the place of the line engine: why granularity matters.

Any byte of a block needs the block's whole code and its decompression up to that byte. Blocks lie one after another
in whole atoms; the decompressor is one pipe of a stated rate with a stated start-up time.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.channel.config import LINE_BYTES, ChannelConfig, Parameter
from linepress_hardware.channel.memory import Memory
from linepress_hardware.dram.simulate import simulate
from linepress_hardware.errors import ConfigurationError


@dataclass(frozen=True)
class BlockCodec:
    """What the model needs of a block codec.

    Attributes
    ----------
    block_bytes : int
        Raw bytes of a block.
    ratio : float
        Raw / compressed, on this data.
    decompress_GBps : float
        Raw bytes out of the decompressor.
    startup_ns : float
        From the last compressed byte of what is needed to the first raw bytes.
    """

    block_bytes: int
    ratio: float
    decompress_GBps: float
    startup_ns: float

    def __post_init__(self) -> None:
        if self.block_bytes % LINE_BYTES or self.block_bytes < LINE_BYTES:
            raise ConfigurationError(f"a block of {self.block_bytes} B must be whole lines of {LINE_BYTES} B")
        if not (self.ratio > 0 and self.decompress_GBps > 0 and self.startup_ns >= 0):
            raise ConfigurationError("a block codec needs a ratio and a rate above 0 and a start-up of at least 0 ns")

    @classmethod
    def default(cls, block_bytes: int, ratio: float | None = None) -> BlockCodec:
        """Figures of ``data/channel_block.toml``; ``ratio`` where it was measured."""
        known = parameters()
        fallback = known["ratio_64KiB" if block_bytes >= 65536 else "ratio_4KiB"].value
        return cls(
            block_bytes,
            fallback if ratio is None else ratio,
            known["decompress_GBps"].value,
            known["decompress_startup_ns"].value,
        )


@lru_cache(maxsize=1)
def parameters() -> dict[str, Parameter]:
    """Figures of ``data/channel_block.toml`` with unit, standing and source."""
    text = (files("linepress_hardware") / "data" / "channel_block.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    return {name: Parameter(low=0.0, high=float("inf"), **entry) for name, entry in document.items()}


@dataclass(frozen=True)
class BlockResult:
    """Block codec against the plain channel, simulated and in closed form.

    Attributes
    ----------
    read_amplification : float
        Bytes fetched per useful byte of a random line.
    random_GBps, sequential_GBps : float
        Useful bytes: one line of a block, or all of it.
    latency_mean_ns, latency_p99_ns : float
        One random line in an otherwise idle channel, offer to data.
    closed_form_latency_ns : float
        Idle read + transfer of the code at pin peak + start-up + half of the block at the decompressor's rate: the
        line looked for lies in the middle on average.
    closed_form_random_GBps, closed_form_sequential_GBps : float
        The slower of pin peak over the code and the decompressor.
    """

    read_amplification: float
    random_GBps: float
    sequential_GBps: float
    latency_mean_ns: float
    latency_p99_ns: float
    closed_form_latency_ns: float
    closed_form_random_GBps: float
    closed_form_sequential_GBps: float


def _through_pipe(ready_ns: NDArray[np.float64], each_ns: float) -> NDArray[np.float64]:
    """When each of a row of blocks, in order of readiness, has left a pipe that takes ``each_ns`` for one."""
    k = np.arange(ready_ns.shape[0]) * each_ns
    return np.asarray(np.maximum.accumulate(ready_ns - k) + k + each_ns, np.float64)


def block_baseline(
    memory: Memory, codec: BlockCodec, config: ChannelConfig, *, blocks: int = 200, seed: int = 0
) -> BlockResult:
    """Random single-line reads and whole-block reads through a block codec on one channel."""
    if blocks < 10:
        raise ConfigurationError(f"{blocks} blocks are too few for a percentile; give at least 10")
    atom = memory.atom_bytes
    code = -(-int(np.ceil(codec.block_bytes / codec.ratio)) // atom) * atom
    held = memory.capacity_bytes // 2 // code
    if held < 1:
        raise ConfigurationError(f"a block of {code} B does not fit in {memory.name}; choose a smaller one")
    rng = np.random.Generator(np.random.PCG64(seed))
    which = rng.integers(0, held, blocks, dtype=np.int64)
    inside = rng.integers(0, codec.block_bytes // config.line_bytes, blocks)
    raw_ns = codec.block_bytes / codec.decompress_GBps

    def fetch(block: np.ndarray, idle: bool) -> tuple[np.ndarray, np.ndarray, float]:
        # Saturated: the next block is asked for while the one before comes in, two in flight.
        n = block.shape[0]
        spacing = 4 * (code / memory.peak_GBps + raw_ns + codec.startup_ns) if idle else 0.0
        arrival = np.arange(n) * spacing
        after = None if idle else np.where(np.arange(n) >= 2, np.arange(n) - 2, -1)
        result = simulate(
            memory.part,
            (block * code).astype(np.uint64),
            np.zeros(n, np.bool_),
            arrival,
            mapping=memory.mapping,
            policy=memory.policy,
            request_bytes=np.full(n, code, np.int64),
            after=after,
        )
        return arrival, result.finish_ns, result.sim_time_ns

    arrival, finish, _ = fetch(which, idle=True)
    line_out = (inside + 1) * config.line_bytes / codec.decompress_GBps
    latency = finish + config.ecc_decode_ns + codec.startup_ns + line_out + config.line_transfer_ns - arrival
    busy_random, busy_sequential = 0.0, 0.0
    for sequential in (False, True):
        _, finish, _ = fetch(np.arange(blocks, dtype=np.int64) % held if sequential else which, idle=False)
        out = _through_pipe(np.sort(finish) + codec.startup_ns, raw_ns)
        if sequential:
            busy_sequential = blocks * codec.block_bytes / float(out.max())
        else:
            busy_random = blocks * config.line_bytes / float(out.max())
    slower_ns = max(code / memory.peak_GBps, raw_ns)
    ordered = np.sort(latency)
    return BlockResult(
        read_amplification=code / config.line_bytes,
        random_GBps=busy_random,
        sequential_GBps=busy_sequential,
        latency_mean_ns=float(latency.mean()),
        latency_p99_ns=float(ordered[min(blocks - 1, int(0.99 * blocks))]),
        closed_form_latency_ns=memory.idle_read_ns
        + code / memory.peak_GBps
        + config.ecc_decode_ns
        + codec.startup_ns
        + (codec.block_bytes + config.line_bytes) / 2 / codec.decompress_GBps
        + config.line_transfer_ns,
        closed_form_random_GBps=config.line_bytes / slower_ns,
        closed_form_sequential_GBps=codec.block_bytes / slower_ns,
    )
