"""A run folder with invented but plausible numbers, for tests of what reads a record: reports, claims, lists.

Nothing here measures anything; the rows follow the schema and a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linepress.records import RunStore

# codec, kind, variant, ratio as a share of the field bound, decode GB/s, encode GB/s, block bytes
_CODECS: tuple[tuple[str, str, str, float, float, float, int | None], ...] = (
    ("raw", "line", "raw", 0.0, 9.1, 8.8, None),
    ("huffman", "line", "huffman", 0.992, 1.55, 1.21, None),
    ("huffman", "line", "huffman:tables=4", 0.997, 1.41, 0.93, None),
    ("context", "line", "context:layout=channel", 1.03, 0.42, 0.35, None),
    ("window", "line", "window:bits=3", 0.955, 2.3, 2.6, None),
    ("zstd", "block", "zstd:level=3:block=64KiB", 0.845, 0.91, 0.44, 65536),
    ("deflate", "block", "deflate:block=64KiB", 0.84, 0.62, 0.04, 65536),
    ("lz4", "block", "lz4:block=64KiB", 0.67, 4.8, 2.2, 65536),
    ("snappy", "block", "snappy:block=64KiB", 0.665, 5.4, 3.0, 65536),
)
_GROUPS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# kind, format, cast, bound ratio
_DATA = (
    ("weight", "bf16", "", 1.505),
    ("weight", "e4m3", "e4m3:scale=tensor", 1.235),
    ("weight", "e5m2", "e5m2:scale=tensor", 1.452),
    ("key", "bf16", "", 1.575),
    ("value", "bf16", "", 1.512),
)


@dataclass(frozen=True)
class Shape:
    """How large the invented run is: layers, and how often each case is repeated under another tensor name."""

    layers: int = 4
    copies: int = 1
    failing: int = 1
    lossy: int = 0
    prefix: str = "model"


def make_run(path: Path, shape: Shape | None = None, seed: int = 7) -> RunStore:
    """Write a run folder and return its store."""
    shape = shape or Shape()
    rng = np.random.Generator(np.random.PCG64(seed))
    store = RunStore.create(path, _manifest(path.name))
    rows = list(measure_rows(shape, rng))
    store.append("measure", rows)
    store.append("channel", _channel_rows())
    store.append("system", _system_rows())
    store.append("fabric", _fabric_rows())
    store.append("pages", list(pages_rows()))
    store.append("gates", [_gate("lossless-everywhere", True), _gate("fast-decode", False)])
    statuses = [row["status"] for row in rows]
    store.manifest["counts"] = {
        "measure": {"planned": len(rows), **{s: statuses.count(s) for s in ("ok", "failed", "skipped")}}
    }
    store.manifest["status"] = "complete"
    store.save_manifest()
    return store


def measure_rows(shape: Shape, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Rows of the table ``measure``; the first ``failing`` Huffman cases failed, the first ``lossy`` are lossy."""
    failing, lossy = shape.failing, shape.lossy
    for kind, fmt, cast, bound in _DATA:
        groups = _GROUPS if kind == "weight" else (f"{kind}_cache",)
        for layer in range(shape.layers):
            for copy in range(shape.copies):
                for g, group in enumerate(groups):
                    own = bound + 0.02 * np.sin(layer / 3 + g) + 0.004 * float(rng.standard_normal())
                    name = f"{shape.prefix}.layers.{layer}.{group}" + (f".{copy}" if copy else "")
                    for codec in _CODECS:
                        row = _measure_row(name, kind, fmt, cast, layer, group, own, codec, rng)
                        if codec[0] == "huffman" and failing:
                            failing -= 1
                            yield _failed(row)
                            continue
                        if codec[0] == "huffman" and lossy:
                            lossy -= 1
                            row |= {"lossless": False, "mismatch_line": 1042}
                        yield row


