"""``linepress fabric collective``: what a machine is measured to take for a collective."""

from __future__ import annotations

from typing import Any

import click

from linepress.api.named import size_bytes
from linepress.cli.common import json_option, print_json, stdout

SWEEP = ("1KiB", "16KiB", "256KiB", "1MiB", "4MiB", "16MiB", "64MiB", "256MiB", "1GiB", "8GiB")


@click.command("collective")
@click.argument("name", required=False)
@click.option("--operation", default="all_reduce", show_default=True, help="all_gather, reduce_scatter, all_to_all.")
@click.option(
    "-n", "--accelerators", "n", type=int, default=8, show_default=True, help="Accelerators that take part."
)
@click.option("--size", default=None, help="Payload of an accelerator, for instance 64KiB. Default: 1 KiB to 8 GiB.")
@click.option("--library", default="", help="nccl, custom, symm or mscclpp. Default: the best of all.")
@click.option("--curve", default="", help="Force one curve, for instance nccl-ring.")
@click.option("--check", is_flag=True, help="Held-out rows against the curves instead; NAME chooses a system.")
@json_option
def collective_command(
    name: str | None, operation: str, n: int, size: str | None, library: str, curve: str, check: bool, as_json: bool
) -> None:
    """Time of a collective on a machine, by size and number, from measured rows.

    NAME is an accelerator or a system of measured collectives; without NAME the systems are listed. Where nothing is
    measured the closed form of the accelerator's link is given, and the output says so.

    \b
    Examples:
      linepress fabric collective
      linepress fabric collective h100 -n 8
      linepress fabric collective h100 -n 4 --size 2GiB --library nccl --json
      linepress fabric collective gb200 -n 72 --size 1GiB
      linepress fabric collective --check

    JSON: a list of time_s, bus_GBps, curve, library, candidates (seconds by curve), basis, band; with --check of rows
    with predicted_us and error; without NAME of systems and curves.
    """
    from linepress_hardware.fabric import curves
    from linepress_hardware.fabric.collectives import bus_bandwidth_factor

    if check:
        found = [row for row in curves.judge(("hold", "transfer")) if name is None or row["system"] == name]
        _show(found, as_json, _print_check)
        return
    if name is None:
        _show(_systems(), as_json, _print_systems)
        return
    rows = []
    for text in (size,) if size else SWEEP:
        payload = size_bytes(text)
        one = curves.collective_time(name, operation, n, payload, library=library, curve=curve)
        bus = bus_bandwidth_factor(operation, n) * payload / one.time_s / 1e9 if one.time_s else None
        rows.append({"system": name, "operation": operation, "n": n, "size_bytes": payload, "bus_GBps": bus})
        rows[-1] |= one.__dict__
    _show(rows, as_json, _print_times)


def _show(rows: list[dict[str, Any]], as_json: bool, printer: Any) -> None:
    if as_json:
        print_json(rows)
    else:
        printer(rows)


def _systems() -> list[dict[str, Any]]:
    from linepress_hardware.fabric import curves

    return [
        {
            "system": one.name,
            "title": one.title,
            "accelerators": list(one.accelerators),
            "transfers": dict(one.transfers),
            "domain": one.domain,
            "band": curves.band(one.name),
            "curves": [curve.name for curve in one.curves],
            "rows": sum(row.system == one.name for row in curves.rows()),
        }
        for one in curves.systems().values()
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _print_systems(rows: list[dict[str, Any]]) -> None:
    out = stdout()
    out.print(f"{'system':18s}{'domain':>7s}{'rows':>6s}{'worst held out':>16s}   curves")
    for row in rows:
        out.print(
            f"{row['system']:18s}{row['domain']:7d}{row['rows']:6d}{_percent(row['band']):>16s}   "
            f"{', '.join(row['curves'])}",
            markup=False,
        )


def _print_times(rows: list[dict[str, Any]]) -> None:
    from linepress.cli.hardware.fabric_print import size_text, time_text

    out, first = stdout(), rows[0]
    out.print(f"{first['operation']} on {first['system']}, {first['n']} accelerators", markup=False)
    out.print(f"  {'size':>10s}{'time':>12s}{'bus':>14s}   by")
    for row in rows:
        bus = "–" if row["bus_GBps"] is None else f"{row['bus_GBps']:,.4g} GB/s"
        by = row["curve"] or f"{row['library']}, {row['algorithm']}"
        carried = "" if row["measured_n"] or not row["curve"] else f"; {row['n']} accelerators by its closed form"
        out.print(f"  {size_text(row['size_bytes']):>10s}{time_text(row['time_s']):>12s}{bus:>14s}   {by}{carried}")
    for curve, basis, band in dict.fromkeys((row["curve"], row["basis"], row["band"]) for row in rows):
        worst = "" if band is None else f"; worst held-out row of that machine from 1 MiB on {_percent(band)}"
        out.print(f"  {curve or 'closed form'}: {basis}{worst}", markup=False)


def _print_check(rows: list[dict[str, Any]]) -> None:
    out = stdout()
    out.print(
        f"{'system':18s}{'curve':18s}{'role':>9s}{'rows':>6s}{'mean':>8s}{'worst':>8s}{'≤ 10 %':>9s}  1 MiB and more"
    )
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        groups.setdefault((row["system"], row["curve"], row["role"]), []).append(abs(row["error"]))
    for (where, curve, role), errors in groups.items():
        within = sum(error <= 0.10 for error in errors)
        out.print(
            f"{where:18s}{curve:18s}{role:>9s}{len(errors):6d}{_percent(sum(errors) / len(errors)):>8s}"
            f"{_percent(max(errors)):>8s}{within:5d} of {len(errors)}"
        )
    held = [abs(row["error"]) for row in rows if row["role"] == "hold"]
    if held:
        within = sum(error <= 0.10 for error in held)
        out.print(f"held out: {within} of {len(held)} within 10 %, mean {_percent(sum(held) / len(held))}")
