"""Where the corrected operator counts differ from the published tool's, layer by layer, and why."""

from __future__ import annotations

from typing import Any

# layer of the published tool -> (layer here, why they may differ)
_PAIRS: dict[str, tuple[str, str]] = {
    "q_proj": ("q_proj", "width of the heads, biases"),
    "k_proj": ("k_proj", "width of the heads, biases"),
    "v_proj": ("v_proj", "width of the heads, biases"),
    "out_proj": ("o_proj", "width of the heads"),
    "gate_proj": ("gate_proj", ""),
    "up_proj": ("up_proj", ""),
    "down_proj": ("down_proj", ""),
    "qk_matmul": ("qk_matmul", "causal mask: S (S + 1) / 2 pairs instead of S × S; query read with all heads"),
    "sv_matmul": ("sv_matmul", "causal mask: S (S + 1) / 2 pairs instead of S × S"),
    "softmax": ("softmax", "causal mask: S (S + 1) / 2 pairs instead of S × S"),
    "fused_attention": ("fused_attention", "causal mask, grouped queries, D instead of S elements written a head"),
    "attn_norm": ("attn_norm", "the norm's own vector is read"),
    "mlp_norm": ("mlp_norm", "the norm's own vector is read"),
    "attn_add": ("attn_add", ""),
    "mlp_add": ("mlp_add", ""),
    "mlp_act": ("mlp_act", "the MLP's width instead of the hidden width"),
    "lm_head": ("lm_head", "2 B h V operations instead of B h V; every sequence's bytes instead of one's"),
}
_COMPARED = ("ops", "memory_B", "time_s")


def differences(published: dict[str, Any], right: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of two `roofline` results of one stage whose operations or bytes differ, totals last.

    Sliding layers are added to the full ones, so that a layer is compared as a whole step.

    Returns
    -------
    list[dict]
        ``stage``, ``layer``, ``reference_*`` and ``corrected_*`` of operations, bytes and seconds of a whole step,
        ``why``. A layer that one side lacks has None there.
    """
    theirs = _by_layer(published["rows"])
    ours = _by_layer(right["rows"])
    out = []
    seen = set()
    for layer, (name, why) in _PAIRS.items():
        seen.add(name)
        if layer in theirs and _differ(theirs[layer], ours.get(name)):
            out.append(_line(published["stage"], layer, theirs[layer], ours.get(name), why))
    for name, numbers in ours.items():
        if name not in seen:
            out.append(_line(published["stage"], name, None, numbers, "the published tool does not count it"))
    totals = _line(published["stage"], "total", published["totals"], right["totals"], "")
    return [*out, totals]


def _by_layer(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    out: dict[str, dict[str, float]] = {}
    for row in rows:
        name = row["layer"].removesuffix(".sliding")
        sums = out.setdefault(name, dict.fromkeys(_COMPARED, 0.0))
        for key in _COMPARED:
            sums[key] += row["count"] * row[key]
    return out


def _differ(one: dict[str, float], other: dict[str, float] | None) -> bool:
    return other is None or any(abs(one[key] - other[key]) > 1e-12 * abs(one[key]) for key in ("ops", "memory_B"))


def _line(
    stage: str, layer: str, one: dict[str, float] | None, other: dict[str, float] | None, why: str
) -> dict[str, Any]:
    line: dict[str, Any] = {"stage": stage, "layer": layer}
    for key in _COMPARED:
        line[f"reference_{key}"] = None if one is None else one[key]
        line[f"corrected_{key}"] = None if other is None else other[key]
    return {**line, "why": why}
