"""A comparison as plain data: what ``--json`` prints and a nightly keeps."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linepress.compare.sampled import Speed
    from linepress.compare.verdict import Comparison

DOCUMENT_VERSION = 1


def document(found: Comparison) -> dict[str, Any]:
    """Keys: ``verdict`` (PASS or FAIL), ``exit_code``, ``failures``, ``undecided``, ``base``, ``new``, ``same``,
    ``noted``, ``cases``, ``changes`` (of outcome), ``exact``, ``modelled``, ``sampled``, ``geomean_time_factor``,
    ``not_comparable``, ``gates`` and ``options``. Times are factors new / base (above 1: slower), sizes bytes."""
    sampled = found.sampled
    return {
        "document_version": DOCUMENT_VERSION,
        "verdict": "PASS" if found.passed else "FAIL",
        "exit_code": found.exit_code,
        "failures": found.failures,
        "undecided": found.undecided,
        "base": found.source.base,
        "new": found.source.new,
        "same": found.source.same,
        "noted": [asdict(difference) for difference in found.source.noted],
        "cases": found.cases,
        "still_failing": found.outcomes.still_failing,
        "added": found.outcomes.added,
        "dropped": found.outcomes.dropped,
        "changes": [asdict(change) for change in found.changes],
        "lossless": {
            variant: {"base": list(before), "new": list(after)}
            for variant, (before, after) in found.outcomes.lossless.items()
        },
        "exact": [{**asdict(one), "change_pct": one.change_pct} for one in found.exact],
        "modelled": [asdict(figure) for figure in found.derived.figures],
        "speed_not_compared": sampled.why_not,
        "machine_drift": sampled.drift,
        "control_series": sampled.controls,
        "sampled": [_speed(speed) for speed in sampled.speeds],
        "geomean_time_factor": sampled.geomean,
        "not_comparable": [asdict(one) for one in found.incomparable],
        "gates": [asdict(gate) for gate in found.gates],
        "options": {**asdict(found.options), "history": [str(path) for path in found.options.history]},
    }


def _speed(speed: Speed) -> dict[str, Any]:
    from math import exp

    effect = speed.effect
    return {
        "variant": speed.variant,
        "metric": speed.metric,
        "mark": speed.mark,
        "control": speed.control,
        "tensors": speed.tensors,
        "rounds": speed.rounds,
        "base_GBps": speed.base_GBps,
        "new_GBps": speed.new_GBps,
        "time_factor": speed.factor,
        "time_factor_low": None if effect is None else exp(effect.low),
        "time_factor_high": None if effect is None else exp(effect.high),
        "p": None if effect is None else effect.p,
        "visible_pct": speed.visible_pct,
        "reason": speed.reason,
    }