def _measure_row(
    name: str,
    kind: str,
    fmt: str,
    cast: str,
    layer: int,
    group: str,
    bound: float,
    codec: tuple[str, str, str, float, float, float, int | None],
    rng: np.random.Generator,
) -> dict[str, Any]:
    codec_id, codec_kind, variant, share, decode, encode, block = codec
    raw = 294_912
    lines = raw // 64
    ratio = max(1.0, bound * share) if share else 1.0
    histogram = np.zeros(514, dtype=np.int64)
    if codec_kind == "line":
        mean = 512 / ratio
        sizes = np.clip(rng.normal(mean, 6 if share else 0, 400).round(), 1, 513).astype(int)
        np.add.at(histogram, sizes, 1)
        histogram *= lines // 400
        payload_bits = int((histogram * np.arange(514)).sum()) * lines // int(histogram.sum())
    else:
        payload_bits = int(8 * raw / ratio)
    packed = int(payload_bits / 8 * (1.0 if codec_kind == "block" else 1.07)) + 600
    noise = 1 + 0.03 * float(rng.standard_normal())
    return {
        "case_key": f"{name}/{variant}/{cast}",
        "status": "ok",
        "seconds": 0.02,
        "host": "node-1",
        "source": "hf://example/model",
        "revision": "0" * 40,
        "tensor": name,
        "kind": kind,
        "layer": layer,
        "group": group,
        "format": fmt,
        "cast": cast,
        "shape": [384, 384],
        "elements": raw // (2 if fmt == "bf16" else 1),
        "lines": lines,
        "codec": codec_id,
        "codec_kind": codec_kind,
        "variant": variant,
        "layout": "channel" if "channel" in variant else "row",
        "line_bytes": 64,
        "block_bytes": block,
        "sampled": False,
        "raw_bytes": raw,
        "payload_bits": payload_bits,
        "payload_bytes": (payload_bits + 7) // 8,
        "packing": "classes" if codec_kind == "line" else "",
        "packed_bytes": packed,
        "payload_ratio": 8 * raw / payload_bits,
        "packed_ratio": raw / packed,
        "bound_name": "field_order0" if fmt == "bf16" else "joint_order0",
        "bound_ratio": bound,
        "bounds": [
            {"name": "field_order0", "bits_per_value": 16 / bound, "ratio": bound},
            {"name": "joint_previous", "bits_per_value": 16 / bound / 1.05, "ratio": bound * 1.05},
        ],
        "above_bound_pct": 100 * (payload_bits / 8 / (raw / bound) - 1),
        "bits_histogram": histogram.tolist() if codec_kind == "line" else None,
        "lossless": True,
        "encode_GBps": encode * noise,
        "decode_GBps": decode * noise,
        "measure_GBps": 3.4 * noise if codec_kind == "line" else None,
        "decode_latency_ns": 14.0 if codec_kind == "line" else None,
        "encode_latency_ns": 17.0 if codec_kind == "line" else None,
        "initiation_interval_ns": 2.5 if codec_kind == "line" else None,
        "card_status": "estimated" if codec_kind == "line" else "",
    }


def _failed(row: dict[str, Any]) -> dict[str, Any]:
    kept = (
        "case_key",
        "tensor",
        "kind",
        "layer",
        "group",
        "format",
        "cast",
        "codec",
        "codec_kind",
        "variant",
        "layout",
    )
    return {k: row[k] for k in kept} | {
        "status": "failed",
        "error_type": "DecodeMismatchError",
        "error": "line 1042, byte 17: decoded 0x3f, stored 0x3e; report the codec's version and this tensor",
    }


def _channel_rows() -> list[dict[str, Any]]:
    rows = []
    for data, ratio in (("weights", 1.49), ("kv", 1.54)):
        for memory, atom in (("hbm3", 64), ("ddr5-4800", 64), ("lpddr5x", 32)):
            for packing, capacity in (("stream", 0.985), ("classes", 0.9), ("groups:lines=48:size=33", 0.965)):
                plain, gain = 700.0 if memory == "hbm3" else 36.0, ratio * capacity
                random = 0.62 if packing == "stream" else 0.99
                random *= 1.0 if atom == 64 else 1.06
                rows.append(
                    {
                        "case_key": f"{data}/{memory}/{packing}",
                        "status": "ok",
                        "workload": "decode",
                        "memory": memory,
                        "packing": packing,
                        "codec": "huffman",
                        "data": data,
                        "format": "bf16",
                        "cast": "",
                        "where_bandwidth_went": {"code": 0.8, "metadata": 0.02, "refresh": 0.08},
                        "payload_ratio": ratio,
                        "effective_bandwidth_sequential_GBps": plain * gain * 0.99,
                        "effective_bandwidth_random_GBps": plain * 0.4 * random,
                        "plain_bandwidth_sequential_GBps": plain,
                        "plain_bandwidth_random_GBps": plain * 0.4,
                        "gain_sequential": gain * 0.99,
                        "gain_random": random,
                        "closed_form_gain_sequential": gain,
                        "closed_form_gain_random": random * 1.02,
                        "effective_capacity_ratio": gain,
                        "latency_p50_ns": 118.0,
                        "latency_p99_ns": 310.0,
                        "plain_latency_p50_ns": 96.0,
                        "plain_latency_p99_ns": 288.0,
                        "metadata_hit_rate": 0.96,
                        "metadata_traffic_ratio": 0.011,
                        "overflows": 12,
                    }
                )
    return rows


