"""Speed and accuracy of the fabric model: ``python -m benchmarks.fabric``.

Speed: packets a second of CPU time on one core (the machine may be shared; wall time is kept too), for a 64 B
all-to-all, a bulk all-reduce, random loads, and a torus, whole calls and the compiled loop alone, interleaved rounds.
The competitor in the same run is a plain event loop in Python (heapq) over the same single-switch program. Memory:
1,024 endpoints all-to-all in a process of its own. Accuracy: ASTRA-sim's rows, closed forms, measured
collectives held out, ports against published limits. Raw
samples go to ``benchmarks/results/fabric.json``.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from linepress_hardware.fabric import curves
from linepress_hardware.fabric import network as nets
from linepress_hardware.fabric import simulate as simulation
from linepress_hardware.fabric.collectives import ALL_REDUCE, PIPELINED
from linepress_hardware.fabric.compressed import Coder, compressed_collective
from linepress_hardware.fabric.conventions import astra_sim_all_reduce_ns
from linepress_hardware.fabric.evaluate import collective, fabric_of, plain_fabric
from linepress_hardware.fabric.links import link
from linepress_hardware.fabric.network import Network
from linepress_hardware.fabric.port import port_to_port
from linepress_hardware.fabric.schedules import all_reduce_program, one_way_program
from linepress_hardware.fabric.simulate import Program, simulate
from linepress_hardware.fabric.switches import switch
from linepress_hardware.fabric.topologies import topology

DATA = Path(__file__).parents[1] / "tests" / "data" / "fabric"
PEAK = (
    "import resource\n"
    "from linepress_hardware.fabric.network import switch\n"
    "from linepress_hardware.fabric.schedules import one_way_program\n"
    "from linepress_hardware.fabric.simulate import simulate\n"
    "simulate(switch(1024, link_GBps=100.0, latency_ns=50.0, forward_ns=200.0), "
    "one_way_program('all_to_all', 1024, 65536.0))\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\n"
)


def workloads() -> dict[str, tuple[Network, Program, float]]:
    """Name -> network, program, payload of a packet."""
    random = np.random.Generator(np.random.PCG64(1))
    one = nets.switch(64, link_GBps=100.0, latency_ns=50.0, forward_ns=200.0)
    src = random.integers(0, 64, 300_000)
    dst = (src + random.integers(1, 64, src.size)) % 64
    release = np.cumsum(random.exponential(64 / 100 / 64 / 0.7, src.size))
    return {
        "64 B all-to-all, 256 endpoints": (
            nets.switch(256, link_GBps=100.0, latency_ns=50.0, forward_ns=200.0),
            one_way_program("all_to_all", 256, 64.0 * 256),
            64.0,
        ),
        "64 B all-to-all, 1,024 endpoints": (
            nets.switch(1024, link_GBps=100.0, latency_ns=50.0, forward_ns=200.0),
            one_way_program("all_to_all", 1024, 64.0 * 1024),
            64.0,
        ),
        "direct all-reduce, 16 endpoints": (
            nets.switch(16, link_GBps=100.0, latency_ns=50.0, forward_ns=200.0),
            all_reduce_program("direct", 16, 16 * 64.0 * 1000),
            64.0,
        ),
        "random 64 B at load 0.7": (one, Program(src, dst, np.full(src.size, 64.0), release_ns=release), 64.0),
        "all-to-all on an 8 x 8 torus": (
            nets.torus((8, 8), link_GBps=100.0, latency_ns=50.0, forward_ns=50.0),
            one_way_program("all_to_all", 64, 64 * 64.0 * 40),
            64.0,
        ),
    }


def plain_event_loop(n: int, size: float, rate: float, latency: float, forward: float) -> tuple[float, int]:
    """The 64 B all-to-all behind one switch with heapq: the competitor. Returns (finish_ns, packets)."""
    serial = size / rate
    events: list[tuple[float, int, int, int]] = []
    number = 0
    out_free = [0.0] * n
    finish = 0.0
    for s in range(n):
        heapq.heappush(events, (0.0, number, s, 1))
        number += 1
    sent = 0
    while events:
        at, _, s, k = heapq.heappop(events)
        if k > 0:  # source s sends its k-th packet, which will be at the switch after flight and forwarding
            heapq.heappush(events, (at + latency + forward, number, (s + k) % n, -1))
            number += 1
            sent += 1
            if k + 1 < n:
                heapq.heappush(events, (at + serial, number, s, k + 1))
                number += 1
        else:
            out_free[s] = max(out_free[s], at) + serial
            finish = max(finish, out_free[s] + latency)
    return finish, sent


def cpu_and_wall(work: Callable[[], Any]) -> tuple[float, float]:
    """CPU and wall seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything, print a table, keep the raw samples; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/fabric.json"))
    given = parser.parse_args(argv)
    cases = workloads()
    loop_s: list[float] = []
    compiled = vars(simulation)["run"]

    def timed(*arguments: Any) -> Any:
        start = time.process_time()
        result = compiled(*arguments)
        loop_s.append(time.process_time() - start)
        return result

    vars(simulation)["run"] = timed
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in [*cases, "plain Python, 256 endpoints"]}
    simulate(nets.switch(2, link_GBps=1.0, latency_ns=1.0), one_way_program("send", 2, 64.0))  # compile first
    for _ in range(given.rounds):
        for name, (net, program, grain) in cases.items():
            out: list[Any] = []
            cpu, wall = cpu_and_wall(
                lambda n=net, p=program, g=grain, o=out: o.append(simulate(n, p, packet_bytes=g))  # type: ignore[misc]
            )
            samples[name].append(
                {"cpu_s": cpu, "wall_s": wall, "loop_cpu_s": loop_s[-1], "packets": float(out[0].packets)}
            )
        cpu, wall = cpu_and_wall(lambda: plain_event_loop(256, 64.0, 100.0, 50.0, 200.0))
        samples["plain Python, 256 endpoints"].append(
            {"cpu_s": cpu, "wall_s": wall, "loop_cpu_s": cpu, "packets": 256 * 255.0}
        )
    vars(simulation)["run"] = compiled
    print(f"{'packets a second of one core':36s}{'whole call':>14s}{'compiled loop':>16s}   target 1,000,000")
    rates = {}
    for name, rows in samples.items():
        whole = statistics.median(row["packets"] / row["cpu_s"] for row in rows)
        alone = statistics.median(row["packets"] / row["loop_cpu_s"] for row in rows)
        rates[name] = (whole, alone)
        print(f"{name:36s}{whole:14,.0f}{alone:16,.0f}")
    ratio = rates["64 B all-to-all, 256 endpoints"][0] / rates["plain Python, 256 endpoints"][0]
    print(f"against the plain event loop: {ratio:.1f}x, with credits, buffers and dependencies that it lacks")
    peak = float(subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True).stdout)
    print(f"1,024 endpoints all-to-all, peak memory {peak / 1e9:.2f} GB   target < 2 GB")
    accuracy = _accuracy()
    for line in accuracy["lines"]:
        print(line)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"samples": samples, "peak_bytes": peak, "accuracy": accuracy}, indent=1) + "\n")
    fast = min(alone for name, (_, alone) in rates.items() if "Python" not in name)
    return 0 if fast >= 1e6 and peak < 2e9 and accuracy["ok"] else 1


