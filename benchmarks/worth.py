"""What ratios buy, as a page: ``python -m benchmarks.worth [--write]`` makes docs/worth.md.

1.5x on weights and 1.6x on KV, Llama-3.1-8B and 70B, five accelerators: tokens/s, users, devices, racks, power and
money, each with the band of `linepress_hardware.inference.band`. Channel gains are those of the channel stage with
the bundled samples on the part's kind of memory, as a share of the ratio there; where a gain has not converged the
closed form stands for it and the page says so.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from linepress.stages.channel.case import ChannelCase
from linepress.stages.channel.inputs import from_tensors
from linepress.stages.channel.row import channel_case
from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.channel.config import LINE_BYTES, default_config
from linepress_hardware.inference.band import residuals
from linepress_hardware.inference.compression import PLAIN, Compression
from linepress_hardware.inference.cost import energy_and_cost
from linepress_hardware.inference.scenario import Scenario
from linepress_hardware.inference.system import evaluate
from linepress_hardware.racks.racks import chips_per_rack

PAGE = Path(__file__).parents[1] / "docs" / "worth.md"
SAMPLE = Path(__file__).parents[1] / "suites" / "linepress_suites" / "data"
SAMPLES = {
    "weights": (SAMPLE / "whisper-tiny-bf16.safetensors", None),
    "kv": (SAMPLE / "smollm2-135m-instruct-kv-handbook-512.safetensors", "channel"),
}
WEIGHT_RATIO, KV_RATIO = 1.5, 1.6
MODELS = ("llama-3.1-8b", "llama-3.1-70b")
PARTS = {"h100": "hbm3", "b200": "hbm3e", "mi300x": "hbm3", "rngd": "hbm3", "rebel-quad": "hbm3e"}
SHORT, LONG = 8192, 131072
USERS = 1000


@dataclass(frozen=True)
class Share:
    """Share of a ratio that a channel turns into bandwidth: the best packing's, and whether it was simulated.

    `most` is what the port carries over what the plain channel streams: no gain is above it.
    """

    packing: str
    share: float
    half_width: float
    simulated: bool
    most: float

    def gain(self, ratio: float) -> float:
        """Bandwidth gain of data of another ratio on the same channel."""
        return max(1.0, min(ratio * self.share, self.most))


@cache
def channel_share(memory: str, data: str) -> Share:
    """Gain over ratio of a stream on one memory, the better of two packings."""
    config = default_config()
    path, layout = SAMPLES[data]
    (sizes,) = from_tensors(str(path), ["huffman"], layout=layout, max_bytes=None)
    case = ChannelCase(
        memory=memory,
        packing="stream",
        workload="sequential",
        codec=sizes.codec,
        data=sizes.data,
        bits_histogram=sizes.histogram,
        table_bytes=sizes.table_bytes,
        decode_latency_ns=config.decode_latency_ns,
        encode_latency_ns=config.encode_latency_ns,
        decode_interval_ns=config.decode_interval_ns,
        # A step reads a cache and appends one token of it, so KV is streamed as it lies.
        mode="offline",
        seed=1,
    )
    found = []
    for packing in ("stream", "classes:set=auto"):
        row = channel_case(replace(case, packing=packing))
        gain = row["gain_sequential"]
        simulated = gain is not None and math.isfinite(gain)
        value = gain if simulated else row["closed_form_gain_sequential"]
        width = (row.get("gain_sequential_half_width_pct") or 0.0) / 100 if simulated else 0.0
        most = LINE_BYTES / config.line_transfer_ns / row["plain_bandwidth_sequential_GBps"]
        found.append(Share(packing, value / row["effective_capacity_ratio"], width, simulated, most))
    return max(found, key=lambda one: (one.simulated, one.share))


def devices_for(name: str, part: str) -> int:
    """Fewest devices, a power of two, that hold the model and one plain user of `LONG` tokens."""
    tp = 1
    while evaluate(name, part, Scenario(context_tokens=LONG, tp=tp), PLAIN)["plain_largest_batch"] < 1:
        tp *= 2
    return tp


def rows() -> list[dict[str, Any]]:
    """One row a model and part."""
    out = []
    for name in MODELS:
        for part_name, memory in PARTS.items():
            part, tp = accelerator(part_name), devices_for(name, part_name)
            weights, kv = channel_share(memory, "weights"), channel_share(memory, "kv")
            what = Compression(
                WEIGHT_RATIO,
                KV_RATIO,
                weight_bandwidth_gain=weights.gain(WEIGHT_RATIO),
                kv_bandwidth_gain=kv.gain(KV_RATIO),
                decode_latency_ns=default_config().decode_latency_ns,
            )
            fits = evaluate(name, part_name, Scenario(context_tokens=SHORT, tp=tp), what)
            batch = max(1, fits["plain_largest_batch_low"])
            same = evaluate(name, part_name, Scenario(context_tokens=SHORT, tp=tp, batch=batch), what)
            more = max(1, fits["largest_batch_low"])
            full = evaluate(name, part_name, Scenario(context_tokens=SHORT, tp=tp, batch=more), what)
            far = evaluate(name, part_name, Scenario(context_tokens=LONG, tp=tp), what)
            replicas = [math.ceil(USERS / users) for users in (batch, more)]
            rack = chips_per_rack(part.name)
            money = [
                energy_and_cost(part, tp, rate)
                for rate in (same["expected_plain_tokens_per_s"], full["expected_tokens_per_s"])
            ]
            out.append(
                {
                    "model": name,
                    "part": part,
                    "tp": tp,
                    "same": same,
                    "full": full,
                    "users": (batch, more),
                    "users_high": (fits["plain_largest_batch"], fits["largest_batch"]),
                    "far": (far["plain_largest_batch_low"], far["largest_batch_low"]),
                    "far_high": (far["plain_largest_batch"], far["largest_batch"]),
                    "devices": tuple(n * tp for n in replicas),
                    "racks": tuple(None if rack.chips is None else math.ceil(n * tp / rack.chips) for n in replicas),
                    "rack_status": rack.status,
                    "kW": tuple(
                        None if one["power_W"] is None else one["power_W"] * n / 1e3
                        for one, n in zip(money, replicas, strict=True)
                    ),
                    "usd": tuple(one["cost_usd_per_million_tokens"] for one in money),
                }
            )
    return out


def _where(row: dict[str, Any]) -> str:
    return f"{row['model']}, {row['tp']} {row['part'].name}"


def _pair(values: Sequence[float | None], form: str = ",.0f") -> str:
    return " → ".join("–" if value is None else f"{value:{form}}" for value in values)


def _users(low: Sequence[int], high: Sequence[int]) -> str:
    ends = [f"{a:,}" if a == b else f"{a:,}–{b:,}" for a, b in zip(low, high, strict=True)]
    return " → ".join(ends)


def _rate(row: dict[str, Any], key: str) -> str:
    return f"{row[key]:,.0f} ({row[key + '_low']:,.0f}–{row[key + '_high']:,.0f})"


INTRO = """\
# What {weights}x on weights and {kv}x on KV buy

