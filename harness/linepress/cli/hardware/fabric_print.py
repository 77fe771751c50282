"""Plain tables of ``linepress fabric``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console


def time_text(seconds: float | None) -> str:
    """Seconds in the unit that reads best; a dash for None."""
    if seconds is None:
        return "–"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:,.4g} {unit}"
    return f"{seconds * 1e9:,.4g} ns"


def size_text(size_bytes: float) -> str:
    """Bytes in binary units."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.4g} {unit}"
    return f"{size_bytes:,.4g} B"


def print_collective(out: Console, row: Mapping[str, Any]) -> None:
    """One collective."""
    head = f"{row['operation']} {row['algorithm']} on {row['topology']}, {row['devices']} accelerators"
    out.print(f"{head}, {size_text(row['size_bytes'])} each")
    if row["convention"] == "astra-sim":
        out.print(
            f"  {row['time_ns']:,} ns as ASTRA-sim counts ({row['backend']}; {row['bandwidth_GiBps']:g} GiB/s "
            f"a link, {row['latency_ns']:g} ns a hop)"
        )
        return
    out.print(f"  α {row['latency_ns']:,.4g} ns a message, {row['bandwidth_GBps']:,.4g} GB/s an accelerator one way")
    out.print(f"  {'':16s}{'time':>14s}{'closed form':>14s}{'never below':>14s}{'bus bandwidth':>18s}")
    for label, prefix in (("plain", "plain_"), (f"ratio {row['ratio']:g}", "")):
        if label != "plain" and row["time_s"] == row["plain_time_s"]:
            continue
        out.print(
            f"  {label:16s}{time_text(row[prefix + 'time_s']):>14s}{time_text(row[prefix + 'closed_form_s']):>14s}"
            f"{time_text(row[prefix + 'bound_s']):>14s}{row[prefix + 'bus_bandwidth_GBps']:>13,.4g} GB/s"
        )
    if row["time_s"] != row["plain_time_s"]:
        change = row["speedup"]
        out.print(f"  compressed messages are {change:.3g}x faster" if change >= 1 else f"  {1 / change:.3g}x slower")
    if "machine" in row:
        worst = "" if row["machine_band"] is None else f", held-out rows within {100 * row['machine_band']:.0f} %"
        out.print(
            f"  the wires allow that; a machine takes {time_text(row['machine_time_s'])}, "
            f"{row['machine_bus_GBps']:,.4g} GB/s of bus bandwidth "
            f"({row['machine_curve']}: {row['machine_basis']}{worst})",
            markup=False,
        )
    if "usual_double_tree_s" in row:
        out.print(f"  the usual convention 2 ⌈log2 N⌉ α + 2 S β: {time_text(row['usual_double_tree_s'])}, no headers")
    if row["packets"] is not None:
        out.print(
            f"  {row['method']}: {row['packets']:,} packets of {size_text(row['packet_bytes'])} in "
            f"{row['messages']:,} messages, deepest queue {row['deepest_queue_packets']} packets"
        )
    else:
        out.print(f"  {row['method']}, not simulated")


def print_round_trip(out: Console, document: Mapping[str, Any]) -> None:
    """Terms of a round trip, what scale allows it, and its tail."""
    terms = document["terms"]
    where = f"{document['link']} over {document['switch']}" if document["switch"] else f"{document['link']}, direct"
    out.print(f"{document['operation']} of {document['size_bytes']} B, {where}, {document['levels']} switch level(s)")
    k = terms["switches"]
    for label, times, each in (
        ("switch", 2 * k, terms["switch_ns"]),
        ("wire", 2 * (k + 1), terms["wire_ns"]),
        ("PHY and FEC", 2 * (k + 1), terms["phy_ns"]),
        ("flit", 2 * (k + 1), terms["serial_ns"]),
        ("endpoint", 2, terms["endpoint_ns"]),
        ("memory", 1, terms["memory_ns"]),
    ):
        out.print(f"  {label:14s}{times:4d} × {each:7.1f} ns = {times * each:8.1f} ns")
    out.print(f"  {'round trip':14s}{'':16s}{document['rtt_ns']:10.1f} ns")
    scale = document["scale"]
    if scale:
        verdict = "below" if scale["below_limit"] else "not below"
        out.print(
            f"{scale['accelerators']:,} accelerators behind switches of {scale['radix']} ports need "
            f"{scale['levels_needed']} level(s): {scale['rtt_ns']:,.1f} ns, {verdict} {scale['limit_ns']:,.0f} ns"
        )
        if scale["levels_needed"] > 1:
            out.print(
                f"  one level would take {scale['radix_for_one_level']:,} ports, "
                f"{scale['switch_Tbps_for_one_level']:,.4g} Tb/s a switch: {scale['rtt_one_level_ns']:,.1f} ns"
            )
    loaded = document["loaded"]
    if loaded:
        out.print(
            f"load {loaded['load']:g} on {loaded['topology']}, {loaded['requests']:,} accesses, seed {loaded['seed']}"
        )
        out.print(
            f"  alone {loaded['closed_form_ns']:,.1f} ns   p50 {loaded['p50_ns']:,.1f}   "
            f"p99 {loaded['p99_ns']:,.1f}   p99.9 {loaded['p999_ns']:,.1f}   max {loaded['max_ns']:,.1f} ns"
        )
        out.print(
            f"  {loaded['delivered_GBps']:,.4g} GB/s of payload an accelerator, busiest link "
            f"{100 * loaded['link_utilisation']:.1f} %, deepest queue {loaded['deepest_queue_packets']} packets"
        )


