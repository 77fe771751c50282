"""Moving KV caches from accelerators that prefill to accelerators that decode."""

from __future__ import annotations

from typing import Any

import numpy as np

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.parameters import parameter_ns
from linepress_hardware.fabric.simulate import Program, simulate
from linepress_hardware.fabric.topologies import Topology

PAIRINGS = ("paired", "random")


def kv_transfer(
    topology: Topology,
    kv_bytes: float,
    *,
    prefill: int,
    decode: int,
    transfers: int = 1,
    ratio: float = 1.0,
    codec_ns: float = 0.0,
    codec_GBps: float | None = None,
    pairing: str = "paired",
    layers: int = 1,
    prefill_s: float = 0.0,
    overhead_ns: float | None = None,
    seed: int = 1,
) -> dict[str, Any]:
    """`transfers` caches of `kv_bytes` each leave every prefill accelerator at once.

    Parameters
    ----------
    ratio : float
        Raw over sent bytes.
    codec_ns, codec_GBps : float
        Latency of the coder, and the rate of raw bytes it keeps up with (None: any).
    pairing : str
        ``paired``: prefill accelerator i sends to decode accelerator i mod `decode`; ``random``: to any (incast).
    layers, prefill_s : int, float
        With several layers a layer's share leaves as soon as it is computed, evenly over `prefill_s`.
    overhead_ns : float | None
        Software on each message; None takes ``fabric.toml``.

    Returns
    -------
    dict
        ``time_s`` until the last cache is there (from the start of prefill), ``plain_time_s``, ``after_prefill_s``
        (what a first token waits), ``closed_form_s`` of the busiest end, ``speedup``, bytes on the wire.

    Raises
    ------
    ConfigurationError
        Pools that do not fit the fabric, sizes, ratios or rates that are not positive.
    """
    n = topology.accelerators
    if prefill < 1 or decode < 1 or prefill + decode > n:
        raise ConfigurationError(
            f"{prefill} prefill and {decode} decode accelerators in a fabric of {n}; give 1 or more of each, at most "
            f"{n} together"
        )
    if pairing not in PAIRINGS:
        raise ConfigurationError(f"pairing {pairing!r} is unknown; use one of {', '.join(PAIRINGS)}")
    if transfers < 1 or layers < 1:
        raise ConfigurationError(f"{transfers} transfers in {layers} layers move nothing; give 1 or more of each")
    for name, value in (("KV size", kv_bytes), ("ratio", ratio), ("codec rate", codec_GBps)):
        if value is not None and not 0 < value < float("inf"):
            raise ConfigurationError(f"{name} is {value!r}; give a finite number above 0")
    if prefill_s < 0 or codec_ns < 0:
        raise ConfigurationError("prefill time and codec latency must be 0 or more; give seconds and ns")
    software = parameter_ns("messages", "overhead") if overhead_ns is None else overhead_ns
    src, dst = _pairs(prefill, decode, transfers, pairing, seed)
    plain = _run(topology, src, dst, kv_bytes, layers, prefill_s, software)
    rate_limit = topology.bandwidth_GBps / codec_GBps * ratio if codec_GBps else 1.0
    # A coder slower than the link stretches what it sends as if the bytes on the wire were more.
    sent = kv_bytes / ratio * max(1.0, rate_limit)
    packed = (
        plain
        if sent == kv_bytes and codec_ns == 0
        else _run(topology, src, dst, sent, layers, prefill_s, software + codec_ns)
    )
    return {
        "topology": topology.name,
        "kv_bytes": kv_bytes,
        "prefill": prefill,
        "decode": decode,
        "transfers": transfers * prefill,
        "pairing": pairing,
        "layers": layers,
        "ratio": ratio,
        "wire_bytes": kv_bytes / ratio,
        "time_s": packed["time_s"],
        "plain_time_s": plain["time_s"],
        "after_prefill_s": packed["time_s"] - prefill_s,
        "plain_after_prefill_s": plain["time_s"] - prefill_s,
        "closed_form_s": packed["closed_form_s"],
        "plain_closed_form_s": plain["closed_form_s"],
        "speedup": plain["time_s"] / packed["time_s"],
        "bound_by": "codec" if rate_limit > 1 else "links",
        "packets": plain["packets"],
    }


def _pairs(prefill: int, decode: int, transfers: int, pairing: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    src = np.repeat(np.arange(prefill, dtype=np.int64), transfers)
    if pairing == "paired":
        return src, prefill + src % decode
    random = np.random.Generator(np.random.PCG64(seed))
    return src, prefill + random.integers(0, decode, src.size)


def _run(
    topology: Topology,
    src: np.ndarray,
    dst: np.ndarray,
    size: float,
    layers: int,
    prefill_s: float,
    overhead_ns: float,
) -> dict[str, Any]:
    net = topology.network(overhead_ns)
    share = size / layers
    release = np.arange(1, layers + 1) * prefill_s * 1e9 / layers if prefill_s else np.zeros(layers)
    count = src.size
    program = Program(
        np.tile(src, layers),
        np.tile(dst, layers),
        np.full(count * layers, share),
        release_ns=np.repeat(release, count),
    )
    out = simulate(net, program)
    # The busiest end moves its bytes back to back: last layer after prefill, or everything from the first layer on.
    busiest = int(max(np.bincount(src).max(), np.bincount(dst).max()))
    alone = net.message_ns(share)
    step = net.message_ns(share, peers=2) - alone
    burst = alone + (busiest - 1) * step
    every = float(release[0]) + burst + (layers - 1) * busiest * step
    return {
        "time_s": out.finish_ns * 1e-9,
        "closed_form_s": max(float(release[-1]) + burst, every) * 1e-9,
        "packets": out.packets,
    }
