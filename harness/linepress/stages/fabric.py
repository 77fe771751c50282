"""The fabric stage: one collective over a scale-up link, plain and with messages compressed line by line.

A pure function of its `FabricCase`, by closed forms (`linepress_hardware.fabric.collectives`): a compressed message
is size / ratio bytes on the wire and adds the codec's encode and decode latency to each of its hops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.collectives import (
    OPERATIONS,
    TOPOLOGIES,
    CollectiveTime,
    all_reduce,
    bus_bandwidth_factor,
    exchange,
)
from linepress_hardware.racks.accelerators import Link, accelerator

__all__ = ["OPERATIONS", "TOPOLOGIES", "FabricCase", "fabric_case"]


@dataclass(frozen=True)
class FabricCase:
    """One topology × operation × message size × number of devices × codec.

    Attributes
    ----------
    accelerator : str
        Whose scale-up link carries the messages.
    topology, operation : str
        Of `TOPOLOGIES` and `OPERATIONS`.
    algorithm : str
        Of the all-reduce; empty takes the link's own on a switch, ``direct`` on a mesh, ``ring`` on a ring.
    devices, size_bytes : int
        Devices that take part; bytes of each one's payload.
    codec, data, packing : str
        Labels of the measured ratio.
    ratio : float
        Raw over wire bytes.
    encode_latency_ns, decode_latency_ns : float
        Added to every message.
    """

    accelerator: str
    topology: str
    operation: str
    devices: int
    size_bytes: int
    codec: str
    data: str
    packing: str
    ratio: float
    encode_latency_ns: float = 0.0
    decode_latency_ns: float = 0.0
    algorithm: str = ""


def fabric_case(case: FabricCase) -> dict[str, Any]:
    """A row of the table ``fabric``; raises `HardwareError` for a case that means nothing."""
    if not 0 < case.ratio < float("inf"):
        raise ConfigurationError(f"the ratio of messages is {case.ratio!r}; give a finite number above 0")
    link = accelerator(case.accelerator).link
    if link is None:
        raise ConfigurationError(f"{case.accelerator} has no scale-up link in its data file; choose another one")
    algorithm = _algorithm(case, link)
    plain = _time(case, link, algorithm, case.size_bytes, 0.0)
    added_s = (case.encode_latency_ns + case.decode_latency_ns) * 1e-9
    packed = _time(case, link, algorithm, case.size_bytes / case.ratio, added_s)
    factor = bus_bandwidth_factor(case.operation, case.devices)
    return {
        "accelerator": case.accelerator,
        "link": link.name,
        "topology": case.topology,
        "operation": case.operation,
        "algorithm": algorithm,
        "codec": case.codec,
        "data": case.data,
        "packing": case.packing,
        "devices": case.devices,
        "size_bytes": case.size_bytes,
        "ratio": case.ratio,
        "time_s": packed.time_s,
        "latency_s": packed.latency_s,
        "transfer_s": packed.transfer_s,
        "plain_time_s": plain.time_s,
        "plain_latency_s": plain.latency_s,
        "plain_transfer_s": plain.transfer_s,
        "bus_bandwidth_GBps": factor * case.size_bytes / packed.time_s / 1e9 if packed.time_s else None,
        "plain_bus_bandwidth_GBps": factor * case.size_bytes / plain.time_s / 1e9 if plain.time_s else None,
        "speedup": plain.time_s / packed.time_s if packed.time_s else 1.0,
        "method": "closed form",
    }


def _algorithm(case: FabricCase, link: Link) -> str:
    if case.operation != "all_reduce":
        return "direct"
    return case.algorithm or {"mesh": "direct", "ring": "ring"}.get(case.topology, link.algorithm)


def _time(case: FabricCase, link: Link, algorithm: str, size_bytes: float, added_s: float) -> CollectiveTime:
    latency_s, bandwidth_Bps = link.latency.base + added_s, link.bandwidth.base
    if case.operation == "all_reduce":
        return all_reduce(
            algorithm,
            case.devices,
            size_bytes,
            latency_s=latency_s,
            bandwidth_Bps=bandwidth_Bps,
            topology=case.topology,
        )
    return exchange(case.operation, case.devices, size_bytes, latency_s=latency_s, bandwidth_Bps=bandwidth_Bps)
