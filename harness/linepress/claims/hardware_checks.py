"""Checks that need no run: closed forms of links, switches, racks and the roofline.

Where `linepress_hardware` models the thing, its functions are called; the few formulas written here are arithmetic
over figures that ``claims.yaml`` carries with their sources.
"""

from __future__ import annotations

import math
from typing import Any

from linepress.claims.finding import Finding, missing
from linepress.claims.model import (
    CompressedMessages,
    DecodeDominates,
    EnergyPerBit,
    InNetworkGain,
    Input,
    LargestMesh,
    MeshGrowth,
    Product,
    RackTable,
    RooflineBound,
    RooflineTable,
    RoundTrip,
)
from linepress.tables import format as fmt


def roofline_table(check: RooflineTable) -> Finding:
    """Cells of the talk's table that the roofline, computed as the published tool does, prints alike."""
    from linepress_hardware.inference import talk_table

    stages = {phase: _stage(check, phase, "reference")["rows"] for phase in ("prefill", "decode")}
    found = talk_table.check(talk_table.table(stages))
    detail = f"{found['equal']} of {found['readable']} readable cells equal, {found['cells']} in all"
    if found["damaged"]:
        lost = ", ".join(f"{d['cell']} (should read {d['value']})" for d in found["damaged"])
        detail += f"; unreadable in the talk: {lost}"
    if found["different"]:
        detail += "; different: " + ", ".join(
            f"{d['cell']} {d['talk']} ≠ {d['value']}" for d in found["different"][:5]
        )
    point = f"{check.context_tokens} tokens, batch {check.batch}"
    how = f"roofline of {check.model} on {check.accelerator}, {point}, printed alike"
    return Finding(float(found["equal"]), float(found["readable"]), "readable cells", detail, checked_by=how)


def roofline_bound(check: RooflineBound) -> Finding:
    """Share of the time of a phase that is spent in operators bound as claimed, %, operators counted right."""
    result = _stage(check, check.phase, "corrected")
    seconds = {"memory": 0.0, "compute": 0.0}
    for row in result["rows"]:
        seconds[row["bound"]] += row["count"] * row["time_s"]
    total = seconds["memory"] + seconds["compute"]
    rows = result["rows"]
    n = sum(row["bound"] == check.bound for row in rows)
    detail = (
        f"{n} of {len(rows)} operators are {check.bound} bound; ridge {result['device']['ridge_op_per_B']:.0f} op/B; "
        f"{check.model} on {check.accelerator}, {check.context_tokens} tokens, batch {check.batch}"
    )
    return Finding(
        100 * seconds[check.bound] / total, detail=detail, checked_by="roofline, corrected mode, time-weighted"
    )


def decode_dominates(check: DecodeDominates) -> Finding:
    """Tokens of answer from which decoding takes longer than the prefill of the prompt."""
    prefill_s = _stage(check, "prefill", "corrected")["totals"]["time_s"]
    decode_s = _stage(check, "decode", "corrected")["totals"]["time_s"]
    prompt = f"prefill of {check.context_tokens} tokens {fmt.seconds(prefill_s)}"
    detail = f"{prompt}, one token of decode {fmt.seconds(decode_s)}"
    return Finding(
        prefill_s / decode_s, detail=detail, checked_by="roofline, corrected mode: prefill over decode time"
    )


def _stage(check: RooflineTable | RooflineBound | DecodeDominates, stage: str, mode: str) -> dict[str, Any]:
    from linepress_hardware.catalog.accelerators import accelerator
    from linepress_hardware.inference.catalog import model
    from linepress_hardware.inference.precision import parse_precision
    from linepress_hardware.inference.roofline import roofline

    return roofline(
        model(check.model),
        accelerator(check.accelerator),
        stage=stage,
        batch=check.batch,
        context_tokens=check.context_tokens,
        precision=parse_precision("w16a16kv16"),
        mode=mode,
    )


def product(check: Product) -> Finding:
    """The factors multiplied, in the unit of the claim."""
    value = math.prod(f.value for f in check.factors.values()) * check.scale
    formula = " × ".join(f"{fmt.plain(f.value)} {f.unit}" for f in check.factors.values())
    detail = formula + (f"; {check.note}" if check.note else "")
    return Finding(value, detail=detail, checked_by=f"arithmetic: {_inputs(check.factors)}")