def _pipelined_over_bound() -> dict[str, dict[str, float]]:
    """Time over bound of the pipelined algorithms: least and most by size on one plane, and over several planes."""
    found: dict[str, dict[str, float]] = {}
    for algorithm in ("double-tree", "in-network-nvls"):
        for size, said in ((2**26, "64 MiB"), (2**30, "1 GiB")):
            one = []
            for n in (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 72):
                fabric = plain_fabric("switch", n, bandwidth_GBps=450.0, latency_ns=250.0)
                row = collective(fabric, size, algorithm=algorithm)
                one.append(row["time_s"] / row["bound_s"])
            found[f"{algorithm}, {said}, one plane, 2 to 72"] = {"least": min(one), "most": max(one)}
        for name in ("dgx-h100", "nvl72"):
            over = {}
            for k in range(10, 31):
                row = collective(fabric_of(topology(name)), 2.0**k, algorithm=algorithm)
                over[k] = row["time_s"] / row["bound_s"]
            large = [ratio for k, ratio in over.items() if k >= 26]
            found[f"{algorithm}, {name}, 64 MiB to 1 GiB"] = {"least": min(large), "most": max(large)}
            found[f"{algorithm}, {name}, 1 KiB to 1 GiB"] = {"least": min(over.values()), "most": max(over.values())}
    return found


