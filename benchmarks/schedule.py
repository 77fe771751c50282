"""A simulated schedule of a large campaign, from measured rates: hours, machines, network, storage, cost, bottleneck.

    python -m benchmarks.schedule [--petabytes P] [--models N] [--cores C] [--nodes N] [--drivers D] [--variants V] …

Needs ``benchmarks/results/scale.json`` of this machine (`benchmarks.scale overhead resume rates`). Every group of
cases is scheduled on the first core that is free, once its driver has sent it and its bytes have come: with each
core's share of its node's network and of the store. Tensor sizes are log-normal with a cap, as in published models
(many small matrices, few embeddings of gigabytes). A core waits for the bytes of its group
(nothing is fetched ahead), so the times of computing and fetching add up. Beside the simulation stand the lower
bounds, each of which alone would need so long; the largest is the bottleneck. Results go to
``benchmarks/results/schedule.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

RESULTS = Path(__file__).parent / "results"
GROUP_CASES = 8
MEDIAN_TENSOR_BYTES = 48e6
SIGMA = 1.0
CAP_BYTES = 4.2e9
"""128,256 × 16,384 bf16 elements: the embedding of a 405-billion-parameter model."""
ROW_BYTES = 410
"""Record of a case: 220 rows of the smoke suite, histograms and costs of packings included, took 90,110 B."""


@dataclass(frozen=True)
class Campaign:
    """What is to be measured, with what.

    Attributes
    ----------
    petabytes, models
        Raw bytes (10^15) and the number of models they are spread over.
    nodes, cores
        Machines and cores of each.
    node_GBps, store_GBps
        Network of a node; what the store of the models gives to all nodes together.
    drivers
        Runs at the same time, each with a driver of its own.
    core_hour_usd
        Price of a core for an hour.
    """

    petabytes: float
    models: int
    nodes: int
    cores: int
    node_GBps: float
    store_GBps: float
    drivers: int
    core_hour_usd: float


@njit(cache=True)
def _simulate(tensor_bytes, group_s_per_byte, core_GBps, send_s, drivers, cores):  # type: ignore[no-untyped-def]
    """End of the last group and busy core-seconds; groups in plan order on a binary heap of core-free times."""
    free = np.zeros(cores)
    sent = np.zeros(drivers)
    busy = 0.0
    end = 0.0
    turn = 0
    for size in tensor_bytes:
        for cost in group_s_per_byte:
            sent[turn] += send_s
            took = size / (core_GBps * 1e9) + size * cost
            start = max(free[0], sent[turn])
            done = start + took
            busy += took
            end = max(end, done)
            turn = (turn + 1) % drivers
            i = 0  # the root takes the new time and sinks
            while True:
                child = 2 * i + 1
                if child >= cores:
                    break
                if child + 1 < cores and free[child + 1] < free[child]:
                    child += 1
                if free[child] >= done:
                    break
                free[i] = free[child]
                i = child
            free[i] = done
    return end, busy


def tensor_sizes(total_bytes: float, seed: int) -> NDArray[np.float64]:
    """Sizes in bytes that sum up to ``total_bytes``."""
    rng = np.random.Generator(np.random.PCG64(seed))
    mean = MEDIAN_TENSOR_BYTES * np.exp(SIGMA**2 / 2)
    sizes = np.minimum(MEDIAN_TENSOR_BYTES * rng.lognormal(0.0, SIGMA, int(1.2 * total_bytes / mean) + 1), CAP_BYTES)
    return sizes[: int(np.searchsorted(np.cumsum(sizes), total_bytes)) + 1]


def cut(sizes: NDArray[np.float64], part_bytes: float) -> NDArray[np.float64]:
    """Each size as equal parts of at most ``part_bytes``, in order."""
    parts = np.ceil(sizes / part_bytes).astype(np.int64)
    return np.repeat(sizes / parts, parts)


def plan(
    campaign: Campaign, rates: dict[str, float], case_ms: float, seed: int = 1, part_bytes: float = 0.0
) -> dict[str, Any]:
    """Hours by simulation and by each bound alone; ``rates`` in GB/s of a core, ``case_ms`` of a driver a case.

    With ``part_bytes`` a tensor is cut into parts that run on their own, which linepress does not do: what that would
    be worth at most, fitting and merging left out.
    """
    sizes = tensor_sizes(campaign.petabytes * 1e15, seed)
    tensors = len(sizes)
    if part_bytes:
        sizes = cut(sizes, part_bytes)
    costs = [1 / (rate * 1e9) for rate in rates.values()]
    groups = np.array([sum(costs[i : i + GROUP_CASES]) for i in range(0, len(costs), GROUP_CASES)])
    cores = campaign.nodes * campaign.cores
    core_GBps = min(campaign.node_GBps / campaign.cores, campaign.store_GBps / cores)
    send_s = 1e-3 * case_ms * len(costs) / len(groups)
    end_s, busy_s = _simulate(sizes, groups, core_GBps, send_s, campaign.drivers, cores)
    read_bytes = float(sizes.sum()) * len(groups)
    cases = tensors * len(costs)
    bounds_h = {
        "cores": float(sizes.sum()) * sum(costs) / cores / 3600,
        "node network": read_bytes / (campaign.nodes * campaign.node_GBps * 1e9) / 3600,
        "store": read_bytes / (campaign.store_GBps * 1e9) / 3600,
        "drivers": 1e-3 * case_ms * len(sizes) * len(costs) / campaign.drivers / 3600,
        "largest group": float(sizes.max()) * (groups.max() + 1 / (core_GBps * 1e9)) / 3600,
    }
    return {
        "campaign": asdict(campaign),
        "variants": len(costs),
        "tensors": tensors,
        "cases": cases,
        "cases_a_model": cases / campaign.models,
        "hours": end_s / 3600,
        "core_hours": busy_s / 3600,
        "busy_share": busy_s / (end_s * cores),
        "read_PB": read_bytes / 1e15,
        "record_GB": cases * ROW_BYTES / 1e9,
        "cost_usd": end_s / 3600 * cores * campaign.core_hour_usd,
        "bounds_h": bounds_h,
        "bottleneck": max(bounds_h, key=lambda name: bounds_h[name]),
    }


def main(argv: list[str] | None = None) -> int:
    """Simulate one campaign and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--petabytes", type=float, default=1.0)
    parser.add_argument("--models", type=int, default=3000)
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--cores", type=int, default=32, help="of a node")
    parser.add_argument("--node-GBps", type=float, default=1.5, help="network of a node (12.5 Gbit/s)")
    parser.add_argument("--store-GBps", type=float, default=20.0, help="of all nodes together")
    parser.add_argument("--drivers", type=int, default=8)
    parser.add_argument("--core-hour-usd", type=float, default=0.05)
    parser.add_argument("--variants", default="", help="only these codecs, comma-separated; all measured else")
    parser.add_argument("--part-MB", type=float, default=0.0, help="as if tensors were split into parts of this size")
    options = parser.parse_args(argv)
    file = RESULTS / "scale.json"
    missing = "run `python -m benchmarks.scale overhead resume rates` first"
    if not file.exists():
        raise SystemExit(f"{file}: not there; {missing}")
    measured = json.loads(file.read_text(encoding="utf-8"))
    if not {"overhead", "resume", "rates"} <= set(measured):
        raise SystemExit(f"{file}: not all parts are there; {missing}")
    wanted = set(filter(None, options.variants.split(",")))
    rates = {
        name: rate
        for name, rate in measured["rates"]["GBps_per_core"].items()
        if not wanted or name.split(":")[0] in wanted
    }
    if not rates:
        raise SystemExit(f"--variants {options.variants}: none of these was measured")
    recording_ms = 1e3 * measured["resume"]["first"]["seconds"] / measured["resume"]["first"]["done"]
    case_ms = measured["overhead"]["ms_per_case"] + recording_ms
    campaign = Campaign(
        options.petabytes,
        options.models,
        options.nodes,
        options.cores,
        options.node_GBps,
        options.store_GBps,
        options.drivers,
        options.core_hour_usd,
    )
    found = {**plan(campaign, rates, case_ms, part_bytes=1e6 * options.part_MB), "driver_ms_per_case": case_ms}
    print(
        f"{found['tensors']:,} tensors x {found['variants']} variants = {found['cases']:,} cases, "
        f"{found['cases_a_model']:,.0f} a model; driver {case_ms:.2f} ms a case"
    )
    print(
        f"{found['hours']:,.1f} h on {options.nodes} x {options.cores} cores "
        f"({100 * found['busy_share']:.0f} % taken), {found['core_hours']:,.0f} core-hours, "
        f"${found['cost_usd']:,.0f}; read {found['read_PB']:.2f} PB, "
        f"record {found['record_GB']:,.0f} GB"
    )
    for name, hours in sorted(found["bounds_h"].items(), key=lambda item: -item[1]):
        print(f"  {name:<14} alone {hours:10,.2f} h" + ("   <- bottleneck" if name == found["bottleneck"] else ""))
    (RESULTS / "schedule.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
