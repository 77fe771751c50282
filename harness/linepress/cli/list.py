"""``linepress list KIND``: codecs, suites, parts of the hardware models, runs, claims."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from linepress.cli.common import PLACE, json_option, print_json, stdout

if TYPE_CHECKING:
    from linepress.records.place import RunPlace

Rows = list[dict[str, Any]]
# column -> heading; columns that are not named stay in --json
SHOWN: dict[str, dict[str, str]] = {
    "codecs": {"codec": "codec", "kind": "kind", "version": "version", "summary": "what it does", "source": "source"},
    "suites": {"suite": "suite", "version": "version", "title": "title", "stages": "stages", "path": "file"},
    "memories": {
        "memory": "memory",
        "title": "title",
        "channel_peak_GBps": "channel, GB/s",
        "atom_bytes": "atom, B",
        "channels_per_device": "channels",
    },
    "accelerators": {
        "accelerator": "accelerator",
        "memory": "memory",
        "capacity_bytes": "capacity",
        "bandwidth_GBps": "GB/s",
        "power_W": "W",
        "status": "standing",
        "source": "source",
    },
    "models": {
        "model": "model",
        "parameters": "parameters",
        "layers": "layers",
        "hidden": "hidden",
        "kv_heads": "KV heads",
        "kv_bytes_per_token_bf16": "KV, B/token (bf16)",
    },
    "engines": {
        "engine": "engine",
        "max_tokens": "tokens a step",
        "max_sequences": "sequences",
        "chunked_prefill": "prompts in pieces",
        "reserve_answer": "answers reserved",
        "block_tokens": "block, tokens",
        "prefix_cache": "prefix cache",
    },
    "kernels": {
        "accelerator": "accelerator",
        "linear_error": "linear layers, mean error",
        "attention_error": "attention, mean error",
        "rows": "measured kernels",
        "host_step_us": "host, µs a step",
        "source": "source",
    },
    "racks": {"rack": "rack", "title": "title", "accelerator": "accelerator", "chips": "chips", "power_W": "W"},
    "links": {
        "link": "link",
        "title": "title",
        "rate_Gbps": "Gb/s one way",
        "links_per_accelerator": "links a device",
        "payload_max_bytes": "payload, B",
        "efficiency_64B_pct": "64 B efficiency, %",
        "hop_ns": "hop, ns",
        "status": "standing",
        "source": "source of the rate",
    },
    "switches": {
        "switch": "switch",
        "title": "title",
        "capacity_Tbps": "Tb/s",
        "ports_200G": "200G ports",
        "ports_800G": "800G ports",
        "latency_ns": "latency, ns",
        "reduces": "reduces",
        "status": "standing",
        "source": "source of the capacity",
    },
    "topologies": {
        "topology": "topology",
        "kind": "kind",
        "accelerators": "accelerators",
        "racks": "racks",
        "link": "link",
        "switch": "switch",
        "links": "links",
        "switches": "switches",
        "accelerator_GBps": "GB/s a device",
        "medium": "medium",
        "status": "standing",
    },
    "runs": {
        "run": "run",
        "suite": "suite",
        "commit": "commit",
        "status": "status",
        "ok": "ok",
        "failed": "failed",
        "planned": "planned",
        "age": "age",
    },
    "claims": {
        "claim": "claim",
        "title": "title",
        "claimed": "claimed",
        "tolerance": "counts as equal",
        "checked_by": "checked by",
    },
}


def codecs() -> Rows:
    """Every codec with its sentence, its source, its options, a valid example and the card of its hardware."""
    from dataclasses import fields

    from linepress_codecs.registry import codecs as known
    from linepress_codecs.registry import example

    return [
        {
            "codec": codec_id,
            "kind": cls.kind,
            "version": cls.format_version,
            "summary": cls.summary,
            "source": cls.source,
            "options": [f.name for f in fields(cls)],  # type: ignore[arg-type]
            "example": example(cls),
            "from": cls.__module__.split(".")[0],
            "card": _card(codec_id),
        }
        for codec_id, cls in known().items()
    ]


def _card(codec_id: str) -> dict[str, Any] | None:
    """Hardware card of a codec with its default options: each figure with its value, unit, status and source.

    For bf16, or the first format that the codec takes. None for a codec that has no card.
    """
    from dataclasses import asdict

    from linepress_codecs.contracts import LineCodec
    from linepress_codecs.formats import FORMATS
    from linepress_codecs.registry import make

    codec = make(codec_id, {})
    formats = sorted(FORMATS.values(), key=lambda f: f.name != "bf16")
    taken = next((f for f in formats if not isinstance(codec, LineCodec) or codec.supports(f)), None)
    card = None if taken is None else codec.card(taken)
    if taken is None or card is None:
        return None
    figures = {name: figure for name, figure in asdict(card).items() if figure is not None}
    return {"format": taken.name, **figures}


def suites() -> Rows:
    """Suites that come with linepress."""
    from linepress.suite.model import list_suites

    return list_suites()


def memories() -> Rows:
    """Memory parts of the channel model."""
    from linepress_hardware.dram import Part, load_memory, memory_names

    rows = []
    for name in memory_names():
        part = load_memory(name)
        rows.append(
            {
                "memory": name,
                "title": part.title,
                "channel_peak_GBps": part.peak_GBps,
                "atom_bytes": part.atom_bytes if isinstance(part, Part) else None,
                "channels_per_device": part.channels_per_device,
                "channel_capacity_bytes": part.capacity_bytes,
            }
        )
    return rows


def accelerators() -> Rows:
    """Accelerators of the system model."""
    from linepress_hardware.catalog.accelerators import accelerators as known

    return [
        {
            "accelerator": name,
            "title": part.title,
            "memory": part.main.kind,
            "capacity_bytes": part.capacity_bytes,
            "bandwidth_GBps": None if part.main.bandwidth_Bps is None else part.main.bandwidth_Bps / 1e9,
            "power_W": None if part.power is None else part.power.base,
            "status": part.main.capacity.status,
            "source": part.main.capacity.source,
        }
        for name, part in known().items()
    ]


def models() -> Rows:
    """Built-in model shapes."""
    from linepress_hardware.inference.catalog import models as known

    return [
        {
            "model": name,
            "parameters": shape.parameters,
            "layers": shape.layers,
            "hidden": shape.hidden,
            "kv_heads": shape.kv_heads,
            "kv_bytes_per_token_bf16": shape.kv_bytes_per_token(2.0),
            "source": shape.source,
        }
        for name, shape in known().items()
    ]


def engines() -> Rows:
    """Serving engines whose scheduler rules are data."""
    from linepress_hardware.inference.serving import engines as known

    names = ("max_tokens", "max_sequences", "chunked_prefill", "reserve_answer", "block_tokens", "prefix_cache")
    return [{"engine": name, **{key: getattr(one, key) for key in names}} for name, one in known().items()]


def kernels() -> Rows:
    """Accelerators whose kernels are known by shape, with the error on the measured ones."""
    from linepress_hardware.inference.kernels.forms import all_forms

    return [
        {
            "accelerator": name,
            "linear_error": f"{one.bands['linear'].mean:.1%}",
            "attention_error": f"{one.attention_band:.1%}",
            "rows": sum(band.rows for band in one.bands.values()),
            "host_step_us": one.host_step_us,
            "source": one.source,
        }
        for name, one in all_forms().items()
    ]


def racks() -> Rows:
    """Racks of the system model."""
    from linepress_hardware.racks.racks import racks as known

    return [
        {
            "rack": name,
            "title": one.title,
            "accelerator": one.part.name,
            "chips": one.chips,
            "power_W": None if one.power is None else one.power.base,
            "note": one.note,
        }
        for name, one in known().items()
    ]


def links() -> Rows:
    """Links of the fabric model."""
    from linepress_hardware.fabric.links import links as known

    return [
        {
            "link": name,
            "title": one.title,
            "family": one.family,
            "lanes": one.lanes,
            "rate_Gbps": one.rate_Gbps,
            "links_per_accelerator": one.links,
            "payload_max_bytes": one.framing.payload_max_bytes,
            "efficiency_64B_pct": 100 * one.framing.efficiency(64.0),
            "hop_ns": one.latency_ns,
            "status": one.figures["lane_rate"].status,
            "source": one.figures["lane_rate"].source,
        }
        for name, one in known().items()
    ]


def switches() -> Rows:
    """Switches of the fabric model."""
    from linepress_hardware.fabric.switches import switches as known

    return [
        {
            "switch": name,
            "title": one.title,
            "capacity_Tbps": one.capacity_Gbps / 1e3,
            "ports_200G": one.radix(200.0),
            "ports_800G": one.radix(800.0),
            "latency_ns": one.latency_ns,
            "reduces": "yes" if one.reduces else "no",
            "status": one.figures["capacity"].status,
            "source": one.figures["capacity"].source,
        }
        for name, one in known().items()
    ]


def topologies() -> Rows:
    """Topologies of the fabric model, wired as their files say."""
    from linepress_hardware.fabric.topologies import topologies as known

    return [
        {
            "topology": name,
            "title": one.title,
            "kind": one.kind,
            "accelerators": one.accelerators,
            "racks": one.racks,
            "link": one.link.name,
            "switch": None if one.switch is None else one.switch.name,
            "links": one.links,
            "switches": one.switch_count,
            "accelerator_GBps": one.bandwidth_GBps,
            "bisection_GBps": one.bisection_GBps,
            "medium": one.medium,
            "status": one.status,
            "source": one.source,
        }
        for name, one in known().items()
    ]


def claims() -> Rows:
    """Published claims and how each is checked."""
    from linepress.claims import load_claims

    known = load_claims()
    return [
        {
            "claim": claim.id,
            "title": claim.title,
            "claimed": claim.claimed.text() if claim.claimed else "",
            "tolerance": claim.claimed.tolerance_text() if claim.claimed else "",
            "metric": claim.metric,
            "checked_by": claim.check.by,
            "quote": claim.quote,
            "source": known.source_text(claim),
        }
        for claim in known.claims
    ]


def runs(folder: RunPlace = Path("runs")) -> Rows:
    """Runs under ``folder``, newest first."""
    from linepress.run.folders import runs as found

    return found(folder)


KINDS: dict[str, Callable[[], Rows]] = {
    "codecs": codecs,
    "suites": suites,
    "memories": memories,
    "accelerators": accelerators,
    "models": models,
    "engines": engines,
    "kernels": kernels,
    "racks": racks,
    "links": links,
    "switches": switches,
    "topologies": topologies,
    "runs": runs,
    "claims": claims,
}
EPILOG = """\b
Examples:
  linepress list codecs
  linepress list topologies
  linepress list claims --json
  linepress list runs --folder /data/runs
"""


@click.command(name="list", epilog=EPILOG)
@click.argument("kind", type=click.Choice(list(KINDS)), metavar="KIND")
@click.option("--folder", type=PLACE, metavar="FOLDER|URI", default="runs", help="Where to look for runs.")
@json_option
def command(kind: str, folder: RunPlace, as_json: bool) -> int:
    """List what linepress knows.

    KIND is codecs, suites, memories, accelerators, models, racks, links, switches, topologies, runs or claims.
    """
    from linepress.tables.plain import plain_table
    from linepress.tables.text import show

    rows = runs(folder) if kind == "runs" else KINDS[kind]()
    if as_json:
        print_json(rows)
        return 0
    if not rows:
        where = f" under {folder}; `linepress run smoke` makes one" if kind == "runs" else ""
        stdout().print(f"no {kind}{where}")
        return 0
    show(plain_table(rows, SHOWN[kind]), stdout())
    for row in rows:
        if row.get("problem"):
            stdout().print(f"{row['run']}: {row['problem']}", markup=False)
    return 0
