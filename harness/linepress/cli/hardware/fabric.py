"""``linepress fabric``: collectives, round trips, topologies, pools and transfers of a scale-up fabric."""

from __future__ import annotations

from typing import Any

import click

from linepress.api.named import size_bytes, topology_named
from linepress.cli.common import json_option, print_json, stdout
from linepress.cli.hardware.fabric_arguments import parts_options, sides, wired
from linepress.cli.hardware.fabric_collective import collective_command
from linepress.cli.hardware.fabric_compressed import compressed_command
from linepress.cli.hardware.fabric_memory import kv_transfer_command, memory
from linepress.cli.hardware.fabric_port import port_command
from linepress.errors import LinepressError

OPERATIONS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "send")


@click.group()
def command() -> None:
    """Links, topologies and collectives of a scale-up fabric: closed forms beside a packet simulation.

    \b
    Examples:
      linepress fabric allreduce --topology switch --algorithm ring -n 64 --size 1GiB --bandwidth-GBps 450
      linepress fabric collective h100 -n 8
      linepress fabric compressed h100 -n 8 --ratio 1.486
      linepress fabric rtt --link ualink-800g --levels 1 --load 0.5
      linepress fabric port --ber 1e-3 --load 0.9
      linepress fabric topology ualink-1024-4racks
      linepress fabric memory --topology nvl72 --local-GBps 8000 --ratio 1.5
      linepress fabric kv-transfer --model llama-3.1-8b --tokens 8192 --ratio 1.5
    """


@command.command("allreduce")
@click.option(
    "--topology",
    "kind",
    default="switch",
    show_default=True,
    help="switch, mesh, ring or torus with the rate and latency given here; a packaged topology (nvl72 …); a .toml.",
)
@click.option("--algorithm", default="ring", show_default=True, help="ring, tree, double-tree, direct, in-network …")
@click.option("--operation", default="all_reduce", type=click.Choice(OPERATIONS), help="Default: all_reduce.")
@click.option(
    "-n", "--accelerators", "n", type=int, default=None, help="Accelerators. Default: 8, or the topology's."
)
@click.option("--size", default="1GiB", show_default=True, help="Payload of an accelerator, for instance 64KiB.")
@click.option(
    "--bandwidth-GBps", "bandwidth", type=float, default=450.0, show_default=True, help="One way; 10^9 B/s."
)
@click.option("--latency-ns", "latency", type=float, default=250.0, show_default=True, help="Of a message.")
@click.option("--dims", default=None, help="Sides of a torus, for instance 8x8.")
@click.option("--ratio", type=float, default=1.0, show_default=True, help="Raw over wire bytes of the messages.")
@click.option("--codec-ns", type=float, default=0.0, help="Encode and decode latency of a compressed message.")
@click.option("--buffer-bytes", type=float, default=None, help="Input buffer of a port. Default: never the bound.")
@click.option(
    "--convention",
    type=click.Choice(["linepress", "astra-sim"]),
    default="linepress",
    show_default=True,
    help="astra-sim: GB/s is 2^30 B/s of one link, the latency is that of a hop, whole nanoseconds.",
)
@click.option("--backend", default="congestion_unaware", show_default=True, help="astra-sim's: or congestion_aware.")
@click.option("--simulate/--no-simulate", default=True, help="Run the packet simulation as well. Default: yes.")
@click.option("--max-packets", type=int, default=400_000, show_default=True, help="Packets simulated at most.")
@json_option
def allreduce(
    kind: str,
    algorithm: str,
    operation: str,
    n: int | None,
    size: str,
    bandwidth: float,
    latency: float,
    dims: str | None,
    ratio: float,
    codec_ns: float,
    buffer_bytes: float | None,
    convention: str,
    backend: str,
    simulate: bool,
    max_packets: int,
    as_json: bool,
) -> None:
    """Time of a collective: closed form, what no schedule beats, and the packet simulation.

    \b
    Examples:
      linepress fabric allreduce --topology switch --algorithm ring -n 64 --size 1GiB --bandwidth-GBps 450
      linepress fabric allreduce --topology nvl72 --algorithm in-network-nvls --size 64MiB --ratio 1.5 --codec-ns 30
      linepress fabric allreduce --convention astra-sim --bandwidth-GBps 900 -n 8 --size 1GiB --json

    JSON: time_s (simulated, else closed form), plain_time_s, closed_form_s, bound_s, bus_bandwidth_GBps, speedup,
    method, packets; machine_time_s and machine_bus_GBps where the topology's machine is measured (time_s is what its
    wires allow); with --convention astra-sim only time_ns and the inputs.
    """
    payload = size_bytes(size)
    if convention == "astra-sim":
        row = _astra(kind, algorithm, operation, n or 8, payload, bandwidth, latency, backend)
    else:
        from linepress_hardware.fabric.conventions import usual_double_tree_s
        from linepress_hardware.fabric.evaluate import PLAIN_TOPOLOGIES, collective, fabric_of, plain_fabric

        if kind in PLAIN_TOPOLOGIES:
            fabric = plain_fabric(
                kind,
                n or 8,
                bandwidth_GBps=bandwidth,
                latency_ns=latency,
                dims=sides(dims),
                buffer_bytes=buffer_bytes,
            )
        else:
            found = topology_named(kind, n)
            fabric = fabric_of(found, buffer_bytes=buffer_bytes)
        row = collective(
            fabric,
            payload,
            operation=operation,
            algorithm=algorithm,
            ratio=ratio,
            codec_ns=codec_ns,
            run=simulate,
            max_packets=max_packets,
        )
        machine = "" if kind in PLAIN_TOPOLOGIES else found.machine
        row = {
            **row,
            **_on_machine(machine, operation, algorithm, fabric.network.n, payload),
            "latency_ns": fabric.latency_ns,
            "bandwidth_GBps": fabric.bandwidth_GBps,
            "convention": convention,
        }
        if row["algorithm"] == "double-tree":
            row["usual_double_tree_s"] = usual_double_tree_s(
                row["devices"],
                payload,
                latency_s=fabric.latency_ns * 1e-9,
                bandwidth_Bps=fabric.bandwidth_GBps * 1e9,
            )
    if as_json:
        print_json(row)
        return
    from linepress.cli.hardware.fabric_print import print_collective

    print_collective(stdout(), row)


