"""``linepress fabric port``: flits, credits and replay of a port at a bit error rate."""

from __future__ import annotations

from typing import Any

import click

from linepress.api.named import size_bytes
from linepress.cli.common import json_option, print_json, stdout


@click.command("port")
@click.option("--link", "link_name", default="ualink-400g", show_default=True, help="Link with flits, of data/links.")
@click.option("--switch", "switch_name", default="ualink-50t", show_default=True, help="Switch of data/switches.")
@click.option("--ber", type=float, default=1e-4, show_default=True, help="Bit errors a bit before error correction.")
@click.option("--load", type=float, default=0.5, show_default=True, help="Share of a port in use; 0: one at a time.")
@click.option("--ports", type=int, default=16, show_default=True, help="Ports of the switch that send.")
@click.option("--size", default="256B", show_default=True, help="A message, 64 to 256 B on UALink.")
@click.option("--replay-flits", type=int, default=None, help="Flits a sender keeps. Default: what never binds.")
@click.option("--credit-flits", type=int, default=None, help="Flits a receiver's buffer takes. Default: the same.")
@click.option("--messages", type=int, default=100_000, show_default=True, help="Messages, and flits, simulated.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of arrivals, destinations and broken flits.")
@json_option
def port_command(
    link_name: str,
    switch_name: str,
    ber: float,
    load: float,
    ports: int,
    size: str,
    replay_flits: int | None,
    credit_flits: int | None,
    messages: int,
    seed: int,
    as_json: bool,
) -> None:
    """What a port delivers at a bit error rate, and its switch's port-to-port time against the published limit.

    The limit is that of the data file, taken for an idle switch; queues and replays come on top and are simulated. A
    flit whose codeword has more wrong symbols than it corrects is sent again with all behind it (go-back-N).

    \b
    Examples:
      linepress fabric port
      linepress fabric port --ber 1e-3 --load 0.9 --switch ualink-100t --ports 64
      linepress fabric port --link ualink-2.0-800g --replay-flits 8 --credit-flits 8
      linepress fabric port --load 0 --ber 0 --json

    JSON: port (flit_ns, loop_ns, error, flits_for_full_rate), bit_error_rates (highest for 1e-6 … of flits),
    saturated and loaded (one link: throughput_share, closed_form_share, mean_ns, closed_form_mean_ns, p99_ns …),
    port_to_port (limit_ns, p50_ns, p99_ns, p999_ns, above_limit, replays).
    """
    from linepress_hardware.fabric import port as model
    from linepress_hardware.fabric.links import link
    from linepress_hardware.fabric.switches import switch

    wire, box = link(link_name), switch(switch_name)
    port = model.port_of(wire, ber, replay_flits=replay_flits, credit_flits=credit_flits)
    assert wire.line is not None  # port_of asks for it
    document: dict[str, Any] = {
        "link": wire.name,
        "switch": box.name,
        "bit_error_rate": ber,
        "port": {**port.__dict__, "loop_ns": port.loop_ns, "flits_for_full_rate": port.flits_for_full_rate},
        "bit_error_rates": {str(share): model.bit_error_rate_for(wire.line, share) for share in (1e-6, 1e-9, 1e-12)},
        "saturated": model.simulate_port(port, messages, seed=seed),
        "loaded": model.simulate_port(port, messages, load=load, seed=seed) if 0 < load < 1 else None,
        "port_to_port": model.port_to_port(
            wire, box, ber, ports=ports, load=load, size_bytes=size_bytes(size), messages=messages, seed=seed
        ),
    }
    if as_json:
        print_json(document)
    else:
        _print(document)


def _print(document: dict[str, Any]) -> None:
    out, port, through = stdout(), document["port"], document["port_to_port"]
    out.print(
        f"{document['link']} through {document['switch']} at a bit error rate of {document['bit_error_rate']:g}"
    )
    out.print(
        f"  a flit takes {port['flit_ns']:g} ns and fails with {port['error']:.3g}; it is sent again after "
        f"{port['loop_ns']:g} ns, which {port['flits_for_full_rate']} flits of replay buffer and credits cover"
    )
    rates = ", ".join(f"{share} at {rate:.2g}" for share, rate in document["bit_error_rates"].items())
    out.print(f"  share of flits that fail by bit error rate, errors independent: {rates}")
    full = document["saturated"]
    out.print(
        f"  saturated: {100 * full['throughput_share']:.2f} % of the flits get through (closed form "
        f"{100 * full['closed_form_share']:.2f} %), {full['replays']:,} replays of {full['flits']:,}"
    )
    if document["loaded"]:
        one = document["loaded"]
        formula = "–" if one["closed_form_mean_ns"] is None else f"{one['closed_form_mean_ns']:,.1f}"
        out.print(
            f"  one link at load {one['load']:g}: mean {one['mean_ns']:,.1f} ns (closed form {formula}), "
            f"p99 {one['p99_ns']:,.1f}, p99.9 {one['p999_ns']:,.1f}"
        )
    out.print(
        f"  port to port, {through['ports']} ports at load {through['load']:g}: limit {through['limit_ns']:g} ns, "
        f"p50 {through['p50_ns']:,.1f}, p99 {through['p99_ns']:,.1f}, p99.9 {through['p999_ns']:,.1f}, "
        f"max {through['max_ns']:,.1f}; {100 * through['above_limit']:.3g} % above it "
        f"({through['messages']:,} messages, seed {through['seed']})"
    )
    out.print(f"  of the limit {through['limit_less_codeword_ns']:g} ns are left once a codeword is in")
