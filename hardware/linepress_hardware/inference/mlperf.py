"""MLPerf Inference rows against the roofline's ceiling: no submission is above it, and the distance is head-room.

The ceiling of a system is answered tokens a second with everything in its favour: all memory of all devices pooled
and full of KV, weights read once a step for all of it, peak bandwidth and peak operations at the submitted precision,
communication, host and sampling for nothing. A sequence needs its prompt's operations and, an answer token,
max(operations / peak, its share of the weights and its own KV / bandwidth). Speculative decoding reads weights and KV
once for several tokens but computes each of them, so its ceiling has no memory term.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from linepress_hardware.catalog.accelerators import Accelerator, accelerators
from linepress_hardware.catalog.figures import Datum, figure
from linepress_hardware.catalog.files import read_toml
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference import capacity
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.compression import PLAIN
from linepress_hardware.inference.operator import total
from linepress_hardware.inference.operators import decode, operators, prefill
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.roofline import device
from linepress_hardware.inference.shapes import ModelShape

KV_BITS = 8.0  # caches of submissions are 8 bits wide or more
_SUFFIX = re.compile(r"-(99(\.9)?|edge)$")
_SEVERAL = re.compile(r"\s*\(x(\d+)\)")


@dataclass(frozen=True)
class Task:
    """One benchmark: the shape, and mean tokens of prompt (None: not known) and answer."""

    shape: ModelShape
    prompt: Datum | None
    answer: Datum


@dataclass(frozen=True)
class HeadRoom:
    """One row beside its ceilings, tokens/s of the whole system; `head_room` = ceiling / performance."""

    id: str
    submitter: str
    accelerator: str
    devices: int
    model: str
    scenario: str
    weights: str
    closed: bool
    tokens_per_s: float
    ceiling_tokens_per_s: float
    speculative_ceiling_tokens_per_s: float
    bound: str

    @property
    def head_room(self) -> float:
        return self.ceiling_tokens_per_s / self.tokens_per_s

    @property
    def verdict(self) -> str:
        """``below`` the ceiling, ``speculative`` (only speculative decoding reaches it), or ``above``."""
        if self.tokens_per_s <= self.ceiling_tokens_per_s:
            return "below"
        return "speculative" if self.tokens_per_s <= self.speculative_ceiling_tokens_per_s else "above"


@cache
def _data() -> tuple[dict[str, Task], dict[str, int]]:
    file = resources.files("linepress_hardware").joinpath("data", "inference", "mlperf.toml")
    raw = read_toml(file.read_text(encoding="utf-8"), "mlperf.toml")
    bits = {name: int(value) for name, value in raw.pop("bits").items()}
    tasks = {}
    for name, one in raw.items():
        prompt = figure(one["prompt"], f"mlperf.toml {name} prompt", "count") if "prompt" in one else None
        tasks[name] = Task(model(one["shape"]), prompt, figure(one["answer"], f"mlperf.toml {name} answer", "count"))
    return tasks, bits


def ceiling(
    shape: ModelShape,
    parts: list[tuple[Accelerator, int]],
    bits: float,
    prompt_tokens: float,
    answer_tokens: float,
    *,
    speculative: bool = False,
) -> tuple[float, str]:
    """(answered tokens/s, what bounds) of devices of one or several kinds together.

    Raises
    ------
    ConfigurationError
        A part has no peak as wide as `bits`, or the weights do not fit all devices together.
    """
    precision = Precision(bits, bits, max(bits, KV_BITS))
    middle = max(1.0, prompt_tokens + answer_tokens / 2)
    step = operators(shape, decode(1, middle), precision, fused_attention=True)
    prompt = operators(shape, prefill(1, prompt_tokens), precision, fused_attention=True) if prompt_tokens else []
    held = capacity.footprint(shape, precision, PLAIN)
    memory = sum(part.capacity_bytes * n for part, n in parts)
    bandwidth = sum(part.bandwidth_Bps * n for part, n in parts)
    batch = (memory - held.weight_bytes) / held.kv_bytes(1, middle)
    if batch < 1:
        raise ConfigurationError(
            f"{shape.name} at {bits:g} bits does not fit the {memory / 1e9:,.0f} GB of the system"
        )
    rate = 0.0  # sequences a second, each device at its own peak
    for part, n in parts:
        on = device(part, precision)
        first = sum(float(op.count * op.ops / on.peak_ops[op.kind]) for op in prompt)
        rest = answer_tokens * sum(float(op.count * op.ops / on.peak_ops[op.kind]) for op in step)
        rate += n / (first + rest)
    compute = rate * answer_tokens
    if speculative:
        return compute, "compute"
    read = operators(shape, decode(batch, middle), precision, fused_attention=True)
    a_token = (float(total(read, "weight_bytes")) + float(total(read, "kv_read_bytes"))) / batch
    by_memory = bandwidth / a_token
    return min(compute, by_memory), "compute" if compute <= by_memory else "memory"


def find_part(name: str) -> Accelerator:
    """The accelerator that a submission's free text names: the longest name or alias among its words.

    Raises
    ------
    ConfigurationError
        No packaged accelerator is named.
    """
    words = "-" + re.sub(r"[^a-z0-9.]+", "-", name.lower()) + "-"
    found = [
        (len(alias), part)
        for part in accelerators().values()
        for alias in (part.name, *part.aliases)
        if f"-{re.sub(r'[^a-z0-9.]+', '-', alias.lower())}-" in words
    ]
    if not found:
        raise ConfigurationError(f"no packaged accelerator is named in {name!r}")
    return max(found, key=lambda one: one[0])[1]


def parts_of(row: Mapping[str, str]) -> list[tuple[Accelerator, int]]:
    """Kinds and numbers of a row's accelerators; ``(x16)`` behind a name counts it over the whole system."""
    text = row["accelerator"].strip()
    if not text or not row["accelerators_per_node"]:
        raise ConfigurationError("the system has no accelerator")
    nodes = int(float(row["nodes"]))
    if _SEVERAL.search(text):
        kinds = [part.strip() for part in text.split(",")]
        return [(find_part(_SEVERAL.sub("", kind)), int(_SEVERAL.search(kind)[1])) for kind in kinds]  # type: ignore[index]
    return [(find_part(text), int(float(row["accelerators_per_node"])) * nodes)]


