"""``linepress racks``: the talk's rack tables with every contradiction, and what a ratio makes of a rack."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from linepress.cli.common import json_option, print_json, stdout


@click.command()
@click.argument("names", nargs=-1)
@click.option(
    "--ratio",
    "ratios",
    type=float,
    multiple=True,
    help="Compression ratio of what the memory holds; may be given several times. Default: 1 and 1.5.",
)
@click.option(
    "--no-decompressor", is_flag=True, help="Capacity grows by the ratio, bandwidth does not (no decompressor)."
)
@json_option
def command(names: tuple[str, ...], ratios: tuple[float, ...], no_decompressor: bool, as_json: bool) -> None:
    """Rack tables of the talk, checked; TB, TB/s, W/TB, USD/TB and USD/(TB/s) of racks, plain and compressed.

    NAMES are racks (default: all). A printed cell is never changed: what its own numbers multiply out to stands
    beside it, and each contradiction is a finding.

    \b
    Examples:
      linepress racks
      linepress racks dgx-h100 dgx-b200 --ratio 1.5 --ratio 2
      linepress racks --ratio 1.33 --json

    JSON: `table_a`, `table_b` (rows with printed and computed cells, findings), `findings` (both together),
    `racks` (one object a rack, way of counting its memory, and ratio), `accelerators` (every figure with source).
    """
    from linepress_hardware.racks.racks import derive, rack, racks
    from linepress_hardware.racks.tables import table_a, table_b

    chosen = [rack(name) for name in names] if names else list(racks().values())
    wanted = ratios or (1.0, 1.5)
    derived = [
        row
        for ratio in wanted
        for one in chosen
        for row in derive(one, ratio, decompressor_keeps_up=not no_decompressor)
    ]
    first, second = table_a(), table_b()
    findings = [finding.as_dict() for table in (first, second) for finding in table["findings"]]
    document = {
        "table_a": {**first, "findings": [finding.as_dict() for finding in first["findings"]]},
        "table_b": {**second, "findings": [finding.as_dict() for finding in second["findings"]]},
        "findings": findings,
        "ratios": list(wanted),
        "racks": derived,
        "accelerators": [_accelerator(one.part) for one in chosen],
    }
    if as_json:
        print_json(document)
        return
    out = stdout()
    if not names:
        _print_a(out, first)
        _print_b(out, second)
    _print_derived(out, derived, wanted)


def _accelerator(part: Any) -> dict[str, Any]:
    return {
        "name": part.name,
        "title": part.title,
        "note": part.note,
        "memory": [
            {
                "tier": level.tier,
                "kind": level.kind,
                "scope": level.scope,
                "capacity": level.capacity.as_dict(),
                "bandwidth": None if level.bandwidth is None else level.bandwidth.as_dict(),
            }
            for level in part.memory
        ],
        "peak": {f"bits_{bits}": peak.as_dict() for bits, peak in part.peak.items()},
        "power": None if part.power is None else part.power.as_dict(),
        "price": None if part.price is None else part.price.as_dict(),
    }


def _show(value: float | None, digits: int = 5) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:,.{digits}g}"


def _range(low: float | None, high: float | None) -> str:
    return _show(low) if low == high else f"{_show(low)}–{_show(high)}"


def _print_a(out: Console, table: dict[str, Any]) -> None:
    out.print(f"{table['title']} (the talk), TB a rack")
    out.print(
        f"{'row':18s} {'printed':>9s} {'its basis':>12s} {'published':>12s} {'chips for it':>13s}   status      note"
    )
    for row in table["rows"]:
        basis = _range(row["TB_from_seed_basis_low"], row["TB_from_seed_basis_high"])
        out.print(
            f"{row['row']:18s} {row['printed']:>9s} {basis:>12s} {_show(row['TB_at_seed_chips']):>12s} "
            f"{_show(row['chips_for_seed_TB'], 4):>13s}   {row['status']:10s}  {row['printed_note']}"
        )
    _print_findings(out, table)


def _print_b(out: Console, table: dict[str, Any]) -> None:
    out.print(f"\n{table['title']} (the talk): printed [computed where it differs]", markup=False)
    out.print(f"{'component':28s}" + "".join(f"{column:>28s}" for column in table["columns"]))
    for row in table["rows"]:
        cells = []
        for printed, value, computed in zip(row["printed"], row["value"], row["computed"], strict=True):
            same = computed is None or value is None or abs(computed - value) <= 1e-9 * abs(value)
            cells.append(printed if same else f"{printed} [{computed:,.10g} {row['unit']}]")
        out.print(f"{row['component']:28s}" + "".join(f"{cell:>28s}" for cell in cells), markup=False)
    _print_findings(out, table)


def _print_findings(out: Console, table: dict[str, Any]) -> None:
    for finding in table["findings"]:
        out.print(f"  ! {finding.sentence}", markup=False)


def _print_derived(out: Console, rows: list[dict[str, Any]], ratios: tuple[float, ...]) -> None:
    for ratio in ratios:
        out.print(f"\nracks at ratio {ratio:g}" + (" (uncompressed)" if ratio == 1 else ""))
        out.print(
            f"{'rack':14s} {'memory counted by':32s} {'tier':7s} {'TB':>9s} {'TB/s':>9s} {'kW':>7s} {'W/TB':>10s} "
            f"{'kUSD/TB':>10s} {'kUSD/(TB/s)':>12s} {'TB/s/kW':>9s}"
        )
        for row in rows:
            if row["ratio"] != ratio:
                continue
            mark = " *" if row["tiers_differ"] else ""
            out.print(
                f"{row['rack']:14s} {row['memory_basis']:32s} {row['tier']:7s} {_show(row['effective_TB']):>9s} "
                f"{_show(row['effective_TBps']):>9s} {_show(row['kW']):>7s} {_show(row['effective_W_per_TB']):>10s} "
                f"{_show(row['effective_kUSD_per_TB']):>10s} {_show(row['effective_kUSD_per_TBps']):>12s} "
                f"{_show(row['effective_TBps_per_kW']):>9s}{mark}",
                markup=False,
            )
    if any(row["tiers_differ"] for row in rows):
        out.print("* capacity and bandwidth are of different tiers; their quotients compare nothing")