def rack_table(check: RackTable) -> Finding:
    """A cell of the talk's rack tables as it follows from published figures (a) or from the table itself (b)."""
    from linepress_hardware.racks import tables

    table = tables.table_a() if check.table == "a" else tables.table_b()
    sentences = [
        f.sentence.partition(": ")[2]
        for f in table["findings"]
        if (f.row == check.row if check.table == "a" else f.cell == check.row and check.column in f.row.split(", "))
    ]
    detail = "; ".join(sentences)
    if check.table == "a":
        row = next((r for r in table["rows"] if r["row"] == check.row), None)
        how = "chips that the table names × published capacity of one"
        if row is None or row["TB_at_seed_chips"] is None:
            return missing(f"the table names no count of chips for {check.row}", how)
        source = f"{row['GB_per_chip_published']:g} GB of {row['published_memory']}: {row['source']}, {row['status']}"
        return Finding(row["TB_at_seed_chips"], detail=detail, checked_by=f"{how} ({source})")
    row = next((r for r in table["rows"] if r["key"] == check.row), None)
    if row is None or check.column not in table["columns"]:
        return missing(f"the table has no cell {check.row}, {check.column}")
    value = row["computed"][table["columns"].index(check.column)]
    how = f"the table's own figures: {row['formula'].replace(' * ', ' × ').replace('_', ' ')}"
    if value is None:
        return missing(f"the table does not give what {check.row}, {check.column} would follow from", how)
    return Finding(float(value), detail=detail, checked_by=how)


def round_trip(check: RoundTrip) -> Finding:
    """Round trip of the fastest pair of link and switch that connects the accelerators, ns."""
    from linepress_hardware.fabric.links import link
    from linepress_hardware.fabric.round_trip import scale_against_round_trip
    from linepress_hardware.fabric.switches import switch

    pairs = [
        scale_against_round_trip(check.accelerators, link(wire), switch(box))
        for wire in check.links
        for box in check.switches
    ]
    best = min(pairs, key=lambda pair: float(pair["rtt_ns"]))
    crossed = best["switches_crossed"]
    detail = (
        f"fastest of {len(pairs)} pairs of link and switch: {best['link']} through {best['switch']} "
        f"({best['radix']} ports), {check.accelerators:,} accelerators, {best['levels_needed']} switch "
        f"level{'s' if best['levels_needed'] > 1 else ''}, {crossed} switch{'es' if crossed > 1 else ''} one way"
    )
    if best["levels_needed"] > 1:
        one = min(pairs, key=lambda pair: float(pair["switch_Tbps_for_one_level"]))
        largest = max(switch(box).capacity_Gbps for box in check.switches) / 1e3
        detail += (
            f"; one level asks for a switch of {fmt.plain(one['switch_Tbps_for_one_level'])} Tb/s at least "
            f"({check.accelerators:,} ports of {one['link']}), the largest of these has {fmt.plain(largest)}"
        )
    how = "fabric model: switch levels by ports, round trip in closed form, nobody else on the links"
    return Finding(best["rtt_ns"], detail=detail, checked_by=how)


def mesh_growth(check: MeshGrowth) -> Finding:
    """log(links ratio) / log(accelerators ratio) of the wired topologies."""
    from linepress_hardware.fabric.topologies import custom

    small, large = check.accelerators
    few, many = (
        custom(check.topology, n, link_name="ualink-200g", switch_name="ualink-50t").links for n in check.accelerators
    )
    value = math.log(many / few) / math.log(large / small)
    detail = f"{fmt.count(few)} links for {small} accelerators, {fmt.count(many)} for {large}"
    return Finding(value, detail=detail, checked_by="links counted in the fabric model's topologies")