def print_topologies(out: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """All packaged topologies."""
    out.print(
        f"{'topology':24s}{'kind':12s}{'accel.':>7s}{'racks':>6s}  {'link':18s}{'GB/s each':>10s}{'links':>9s}"
        f"{'pairs':>9s}{'switches':>9s}{'levels':>7s}{'link kW':>9s}"
    )
    for row in rows:
        out.print(
            f"{row['topology']:24s}{row['kind']:12s}{row['accelerators']:7,}{row['racks']:6d}  {row['link']:18s}"
            f"{row['accelerator_GBps']:10,.4g}{row['links']:9,}{row['wire_pairs']:9,}{row['switches']:9,}"
            f"{row['levels']:7d}{row['link_W'] / 1e3:9,.3g}"
        )


def print_topology(out: Console, document: Mapping[str, Any]) -> None:
    """One topology: counts, power by medium, vPods."""
    row = document["counts"]
    out.print(f"{row['topology']}: {row['kind']} of {row['accelerators']:,} accelerators in {row['racks']} rack(s)")
    lines = [
        ("links an accelerator", f"{row['links_per_accelerator']:,} × {row['link']} of {row['link_Gbps']:g} Gb/s"),
        (
            "bandwidth one way",
            f"{row['accelerator_GBps']:,.6g} GB/s each, {row['all_accelerators_TBps']:,.6g} TB/s all",
        ),
        ("links", f"{row['links']:,}, of which between switches {row['switch_links']:,}"),
        ("wire pairs", f"{row['wire_pairs']:,}"),
        ("pair, bisection", f"{row['pair_GBps']:,.6g} GB/s, {row['bisection_GBps']:,.6g} GB/s"),
    ]
    if row["switch"]:
        kind = f"{row['switches']:,} × {row['switch']} of {row['switch_radix']} ports, {row['levels']} level(s)"
        used = f"at most {row['most_switches_crossed']} crossed, {row['switch_ports_used']:,} ports used"
        lines.append(("switches", f"{kind}, {used}"))
    for label, text in lines:
        out.print(f"  {label:22s}{text}", markup=False)
    out.print(f"  {'links by medium':22s}{'pJ/bit':>8s}{'W':>12s}")
    for medium in document["media"]:
        mark = " *" if medium["medium"] == row["medium"] else ""
        out.print(
            f"    {medium['medium']:20s}{medium['pJ_per_bit']:8.3g}{medium['link_W']:12,.0f}   "
            f"{medium['status']}{mark}"
        )
    back = document["backplane"]
    out.print(
        f"  {back['before_W'] / 1e3:g} kW → {back['after_W'] / 1e3:g} kW would be "
        f"{back['before_pJ_per_bit_one_way']:.4g} → {back['after_pJ_per_bit_one_way']:.3g} pJ/bit over "
        f"{back['one_way_Tbps']:,.5g} Tb/s one way, "
        f"{back['before_pJ_per_bit_both_ways']:.3g} → {back['after_pJ_per_bit_both_ways']:.3g} both ways"
    )
    pod = document["vpod"]
    if pod:
        out.print(
            f"  vPods of {pod['members']}: {pod['vpods']:,}, {pod['usable_GBps']:,.5g} GB/s an accelerator inside, "
            f"bisection {pod['bisection_GBps']:,.5g} GB/s"
        )
    stream = document["stream"]
    if stream:
        out.print(
            f"  {stream['jobs']:,} jobs (seed {stream['seed']}, load {stream['load']:g}, placed by "
            f"{stream['policy']}): {100 * stream['utilisation']:.1f} % used, mean wait "
            f"{stream['mean_wait_s'] / 60:,.4g} min, "
            f"{100 * stream['fragmented_share']:.1f} % of the time enough were free but in no place"
        )


def print_kv_transfer(out: Console, row: Mapping[str, Any]) -> None:
    """One transfer of KV caches."""
    what = f"{row['model']}, {row['tokens']:,} tokens" if row["model"] else "KV"
    out.print(
        f"{what}: {row['transfers']} caches of {size_text(row['kv_bytes'])} from {row['prefill']} to {row['decode']} "
        f"accelerators of {row['topology']}, {row['pairing']}"
    )
    for label, prefix in (("plain", "plain_"), (f"ratio {row['ratio']:g}", "")):
        out.print(
            f"  {label:12s}{time_text(row[prefix + 'time_s']):>12s}   after prefill "
            f"{time_text(row[prefix + 'after_prefill_s']):>10s}   closed form "
            f"{time_text(row[prefix + 'closed_form_s']):>10s}"
        )
    out.print(f"  speedup {row['speedup']:.4g}, bound by {row['bound_by']}")


def print_memory(out: Console, document: Mapping[str, Any]) -> None:
    """Loads against messages, and the pooled memory."""
    out.print(f"{document['topology']}: bytes from one peer by loads of at most 256 B, or by one RDMA-style message")
    out.print(f"  {'size':>10s}{'loads':>12s}{'message':>12s}   faster")
    for row in document["transfers"]:
        out.print(
            f"  {size_text(row['size_bytes']):>10s}{time_text(row['loads_s']):>12s}{time_text(row['message_s']):>12s}"
            f"   {row['faster']}"
        )
    cross = document["crossover_bytes"]
    out.print(f"  messages win from {size_text(cross)} on" if cross else "  loads win at every size")
    out.print("memory of all accelerators as one, pages spread evenly")
    for pool in document["pool"]:
        out.print(
            f"  ratio {pool['ratio']:g}, decompressed at the {pool['decompress_at']:6s}: "
            f"{pool['effective_GBps']:,.5g} GB/s an accelerator (plain {pool['plain_effective_GBps']:,.5g}), bound "
            f"by {pool['bound_by']}, mean latency {pool['mean_latency_ns']:,.4g} ns; links bind from "
            f"{100 * pool['balanced_remote_share']:.3g} % remote"
        )
