"""Joules and dollars of a million tokens, with the standing of every figure behind them."""

from __future__ import annotations

from typing import Any

from linepress_hardware.catalog.accelerators import Accelerator
from linepress_hardware.inference.scenario import economics

_ORDER = ("sourced", "seed", "unverified")


def weakest(*statuses: str) -> str:
    """The standing of a number made of several: the least certain of them."""
    return max(statuses, key=_ORDER.index)


def energy_and_cost(part: Accelerator, devices: int, tokens_per_s: float) -> dict[str, Any]:
    """Energy and cost of 10^6 tokens at `tokens_per_s` over `devices`.

    Power is the device's rated power times the host factor, an upper bound for a memory-bound step. Cost is
    electricity plus, where a price is known, the price over the seconds served in its lifetime.

    Returns
    -------
    dict
        ``power_W`` of the devices, ``energy_J_per_million_tokens``, ``electricity_usd_per_million_tokens``,
        ``cost_usd_per_million_tokens`` (None where a figure is missing), ``energy_status``, ``cost_status``,
        ``energy_source``, ``cost_source``.
    """
    assumed = economics()
    if part.power is None:
        return {
            "power_W": None,
            "energy_J_per_million_tokens": None,
            "electricity_usd_per_million_tokens": None,
            "cost_usd_per_million_tokens": None,
            "energy_status": "missing",
            "cost_status": "missing",
            "energy_source": f"{part.name} has no power in its data file",
            "cost_source": f"{part.name} has no power in its data file",
        }
    watts = part.power.base * assumed.host_power_factor.value * devices
    joules = watts / tokens_per_s * 1e6
    electricity = joules * assumed.usd_per_joule
    energy_status = weakest(part.power.status, assumed.host_power_factor.status)
    money: dict[str, Any] = {
        "power_W": watts,
        "energy_J_per_million_tokens": joules,
        "electricity_usd_per_million_tokens": electricity,
        "energy_status": energy_status,
        "energy_source": part.power.source,
    }
    if part.price is None:
        return money | {
            "cost_usd_per_million_tokens": None,
            "cost_status": "missing",
            "cost_source": f"{part.name} has no price in its data file; electricity alone is known",
        }
    capital = part.price.base * devices / assumed.lifetime_s / tokens_per_s * 1e6
    return money | {
        "cost_usd_per_million_tokens": capital + electricity,
        "cost_status": weakest(energy_status, part.price.status, assumed.electricity.status, assumed.lifetime.status),
        "cost_source": f"{part.price.source}; {assumed.lifetime.source}; {assumed.electricity.source}",
    }
