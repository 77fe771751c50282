"""``linepress serving``: continuous batching on a modelled engine, TTFT and TPOT with and without compression."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from linepress.cli.common import json_option, print_json, stderr, stdout
from linepress.cli.hardware.serving_inputs import engine_of, kernels_of, requests_of
from linepress.cli.hardware.serving_measured import measured_points_command


@click.command()
@click.argument("model")
@click.argument("accelerator")
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    help="Requests: CSV TIMESTAMP,ContextTokens,GeneratedTokens, or a recorded run "
    "(arrival_s,input_tokens,output_tokens and, where known, request, hardware, model, tp, dp, ep, "
    "ttft_from_queued_s, tpot_s), against which the prediction is then held.",
)
@click.option(
    "--prefixes",
    type=click.Path(path_type=Path),
    help="CSV request,first_block,blocks,owner: KV blocks of a recorded run that hold what an earlier one's hold.",
)
@click.option(
    "--kernels",
    default="auto",
    show_default=True,
    help="What a step takes: a CSV of measured kernel times (.gz too), `forms` (by shape, from this GPU's packaged "
    "forms), `roofline`, or auto: forms where the GPU has some and nothing asks for the roofline.",
)
@click.option(
    "--measured",
    type=click.Path(path_type=Path),
    help="CSV of measured serving points: calibrate three constants on every other row, predict the rest.",
)
@click.option("--rate", type=float, help="Poisson arrivals, requests a second (synthetic).")
@click.option("--concurrency", type=int, help="Closed loop of that many clients (synthetic).")
@click.option("--requests", type=int, default=500, show_default=True, help="Requests, or rows of the trace.")
@click.option("--prompt", type=int, default=1024, show_default=True, help="Mean prompt tokens (synthetic).")
@click.option("--answer", type=int, default=256, show_default=True, help="Mean answer tokens (synthetic).")
@click.option(
    "--spread", type=float, default=0.5, show_default=True, help="Log-normal spread of lengths (with --rate)."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the synthetic requests.")
@click.option("--precision", default="w16a16kv16", show_default=True)
@click.option("--tp", type=int, help="Tensor-parallel devices. Default 1, or the recorded run's.")
@click.option("--dp", type=int, help="Engines in step, each with its own KV (kernels only). Default 1, or the run's.")
@click.option("--ep/--no-ep", "ep", default=None, help="Experts spread over tp × dp (kernels only).")
@click.option(
    "--engine", default="vllm-0.19", show_default=True, help="Scheduler rules: a packaged engine or a .toml."
)
@click.option("--max-sequences", type=int, help="Sequences in flight. Default the engine's.")
@click.option("--max-tokens", type=int, help="Tokens of one step. Default the engine's.")
@click.option(
    "--chunked/--whole", default=None, help="Whether a prompt may be split over steps. Default the engine's."
)
@click.option("--policy", type=click.Choice(["mixed", "prefill-first"]), help="Default the engine's.")
@click.option("--kv-blocks", type=int, help="KV blocks of an engine, as its log says. Default what fits.")
@click.option("--memory-efficiency", type=float, default=1.0, show_default=True, help="Share of peak (roofline).")
@click.option("--compute-efficiency", type=float, default=1.0, show_default=True, help="Share of peak (roofline).")
@click.option("--overhead-ms", type=float, help="Host time a step. Default 0, with kernels that of the GPU's forms.")
@click.option(
    "--link-GBps", "link_GBps", type=float, help="Rate of a link one way (kernels). Default the GPU's link."
)
@click.option("--link-us", type=float, help="Time a collective takes besides its bytes (kernels).")
@click.option("--weight-ratio", type=float, default=1.0, help="Packed ratio of the weights (roofline).")
@click.option("--kv-ratio", type=float, default=1.0, help="Packed ratio of the KV cache (roofline).")
@click.option("--decompressor-GBps", "decompressor", type=float, help="Raw bytes/s of a device's decompressors.")
@json_option
def command(model: str, accelerator: str, as_json: bool, **given: Any) -> None:
    """Serve requests of MODEL on ACCELERATOR, plain and compressed: p50 and p99 of TTFT and TPOT, tokens/s.

    \b
    Examples:
      linepress serving llama-3.1-8b h100 --rate 12 --prompt 1000 --answer 300 --weight-ratio 1.33 --kv-ratio 1.4
      linepress serving llama-3.1-8b rtx-pro-6000 --concurrency 64 --prompt 2048 --answer 256
      linepress serving llama-3.1-8b rtx-4090 --trace serving_requests.csv --prefixes block_owners.csv \\
          --kernels operator_times.csv.gz --kv-blocks 2588
      linepress serving qwen3-32b rtx-pro-6000 --tp 2 --trace serving_requests.csv --link-GBps 16 --link-us 20
      linepress serving llama-3.1-8b h100 --engine trtllm-1.0 --measured measured_serving_h100_8b.csv

    JSON: `plain` and `compressed` (summaries, seconds), `steps_from` (which kernels or the roofline), `band` (error
    of the kernel forms), `errors` (against a recorded run, all and odd requests), `per_request` with --trace of a
    recorded run, and everything assumed. With --measured: `constants`, `known` and `unseen` (errors of TPOT),
    `points`, `largest_roofline_ratio`, `split`.
    """
    from linepress.api.named import accelerator_named, model_named
    from linepress_hardware.inference.compression import PLAIN, Compression
    from linepress_hardware.inference.parallel import Parallel
    from linepress_hardware.inference.precision import parse_precision
    from linepress_hardware.inference.serving import simulate
    from linepress_hardware.inference.serving.recorded import errors
    from linepress_hardware.inference.step_cost import Calibration

    shape, part = model_named(model), accelerator_named(accelerator)
    limits = engine_of(given)
    if given["measured"] is not None:
        measured_points_command(shape, part, limits, given, as_json)
        return
    compression = Compression(given["weight_ratio"], given["kv_ratio"], decompressor_GBps=given["decompressor"])
    requests, run = requests_of(given, shape, part)
    if given["concurrency"]:
        limits = replace(limits, max_sequences=given["concurrency"])
    layout = {name: given[name] or (getattr(run, name) if run is not None else 1) for name in ("tp", "dp")}
    apart = given["ep"] if given["ep"] is not None else run is not None and run.ep
    kernels, steps_from, band = kernels_of(given, shape, part, layout["tp"], layout["dp"], bool(apart), compression)
    document: dict[str, Any] = {
        "model": shape.name,
        "accelerator": part.name,
        **_plain(given),
        **layout,
        "ep": bool(apart),
        "engine": limits.name,
        "steps_from": steps_from,
        "band": band,
    }
    for side, what in (("plain", PLAIN), ("compressed", compression)):
        if side == "compressed" and compression == PLAIN:
            continue
        served = simulate(
            shape,
            part,
            requests,
            precision=parse_precision(given["precision"]),
            parallel=Parallel(layout["tp"], dp=layout["dp"]),
            engine=limits,
            calibration=Calibration(
                given["memory_efficiency"], given["compute_efficiency"], (given["overhead_ms"] or 0.0) / 1e3
            ),
            compression=what,
            kernels=kernels,
            kv_blocks=given["kv_blocks"],
        )
        document[side] = served.summary
        if side == "plain" and run is not None:
            document["per_request"] = {
                "ttft_s": served.ttft_s.tolist(),
                "tpot_s": served.tpot_s.tolist(),
                "preempted": served.preempted.tolist(),
            }
            if run.measured:
                odd = np.arange(len(requests)) % 2 == 1
                document["errors"] = {"all": errors(run, served), "odd": errors(run, served, odd)}
    if requests.dropped:
        stderr().print(f"note: {requests.dropped} requests without prompt or answer were dropped")
    if as_json:
        print_json(document)
    else:
        _print(document)


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}


def _print(document: dict[str, Any]) -> None:
    out = stdout()
    sides = [side for side in ("plain", "compressed") if side in document]
    first = document[sides[0]]
    out.print(
        f"{document['model']} on {first['devices']} × {document['accelerator']}   {first['requests']} requests   "
        f"{document['precision']}   ratios {document['weight_ratio']:g} weights, {document['kv_ratio']:g} KV"
    )
    out.print(f"engine {document['engine']}   steps from {document['steps_from']}")
    out.print(f"{'':26s}" + "".join(f"{side:>14s}" for side in sides) + ("      change" if len(sides) == 2 else ""))
    rows = (
        ("tokens/s", "tokens_per_s", 1.0),
        ("requests/s", "requests_per_s", 1.0),
        *((f"TTFT p{q}, ms", f"ttft_p{q}_s", 1e3) for q in (50, 99)),
        *((f"TPOT p{q}, ms", f"tpot_p{q}_s", 1e3) for q in (50, 99)),
        ("latency p99, s", "latency_p99_s", 1.0),
        ("steps with prefill, %", "steps_with_prefill_share", 100.0),
        ("memory-bound steps, %", "memory_bound_steps_share", 100.0),
        ("preemptions", "preemptions", 1.0),
    )
    for title, key, scale in rows:
        values = [document[side].get(key) for side in sides]
        line = f"{title:26s}" + "".join("–".rjust(14) if v is None else f"{v * scale:14,.3f}" for v in values)
        if len(values) == 2 and values[0] and values[1] is not None:
            line += f"{values[1] / values[0] - 1:+12.1%}"
        out.print(line)
    band = document["band"]
    if band is not None:
        out.print(
            f"{'band':26s}linear layers ±{band['linear']:.1%}, attention ±{band['attention']:.1%} on the kernels the "
            f"forms come from"
        )
    for which, found in document.get("errors", {}).items():
        out.print(
            f"{'against the record, ' + which:26s}TPOT mean {found['tpot_mean']:+.1%}, a request "
            f"{found['tpot_request_mean']:.1%} (90th percentile {found['tpot_request_p90']:.1%}); TTFT mean "
            f"{found['ttft_mean']:+.1%}, {found['ttft_mean_abs_s']:.3f} s a request"
        )
