"""What a fabric's links draw by medium, and what a stated power says about energy a bit."""

from __future__ import annotations

from typing import Any

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.parameters import parameters
from linepress_hardware.fabric.topologies import Topology, medium_pJ


def one_way_Tbps(topology: Topology) -> float:
    """Sum over all links of their rate one way."""
    return topology.links * topology.link.rate_Gbps / 1e3


def pJ_per_bit(power_W: float, Tbps: float) -> float:
    """Energy a bit of `power_W` over `Tbps`: W / (Tb/s) = pJ/bit."""
    if not 0 < power_W < float("inf") or not 0 < Tbps < float("inf"):
        raise ConfigurationError(f"{power_W!r} W over {Tbps!r} Tb/s gives no energy a bit; give numbers above 0")
    return power_W / Tbps


def link_power_W(topology: Topology, medium: str | None = None, utilisation: float = 1.0) -> float:
    """Watts of all links, both ways, at `utilisation` of their rate.

    SerDes and DSPs draw nearly the same when idle, so that anything below 1 is a lower bound.
    """
    if not 0 <= utilisation <= 1:
        raise ConfigurationError(f"utilisation is {utilisation!r}; give 0 to 1")
    return 2 * one_way_Tbps(topology) * medium_pJ(medium or topology.medium) * utilisation


def media_table(topology: Topology) -> list[dict[str, Any]]:
    """Power of the topology's links in each medium, with the source of its energy a bit."""
    return [
        {
            "medium": name,
            "title": entry["title"],
            "pJ_per_bit": medium_pJ(name),
            "link_W": link_power_W(topology, name),
            "source": entry["energy"]["source"],
            "status": entry["energy"]["status"],
        }
        for name, entry in parameters()["media"].items()
    ]


def backplane_saving(topology: Topology, before_W: float = 8000.0, after_W: float = 2000.0) -> dict[str, Any]:
    """What a backplane's power before and after (the talk: 8 kW → 2 kW) means over the topology's links.

    pJ/bit over the bandwidth one way and both ways, and the media of ``fabric.toml`` whose power comes nearest.
    """
    if after_W > before_W:
        raise ConfigurationError(
            f"{after_W:g} W after is above {before_W:g} W before; give what it was and what it is"
        )
    one_way = one_way_Tbps(topology)
    table = {str(row["medium"]): float(row["link_W"]) for row in media_table(topology)}

    def nearest(power_W: float) -> str:
        return min(table, key=lambda medium: float(abs(table[medium] - power_W)))

    return {
        "topology": topology.name,
        "one_way_Tbps": one_way,
        "before_W": before_W,
        "after_W": after_W,
        "freed_W": before_W - after_W,
        "before_pJ_per_bit_one_way": pJ_per_bit(before_W, one_way),
        "after_pJ_per_bit_one_way": pJ_per_bit(after_W, one_way),
        "before_pJ_per_bit_both_ways": pJ_per_bit(before_W, 2 * one_way),
        "after_pJ_per_bit_both_ways": pJ_per_bit(after_W, 2 * one_way),
        "nearest_medium_before": nearest(before_W),
        "nearest_medium_after": nearest(after_W),
    }
