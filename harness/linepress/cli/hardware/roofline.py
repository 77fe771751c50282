"""``linepress roofline``: the operators of a model on an accelerator, as published and corrected, side by side."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from linepress.cli.common import json_option, print_json, stderr, stdout

STAGES = ("prefill", "decode")
MODES = ("both", "reference", "corrected")


@click.command()
@click.argument("model")
@click.argument("accelerator")
@click.option(
    "--context", type=int, default=2048, show_default=True, help="Prompt of prefill, KV length of decode; tokens."
)
@click.option("--batch", type=int, default=1, show_default=True, help="Sequences.")
@click.option("--precision", default="w16a16kv16", show_default=True, help="Bits of weights, activations, KV.")
@click.option(
    "--mode",
    type=click.Choice(MODES[1:]),
    default=None,
    help="reference: as the published tool counts, with its constants. corrected: without its mistakes. "
    "Default: the corrected numbers, beside the talk's table in the published formulas and what differs.",
)
@click.option("--fused/--unfused", default=False, help="Scores stay on chip (FlashAttention). Default: unfused.")
@click.option("--tp", type=int, default=1, help="Tensor-parallel devices (corrected mode).")
@click.option("--ep", type=int, default=1, help="Expert-parallel devices (corrected mode).")
@click.option("--pp", type=int, default=1, help="Pipeline stages (corrected mode).")
@click.option("--dp", type=int, default=1, help="Replicas (corrected mode).")
@click.option("--no-fit-check", is_flag=True, help="Compute even when batch × context exceeds the memory.")
@json_option
def command(
    model: str,
    accelerator: str,
    context: int,
    batch: int,
    precision: str,
    mode: str | None,
    fused: bool,
    tp: int,
    ep: int,
    pp: int,
    dp: int,
    no_fit_check: bool,
    as_json: bool,
) -> None:
    """Operators of MODEL on ACCELERATOR: operations, bytes, intensity, attained performance, what bounds them.

    MODEL is a built-in shape, a Hugging Face config.json or its folder; ACCELERATOR a built-in part
    or a .toml data file of the same layout.

    \b
    Examples:
      linepress roofline llama-2-7b a6000 --context 2048       the talk's table, and what is wrong in it
      linepress roofline ./config.json h100 --batch 16 --precision w8a16kv8
      linepress roofline deepseek-v3 b200 --tp 8 --ep 8 --precision w8a8kv16 --mode corrected --json

    JSON: `table` (the talk's 24 rows at full precision, `printed` as the talk prints them), `rows` and `totals`
    of the chosen mode, `reference` and `corrected` (device, stages with rows, totals, resident bytes),
    `differences`, `talk` (cells equal to the talk's, the damaged one named; only at the talk's own point).
    """
    from linepress.api.named import accelerator_named, model_named
    from linepress_hardware.inference.parallel import Parallel
    from linepress_hardware.inference.precision import parse_precision

    document = _document(
        model_named(model),
        accelerator_named(accelerator),
        context=context,
        batch=batch,
        precision=parse_precision(precision),
        mode=mode or "both",
        fused=fused,
        parallel=Parallel(tp, pp, ep, dp),
        check_fit=not no_fit_check,
    )
    for warning in document["warnings"]:
        stderr().print(f"note: {warning}")
    if as_json:
        print_json(document)
    else:
        _print(stdout(), document)


def _document(
    shape: Any,
    part: Any,
    *,
    context: int,
    batch: int,
    precision: Any,
    mode: str,
    fused: bool,
    parallel: Any,
    check_fit: bool,
) -> dict[str, Any]:
    from linepress_hardware.errors import ConfigurationError
    from linepress_hardware.inference import talk_table
    from linepress_hardware.inference.compare_modes import differences
    from linepress_hardware.inference.reference import QUIRKS
    from linepress_hardware.inference.roofline import roofline

    document: dict[str, Any] = {
        "model": shape.name,
        "accelerator": part.name,
        "context_tokens": context,
        "batch": batch,
        "precision": str(precision),
        "attention": "fused" if fused else "unfused",
        "parallel": {"tp": parallel.tp, "pp": parallel.pp, "ep": parallel.ep, "dp": parallel.dp},
        "mode": "corrected" if mode == "both" else mode,
        "parameters": shape.parameters,
        "active_parameters": shape.active_parameters,
        "sequence": {
            "growing_bytes_per_token": shape.growing_bytes_per_token(precision.kv_bytes),
            "window_bytes": shape.window_bytes(precision.kv_bytes),
            "state_bytes": shape.state_bytes(precision.kv_bytes),
            "index_bytes_per_token": shape.index_bytes_per_token(precision.kv_bytes),
            "bytes_at_context": shape.sequence_bytes(context, precision.kv_bytes),
        },
        "stored_weight_bytes": shape.stored_weight_bytes,
        "class_defaults": list(shape.defaults),
        "warnings": _config_notes(shape),
    }
    document["warnings"] += _fit_warnings(shape, part, batch, context, precision, parallel, check_fit, mode)
    one_device = parallel.devices == 1 and parallel.ep == 1
    wanted = MODES[1:] if mode == "both" else (mode,)
    for name in wanted:
        if name == "reference" and mode == "both" and not one_device:
            document["warnings"].append("the published tool knows one device only; its numbers are left out")
            continue
        try:
            stages = {
                stage: roofline(
                    shape,
                    part,
                    stage=stage,
                    batch=batch,
                    context_tokens=context,
                    precision=precision,
                    mode=name,
                    fused_attention=fused,
                    parallel=parallel,
                )
                for stage in STAGES
            }
        except ConfigurationError as error:
            if name == "reference" and mode == "both":
                document["warnings"].append(str(error))
                continue
            raise
        document[name] = {"device": stages["prefill"]["device"], "stages": stages}
    chosen = document[document["mode"]]["stages"]
    document["rows"] = [{"stage": stage, **row} for stage in STAGES for row in chosen[stage]["rows"]]
    document["totals"] = {stage: chosen[stage]["totals"] for stage in STAGES}
    if "reference" in document:
        document["quirks"] = QUIRKS
        rows = {stage: document["reference"]["stages"][stage]["rows"] for stage in STAGES}
        document["table"] = _talk_rows(rows)
        if not fused and _is_talk_point(document, talk_table.POINT):
            document["talk"] = talk_table.check(talk_table.table(rows))
    if "reference" in document and "corrected" in document:
        document["differences"] = [
            line
            for stage in STAGES
            for line in differences(document["reference"]["stages"][stage], document["corrected"]["stages"][stage])
        ]
    return document


def _config_notes(shape: Any) -> list[str]:
    """What a reader of the numbers must know of the configuration: fields filled in, how the file stores weights."""
    notes = []
    if shape.defaults:
        notes.append(
            f"the configuration leaves out {', '.join(shape.defaults)}; the family's class defaults are used"
        )
    if shape.quantised is not None:
        how, stored = shape.quantised.method, shape.stored_weight_bytes
        size = (
            f"{stored / 1e9:,.2f} GB, {8 * stored / shape.parameters:.2f} bits a parameter"
            if stored
            else "in a form whose size is not known here"
        )
        notes.append(f"the checkpoint stores its weights as {how}: {size}; --precision says what is modelled")
    return notes


def _talk_rows(stages: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows that the talk shows, under its names: numbers at full precision and as printed."""
    from linepress_hardware.inference import talk_table

    out = []
    for stage, rows in stages.items():
        by_name = {row["layer"]: row for row in rows}
        for name, shown in talk_table.ROWS.items():
            if name in by_name:
                row = by_name[name]
                out.append({"stage": stage, **row, "layer": shown, "printed": talk_table.printed(row)})
    return out


def _is_talk_point(document: dict[str, Any], point: dict[str, Any]) -> bool:
    return document["precision"] == "w16a16kv16" and all(document[key] == value for key, value in point.items())


def _fit_warnings(
    shape: Any, part: Any, batch: int, context: int, precision: Any, parallel: Any, check: bool, mode: str
) -> list[str]:
    """Refuse, or in reference mode only say, that batch × context does not fit."""
    from linepress_hardware.errors import ConfigurationError
    from linepress_hardware.inference.capacity import check_fits, footprint
    from linepress_hardware.inference.compression import PLAIN

    if batch < 1 or context < 1:
        raise ConfigurationError(f"batch {batch} and context {context} must be 1 or more")
    warnings = []
    if shape.max_context is not None and context > shape.max_context:
        warnings.append(f"{shape.name} was made for {shape.max_context:,} tokens, {context:,} are asked for")
    try:
        check_fits(
            footprint(shape, precision, PLAIN, parallel),
            part,
            devices=parallel.tp * parallel.pp,
            usable_share=1.0,
            batch=-(-batch // parallel.dp),
            context_tokens=context,
            name=shape.name,
        )
    except ConfigurationError as error:
        if check and mode != "reference":
            raise ConfigurationError(f"{error} (--no-fit-check computes it anyway)") from None
        warnings.append(str(error))
    return warnings


def _print(out: Console, document: dict[str, Any]) -> None:
    out.print(
        f"{document['model']} on {document['accelerator']}   batch {document['batch']}   "
        f"context {document['context_tokens']:,} tokens   {document['precision']}   {document['attention']} attention"
    )
    if "reference" in document:
        _print_talk(out, document)
    if "corrected" in document:
        _print_mode(out, document)
    if "differences" in document:
        _print_differences(out, document)


def _device_line(name: str, device: dict[str, Any]) -> str:
    return (
        f"{name}: {device['name']}, {device['bandwidth_GBps']:,.6g} GB/s, peak {device['peak_Tops']['matmul']:,.7g} "
        f"Top/s, ridge {device['ridge_op_per_B']:.4f} op/B"
    )


def _print_talk(out: Console, document: dict[str, Any]) -> None:
    from linepress_hardware.inference.talk_table import COLUMNS, TITLES

    out.print(_device_line("\nreference, the published formulas", document["reference"]["device"]))
    cells = [("Layer Name", *TITLES)]
    cells += [(row["layer"], *(row["printed"][column] for column in COLUMNS)) for row in document["table"]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]

    def line(values: tuple[str, ...]) -> str:
        return "  ".join(
            [values[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(values[1:], widths[1:], strict=True))]
        )

    out.print(line(cells[0]))
    stage = ""
    for row, values in zip(document["table"], cells[1:], strict=True):
        if row["stage"] != stage:
            stage = row["stage"]
            out.print(stage.capitalize())
        out.print(line(values))
    if "talk" in document:
        talk = document["talk"]
        damaged = "; ".join(f"{cell['cell']} (right value: {cell['value']})" for cell in talk["damaged"])
        out.print(f"the talk's table: {talk['equal']} of {talk['readable']} readable cells equal; damaged: {damaged}")
        for cell in talk["different"]:
            out.print(f"differs: {cell['cell']}: the talk {cell['talk']}, here {cell['value']}")
    _print_totals(out, document["reference"]["stages"])


def _print_mode(out: Console, document: dict[str, Any]) -> None:
    from linepress_hardware.inference.talk_table import intensity, number

    out.print(_device_line("\ncorrected", document["corrected"]["device"]))
    out.print(
        f"{'layer':28s} {'×':>5s} {'OPs':>7s} {'bytes':>7s} {'op/B':>7s} {'op/s':>7s} {'bound':>8s} {'time, µs':>12s}"
    )
    for stage in STAGES:
        out.print(stage.capitalize())
        for row in document["corrected"]["stages"][stage]["rows"]:
            out.print(
                f"{row['layer']:28s} {row['count']:>5g} {number(row['ops']):>7s} {number(row['memory_B']):>7s} "
                f"{intensity(row['intensity_op_per_B']):>7s} {number(row['performance_op_per_s']):>7s} "
                f"{row['bound']:>8s} {row['time_s'] * 1e6:>12,.3f}"
            )
    _print_totals(out, document["corrected"]["stages"])


def _print_totals(out: Console, stages: dict[str, Any]) -> None:
    for stage in STAGES:
        total, held = stages[stage]["totals"], stages[stage]["resident"]
        out.print(
            f"total {stage}: {total['ops']:,.0f} op, {total['memory_B']:,.0f} B "
            f"(weights {total['load_weight_B']:,.0f}, KV {total['load_kv_B'] + total['store_kv_B']:,.0f}), "
            f"{total['time_s'] * 1e3:,.4f} ms; held {held['resident_B'] / 1e9:,.3f} GB"
        )


def _print_differences(out: Console, document: dict[str, Any]) -> None:
    out.print("\nreference against corrected, a whole step")
    out.print(f"{'stage':8s} {'layer':18s} {'op, ref → corr':>34s} {'bytes, ref → corr':>34s}   why")

    def pair(line: dict[str, Any], key: str) -> str:
        values = (line[f"reference_{key}"], line[f"corrected_{key}"])
        return " → ".join("–" if value is None else f"{value:,.5g}" for value in values)

    for line in document["differences"]:
        out.print(
            f"{line['stage']:8s} {line['layer']:18s} {pair(line, 'ops'):>34s} {pair(line, 'memory_B'):>34s}   "
            f"{line['why']}",
        )
    for stage in STAGES:
        both = [document[name]["stages"][stage]["totals"]["time_s"] for name in ("reference", "corrected")]
        out.print(
            f"time of {stage}: {both[0] * 1e3:,.4f} ms → {both[1] * 1e3:,.4f} ms ({both[1] / both[0] - 1:+.1%})"
        )