def head_room(row: Mapping[str, str]) -> HeadRoom:
    """One row of an MLPerf results table beside its ceiling.

    Raises
    ------
    ConfigurationError
        An accelerator or model that is not packaged, a scenario without a rate, a precision the part has no peak for;
        the message says which.
    """
    tasks, bits = _data()
    name = _SUFFIX.sub("", row["model"])
    if name not in tasks:
        raise ConfigurationError(f"no task is packaged for model {row['model']!r}")
    if not any(unit in row["units"] for unit in ("Tokens/s", "Queries/s")):
        raise ConfigurationError(f"{row['scenario']} is measured in {row['units']}, not in tokens/s")
    weights = row["weight_types"].strip().lower()
    if weights not in bits:
        raise ConfigurationError(f"weights of type {row['weight_types']!r} are unknown")
    task, parts = tasks[name], parts_of(row)
    answer = float(row["tokens_per_sample"] or task.answer.value)
    prompt = 0.0 if task.prompt is None else task.prompt.value
    known = min(min(part.peak) for part, _ in parts)
    width = float(max(bits[weights], known)) if weights == "unset" else float(bits[weights])
    top, bound = ceiling(task.shape, parts, width, prompt, answer)
    loose, _ = ceiling(task.shape, parts, width, prompt, answer, speculative=True)
    return HeadRoom(
        row["id"],
        row["submitter"],
        " + ".join(part.name for part, _ in parts),
        sum(n for _, n in parts),
        row["model"],
        row["scenario"],
        weights,
        row["category"] == "closed",
        float(row["performance"]),
        top,
        max(top, loose),
        bound,
    )


def head_rooms(rows: Iterable[Mapping[str, str]]) -> tuple[list[HeadRoom], dict[str, int]]:
    """All rows that can be judged, and how many cannot, by reason."""
    out: list[HeadRoom] = []
    left: dict[str, int] = {}
    for row in rows:
        try:
            out.append(head_room(row))
        except ConfigurationError as error:
            left[str(error)] = left.get(str(error), 0) + 1
        except (KeyError, ValueError) as error:
            raise ConfigurationError(f"row {row.get('id', '?')} of the results table: {error}; mend it") from None
    return out, left


def summary(found: Iterable[HeadRoom]) -> list[dict[str, Any]]:
    """Head-room per accelerator, model and scenario: rows, least, and the row nearest its ceiling."""
    groups: dict[tuple[str, str, str, str], list[HeadRoom]] = {}
    for one in found:
        groups.setdefault((one.accelerator, one.model, one.scenario, one.weights), []).append(one)
    out = []
    for (part, name, scenario, weights), rows in sorted(groups.items()):
        nearest = min(rows, key=lambda one: one.head_room)
        out.append(
            {
                "accelerator": part,
                "model": name,
                "scenario": scenario,
                "weights": weights,
                "rows": len(rows),
                "head_room": nearest.head_room,
                "tokens_per_s_per_device": nearest.tokens_per_s / nearest.devices,
                "ceiling_tokens_per_s_per_device": nearest.ceiling_tokens_per_s / nearest.devices,
                "bound": nearest.bound,
                "verdict": nearest.verdict,
                "submitter": nearest.submitter,
            }
        )
    return out
