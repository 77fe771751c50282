"""``linepress fabric compressed``: collectives with compressed payloads, and from which size on they pay."""

from __future__ import annotations

from typing import Any

import click

from linepress.api.named import size_bytes
from linepress.cli.common import json_option, print_json, stdout

SIZES = ("16KiB", "256KiB", "1MiB", "16MiB", "256MiB", "1GiB", "8GiB")


@click.command("compressed")
@click.argument("name", default="h100")
@click.option("--operation", default="all_reduce", show_default=True, help="all_gather, reduce_scatter, all_to_all.")
@click.option(
    "-n", "--accelerators", "n", type=int, default=8, show_default=True, help="Accelerators that take part."
)
@click.option("--ratio", type=float, default=1.5, show_default=True, help="Measured payload ratio of such data.")
@click.option(
    "--encode-GBps", "encode", type=float, default=None, help="Raw bytes an accelerator encodes. Default: any."
)
@click.option("--decode-GBps", "decode", type=float, default=None, help="Raw bytes it decodes. Default: any.")
@click.option("--message-us", "message", type=float, default=0.0, show_default=True, help="Coding time of a message.")
@click.option(
    "--overlap/--no-overlap", default=True, help="Coding goes on while other parts are on the wire. Default: yes."
)
@click.option("--in-switch", is_flag=True, help="The switches code as well, and still reduce; none for sale does.")
@click.option("--library", default="", help="nccl, custom, symm or mscclpp on both sides. Default: the best of all.")
@click.option("--size", default=None, help="One payload, for instance 64MiB. Default: 16 KiB to 8 GiB.")
@json_option
def compressed_command(
    name: str,
    operation: str,
    n: int,
    ratio: float,
    encode: float | None,
    decode: float | None,
    message: float,
    overlap: bool,
    in_switch: bool,
    library: str,
    size: str | None,
    as_json: bool,
) -> None:
    """Compressed collectives against plain ones at their best, on a measured machine and on every link alone.

    A coder at the accelerators gives up reduction in the switch, since coded numbers do not add: the plain side keeps
    it. Break-even sizes are those of a message of one accelerator; "never" where the coder is slower than the link
    saves.

    \b
    Examples:
      linepress fabric compressed h100 -n 8 --ratio 1.486
      linepress fabric compressed h100 --ratio 1.486 --encode-GBps 600 --decode-GBps 600 --message-us 10 --no-overlap
      linepress fabric compressed gb200 -n 72 --ratio 1.486 --encode-GBps 1000 --decode-GBps 1000 --message-us 0.06
      linepress fabric compressed a100 --operation all_gather --json

    JSON: collectives (by size: time_s, plain_time_s, speedup, curve, plain_curve, bound_by), wins (ranges of payload
    in bytes), links (break_even_bytes, largest_speedup, coder_GBps_to_gain, coder_GBps_for_ratio).
    """
    from linepress_hardware.fabric import compressed
    from linepress_hardware.fabric.links import links

    rates = {key: value for key, value in (("encode_GBps", encode), ("decode_GBps", decode)) if value is not None}
    coder = compressed.Coder(ratio, message_us=message, overlapped=overlap, in_switch=in_switch, **rates)
    rows = [
        compressed.compressed_collective(name, operation, n, size_bytes(text), coder, library=library)
        for text in ((size,) if size else SIZES)
    ]
    alone = [
        {"link": one.name, **compressed.point_to_point(one.rate_GBps * (one.links or 1), 0.0, coder)}
        for one in links().values()
    ]
    document = {
        "system": name,
        "operation": operation,
        "n": n,
        "coder": coder.__dict__,
        "collectives": rows,
        "wins": compressed.winning_sizes(name, operation, n, coder, library=library),
        "links": alone,
    }
    if as_json:
        print_json(document)
    else:
        _print(document)


def _print(document: dict[str, Any]) -> None:
    from linepress.cli.hardware.fabric_print import size_text, time_text

    out = stdout()
    out.print(
        f"{document['operation']} on {document['system']}, {document['n']} accelerators, ratio "
        f"{document['coder']['ratio']:g}",
        markup=False,
    )
    out.print(f"  {'size':>10s}{'plain':>12s}{'compressed':>12s}{'faster':>9s}   by, against, bound by")
    for row in document["collectives"]:
        out.print(
            f"  {size_text(row['size_bytes']):>10s}{time_text(row['plain_time_s']):>12s}"
            f"{time_text(row['time_s']):>12s}"
            f"{row['speedup']:8.3f}x   {row['curve']}, {row['plain_curve']}, {row['bound_by']}"
        )
    ranges = ", ".join(f"{size_text(low)} to {size_text(high)}" for low, high in document["wins"])
    out.print(f"  pays at {ranges} (looked at 256 B to 64 GiB)" if ranges else "  never pays from 256 B to 64 GiB")
    out.print(
        f"one message over the links of an accelerator\n  {'links':18s}{'GB/s':>8s}{'pays from':>12s}{'at most':>9s}"
        f"{'coder to gain':>16s}{'not to bind':>14s}"
    )
    for row in document["links"]:
        start = row["break_even_bytes"]
        pays = "never" if start is None else "1 B" if start < 1 else size_text(start)
        need, free = row["coder_GBps_to_gain"], row["coder_GBps_for_ratio"]
        out.print(
            f"  {row['link']:18s}{row['rate_GBps']:8,.4g}{pays:>12s}{row['largest_speedup']:8.3f}x"
            f"{'–' if need is None else f'{need:,.4g} GB/s':>16s}{'–' if free is None else f'{free:,.4g} GB/s':>14s}"
        )
