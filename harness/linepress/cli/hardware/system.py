"""``linepress system``: what ratios are worth on an accelerator, without a run: tokens/s, capacity, racks, money."""

from __future__ import annotations

from typing import Any

import click

from linepress.cli.common import json_option, print_json, stderr, stdout

_ROWS: tuple[tuple[str, str, float, str], ...] = (
    ("decode step, ms", "time_s", 1e3, ",.4f"),
    ("tokens/s", "tokens_per_s", 1.0, ",.1f"),
    ("time to first token, ms", "ttft_s", 1e3, ",.3f"),
    ("largest batch at this context", "largest_batch", 1.0, ",.0f"),
    ("largest context at this batch, tokens", "largest_context_tokens", 1.0, ",.0f"),
    ("devices needed", "devices_needed", 1.0, ",.0f"),
    ("racks needed", "racks_needed", 1.0, ",.0f"),
    ("KV outweighs weights at, tokens", "kv_equals_weights_at_tokens", 1.0, ",.0f"),
    ("compute bound from batch", "compute_bound_batch", 1.0, ",.0f"),
    ("energy, kJ per million tokens", "energy_J_per_million_tokens", 1e-3, ",.1f"),
    ("USD per million tokens", "cost_usd_per_million_tokens", 1.0, ",.4f"),
)


@click.command()
@click.argument("model")
@click.argument("accelerator")
@click.option("--weight-ratio", type=float, help="Packed ratio of the weights; 1 where only the other is given.")
@click.option("--kv-ratio", type=float, help="Packed ratio of the KV cache; 1 where only the other is given.")
@click.option(
    "--weight-gain", type=float, help="Bandwidth gain of weight streams, from a channel; default the ratio."
)
@click.option("--kv-gain", type=float, help="Bandwidth gain of KV reads, from a channel; default the ratio.")
@click.option("--decode-latency-ns", type=float, default=0.0, show_default=True)
@click.option("--decompressor-GBps", "decompressor", type=float, help="Raw bytes/s of a device's decompressors.")
@click.option("--codec", help="Decode latency and decoders from this codec's hardware card, for instance huffman.")
@click.option("--context", type=int, default=2048, show_default=True, help="KV length of decode, prompt; tokens.")
@click.option("--batch", type=int, default=1, show_default=True)
@click.option("--precision", default="w16a16kv16", show_default=True)
@click.option("--tp", type=int, default=1, show_default=True)
@click.option("--pp", type=int, default=1, show_default=True)
@click.option("--ep", type=int, default=1, show_default=True)
@click.option("--dp", type=int, default=1, show_default=True)
@click.option("--algorithm", default="", help="All-reduce algorithm; default the link's own.")
@click.option("--sweep", help="NAME=V1,V2,…: a field of the scenario or the compression, one line a value.")
@json_option
def command(model: str, accelerator: str, as_json: bool, **given: Any) -> None:
    """MODEL on ACCELERATOR with and without compression, each number beside its closed form.

    The table is the roofline's bound; below it stands what a machine is expected to do, with the band of the
    residuals that were measured (on this accelerator where there are rows, else carried over, which is said).

    \b
    Examples:
      linepress system llama-3.1-8b h100 --weight-ratio 1.33 --kv-ratio 1.4 --context 8192 --batch 16
      linepress system llama-3.1-70b h100 --tp 4 --weight-ratio 1.5 --decompressor-GBps 4000
      linepress system llama-3.1-8b h100 --kv-ratio 1.5 --sweep context_tokens=1024,8192,65536 --json
    """
    _some_ratio(given)
    from linepress_hardware.inference.compression import Compression
    from linepress_hardware.inference.scenario import Scenario
    from linepress_hardware.inference.system import evaluate, sensitivity

    scenario = Scenario(
        context_tokens=given["context"],
        batch=given["batch"],
        **{key: given[key] for key in ("precision", "tp", "pp", "ep", "dp", "algorithm")},
    )
    card = None
    if given["codec"]:
        from linepress.errors import LinepressError
        from linepress_codecs.formats import format_named
        from linepress_codecs.variant import Variant

        bits = int(scenario.parsed_precision().weight_bits)
        card = Variant.parse(given["codec"]).codec.card(format_named({16: "bf16", 8: "e4m3"}.get(bits, "bf16")))
        if card is None:
            raise LinepressError(f"--codec {given['codec']} has no hardware card; give --decode-latency-ns instead")
        given["decode_latency_ns"] = given["decode_latency_ns"] or card.decode_latency_ns
    compression = Compression(
        1.0 if given["weight_ratio"] is None else given["weight_ratio"],
        1.0 if given["kv_ratio"] is None else given["kv_ratio"],
        weight_bandwidth_gain=given["weight_gain"],
        kv_bandwidth_gain=given["kv_gain"],
        decode_latency_ns=given["decode_latency_ns"],
        decompressor_GBps=given["decompressor"],
    )
    if given["sweep"]:
        name, values = _sweep(given["sweep"])
        rows = sensitivity(model, accelerator, scenario, compression, name, values)
    else:
        rows = [evaluate(model, accelerator, scenario, compression)]
    for row in rows:
        if not row["compressed_fits"]:
            stderr().print(
                f"note: batch {scenario.batch} × context {scenario.context_tokens:,} does not fit the devices even "
                f"compressed; {row['devices_needed']} are needed"
            )
            break
    for row in rows:
        row["decoder_engines_needed"] = None if card is None else card.engines_for(row["decompressor_needed_GBps"])
    if as_json:
        print_json({"model": model, "accelerator": accelerator, "rows": rows})
    elif given["sweep"]:
        _print_sweep(rows)
    else:
        _print(model, accelerator, rows[0])