Llama-3.1 in bf16, both *packed* ratios, decoders beside every memory channel. Made by `python -m benchmarks.worth
--write`; any other case: `linepress system MODEL ACCELERATOR --weight-ratio … --kv-ratio …`.

## Tokens a second, users

Devices: the fewest, a power of two, that hold the model and one user of {long}k plainly. Users: sequences that fit
90 % of the memory; the low end less what an engine keeps for itself. Tokens/s at {short}k: with the users that fit
plainly, and with all that fit compressed; in brackets the band, in % of a token's time in the last column (c: carried
over from another part).

| model, devices | users, {short}k | users, {long}k | tokens/s, plain | compressed | speed-up | all users | band |
|---|---|---|---|---|---|---|---|"""
MONEY = """
## Racks, power and money for {users:,} users at {short}k

Replicas of those devices, each with all users that fit (low end). Power is rated power with the host factor. USD:
device price over its lifetime and electricity, where a price is known (the talk's), at the expected rate, so its band
is the rate's.

| model, devices | devices for all | racks | kW | USD a million tokens | standing of racks, cost |
|---|---|---|---|---|---|"""
SOURCES = """
## Where the numbers come from

| memory | data | share of the ratio that a stream gains | at most, by the port | packing | |
|---|---|---|---|---|---|"""
NOTES = """
- Time: bytes and operations of the roofline at the shares of peak and the host time of measured machines
  ([MODEL.md](../hardware/MODEL.md), What a machine reaches).
- The band does not hold: that no decoder stands in any of these parts today; that the ratios are those of another
  model (`linepress run` measures yours); prefill, which gains nothing above the ridge.
- Gains are against the plain channel at its best. On HBM3E the port (512 bits at 1.2 GHz) carries only some 6 % more
  than the plain channel streams, so there compression buys capacity, and users, not bandwidth.
- Users grow faster than the ratio because the bytes saved on weights become KV.
- RNGD and REBEL-Quad are joined by PCIe 5.0 with assumed latencies; their 70B rows lean on that."""


def page() -> str:
    """The page as Markdown."""
    found = rows()
    memories = dict.fromkeys(PARTS.values())
    shares = {(memory, data): channel_share(memory, data) for memory in memories for data in SAMPLES}
    short, long = SHORT // 1024, LONG // 1024
    lines = [INTRO.format(weights=WEIGHT_RATIO, kv=KV_RATIO, long=long, short=short)]
    for row in found:
        same, full = row["same"], row["full"]
        speed = [same[f"expected_speedup{end}"] for end in ("", "_low", "_high")]
        cells = [
            _where(row),
            _users(row["users"], row["users_high"]),
            _users(row["far"], row["far_high"]),
            _rate(same, "expected_plain_tokens_per_s"),
            _rate(same, "expected_tokens_per_s"),
            f"{speed[0]:.2f} ({speed[1]:.2f}–{speed[2]:.2f})",
            _rate(full, "expected_tokens_per_s"),
            f"±{100 * same['band_share']:.0f}{'c' if same['band_carried'] else ''}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(MONEY.format(users=USERS, short=short))
    for row in found:
        cells = [
            _where(row),
            _pair(row["devices"]),
            _pair(row["racks"]),
            _pair(row["kW"], ",.1f"),
            _pair(row["usd"], ",.3f"),
            f"{row['rack_status']}, {row['same']['cost_status']}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(SOURCES)
    for (memory, data), share in shares.items():
        how = "simulated" + (f", ± {share.half_width:.1%}" if share.half_width else "")
        how = how if share.simulated else "closed form: the simulated gain has not converged"
        lines.append(f"| {memory} | {data} | {share.share:.2f} | {share.most:.2f} | `{share.packing}` | {how} |")
    lines.append(NOTES)
    for own in (row for row in found if not row["same"]["band_carried"]):
        lines.append(f"- Band of {own['part'].name}: {own['same']['band_source']}.")
        break
    every = residuals()
    lines.append(f"- Band carried over (no row of that part is measured): {every.carried_what}; constants of H100.")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"replace {PAGE.name}")
    given = parser.parse_args(argv)
    text = page()
    if given.write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