def _system_rows() -> list[dict[str, Any]]:
    rows = []
    for model, accelerator, plain in (
        ("llama-3.1-8b", "h100-sxm", 221.0),
        ("llama-3.1-8b", "mi300x", 330.0),
        ("llama-2-7b", "rtx-a6000", 54.0),
    ):
        for scenario, batch, gain in (("chat", 1, 1.46), ("batch-64", 64, 1.39)):
            rows.append(
                {
                    "case_key": f"{model}/{accelerator}/{scenario}",
                    "status": "ok",
                    "model": model,
                    "accelerator": accelerator,
                    "scenario": scenario,
                    "codec": "huffman",
                    "packing": "groups:lines=48:size=33",
                    "memory": "hbm3",
                    "stage": "decode",
                    "context_tokens": 2048,
                    "batch": batch,
                    "weight_ratio": 1.44,
                    "kv_ratio": 1.5,
                    "tokens_per_s": plain * batch**0.8 * gain,
                    "plain_tokens_per_s": plain * batch**0.8,
                    "speedup": gain,
                    "closed_form_speedup": gain * 1.01,
                    "ttft_s": 0.021,
                    "plain_ttft_s": 0.023,
                    "largest_batch": 402,
                    "plain_largest_batch": 208,
                    "devices_needed": 1,
                    "plain_devices_needed": 1,
                    "racks_needed": 0.03,
                    "plain_racks_needed": 0.03,
                    "bound_by": "memory",
                }
            )
    return rows


def _fabric_rows() -> list[dict[str, Any]]:
    """Two sizes through a switch and over a packaged leaf–spine network, which has no closed form."""
    rows = []
    for topology, formula in (("switch", True), ("ualink-1024-leaf-spine", False)):
        for size_bytes, plain_s, time_s in ((65536, 1.1e-5, 1.15e-5), (2**24, 7.6e-5, 5.6e-5)):
            moved = 1.75 * size_bytes / 1e9
            rows.append(
                {
                    "case_key": f"{topology}/{size_bytes}",
                    "status": "ok",
                    "accelerator": "h100-sxm",
                    "link": "NVLink 4" if formula else "ualink-800g",
                    "topology": topology,
                    "operation": "all_reduce",
                    "algorithm": "ring",
                    "codec": "huffman",
                    "data": "kv",
                    "format": "bf16",
                    "cast": "",
                    "packing": "stream",
                    "devices": 8,
                    "size_bytes": size_bytes,
                    "ratio": 1.45,
                    "time_s": time_s,
                    "plain_time_s": plain_s,
                    "bus_bandwidth_GBps": moved / time_s,
                    "plain_bus_bandwidth_GBps": moved / plain_s,
                    "speedup": plain_s / time_s,
                    "method": "closed form and simulation" if formula else "simulation",
                    "closed_form_s": time_s if formula else None,
                    "plain_closed_form_s": plain_s if formula else None,
                    "simulated_s": time_s,
                    "plain_simulated_s": plain_s,
                }
            )
    return rows


def _gate(name: str, passed: bool) -> dict[str, Any]:
    return {
        "case_key": name,
        "status": "ok",
        "gate": name,
        "table": "measure",
        "metric": "min decode_GBps",
        "rule": "at_least",
        "threshold": 0.5,
        "value": 0.9 if passed else 0.3,
        "passed": passed,
        "next_step": "" if passed else "look at the slowest case in the table of all cases",
    }


def _manifest(run_id: str) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "suite": {"name": "invented", "version": 1, "sha256": "ab" * 32, "text": "name: invented\n"},
        "status": "complete",
        "created_at": "2026-01-02T03:04:05+00:00",
        "updated_at": "2026-01-02T03:05:05+00:00",
        "git": {"commit": "c0ffee" * 6 + "c0ff", "dirty": True},
        "packages": {"linepress": "0.1.0", "numpy": "2.4.6", "numba": "0.68.1"},
        "machine": {"host": "node-1", "cpu": "Example CPU", "usable_cores": 2, "memory_bytes": 24_000_000_000},
        "seeds": {"sample": 1},
    }


def pages_rows() -> Iterator[dict[str, Any]]:
    """Two engines' pages under two codecs, by line, page and whole."""
    for contract in ("vllm-0.26", "lmcache-0.5"):
        for codec, ratio in (("context", 1.57), ("zstd:level=3", 1.25)):
            for granularity, unit_bytes in (("line", 64), ("page", 12288), ("object", 12288 * 64)):
                line = granularity == "line"
                yield {
                    "case_key": f"{contract}/{codec}/{granularity}",
                    "status": "ok",
                    "lossless": True,
                    "source": "model-kv-512.safetensors",
                    "fit": "model-kv-other-512.safetensors",
                    "contract": contract,
                    "engine": contract.partition("-")[0],
                    "codec": codec,
                    "granularity": granularity,
                    "units": 12288 * 64 // unit_bytes,
                    "unit_bytes": unit_bytes,
                    "page_bytes": 12288,
                    "ratio": 1.0 if line and codec != "context" else ratio,
                    "own_text_ratio": 1.59 if codec == "context" else None,
                    "key_ratio": 1.64 if codec == "context" else None,
                    "value_ratio": 1.51 if codec == "context" else None,
                    "worst_ratio": 1.0 if line else ratio - 0.05,
                    "fits_half": 0.0,
                    "fits_five_eighths": 0.0,
                    "fits_three_quarters": 1.0,
                    "moved_bytes": 2 * 12288 / ratio,
                    "grew": 0,
                    "table_bytes": 0,
                    "sampled": line and codec != "context",
                }