def _some_ratio(given: dict[str, Any]) -> None:
    """Refuse a comparison of the plain system with itself."""
    from linepress.errors import LinepressError

    names = ("weight_ratio", "kv_ratio", "weight_gain", "kv_gain")
    swept = (given["sweep"] or "").partition("=")[0].strip()
    fields = ("weight_ratio", "kv_ratio", "weight_bandwidth_gain", "kv_bandwidth_gain")
    if swept not in fields and all(given[name] is None for name in names):
        raise LinepressError(
            "without a ratio there is nothing to compare: give --weight-ratio or --kv-ratio, for instance the packed "
            "ratios in a run's report (linepress report RUN)"
        )


def _sweep(text: str) -> tuple[str, list[float]]:
    from linepress.errors import LinepressError

    name, _, values = text.partition("=")
    try:
        numbers = [float(value) for value in values.split(",")]
    except ValueError:
        raise LinepressError(f"--sweep {text!r} is not NAME=V1,V2,…; write weight_ratio=1,1.25,1.5") from None
    return name.strip(), numbers


def _print(model: str, accelerator: str, row: dict[str, Any]) -> None:
    out = stdout()
    out.print(f"{model} on {row['devices']} × {accelerator}   decode bound by {row['bound_by']}")
    out.print(f"{'':40s}{'plain':>16s}{'compressed':>16s}{'change':>10s}")
    for title, key, scale, form in _ROWS:
        pair = [row[f"plain_{key}"], row[key]]
        cells = "".join(f"{'–' if value is None else format(value * scale, form):>16s}" for value in pair)
        change = f"{pair[1] / pair[0] - 1:>+10.1%}" if pair[0] and pair[1] is not None else ""
        out.print(f"{title:40s}{cells}{change}")
    out.print(
        f"on a machine: {_banded(row, 'expected_plain_tokens_per_s', ',.0f')} tokens/s plain, "
        f"{_banded(row, 'expected_tokens_per_s', ',.0f')} compressed, "
        f"speed-up {_banded(row, 'expected_speedup', '.3f')}"
    )
    out.print(
        f"users at this context, less what an engine keeps for itself: {row['plain_largest_batch_low']:,} plain, "
        f"{row['largest_batch_low']:,} compressed"
    )
    out.print(
        f"band: 90 % within ±{row['band_share']:.0%}, half within ±{row['band_median']:.0%} ({row['band_source']})"
    )
    if row["decoder_engines_needed"] is not None:
        out.print(
            f"decoders a device, to keep up with {row['decompressor_needed_GBps']:,.0f} GB/s of raw lines: "
            f"{row['decoder_engines_needed']:,}"
        )
    gain = row["capacity_gain"]
    out.print(f"speed-up {row['speedup']:.4f}   closed form, memory bound {row['closed_form_speedup']:.4f}")
    if gain is not None:
        out.print(f"capacity gain {gain:.4f}   closed form {row['closed_form_capacity_gain']:.4f}")
    out.print(
        f"all-reduces {row['allreduce_s'] * 1e6:,.2f} µs a step   "
        f"figures behind energy: {row['energy_status']}, behind cost: {row['cost_status']}"
    )


def _banded(row: dict[str, Any], key: str, form: str) -> str:
    return f"{row[key]:{form}} ({row[key + '_low']:{form}} to {row[key + '_high']:{form}})"


def _print_sweep(rows: list[dict[str, Any]]) -> None:
    out = stdout()
    out.print(
        f"{rows[0]['parameter']:>20s} {'plain tok/s':>14s} {'tok/s':>14s} {'speed-up':>9s} {'closed form':>12s} "
        f"{'batch':>8s} {'plain':>8s}   bound by"
    )
    for row in rows:
        out.print(
            f"{row['value']:>20,g} {row['plain_tokens_per_s']:>14,.1f} {row['tokens_per_s']:>14,.1f} "
            f"{row['speedup']:>9.4f} {row['closed_form_speedup']:>12.4f} {row['largest_batch']:>8,} "
            f"{row['plain_largest_batch']:>8,}   {row['bound_by']}"
        )
