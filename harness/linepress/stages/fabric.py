"""The fabric stage: one collective over a scale-up fabric, plain and with messages compressed line by line.

A pure function of its `FabricCase`. A compressed message is size / ratio bytes on the wire and adds the codec's
encode and decode latency to each of its hops. Every row has the closed form and, unless the program is too long for a
case of a suite, the packet simulation of the same collective.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from linepress_hardware.catalog.accelerators import Link, accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.collectives import (
    OPERATIONS,
    CollectiveTime,
    all_reduce,
    bus_bandwidth_factor,
    exchange,
)
from linepress_hardware.fabric.collectives import TOPOLOGIES as PLAIN_TOPOLOGIES
from linepress_hardware.fabric.topologies import topologies, topology

if TYPE_CHECKING:
    from linepress_hardware.fabric.evaluate import Fabric

__all__ = ["OPERATIONS", "TOPOLOGIES", "FabricCase", "fabric_case"]

TOPOLOGIES = (*PLAIN_TOPOLOGIES, *topologies())
"""Wirings of the accelerator's own link, and packaged topologies with links and switches of their own."""

MOST_PACKETS = 100_000
BOTH = "closed form and simulation"
ONE_WAY = ("all_gather", "reduce_scatter", "all_to_all")


@dataclass(frozen=True)
class FabricCase:
    """One topology × operation × message size × number of devices × codec.

    Attributes
    ----------
    accelerator : str
        Whose scale-up link carries the messages; a packaged topology brings its own.
    topology, operation : str
        Of `TOPOLOGIES` and `OPERATIONS`. A packaged topology is wired for `devices`.
    algorithm : str
        Of the all-reduce; empty takes the link's own on a switch, ``direct`` on a mesh, ``ring`` on a ring,
        ``bucket`` on a packaged ring or torus.
    devices, size_bytes : int
        Devices that take part; bytes of each one's payload.
    codec, data, packing : str
        Labels of the measured ratio.
    ratio : float
        Raw over wire bytes.
    encode_latency_ns, decode_latency_ns : float
        Added to every message.
    simulate : bool
        Whether to run the packet simulation beside the closed form; where there is none it always runs.
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
    simulate: bool = True

    def identity(self) -> dict[str, Any]:
        """Columns that say which case it is."""
        return {
            "accelerator": self.accelerator,
            "topology": self.topology,
            "operation": self.operation,
            "codec": self.codec,
            "data": self.data,
            "packing": self.packing,
            "devices": self.devices,
            "size_bytes": self.size_bytes,
            "ratio": self.ratio,
        }


def fabric_case(case: FabricCase) -> dict[str, Any]:
    """A row of the table ``fabric``; raises `HardwareError` for a case that means nothing.

    ``time_s`` and ``plain_time_s`` are closed forms where there is one, else simulated; ``simulated_s`` and
    ``plain_simulated_s`` come from the packet simulation, ``bound_s`` is what it cannot beat. ``machine_s`` and
    ``plain_machine_s`` are what a measured machine of that accelerator, or wired like the topology, takes.
    """
    if not 0 < case.ratio < float("inf"):
        raise ConfigurationError(f"the ratio of messages is {case.ratio!r}; give a finite number above 0")
    found = _of_link(case) if case.topology in PLAIN_TOPOLOGIES else _of_topology(case)
    found |= _on_machine(case)
    plain_s, time_s = found["plain_time_s"], found["time_s"]
    factor = bus_bandwidth_factor(case.operation, case.devices)
    return {
        **case.identity(),
        **found,
        "bus_bandwidth_GBps": factor * case.size_bytes / time_s / 1e9 if time_s else None,
        "plain_bus_bandwidth_GBps": factor * case.size_bytes / plain_s / 1e9 if plain_s else None,
        "speedup": plain_s / time_s if time_s else 1.0,
    }


def _on_machine(case: FabricCase) -> dict[str, Any]:
    """Columns of a measured machine; {} where nothing is measured for this case."""
    from linepress_hardware.fabric.compressed import Coder, compressed_collective
    from linepress_hardware.fabric.curves import OPERATIONS as MEASURED
    from linepress_hardware.fabric.curves import band, system_of

    packaged = case.topology not in PLAIN_TOPOLOGIES
    where = topology(case.topology).machine if packaged else case.accelerator
    if not where or case.topology in ("mesh", "ring") or case.operation not in MEASURED or case.devices < 2:
        return {}
    system, _ = system_of(where)
    if system is None or case.devices > system.domain:
        return {}
    try:
        one = compressed_collective(
            where, case.operation, case.devices, case.size_bytes, Coder(case.ratio, message_us=_codec_ns(case) / 1e3)
        )
    except ConfigurationError:
        return {}
    return {
        "machine_s": one["time_s"],
        "plain_machine_s": one["plain_time_s"],
        "machine_speedup": one["speedup"],
        "machine_band": band(system.name),
    }


def _of_link(case: FabricCase) -> dict[str, Any]:
    """The accelerator's own link in one of the plain wirings."""
    link = accelerator(case.accelerator).link
    if link is None:
        raise ConfigurationError(f"{case.accelerator} has no scale-up link in its data file; choose another one")
    algorithm = _algorithm(case, link)
    row: dict[str, Any] = {"link": link.name, "algorithm": algorithm, "method": "closed form"}
    if not (case.topology == "ring" and case.devices > 2 and case.operation in ONE_WAY):
        plain = _time(case, link, algorithm, case.size_bytes, 0.0)
        packed = _time(case, link, algorithm, case.size_bytes / case.ratio, _codec_ns(case) * 1e-9)
        row |= {
            "time_s": packed.time_s,
            "latency_s": packed.latency_s,
            "transfer_s": packed.transfer_s,
            "closed_form_s": packed.time_s,
            "plain_time_s": plain.time_s,
            "plain_latency_s": plain.latency_s,
            "plain_transfer_s": plain.transfer_s,
            "plain_closed_form_s": plain.time_s,
        }
        if not case.simulate or not plain.time_s:
            return row
    from linepress_hardware.fabric.evaluate import plain_fabric

    fabric = plain_fabric(
        case.topology,
        case.devices,
        bandwidth_GBps=link.bandwidth.base / 1e9,
        latency_ns=link.latency.base * 1e9,
    )
    found = _wired(case, fabric, algorithm, run=True)
    if "time_s" not in row and "simulated_s" not in found:
        raise ConfigurationError(
            f"{case.operation} of {case.devices} devices on a ring is too long to simulate; use fewer devices"
        )
    return {**found, **row, "method": found["method"]}


