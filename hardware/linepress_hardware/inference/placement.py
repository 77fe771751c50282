"""Which tier of an accelerator's memory holds weights and KV, and what a decode step then costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linepress_hardware.catalog.accelerators import Accelerator, MemoryTier
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.capacity import footprint
from linepress_hardware.inference.compression import PLAIN, Compression
from linepress_hardware.inference.parallel import ONE_DEVICE, Parallel
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.shapes import ModelShape


@dataclass(frozen=True)
class Share:
    """Bytes of one kind of data in one tier, over all devices; `read_s` is the time to stream them once."""

    tier: str
    kind: str
    data: str
    bytes: float
    read_s: float | None


def place(
    shape: ModelShape,
    part: Accelerator,
    precision: Precision,
    *,
    devices: int,
    batch: int,
    context_tokens: int,
    compression: Compression = PLAIN,
    usable_share: float = 0.9,
    kv_first: bool = False,
    parallel: Parallel = ONE_DEVICE,
) -> list[Share]:
    """Fill the tiers from the fastest down, weights before KV unless `kv_first`.

    Every stored byte of weights and KV is read once a decode step, so the fastest tier is worth the same to both;
    the order only says which of them spills. Tiers whose bandwidth nobody published come last, without a time.
    `parallel` says how often KV lies on the `devices` (`Parallel.kv_copies`); without it once.

    Raises
    ------
    ConfigurationError
        All tiers together are too small; the message says by how much.
    """
    if devices < 1:
        raise ConfigurationError(f"{devices} devices; give 1 or more")
    held = footprint(shape, precision, compression, parallel)
    data = [("weights", held.weight_bytes), ("kv", held.kv_bytes(batch, context_tokens))]
    if kv_first:
        data.reverse()
    tiers = sorted(
        (level for level in part.memory if not level.is_cache), key=lambda level: -(level.bandwidth_Bps or 0.0)
    )
    room = {id(level): _capacity(level, devices) * usable_share for level in tiers}
    out: list[Share] = []
    for name, size in data:
        left = size
        for level in tiers:
            taken = min(left, room[id(level)])
            if taken <= 0:
                continue
            room[id(level)] -= taken
            left -= taken
            rate = None if level.bandwidth_Bps is None else level.bandwidth_Bps * devices
            out.append(Share(level.tier, level.kind, name, taken, None if rate is None else taken / rate))
        if left > 1e-6 * size:
            total = sum(_capacity(level, devices) for level in tiers) * usable_share
            need = sum(bytes_ for _, bytes_ in data)
            raise ConfigurationError(
                f"{shape.name}, batch {batch} × context {context_tokens:,}: {need / 1e9:,.2f} GB do not fit the "
                f"{total / 1e9:,.2f} GB of all tiers of {devices} × {part.name}, {(need - total) / 1e9:,.2f} GB too "
                f"many; use {-(-need // (total / devices)):.0f} devices"
            )
    return out


def _capacity(level: MemoryTier, devices: int) -> float:
    return level.capacity_bytes * (1 if level.scope == "shared" else devices)


def summary(shares: list[Share]) -> dict[str, Any]:
    """Step times of a placement: tiers read one after the other, or all at once.

    ``serial_s`` is Σ bytes / bandwidth, ``parallel_s`` the slowest tier alone; None where a tier in use has no
    published bandwidth.
    """
    times: dict[str, float] = {}
    known = all(share.read_s is not None for share in shares)
    for share in shares:
        times[share.kind] = times.get(share.kind, 0.0) + (share.read_s or 0.0)
    return {
        "shares": [share.__dict__ for share in shares],
        "serial_s": sum(times.values()) if known else None,
        "parallel_s": max(times.values()) if known else None,
    }