def _on_machine(machine: str, operation: str, algorithm: str, n: int, payload: int) -> dict[str, Any]:
    """What the measured machine of a topology takes, beside what its wires allow; {} where there is none."""
    from linepress_hardware.errors import ConfigurationError
    from linepress_hardware.fabric.collectives import bus_bandwidth_factor
    from linepress_hardware.fabric.curves import OPERATIONS as MEASURED
    from linepress_hardware.fabric.curves import collective_time, systems

    if not machine or operation not in MEASURED:
        return {}
    alike = [
        one.name for one in systems()[machine].curves if operation in one.operations and one.algorithm == algorithm
    ]
    curve = next((name for name in alike if name.startswith("nccl")), "") if operation == "all_reduce" else ""
    try:
        one = collective_time(machine, operation, n, payload, library="" if curve else "nccl", curve=curve)
    except ConfigurationError:
        return {}
    return {
        "machine": machine,
        "machine_time_s": one.time_s,
        "machine_bus_GBps": bus_bandwidth_factor(operation, n) * payload / one.time_s / 1e9,
        "machine_curve": one.curve,
        "machine_basis": one.basis,
        "machine_band": one.band,
    }


def _astra(
    kind: str, algorithm: str, operation: str, n: int, payload: int, bandwidth: float, latency: float, backend: str
) -> dict[str, Any]:
    from linepress_hardware.fabric.conventions import astra_sim_all_reduce_ns

    if operation != "all_reduce":
        raise LinepressError(
            f"astra-sim's convention is known for all_reduce only, not {operation}; drop --convention"
        )
    time_ns = astra_sim_all_reduce_ns(
        kind, algorithm, n, payload, bandwidth_GiBps=bandwidth, latency_ns=latency, backend=backend
    )
    return {
        "topology": kind,
        "operation": operation,
        "algorithm": algorithm,
        "devices": n,
        "size_bytes": payload,
        "bandwidth_GiBps": bandwidth,
        "latency_ns": latency,
        "convention": "astra-sim",
        "backend": backend,
        "time_ns": time_ns,
        "time_s": time_ns * 1e-9,
        "closed_form_s": time_ns * 1e-9,
        "method": "closed form",
    }


