"""What compression buys in a memory channel, and where it costs: ``python -m benchmarks.channel``.

Line sizes come from the bundled real sample coded with ``huffman`` (or from a histogram file given as argument).
Headline: memory × packing, gains beside closed forms. Sensitivity: one parameter at a time, and latency against load.
Baseline: block codecs in the same place. Order: true against shuffled line sizes of the bundled sample. Speed:
accesses a second of the compressed channel against the bare memory engine, same accesses, interleaved rounds. Raw
samples go to ``benchmarks/results/channel.json``, plots beside.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.channel_order import order_rows, print_rows
from linepress.stages.channel.case import ChannelCase
from linepress.stages.channel.extras import block_rows, capacity_row, fault_rows, load_rows, sweep_rows
from linepress.stages.channel.inputs import LineSizes, from_histogram, from_tensors
from linepress.stages.channel.row import channel_case, prepare
from linepress_hardware.channel.config import default_config
from linepress_hardware.channel.simulate import Timing, run
from linepress_hardware.channel.translation import expand_static
from linepress_hardware.channel.workloads import random
from linepress_hardware.dram import part_names, simulate

RESULTS = Path(__file__).parent / "results"
SAMPLE = Path(__file__).parents[1] / "suites" / "linepress_suites" / "data"
WEIGHTS = SAMPLE / "whisper-tiny-bf16.safetensors"
KV = SAMPLE / "smollm2-135m-instruct-kv-handbook-512.safetensors"
PACKINGS = ("stream", "pairs", "spill", "classes:set=auto", "slots:slot=auto", "groups:lines=48:size=33")
SWEEPS = ("axi_outstanding", "metadata_cache_bytes", "decode_latency_ns", "line_buffer_lines", "footprint_bytes")
KV_MEMORIES = ("hbm3", "ddr5", "lpddr5x")
"""Memories of the KV rows, which simulate writes as well and take longer."""
ROUNDS = 5
SPEED_ACCESSES = 100_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything, print tables, keep the raw samples and plots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("histogram", nargs="?", type=Path, help="line sizes instead of the bundled sample")
    parser.add_argument("--memory", action="append", help="memory parts (default: all)")
    parser.add_argument("--quick", action="store_true", help="hbm3 and ddr5 only, no plots")
    arguments = parser.parse_args(argv)
    memories = arguments.memory or (["hbm3", "ddr5"] if arguments.quick else part_names())
    sizes = _sizes(arguments.histogram)
    base = _case(sizes["weights"])
    document: dict[str, Any] = {"sizes": {k: {"label": s.label, "lines": s.lines} for k, s in sizes.items()}}
    document["headline"] = headline(sizes, memories)
    document["sweeps"] = [row for name in SWEEPS for row in sweep_rows(base, name)]
    document["load_curve"] = [
        row for pattern in ("random", "sequential") for row in load_rows(replace(base, workload=pattern))
    ]
    document["block_baseline"] = block_rows(base)
    document["capacity"] = capacity_row(base)
    document["faults"] = fault_rows(base)
    document["order"] = order_rows()
    document["speed"] = speed(base)
    _print(document)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "channel.json"
    path.write_text(json.dumps(document, indent=1, default=float), encoding="utf-8")
    print(f"raw samples {path}")
    if not arguments.quick:
        for plot in plots(document):
            print(f"plot {plot}")
    return 0


def _sizes(histogram: Path | None) -> dict[str, LineSizes]:
    if histogram is not None:
        return {"weights": from_histogram(histogram)}
    weights = from_tensors(str(WEIGHTS), ["huffman"], layout=None, max_bytes=None)
    kv = from_tensors(str(KV), ["huffman"], layout="channel", max_bytes=None)
    return {"weights": weights[0], "kv": kv[0]}


def _case(sizes: LineSizes) -> ChannelCase:
    """The published engine (17.5 ns, one line a cycle), so that memory and packing are what varies."""
    config = default_config()
    return ChannelCase(
        memory="hbm3",
        packing="stream",
        workload="random",
        codec=sizes.codec,
        data=sizes.data,
        bits_histogram=sizes.histogram,
        table_bytes=sizes.table_bytes,
        decode_latency_ns=config.decode_latency_ns,
        encode_latency_ns=config.encode_latency_ns,
        decode_interval_ns=config.decode_interval_ns,
        seed=1,
    )


def headline(sizes: dict[str, LineSizes], memories: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the channel stage for every data × memory × packing."""
    return [
        channel_case(replace(_case(found), memory=memory, packing=packing))
        for found in sizes.values()
        for memory in memories
        if found.data == "weights" or memory in KV_MEMORIES
        for packing in PACKINGS
    ]


def speed(case: ChannelCase) -> dict[str, Any]:
    """Accesses a second: bare engine on plain lines, plain channel, compressed channel; interleaved rounds."""
    _, _, study = prepare(replace(case, n_requests=SPEED_ACCESSES))
    stream = random(SPEED_ACCESSES, study.lines, seed=1)
    address = (stream.line * 64).astype(np.uint64)
    layout = replace(study.subject.layout, lines=study.lines)
    part = study.memory.part

    def bare() -> None:
        simulate(part, address, stream.is_write)

    def plain() -> None:
        study.plain_over(stream)

    def compressed() -> None:
        plan = expand_static(stream, layout, atom_bytes=study.memory.atom_bytes, config=study.config)
        run(stream, plan, study.memory, study.config, Timing.compressed(study.config))

    samples: dict[str, list[float]] = {"bare_engine": [], "plain_channel": [], "compressed_channel": []}
    for work in (bare, plain, compressed):
        work()
    for _ in range(ROUNDS):
        for name, work in zip(samples, (bare, plain, compressed), strict=True):
            begin = time.perf_counter()
            work()
            samples[name].append(time.perf_counter() - begin)
    rates = {name: SPEED_ACCESSES / statistics.median(seconds) for name, seconds in samples.items()}
    return {
        "accesses": SPEED_ACCESSES,
        "samples_s": samples,
        "accesses_per_s": rates,
        "plain_channel_over_bare_engine": rates["plain_channel"] / rates["bare_engine"],
        "compressed_channel_over_bare_engine": rates["compressed_channel"] / rates["bare_engine"],
    }