def _accuracy() -> dict[str, Any]:
    with (DATA / "astrasim_allreduce.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    equal = sum(
        astra_sim_all_reduce_ns(
            row["topology"],
            row["algorithm"],
            int(row["n_accelerators"]),
            int(row["size_B"]),
            bandwidth_GiBps=float(row["bandwidth_GiBps"]),
            latency_ns=float(row["link_latency_ns"]),
            backend=row["backend"],
        )
        == int(row["time_ns"])
        for row in rows
    )
    lines = [f"ASTRA-sim rows equal to the nanosecond: {equal} of {len(rows)}"]
    worst, above = 0.0, {}
    for algorithm in ALL_REDUCE:
        for n in (2, 8, 64):
            row = collective(
                plain_fabric("switch", n, bandwidth_GBps=450.0, latency_ns=250.0), 2**26, algorithm=algorithm
            )
            if algorithm in PIPELINED:
                above[f"{algorithm} {n}"] = row["time_s"] / row["bound_s"]
            else:
                worst = max(worst, abs(row["time_s"] / row["closed_form_s"] - 1))
    lines.append(f"simulation against closed form without contention, worst: {worst:.1e}")
    lines.append("pipelined algorithms over their bound: " + ", ".join(f"{k} {v:.3f}" for k, v in above.items()))
    planes = _pipelined_over_bound()
    lines += [f"{name}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()) for name, row in planes.items()]
    nvl72 = fabric_of(topology("nvl72"))
    ring, nvls = (collective(nvl72, 2**30, algorithm=name) for name in ("ring", "in-network-nvls"))
    gain = ring["time_s"] / nvls["time_s"]
    formula = ring["closed_form_s"] / nvls["closed_form_s"]
    lines.append(f"nvl72, 1 GiB, NVLS style against a ring: {gain:.3f}x simulated, {formula:.3f}x by closed form")
    result: dict[str, Any] = {"astra_equal": equal, "worst_closed_form": worst, "pipelined": above}
    result |= {"pipelined_large": planes, "nvls_gain": gain, "nvls_gain_closed_form": formula}
    many = {n: _nvls_over_closed_form(n) for n in (72, 128, 256, 512)}
    lines.append("NVLS style over its closed form, 1 GiB: " + ", ".join(f"{n} {v:.3f}" for n, v in many.items()))
    lowest = min(*above.values(), *(least for row in planes.values() for least in row.values()))
    ok = equal == len(rows) and worst < 1e-9 and lowest >= 1 - 1e-9 and max(many.values()) <= 1.05
    measured, ports = _measured(), _ports()
    result |= {"nvls_many": many, "measured": measured["groups"], "ports": ports["rows"]}
    return {**result, "lines": lines + measured["lines"] + ports["lines"], "ok": bool(ok and measured["ok"])}


def _nvls_over_closed_form(n: int) -> float:
    row = collective(
        plain_fabric("switch", n, bandwidth_GBps=450.0, latency_ns=250.0), 2**30, algorithm="in-network-nvls"
    )
    return float(row["time_s"] / row["closed_form_s"])


def _measured() -> dict[str, Any]:
    """Curves of measured collectives against rows held out; at least 90 % within 10 % from 1 MiB on."""
    groups: dict[str, dict[str, float]] = {}
    found = curves.judge(("hold", "transfer"))
    for row in found:
        one = groups.setdefault(
            f"{row['role']} {row['system']} {row['curve']}", {"rows": 0, "mean": 0.0, "worst": 0.0}
        )
        one["rows"] += 1
        one["mean"] += abs(row["error"])
        one["worst"] = max(one["worst"], abs(row["error"]))
    lines = ["measured collectives, rows of 1 MiB and more that no curve has seen:"]
    for name, one in groups.items():
        one["mean"] /= one["rows"]
        lines.append(f"  {name:44s}{one['rows']:4.0f} rows, mean {one['mean']:6.1%}, worst {one['worst']:6.1%}")
    held = [abs(row["error"]) for row in found if row["role"] == "hold"]
    within = sum(error <= 0.10 for error in held)
    lines.append(f"  held out: {within} of {len(held)} within 10 %, mean {statistics.mean(held):.1%}")
    for size in (16 * 1024, 2**20, 2**26, 2**30):
        times = [
            f"{name} x {n} {curves.collective_time(name, 'all_reduce', n, size).time_s * 1e6:,.1f} us"
            for name, n in (("h100", 8), ("b200", 8), ("gb200", 72))
        ]
        lines.append(f"  all-reduce of {size:,} B: " + ", ".join(times))
    for where, n in (("h100", 2), ("h100", 8), ("a100", 8), ("gb200", 72)):
        gains = [
            f"{said} {compressed_collective(where, 'all_reduce', n, 2**30, coder)['speedup']:.3f}"
            for said, coder in (
                ("free", Coder(1.486)),
                ("in the switch", Coder(1.486, in_switch=True)),
                ("600 GB/s, 10 us, not overlapped", Coder(1.486, 600, 600, 10.0, overlapped=False)),
            )
        ]
        lines.append(f"  ratio 1.486 on 1 GiB over {n} {where}, coder: " + ", ".join(gains))
    return {"groups": groups, "lines": lines, "ok": within >= 0.9 * len(held)}


def _ports() -> dict[str, Any]:
    """Port to port of the three classes of UALink switches at 400G ports, idle and loaded, and with errors."""
    rows, lines = [], ["port to port at 400G ports, 32 ports, 256 B (p50, p99, p99.9 ns):"]
    wire = link("ualink-400g")
    for name in ("ualink-25t", "ualink-50t", "ualink-100t"):
        for rate, load in ((1e-6, 0.0), (1e-6, 0.5), (1e-6, 0.9), (1e-3, 0.5), (1.3e-3, 0.5)):
            row = port_to_port(wire, switch(name), rate, ports=32, load=load)
            rows.append(row)
            lines.append(
                f"  {name}, limit {row['limit_ns']:g}, BER {rate:g}, load {load:g}: {row['p50_ns']:.1f}, "
                f"{row['p99_ns']:.1f}, {row['p999_ns']:.1f}; {row['replays']} replays"
            )
    return {"rows": rows, "lines": lines}


if __name__ == "__main__":
    raise SystemExit(main())
