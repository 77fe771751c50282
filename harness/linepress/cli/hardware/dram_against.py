"""``linepress dram --against FILE``: measured bandwidth-latency curves beside the model's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from linepress.cli.common import print_json, stdout
from linepress.errors import EXIT_GATE_FAILED, LinepressError, SourceError

if TYPE_CHECKING:
    from linepress_hardware.dram.silicon import Compared, Curves, Errors, Machine

SATURATED_MEAN, SATURATED_WORST = 0.06, 0.15
ADDED_NS = (15.0, 15.0, 15.0, 30.0)
"""What a system must keep: relative error of the saturated share, mean and any curve; ns of latency above idle."""


def against(
    file: str,
    *,
    system: str | None,
    read_pct_is: str | None,
    overrides: dict[str, float],
    mapping: str | None,
    policy: str | None,
    in_flight: int | None,
    shares: int,
    lines: int,
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> int:
    """Compare every system of the file; exit code 1 where one misses a limit."""
    from linepress_hardware.dram import parse_policy, silicon

    found = _curves(file, read_pct_is)
    chosen = [c for c in found if system is None or system.lower() in c.system.lower()]
    if not chosen:
        raise LinepressError(f"{file} has no system with {system!r}: it has {', '.join(c.system for c in found)}")
    documents: list[dict[str, Any]] = []
    drawn: list[tuple[Machine, list[Compared]]] = []
    for curves in chosen:
        m = silicon.machine(
            curves,
            overrides=overrides,
            mapping=mapping,
            policy=None if policy is None else parse_policy(policy),
            in_flight=in_flight,
            shares=shares,
            lines=lines,
        )
        rows = silicon.compare(m, shares=shares, lines=lines, seed=seed)
        errors = silicon.Errors.of(rows)
        documents.append(_document(m, rows, errors))
        drawn.append((m, rows))
        if not as_json:
            _print(documents[-1])
    if plot is not None:
        from linepress.report.plots.silicon import draw

        draw(drawn, plot, lines=lines, seed=seed)
    if as_json:
        print_json({"systems": documents})
    return EXIT_GATE_FAILED if any(d["missed"] for d in documents) else 0


def _curves(file: str, read_pct_is: str | None) -> list[Curves]:
    from linepress_hardware.dram import silicon

    if file == "packaged":
        return silicon.packaged_curves()
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"{file}: cannot be read ({error.strerror or error}); check the path") from None
    except UnicodeDecodeError:
        raise SourceError(f"{file}: not text; give a CSV of measured curves") from None
    return silicon.read_curves(text, file, read_pct_is)


def _missed(errors: Errors) -> list[str]:
    """Limits that are not kept, each in words."""
    from linepress_hardware.dram.silicon import LOADS

    out = []
    if errors.saturated_mean > SATURATED_MEAN:
        out.append(f"saturated share, mean {100 * errors.saturated_mean:.1f} % > {100 * SATURATED_MEAN:g} %")
    if errors.saturated_worst > SATURATED_WORST:
        out.append(f"saturated share, worst {100 * errors.saturated_worst:.1f} % > {100 * SATURATED_WORST:g} %")
    for load, found, limit in zip(LOADS, errors.added_ns, ADDED_NS, strict=True):
        if found > limit:
            out.append(f"latency above idle at {100 * load:g} % load {found:.0f} ns > {limit:g} ns")
    return out


def _document(m: Machine, rows: list[Compared], errors: Errors) -> dict[str, Any]:
    from dataclasses import asdict

    missed = _missed(errors)
    return {
        "system": m.curves.system,
        "memory": m.curves.memory,
        "verdict": "FAIL" if missed else "PASS",
        "missed": missed,
        "saturated_mean_error_pct": 100 * errors.saturated_mean,
        "saturated_worst_error_pct": 100 * errors.saturated_worst,
        "added_mean_abs_error_ns": errors.added_ns,
        "saturated_latency_mean_error_pct": 100 * errors.saturated_latency,
        "part": m.part.name,
        "channels": m.cores.channels,
        "ranks": m.part.ranks,
        "in_flight_a_channel": m.cores.in_flight,
        "inferred": list(m.inferred),
        "mapping": m.mapping,
        "policy": str(m.policy),
        "memory_idle_ns": m.memory_idle_ns,
        "curves": [asdict(row) | {"saturated_error_pct": 100 * row.saturated_error} for row in rows],
    }


def _print(d: dict[str, Any]) -> None:
    from linepress_hardware.dram.silicon import LOADS

    out = stdout()
    inferred = f" ({', '.join(d['inferred'])} inferred from the saturated ends)" if d["inferred"] else ""
    out.print(f"{d['verdict']}   {d['system']}   {d['memory']}, {d['channels']} channels", highlight=False)
    for text in d["missed"]:
        out.print(f"  missed: {text}", highlight=False)
    added = " / ".join(f"{x:.0f}" for x in d["added_mean_abs_error_ns"])
    loads = " / ".join(f"{100 * x:g}" for x in LOADS)
    out.print(
        f"  saturated share: mean error {d['saturated_mean_error_pct']:.1f} %, worst "
        f"{d['saturated_worst_error_pct']:.1f} %; latency above idle at {loads} % load: off by {added} ns; at "
        f"saturation by {d['saturated_latency_mean_error_pct']:.0f} %",
        highlight=False,
    )
    out.print(
        f"  model: {d['part']}, {d['ranks']} ranks, {d['in_flight_a_channel']} lines in flight a channel, "
        f"{d['mapping']}, {d['policy']}{inferred}; idle offset read off each curve",
        highlight=False,
    )
    out.print("  reads   share of peak           ns above idle, measured → model, by load", highlight=False)
    for row in d["curves"]:
        pairs = "  ".join(
            f"{a:4.0f} → {b:<4.0f}" for a, b in zip(row["measured_added_ns"], row["model_added_ns"], strict=True)
        )
        out.print(
            f"  {100 * row['share']:4.0f} %  {100 * row['measured_saturated']:5.1f} → "
            f"{100 * row['model_saturated']:5.1f} ({row['saturated_error_pct']:+5.1f} %)   {pairs}  "
            f"saturated {row['measured_saturated_added_ns']:.0f} → {row['model_saturated_added_ns']:.0f}",
            highlight=False,
        )
    out.print()