def _of_topology(case: FabricCase) -> dict[str, Any]:
    """A packaged topology, wired for the devices of the case."""
    from linepress_hardware.fabric.evaluate import fabric_of

    wired = topology(case.topology).with_accelerators(case.devices)
    algorithm = case.algorithm or {"mesh": "direct", "ring": "bucket", "torus": "bucket"}.get(wired.kind, "ring")
    return {"link": wired.link.name, **_wired(case, fabric_of(wired), algorithm, run=case.simulate)}


def _wired(case: FabricCase, fabric: Fabric, algorithm: str, *, run: bool) -> dict[str, Any]:
    """The collective on these wires: closed form, and the simulation where ``run`` says so and it is not too long."""
    from linepress_hardware.fabric.evaluate import collective

    out = collective(
        fabric,
        case.size_bytes,
        operation=case.operation,
        algorithm=algorithm,
        ratio=case.ratio,
        codec_ns=_codec_ns(case),
        run=run,
        max_packets=MOST_PACKETS,
    )
    named = ("algorithm", "closed_form_s", "plain_closed_form_s", "bound_s", "method")
    row = {name: out[name] for name in named}
    for side in ("", "plain_"):  # without a closed form the simulation, or where that is too long the bound
        formula = out[f"{side}closed_form_s"]
        row[f"{side}time_s"] = out[f"{side}time_s"] if formula is None else formula
    if out["method"] == "simulation":
        row |= {f"{side}simulated_s": out[f"{side}time_s"] for side in ("", "plain_")}
        row |= {"packets": out["packets"]} | ({} if out["closed_form_s"] is None else {"method": BOTH})
    return row


def _codec_ns(case: FabricCase) -> float:
    return case.encode_latency_ns + case.decode_latency_ns


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
    return exchange(
        case.operation,
        case.devices,
        size_bytes,
        latency_s=latency_s,
        bandwidth_Bps=bandwidth_Bps,
        topology=case.topology,
    )