@command.command("rtt")
@click.option(
    "--topology", "name", default=None, help="A packaged topology or .toml; else --link, --switch, --levels."
)
@click.option("--link", default="ualink-800g", show_default=True, help="Link of data/links.")
@click.option("--switch", default="ualink-50t", show_default=True, help="Switch of data/switches.")
@click.option("--levels", type=int, default=1, show_default=True, help="Switch levels: 0, 1 or 2.")
@click.option("-n", "--accelerators", "n", type=int, default=None, help="Endpoints simulated, and to be reached.")
@click.option("--operation", default="load", show_default=True, help="load, store or atomic.")
@click.option("--size", default="64B", show_default=True, help="Bytes of the access, 64 to 256 on most links.")
@click.option("--load", type=float, default=None, help="Share of the links in use; simulates the tail.")
@click.option("--hot-share", type=float, default=0.0, help="Share of accesses that go to one accelerator (incast).")
@click.option("--requests", type=int, default=100_000, show_default=True, help="Accesses simulated.")
@click.option("--decode-ns", type=float, default=0.0, help="Decompressor at the memory.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of arrivals and destinations.")
@json_option
def rtt(
    name: str | None,
    link: str,
    switch: str,
    levels: int,
    n: int | None,
    operation: str,
    size: str,
    load: float | None,
    hot_share: float,
    requests: int,
    decode_ns: float,
    seed: int,
    as_json: bool,
) -> None:
    """Round trip of a remote load, store or atomic: term by term, what scale allows it, and the tail under load.

    \b
    Examples:
      linepress fabric rtt                                       64 B over one UALink switch
      linepress fabric rtt --link ualink-200g --switch ualink-100t -n 1024
      linepress fabric rtt --load 0.5 --hot-share 0.02 --json

    JSON: terms (ns each, rtt_ns), scale (does one level reach the accelerators, and below 1 µs), loaded (p50 …).
    """
    from linepress_hardware.fabric import round_trip as trips
    from linepress_hardware.fabric.links import link as find_link
    from linepress_hardware.fabric.switches import switch as find_switch

    if name is None:
        found = None
        part, box = find_link(link), find_switch(switch) if levels else None
    else:
        found = topology_named(name, n)
        part, box, levels = found.link, found.switch, found.levels
    access = size_bytes(size)
    terms = trips.round_trip(part, box, levels, operation=operation, size_bytes=access, added_ns=decode_ns)
    document: dict[str, Any] = {
        "link": part.name,
        "switch": None if box is None else box.name,
        "levels": levels,
        "operation": operation,
        "size_bytes": access,
        "terms": terms.as_dict(),
        "rtt_ns": terms.total_ns,
        "scale": None
        if box is None
        else trips.scale_against_round_trip(
            n or (found.accelerators if found else 1024), part, box, size_bytes=access
        ),
        "loaded": None,
    }
    if load is not None:
        place = found or trips.default_topology(link, switch, levels, n)
        document["loaded"] = trips.loaded_round_trips(
            place,
            load,
            operation=operation,
            size_bytes=access,
            requests=requests,
            seed=seed,
            added_ns=decode_ns,
            hot_share=hot_share,
        )
    if as_json:
        print_json(document)
        return
    from linepress.cli.hardware.fabric_print import print_round_trip

    print_round_trip(stdout(), document)


@command.command("topology")
@click.argument("name", required=False)
@parts_options
@click.option("--vpod", type=int, default=None, help="Accelerators of a vPod: its bandwidth and bisection.")
@click.option("--jobs", type=int, default=None, help="Jobs of a seeded stream: how the fabric fragments.")
@click.option("--load", type=float, default=0.9, show_default=True, help="Share of accelerators that jobs ask for.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the job stream.")
@json_option
def topology_command(
    name: str | None,
    n: int | None,
    link: str,
    switch: str,
    planes: int,
    dims: str | None,
    over: float,
    vpod: int | None,
    jobs: int | None,
    load: float,
    seed: int,
    as_json: bool,
) -> None:
    """What a topology consists of: links, wire pairs, switches, ports, watts by medium; vPods inside it.

    NAME is a packaged topology, a .toml of the same layout, or a kind (mesh, ring, torus, switch, leaf-spine).
    Without NAME all packaged topologies are listed.

    \b
    Examples:
      linepress fabric topology
      linepress fabric topology nvl72 --vpod 8
      linepress fabric topology torus -n 64 --dims 8x8 --jobs 500
      linepress fabric topology mesh -n 16 --json

    JSON: counts (with link_W_by_medium), media, backplane, vpod, stream; without NAME a list of counts.
    """
    from linepress.cli.hardware.fabric_print import print_topologies, print_topology
    from linepress_hardware.fabric import power, vpods
    from linepress_hardware.fabric.topologies import topologies

    if name is None:
        rows = [one.counts() for one in topologies().values()]
        if as_json:
            print_json(rows)
        else:
            print_topologies(stdout(), rows)
        return
    found = wired(name, n, link, switch, planes, dims, over)
    document: dict[str, Any] = {
        "counts": found.counts(),
        "media": power.media_table(found),
        "backplane": power.backplane_saving(found),
        "vpod": None,
        "stream": None,
    }
    if vpod is not None:
        document["vpod"] = {
            "members": vpod,
            "vpods": found.accelerators // vpod if vpod > 0 else 0,
            "usable_GBps": vpods.usable_bandwidth_GBps(found, vpod),
            "bisection_GBps": vpods.bisection_GBps(found, vpod),
        }
    if jobs is not None:
        stream = vpods.job_stream(jobs, seed=seed, load=load, accelerators=found.accelerators)
        document["stream"] = {**vpods.run_stream(found, stream), "seed": seed, "load": load}
    if as_json:
        print_json(document)
    else:
        print_topology(stdout(), document)


command.add_command(collective_command)
command.add_command(compressed_command)
command.add_command(port_command)
command.add_command(memory)
command.add_command(kv_transfer_command)
