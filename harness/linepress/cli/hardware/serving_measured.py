"""``linepress serving --measured``: three constants from measured points, and the error on unseen points."""

from __future__ import annotations

import csv
from typing import Any

from linepress.cli.common import print_json, stdout

# Columns of a file of measured points that, where present, say which model and device a row is about.
_MODEL_COLUMN, _DEVICE_COLUMN, _PIPELINE_COLUMN = "model", "system", "pp_size"


def measured_points_command(shape: Any, part: Any, limits: Any, given: dict[str, Any], as_json: bool) -> None:
    """Calibrate on every other measured row of this model and device, and report the error on the others."""
    from linepress.errors import SourceError
    from linepress_hardware.inference.calibrate import Model, fit, measured_points, report, split
    from linepress_hardware.inference.precision import parse_precision

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
    engine = Model.of(shape, part, parse_precision(given["precision"]), points, limits)
    constants = fit(engine, known)
    document = {
        "model": shape.name,
        "accelerator": part.name,
        "precision": given["precision"],
        "engine": limits.name,
        "chunked_prefill": limits.chunked_prefill,
        "max_tokens": limits.max_tokens,
        "policy": limits.policy,
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
    pieces = "chunked" if limits.chunked_prefill else "whole"
    out.print(
        f"{shape.name} on {part.name}   {len(kept)} of {len(rows)} rows   {given['precision']}   "
        f"engine {limits.name}, {pieces} prompts, {limits.max_tokens:,} tokens a step, {limits.policy}"
    )
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
    from linepress.cli.hardware.serving_inputs import same_part
    from linepress_hardware.catalog.accelerators import accelerator as find_accelerator
    from linepress_hardware.inference.catalog import model as find_model

    if row.get(_PIPELINE_COLUMN, "1") not in ("", "1"):
        return False
    return same_part(row.get(_MODEL_COLUMN) or "", model, find_model) and same_part(
        row.get(_DEVICE_COLUMN) or "", accelerator, find_accelerator
    )