def largest_mesh(check: LargestMesh) -> Finding:
    """An accelerator with n links reaches n peers, so a full mesh holds n + 1 accelerators."""
    from linepress_hardware.fabric.links import link

    fewest, most = link(check.link), link(check.most_link)
    for one in (fewest, most):
        if one.links is None:
            return missing(f"the data file of {one.name} does not say how many links an accelerator has")
    given = [f"{one.links} links of {one.title} ({one.figures['links'].source})" for one in (fewest, most)]
    detail = f"{given[0]}; {given[1]} would reach {(most.links or 0) + 1}"
    return Finding(float((fewest.links or 0) + 1), detail=detail, checked_by="links of an accelerator + 1")


def in_network_gain(check: InNetworkGain) -> Finding:
    """Time of a ring over that of a reduction in the switch, both without latency."""
    from linepress_hardware.fabric.collectives import all_reduce

    n, size_bytes, rate_Bps = check.accelerators, 2.0**30, 900e9
    ring, switch = (
        all_reduce(name, n, size_bytes, latency_s=0.0, bandwidth_Bps=rate_Bps).time_s
        for name in ("ring", "in-network-nvls")
    )
    return Finding(
        ring / switch,
        bound=2.0,
        bound_text="2 (N − 1) / (N + 1) tends to 2",
        detail=f"{n} accelerators, bandwidth term only",
        checked_by="closed forms of the collectives, NVLS-style reduction against a ring",
    )


def compressed_messages(check: CompressedMessages) -> Finding:
    """Gain on large messages over a link, the coder overlapped; beside it without overlap, the coder that the ratio
    asks for, and an all-reduce inside a machine, whose plain side may be reduced in the switch."""
    from linepress_hardware.fabric.compressed import Coder, compressed_collective, point_to_point
    from linepress_hardware.fabric.links import link

    ratio, rate, one = check.ratio.value, check.coder.value, link(check.link)
    overlapped, serial = (
        point_to_point(one.rate_GBps, 0.0, Coder(ratio, rate, rate, overlapped=both))["largest_speedup"]
        for both in (True, False)
    )
    free = point_to_point(one.rate_GBps, 0.0, Coder(ratio))["coder_GBps_for_ratio"]
    inside = compressed_collective(check.system, "all_reduce", check.accelerators, 2.0**30, Coder(ratio))
    detail = (
        f"{_inputs({'ratio': check.ratio, 'coder': check.coder})}; {one.title} is not the bound from "
        f"{fmt.significant(free)} GB/s of coder each way on; without overlap {fmt.significant(serial)} times; "
        f"inside a machine, 1 GiB over {check.accelerators} of {check.system}, at most "
        f"{fmt.significant(inside['speedup'])} times: the plain side is {inside['plain_curve']}, and coded numbers "
        f"do not add in a switch"
    )
    if check.note:
        detail += f"; {check.note}"
    how = f"fabric model: bytes over {one.title} at the measured ratio, coding overlapped"
    return Finding(overlapped, bound=ratio, bound_text="the ratio itself", detail=detail, checked_by=how)


def energy_per_bit(check: EnergyPerBit) -> Finding:
    """pJ/bit = W / (Tb/s); shown beside the claim, which stays unchecked because its power has no source."""
    from linepress_hardware.fabric.power import backplane_saving
    from linepress_hardware.fabric.topologies import topology

    found = backplane_saving(topology(check.topology), check.before_W, check.after_W)
    before, after = found["before_pJ_per_bit_one_way"], found["after_pJ_per_bit_one_way"]
    detail = (
        f"{fmt.with_unit(check.before_W / 1e3, 'kW')} over {fmt.with_unit(found['one_way_Tbps'], 'Tb/s')} one way is "
        f"{fmt.significant(before)} pJ/bit, nearest to {found['nearest_medium_before']} in the fabric model; "
        f"{fmt.with_unit(check.after_W / 1e3, 'kW')} is {fmt.significant(after)}, "
        f"nearest to {found['nearest_medium_after']}"
    )
    how = f"power over the links of {found['topology']}"
    return Finding(before, detail=detail, reason=check.reason, checked_by=how, judged=False)


def _inputs(inputs: dict[str, Input]) -> str:
    return "; ".join(
        f"{name} {fmt.plain(given.value)} {given.unit} ({given.source}, {given.status})"
        for name, given in inputs.items()
    )
