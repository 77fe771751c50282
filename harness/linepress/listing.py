"""What linepress knows, as plain rows: codecs, suites, parts of the hardware models, runs, claims."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linepress.records.place import RunPlace

Rows = list[dict[str, Any]]


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
    card = getattr(codec, "card", None)
    if card is None:
        return None
    formats = sorted(FORMATS.values(), key=lambda f: f.name != "bf16")
    taken = next((f for f in formats if not isinstance(codec, LineCodec) or codec.supports(f)), None)
    return None if taken is None else {"format": taken.name, **asdict(card(taken))}


def suites() -> Rows:
    """Suites that come with linepress."""
    from linepress.suite import list_suites

    return list_suites()


def memories() -> Rows:
    """Memory parts of the channel model."""
    from linepress_hardware.dram import load_part, part_names

    rows = []
    for name in part_names():
        part = load_part(name)
        rows.append(
            {
                "memory": name,
                "title": part.title,
                "channel_peak_GBps": part.peak_GBps,
                "atom_bytes": part.atom_bytes,
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
    """Runs under ``folder``, newest first; a damaged or foreign record is listed with what is wrong."""
    from linepress.records.found import found_runs

    rows = [
        {"run": str(run.place), "status": "unreadable", "problem": run.problem, "updated_at": ""}
        if run.manifest is None
        else _run_row(run.place, run.manifest)
        for run in found_runs(folder)
    ]
    return sorted(rows, key=lambda row: str(row["updated_at"]), reverse=True)


def _run_row(path: RunPlace, manifest: dict[str, Any]) -> dict[str, Any]:
    suite, git = manifest.get("suite") or {}, manifest.get("git") or {}
    counts = [c for c in (manifest.get("counts") or {}).values() if isinstance(c, dict)]
    commit = str(git.get("commit") or "")[:12]
    return {
        "run": str(path),
        "suite": suite.get("name", ""),
        "commit": commit + (" (dirty)" if commit and git.get("dirty") else ""),
        "status": manifest.get("status", ""),
        "ok": sum(int(c.get("ok") or 0) for c in counts),
        "failed": sum(int(c.get("failed") or 0) for c in counts),
        "planned": sum(int(c.get("planned") or 0) for c in counts),
        "updated_at": manifest.get("updated_at", ""),
        "age": age(str(manifest.get("updated_at") or "")),
    }


def age(then: str, now: datetime | None = None) -> str:
    """``3 h ago`` for an ISO 8601 moment; empty for anything else."""
    try:
        moment = datetime.fromisoformat(then)
    except ValueError:
        return ""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    passed_s = ((now or datetime.now(UTC)) - moment).total_seconds()
    if passed_s < 0:
        return "in the future; check the clock"
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if passed_s >= size_s:
            return f"{int(passed_s // size_s)} {unit} ago"
    return "now"


KINDS: dict[str, Callable[[], Rows]] = {
    "codecs": codecs,
    "suites": suites,
    "memories": memories,
    "accelerators": accelerators,
    "models": models,
    "racks": racks,
    "links": links,
    "switches": switches,
    "topologies": topologies,
    "runs": runs,
    "claims": claims,
}
