"""``linepress serving``: continuous batching on a modelled engine, TTFT and TPOT with and without compression."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import click

from linepress.cli.common import json_option, print_json, stderr, stdout


@click.command()
@click.argument("model")
@click.argument("accelerator")
@click.option("--trace", type=click.Path(path_type=Path), help="CSV TIMESTAMP,ContextTokens,GeneratedTokens.")
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
@click.option("--tp", type=int, default=1, show_default=True, help="Tensor-parallel devices.")
@click.option("--max-sequences", type=int, default=256, show_default=True)
@click.option("--max-tokens", type=int, default=8192, show_default=True, help="Tokens of one step.")
@click.option("--chunked/--whole", default=True, help="Whether a prompt may be split over steps. Default: chunked.")
@click.option("--policy", type=click.Choice(["mixed", "prefill-first"]), default="mixed", show_default=True)
@click.option("--memory-efficiency", type=float, default=1.0, show_default=True, help="Share of peak bandwidth.")
@click.option("--compute-efficiency", type=float, default=1.0, show_default=True, help="Share of peak op/s.")
@click.option("--overhead-ms", type=float, default=0.0, show_default=True, help="Host time a step.")
@click.option("--weight-ratio", type=float, default=1.0, help="Packed ratio of the weights.")
@click.option("--kv-ratio", type=float, default=1.0, help="Packed ratio of the KV cache.")
@click.option("--decompressor-GBps", "decompressor", type=float, help="Raw bytes/s of a device's decompressors.")
@json_option
def command(model: str, accelerator: str, as_json: bool, **given: Any) -> None:
    """Serve requests of MODEL on ACCELERATOR, plain and compressed: p50 and p99 of TTFT and TPOT, tokens/s.

    \b
    Examples:
      linepress serving llama-3.1-8b h100 --rate 12 --prompt 1000 --answer 300 --weight-ratio 1.33 --kv-ratio 1.4
      linepress serving llama-3.1-8b h100 --concurrency 64 --prompt 2048 --answer 256
      linepress serving llama-3.1-8b h100 --measured measured_serving_h100_8b.csv
      linepress serving llama-3.1-70b h100 --tp 4 --trace AzureLLMInferenceTrace_conv.csv --requests 2000 --json

    JSON: `plain` and `compressed` (summaries, seconds), `requests`, and everything assumed. With --measured:
    `constants`, `known` and `unseen` (errors of TPOT), `points`, `largest_roofline_ratio`, `split`.
    """
    if given["measured"] is not None:
        _measured(model, accelerator, given, as_json)
        return
    from linepress.cli.hardware.models import accelerator_argument, model_argument
    from linepress_hardware.inference.compression import PLAIN, Compression
    from linepress_hardware.inference.parallel import Parallel
    from linepress_hardware.inference.precision import parse_precision
    from linepress_hardware.inference.serving import Engine, simulate
    from linepress_hardware.inference.step_cost import Calibration

    compression = Compression(given["weight_ratio"], given["kv_ratio"], decompressor_GBps=given["decompressor"])
    requests = _requests(given)
    limits = Engine(
        given["concurrency"] or given["max_sequences"], given["max_tokens"], given["chunked"], given["policy"]
    )
    shape, part = model_argument(model), accelerator_argument(accelerator)
    document: dict[str, Any] = {"model": shape.name, "accelerator": part.name, **_plain(given)}
    for side, what in (("plain", PLAIN), ("compressed", compression)):
        if side == "compressed" and compression == PLAIN:
            continue
        document[side] = simulate(
            shape,
            part,
            requests,
            precision=parse_precision(given["precision"]),
            parallel=Parallel(given["tp"]),
            engine=limits,
            calibration=Calibration(
                given["memory_efficiency"], given["compute_efficiency"], given["overhead_ms"] / 1e3
            ),
            compression=what,
        ).summary
    if requests.dropped:
        stderr().print(f"note: {requests.dropped} requests without prompt or answer were dropped")
    if as_json:
        print_json(document)
    else:
        _print(document)


# Columns of a file of measured points that, where present, say which model and device a row is about.
_MODEL_COLUMN, _DEVICE_COLUMN, _PIPELINE_COLUMN = "model", "system", "pp_size"


def _measured(model: str, accelerator: str, given: dict[str, Any], as_json: bool) -> None:
    """Calibrate on every other measured row of this model and device, and report the error on the others."""
    from linepress.cli.hardware.models import accelerator_argument, model_argument
    from linepress.errors import SourceError
    from linepress_hardware.inference.calibrate import Model, fit, measured_points, report, split
    from linepress_hardware.inference.precision import parse_precision

    shape, part = model_argument(model), accelerator_argument(accelerator)
    path = given["measured"]
    if not path.is_file():
        raise SourceError(
            f"{path} does not exist; give a CSV with input_tokens, output_tokens, batch_size, tp_size, …"
        )
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    kept = [row for row in rows if _is_about(row, shape.name, part.name)]
    if len(kept) < 4:
        raise SourceError(
            f"{path} has {len(kept)} of {len(rows)} rows about {shape.name} on {part.name} without pipelines; "
            f"half of at least 4 are needed to calibrate"
        )
    points = measured_points(kept)
    known, unseen = split(points)
    engine = Model.of(shape, part, parse_precision(given["precision"]), points)
    constants = fit(engine, known)
    document = {
        "model": shape.name,
        "accelerator": part.name,
        "precision": given["precision"],
        "rows": len(rows),
        "used": len(kept),
        "split": "rows in file order, even ones calibrate, odd ones are predicted",
        "constants": constants.__dict__,
        "known": report(engine.errors(known, constants)),
        "unseen": report(engine.errors(unseen, constants)),
        "largest_roofline_ratio": max(engine.roofline_step_s(point) / point.tpot_s for point in points),
        "points": [
            {
                **point.__dict__,
                "predicted_tpot_s": engine.predict_tpot_s(point, constants),
                "roofline_step_s": engine.roofline_step_s(point),
                "calibrated_on": point in known,
            }
            for point in points
        ],
    }
    if as_json:
        print_json(document)
        return
    out = stdout()
    out.print(f"{shape.name} on {part.name}   {len(kept)} of {len(rows)} rows   {given['precision']}")
    out.print(
        f"constants: memory {constants.memory_efficiency:.3f} of peak, compute {constants.compute_efficiency:.3f} "
        f"of peak, host {constants.overhead_s * 1e3:.3f} ms a step"
    )
    for name in ("known", "unseen"):
        found: Any = document[name]
        out.print(
            f"{name:7s} {found['points']:4d} rows   TPOT error: median {found['median_error']:.1%}, "
            f"mean {found['mean_error']:.1%}, 90th percentile {found['p90_error']:.1%}, bias {found['bias']:+.1%}"
        )
    out.print(f"roofline over measured step: at most {document['largest_roofline_ratio']:.3f} (a bound, so below 1)")


def _is_about(row: dict[str, str], model: str, accelerator: str) -> bool:
    from linepress_hardware.catalog.accelerators import accelerator as find_accelerator
    from linepress_hardware.errors import UnknownPartError
    from linepress_hardware.inference.catalog import model as find_model

    if row.get(_PIPELINE_COLUMN, "1") not in ("", "1"):
        return False
    try:
        if row.get(_MODEL_COLUMN) and find_model(row[_MODEL_COLUMN]).name != model:
            return False
        return not row.get(_DEVICE_COLUMN) or find_accelerator(row[_DEVICE_COLUMN]).name == accelerator
    except UnknownPartError:
        return False


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    return {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}


def _requests(given: dict[str, Any]) -> Any:
    from linepress.errors import LinepressError, SourceError
    from linepress_hardware.inference.trace import closed_loop, parse_trace, synthetic

    ways = [name for name in ("trace", "rate", "concurrency") if given[name] is not None]
    if len(ways) != 1:
        found = " and ".join(f"--{name}" for name in ways) or "none"
        raise LinepressError(f"requests come from one of --trace, --rate and --concurrency, {found} is given")
    if ways == ["trace"]:
        path = given["trace"]
        if not path.is_file():
            raise SourceError(f"{path} does not exist; give a CSV TIMESTAMP,ContextTokens,GeneratedTokens")
        with path.open(encoding="utf-8", newline="") as lines:
            return parse_trace(lines, str(path), limit=given["requests"])
    if ways == ["rate"]:
        return synthetic(
            given["rate"],
            given["requests"],
            prompt_tokens=given["prompt"],
            answer_tokens=given["answer"],
            spread=given["spread"],
            seed=given["seed"],
        )
    rounds = max(1, -(-given["requests"] // max(1, given["concurrency"])))
    return closed_loop(given["concurrency"], given["prompt"], given["answer"], rounds=rounds)


def _print(document: dict[str, Any]) -> None:
    out = stdout()
    sides = [side for side in ("plain", "compressed") if side in document]
    first = document[sides[0]]
    out.print(
        f"{document['model']} on {first['devices']} × {document['accelerator']}   {first['requests']} requests   "
        f"{document['precision']}   ratios {document['weight_ratio']:g} weights, {document['kv_ratio']:g} KV"
    )
    out.print(f"{'':26s}" + "".join(f"{side:>14s}" for side in sides) + ("      change" if len(sides) == 2 else ""))
    rows = (
        ("tokens/s", "tokens_per_s", 1.0),
        ("requests/s", "requests_per_s", 1.0),
        *((f"TTFT p{q}, ms", f"ttft_p{q}_s", 1e3) for q in (50, 99)),
        *((f"TPOT p{q}, ms", f"tpot_p{q}_s", 1e3) for q in (50, 99)),
        ("latency p99, s", "latency_p99_s", 1.0),
        ("steps with prefill, %", "steps_with_prefill_share", 100.0),
        ("memory-bound steps, %", "memory_bound_steps_share", 100.0),
    )
    for title, key, scale in rows:
        values = [document[side].get(key) for side in sides]
        line = f"{title:26s}" + "".join("–".rjust(14) if v is None else f"{v * scale:14,.3f}" for v in values)
        if len(values) == 2 and values[0] and values[1] is not None:
            line += f"{values[1] / values[0] - 1:+12.1%}"
        out.print(line)