def _print(document: dict[str, Any]) -> None:
    print(
        f"{'data':8s}{'memory':9s}{'packing':26s}{'cap':>6s}{'seq GB/s':>16s}{'x (closed)':>14s}{'rand GB/s':>14s}"
        f"{'x (closed)':>14s}{'mixed x':>8s}{'p99 ns':>14s}{'idle +ns':>9s}{'pJ/B':>14s}"
    )
    for r in document["headline"]:
        print(
            f"{r['data']:8s}{r['memory']:9s}{r['packing']:26s}{r['effective_capacity_ratio']:6.3f}"
            f"{r['plain_bandwidth_sequential_GBps']:7.1f} → {r['effective_bandwidth_sequential_GBps']:6.1f}"
            f"{r['gain_sequential']:7.2f} ({r['closed_form_gain_sequential']:.2f})"
            f"{r['plain_bandwidth_random_GBps']:6.1f} → {r['effective_bandwidth_random_GBps']:5.1f}"
            f"{r['gain_random']:7.2f} ({r['closed_form_gain_random']:.2f}){r['gain_mixed']:8.2f}"
            f"{r['plain_latency_p99_ns']:6.0f} → {r['latency_p99_ns']:5.0f}"
            f"{' ' if r['load_sustained'] else '!'}{r['idle_latency_added_ns']:8.1f}"
            f"{r['plain_energy_pJ_per_useful_byte']:6.1f} → {r['energy_pJ_per_useful_byte']:5.1f}"
        )
    for r in document["sweeps"]:
        print(
            f"{r['parameter']:22s} {r['value']:>14,.6g}   sequential x {r['gain_sequential']:.2f}   "
            f"random x {r['gain_random']:.2f}   metadata hit {100 * r['metadata_hit_rate_random']:.1f} %"
        )
    for r in document["load_curve"]:
        kept = "" if r["load_sustained"] else "  (not sustained)"
        print(
            f"{r['pattern']:10s} load {r['load_pct_peak']:4.0f} %   mean {r['plain_latency_mean_ns']:9.1f} → "
            f"{r['latency_mean_ns']:9.1f} ns   p99 {r['plain_latency_p99_ns']:9.1f} → "
            f"{r['latency_p99_ns']:9.1f} ns{kept}"
        )
    for r in document["block_baseline"]:
        print(
            f"block {r['block_bytes']:6d} B: {r['read_amplification']:.1f} B read per useful byte, random "
            f"{r['random_GBps']:.4f} GB/s, sequential {r['sequential_GBps']:.1f} GB/s, "
            f"latency {r['latency_mean_ns']:.0f} ns (closed form {r['closed_form_latency_ns']:.0f})"
        )
    print_rows(document["order"])
    rates = document["speed"]["accesses_per_s"]
    print("speed: " + ", ".join(f"{name} {rate / 1e6:.2f} M accesses/s" for name, rate in rates.items()))


def plots(document: dict[str, Any]) -> list[Path]:
    """Sensitivity and load curves as SVG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    written = []
    for name in SWEEPS:
        rows = [r for r in document["sweeps"] if r["parameter"] == name]
        figure, axes = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
        x = [max(r["value"], 1e-9) for r in rows]
        for pattern in ("sequential", "random"):
            y = [r[f"gain_{pattern}"] for r in rows]
            axes.plot(x, y, marker="o", label=pattern)
            axes.annotate(pattern, (x[-1], y[-1]), textcoords="offset points", xytext=(4, 4))
        axes.axhline(1.0, color="grey", linewidth=0.8)
        axes.set_xscale("symlog", linthresh=max(1e-6, min(v for v in x if v > 1e-9)))
        axes.set_xlabel(name)
        axes.set_ylabel("bandwidth gain over the plain channel")
        written.append(RESULTS / f"channel-{name}.svg")
        figure.savefig(written[-1])
        plt.close(figure)
    figure, axes = plt.subplots(figsize=(5.2, 3.2), layout="constrained")
    for pattern in ("random", "sequential"):
        for prefix, style in (("", "-"), ("plain_", "--")):
            rows = [r for r in document["load_curve"] if r["pattern"] == pattern and r[f"{prefix}load_sustained"]]
            label = f"{pattern}, {'plain' if prefix else 'compressed'}"
            axes.plot(
                [r["load_pct_peak"] for r in rows],
                [r[f"{prefix}latency_mean_ns"] for r in rows],
                style,
                marker="o",
                label=label,
            )
    axes.set_xlabel("offered load, % of pin peak")
    axes.set_ylabel("mean read latency, ns (loads that are sustained)")
    axes.set_yscale("log")
    axes.legend(fontsize=8)
    written.append(RESULTS / "channel-load.svg")
    figure.savefig(written[-1])
    plt.close(figure)
    return written


if __name__ == "__main__":
    raise SystemExit(main())
