"""``linepress fabric memory`` and ``linepress fabric kv-transfer``: bytes that move between memories."""

from __future__ import annotations

from typing import Any

import click

from linepress.api.named import size_bytes
from linepress.cli.common import json_option, print_json, stdout
from linepress.cli.hardware.fabric_arguments import parts_options, wired
from linepress.errors import LinepressError

SIZES = tuple(64 << (2 * i) for i in range(11))


@click.command("memory")
@click.option(
    "--topology", "kind", default="switch", show_default=True, help="A kind, a packaged topology, or .toml."
)
@parts_options
@click.option(
    "--local-GBps", "local_rate", type=float, default=3350.0, show_default=True, help="An accelerator's own."
)
@click.option("--local-ns", type=float, default=500.0, show_default=True, help="Latency of a local read.")
@click.option("--remote-share", type=float, default=None, help="Reads that go to peers. Default: (N - 1) / N.")
@click.option("--ratio", type=float, default=1.5, show_default=True, help="Raw over stored bytes.")
@click.option("--link-ratio", type=float, default=None, help="Raw over sent bytes of coded lines. Default: --ratio.")
@click.option("--decode-ns", type=float, default=20.0, show_default=True, help="Latency of a decompressor.")
@click.option("--overhead-ns", type=float, default=None, help="Software on a message. Default: fabric.toml.")
@click.option("--outstanding", type=int, default=None, help="Loads in flight. Default: fabric.toml.")
@json_option
def memory(
    kind: str,
    n: int | None,
    link: str,
    switch: str,
    planes: int,
    dims: str | None,
    over: float,
    local_rate: float,
    local_ns: float,
    remote_share: float | None,
    ratio: float,
    link_ratio: float | None,
    decode_ns: float,
    overhead_ns: float | None,
    outstanding: int | None,
    as_json: bool,
) -> None:
    """Loads into a peer's memory against RDMA-style messages, and the rack as one memory with compressed lines.

    \b
    Examples:
      linepress fabric memory --topology nvl72 --local-GBps 8000 --ratio 1.5
      linepress fabric memory -n 64 --outstanding 64 --json

    JSON: transfers (size, loads_s, message_s, faster), crossover_bytes (null: loads always win), pool (decompressed
    at the owner and at the reader: effective_GBps, gain, bound_by, latencies).
    """
    from linepress_hardware.fabric import memory_semantics as remote

    found = wired(kind, n, link, switch, planes, dims, over)
    transfers = []
    for size in SIZES:
        loads_s = remote.loads_ns(found, size, outstanding=outstanding) * 1e-9
        message_s = remote.message_ns(found, size, overhead_ns=overhead_ns) * 1e-9
        transfers.append(
            {
                "size_bytes": size,
                "loads_s": loads_s,
                "message_s": message_s,
                "faster": "loads" if loads_s <= message_s else "message",
            }
        )
    document: dict[str, Any] = {
        "topology": found.name,
        "transfers": transfers,
        "crossover_bytes": remote.crossover_bytes(found, overhead_ns=overhead_ns, outstanding=outstanding),
        "pool": [
            remote.pooled_memory(
                found,
                remote.Pool(local_rate, local_ns, ratio, link_ratio or ratio, decode_ns, place),
                remote_share,
            )
            for place in remote.DECOMPRESS_AT
        ],
    }
    if as_json:
        print_json(document)
        return
    from linepress.cli.hardware.fabric_print import print_memory

    print_memory(stdout(), document)


@click.command("kv-transfer")
@click.option(
    "--topology", "kind", default="switch", show_default=True, help="A kind, a packaged topology, or .toml."
)
@parts_options
@click.option("--model", default="llama-3.1-8b", show_default=True, help="Whose KV cache moves.")
@click.option("--tokens", type=int, default=8192, show_default=True, help="Tokens of one cache.")
@click.option("--kv-bits", type=float, default=16.0, show_default=True, help="Bits of a KV element.")
@click.option("--kv-size", default=None, help="Bytes of one cache, instead of --model and --tokens.")
@click.option("--prefill", type=int, default=8, show_default=True, help="Accelerators that prefill.")
@click.option("--decode", type=int, default=8, show_default=True, help="Accelerators that decode.")
@click.option("--transfers", type=int, default=1, show_default=True, help="Caches that each of them sends at once.")
@click.option("--pairing", default="paired", show_default=True, help="paired, or random (incast).")
@click.option("--layers", type=int, default=1, show_default=True, help="Parts that leave as they are computed.")
@click.option("--prefill-s", type=float, default=0.0, help="Duration of the prefill that layers overlap with.")
@click.option("--ratio", type=float, default=1.0, show_default=True, help="Raw over sent bytes.")
@click.option("--codec-ns", type=float, default=0.0, help="Latency of coding.")
@click.option(
    "--codec-GBps", "codec_rate", type=float, default=None, help="Raw bytes a second the coder keeps up with."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of random pairing.")
@json_option
def kv_transfer_command(
    kind: str,
    n: int | None,
    link: str,
    switch: str,
    planes: int,
    dims: str | None,
    over: float,
    model: str,
    tokens: int,
    kv_bits: float,
    kv_size: str | None,
    prefill: int,
    decode: int,
    transfers: int,
    pairing: str,
    layers: int,
    prefill_s: float,
    ratio: float,
    codec_ns: float,
    codec_rate: float | None,
    seed: int,
    as_json: bool,
) -> None:
    """Time to move KV caches from prefill to decode accelerators, plain and compressed.

    \b
    Examples:
      linepress fabric kv-transfer --model llama-3.1-8b --tokens 8192 --ratio 1.5
      linepress fabric kv-transfer --topology nvl72 --prefill 36 --decode 36 --pairing random --ratio 1.4 --json
      linepress fabric kv-transfer --layers 32 --prefill-s 0.2 --ratio 1.5
    """
    from linepress.api.named import model_named
    from linepress_hardware.fabric.kv_transfer import kv_transfer

    if kv_size is not None:
        cache = float(size_bytes(kv_size))
    else:
        if tokens < 1 or not kv_bits > 0:
            raise LinepressError(f"{tokens} tokens of {kv_bits:g} bits hold nothing; give numbers above 0")
        cache = model_named(model).sequence_bytes(tokens, kv_bits / 8)
    row = kv_transfer(
        wired(kind, n or (max(2, prefill + decode) if kind == "switch" else None), link, switch, planes, dims, over),
        cache,
        prefill=prefill,
        decode=decode,
        transfers=transfers,
        ratio=ratio,
        codec_ns=codec_ns,
        codec_GBps=codec_rate,
        pairing=pairing,
        layers=layers,
        prefill_s=prefill_s,
        seed=seed,
    )
    row = {"model": None if kv_size else model, "tokens": None if kv_size else tokens, **row, "seed": seed}
    if as_json:
        print_json(row)
        return
    from linepress.cli.hardware.fabric_print import print_kv_transfer

    print_kv_transfer(stdout(), row)
