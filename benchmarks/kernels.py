"""Kernel forms against measured kernels: ``python -m benchmarks.kernels``.

Fits the constants of ``data/kernels`` on a table of kernel times (soft L1 over log ratios, so that no size of a
kernel outweighs another), and prints the error of each class on the rows it was fitted on, on tensor-parallel degrees
it has not seen, and the rows that lie above the roofline bound. ``--write`` replaces the packaged files, ``--table``
takes another table of the same columns, whose models are then predicted with the packaged constants, not fitted.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.errors import HardwareError
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.kernels import bound
from linepress_hardware.inference.kernels.forms import (
    Band,
    DecodeForm,
    DeviceForms,
    ElementwiseForm,
    LinearForm,
    MixedForm,
    PrefillForm,
    all_forms,
)
from linepress_hardware.inference.kernels.layers import LINEAR, elementwise_bytes, heads, matrix
from linepress_hardware.inference.kernels.tables import Rows, read_rows
from linepress_hardware.inference.shapes import ModelShape

F8 = NDArray[np.float64]
TABLE = Path(__file__).parents[1] / "tests" / "data" / "inference" / "operator_times.csv.gz"
FOLDER = Path(__file__).parents[1] / "hardware" / "linepress_hardware" / "data" / "kernels"
SOURCE = (
    "fitted by python -m benchmarks.kernels --write on {rows:,} kernel times of Llama-3.1-8B, "
    "casys-kaist/LLMServingSim 5daddb2, profiler/perf (MIT): measured with vLLM, 3 iterations"
)
# What no table of kernels says: multiprocessors (data sheets), and host time a step (even requests of the recorded
# run).
DEVICES: dict[str, dict[str, Any]] = {
    "rtx-4090": {"multiprocessors": 128, "host_step_us": 0.0},
    "rtx-pro-6000": {"multiprocessors": 188, "host_step_us": 1400.0},
}
EXPERT_LAUNCH_US = 15.0  # grouped product: routing and sorting kernels around it
ELEMENTWISE = ("layernorm", "final_layernorm", "embedding", "rotary_emb", "act_fn", "sampler")
# Starts and limits of each constant, in the order of the form's fields; bandwidth and peak as shares of the device's.
STARTS: dict[type, tuple[list[float], list[float], list[float]]] = {
    LinearForm: (
        [4, 0.95, 1.0, 5, 0.5, 0.8, 0.9, 50, 5000, 0.95],
        [0, 0.3, 0.3, 1, 0, 0.3, 0.3, 0, 500, 0.5],
        [20, 1.2, 1.3, 20, 1, 1, 1, 3000, 50000, 1.1],
    ),
    DecodeForm: ([10, 4, 0.95, 40, 0.3, 1.0], [0, 0, 0.2, 0, 0.02, 0.05], [40, 12, 1.0, 200, 4, 20]),
    PrefillForm: ([5, 30, 0.3], [0, 1, 0], [40, 300, 1]),
    MixedForm: ([3, 5, 26, 26, 0.3, 5, 4, 0.95], [0, 0, 1, 1, 0, 0.3, 1.5, 0.7], [50, 50, 300, 300, 5, 20, 30, 1.0]),
    ElementwiseForm: ([2, 5.0, 0.9, 0.2], [0, 0.5, 0.3, 0.0], [60, 20, 2.5, 1.0]),
}
# Forms with a knee have local minima: more starts for it.
OTHER_STARTS: dict[type, tuple[dict[str, float], ...]] = {
    ElementwiseForm: tuple({"held_share": share} for share in (0.02, 0.1, 0.4, 0.8)),
    DecodeForm: tuple(
        {"fill_us": fill, "fill_share": share, "fill_waves": waves, "bandwidth_GBps": 0.98}
        for fill in (20, 60)
        for share in (0.2, 0.6, 1.2)
        for waves in (0.3, 2.0)
    ),
}


@dataclass(frozen=True)
class Set:
    """Rows of one class of kernels: what a form is asked and what was measured."""

    predict: Any  # form -> seconds
    seconds: F8


def table_rows(path: Path) -> list[Rows]:
    """Rows of a table by GPU, model and tensor-parallel degree; ``.gz`` is unpacked."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return read_rows(csv.DictReader(text.decode("utf-8").splitlines()), path.name)


def sets(rows: Sequence[Rows], part: str, multiprocessors: int, cache_bytes: float) -> dict[str, list[Set]]:
    """Every class's rows of one GPU, one `Set` a table and kernel."""
    out: dict[str, list[Set]] = {}
    for one in rows:
        shape = model(one.model)
        for name in LINEAR:
            mine, of = one.of(name), matrix(shape, one.tp, name)
            if mine.any() and of is not None:
                tokens = one.tokens[mine]
                out.setdefault("linear", []).append(
                    Set(lambda f, of=of, t=tokens: f.seconds(of, t, multiprocessors), one.seconds[mine])
                )
        for name in ELEMENTWISE:
            mine = one.of(name)
            if mine.any():
                size = elementwise_bytes(shape, one.tp, name, one.tokens[mine])
                out.setdefault(name, []).append(Set(lambda f, b=size: f.seconds(b, cache_bytes), one.seconds[mine]))
        for kind, found in attention_sets(one, shape, multiprocessors, cache_bytes):
            out.setdefault(kind, []).append(found)
    return out


def attention_sets(one: Rows, shape: ModelShape, sms: int, cache: float) -> Iterator[tuple[str, Set]]:
    """Answers alone, prompts alone, both in one launch."""
    at = heads(shape, one.tp)
    mine = one.of("attention")
    answers, prompts = mine & (one.chunk == 0), mine & (one.sequences == 0)
    both = mine & ~answers & ~prompts
    if answers.any():
        n, k = one.sequences[answers], one.keys[answers]
        yield "decode", Set(lambda f: f.seconds(at, n, k, sms, cache), one.seconds[answers])
    if prompts.any():
        c, p = one.chunk[prompts], one.prior[prompts]
        yield "prefill", Set(lambda f: f.seconds(at, c, p, sms), one.seconds[prompts])
    if both.any():
        chunk, prior, n2, k2 = (v[both] for v in (one.chunk, one.prior, one.sequences, one.keys))
        yield "mixed", Set(lambda f: f.seconds(at, chunk, prior, n2, k2, sms, cache), one.seconds[both])


def fit(cls: type, found: Sequence[Set], bandwidth_GBps: float, peak_Tops: float) -> Any:
    """The form of class `cls` with the least soft-L1 error of log(predicted / measured)."""
    names = [field.name for field in fields(cls)]
    units = {"bandwidth_GBps": bandwidth_GBps, "cache_GBps": bandwidth_GBps, "peak_Tops": peak_Tops}
    scale = np.array([units.get(name, 1.0) for name in names])
    start, low, high = (np.array(values, dtype=np.float64) for values in STARTS[cls])
    measured = np.log(np.concatenate([one.seconds for one in found]))

    def residual(x: F8) -> F8:
        made = cls(*(float(v) for v in x * scale))
        predicted = np.concatenate([one.predict(made) for one in found])
        return np.asarray(np.log(np.maximum(predicted, 1e-12)) - measured)

    solved = least_squares(residual, start, bounds=(low, high), loss="soft_l1", f_scale=0.1, diff_step=1e-3)
    for change in OTHER_STARTS.get(cls, ()):
        again = np.array([change.get(name, value) for name, value in zip(names, start, strict=True)])
        other = least_squares(residual, again, bounds=(low, high), loss="soft_l1", f_scale=0.1, diff_step=1e-3)
        solved = min(solved, other, key=lambda one: float(one.cost))
    return cls(*(float(f"{v:.4g}") for v in solved.x * scale))


def errors(form: Any, found: Sequence[Set]) -> F8:
    """Signed relative errors of all rows."""
    return np.concatenate([one.predict(form) / one.seconds - 1 for one in found])


def band(error: F8) -> Band:
    return Band(float(np.abs(error).mean()), float(np.quantile(np.abs(error), 0.9)), int(error.size))


def fitted(rows: Sequence[Rows], name: str) -> DeviceForms:
    """All forms of one GPU, fitted on `rows`."""
    part, known = accelerator(name), DEVICES[name]
    bandwidth, peak = part.bandwidth_Bps / 1e9, part.peak_ops(16) / 1e12
    by_class = sets(rows, name, known["multiprocessors"], part.cache_bytes)
    forms = {
        kind: fit(cls, by_class[kind], bandwidth, peak)
        for kind, cls in (
            ("linear", LinearForm),
            ("decode", DecodeForm),
            ("prefill", PrefillForm),
            ("mixed", MixedForm),
        )
    }
    small = {kind: fit(ElementwiseForm, by_class[kind], bandwidth, peak) for kind in ELEMENTWISE if kind in by_class}
    bands = {kind: band(errors(form, by_class[kind])) for kind, form in {**forms, **small}.items()}
    count = sum(one.rows for one in bands.values())
    return DeviceForms(
        name=part.name,
        accelerator=part.name,
        source=SOURCE.format(rows=count),
        elementwise=small,
        bands=bands,
        expert_launch_us=EXPERT_LAUNCH_US,
        **known,
        **forms,
    )


def judged(forms: DeviceForms, rows: Sequence[Rows]) -> dict[str, dict[str, float]]:
    """Error of each class of `forms` on `rows`, and of all linear layers and all attention together."""
    by_class = sets(rows, forms.name, forms.multiprocessors, forms.cache_bytes)
    out: dict[str, dict[str, float]] = {}
    pools: dict[str, list[F8]] = {}
    for kind, found in by_class.items():
        form = forms.elementwise.get(kind) or getattr(forms, kind, None)
        if form is None:
            continue
        error = errors(form, found)
        out[kind] = {"bias": float(error.mean()), **asdict(band(error))}
        if kind in ("decode", "prefill", "mixed"):
            pools.setdefault("attention", []).append(error)
    for kind, parts in pools.items():
        error = np.concatenate(parts)
        out[kind] = {"bias": float(error.mean()), **asdict(band(error))}
    return out


def written(forms: DeviceForms) -> str:
    """A data file of `forms`."""
    lines = [
        f'name = "{forms.name}"',
        f'accelerator = "{forms.accelerator}"',
        f"multiprocessors = {forms.multiprocessors}",
        f'source = "{forms.source}"',
        f"expert_launch_us = {forms.expert_launch_us}  # estimated: routing and sorting around a grouped product",
        f"host_step_us = {forms.host_step_us}  # of the even requests of this GPU's recorded serving run",
    ]
    tables = {kind: getattr(forms, kind) for kind in ("linear", "decode", "prefill", "mixed")}
    tables |= {f"elementwise.{kind}": form for kind, form in forms.elementwise.items()}
    for name, form in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {value}" for key, value in asdict(form).items())]
    lines += ["", "[bands]  # of |predicted / measured - 1| over the rows the constants were fitted on"]
    lines += [
        f"{kind} = {{ mean = {one.mean:.4f}, p90 = {one.p90:.4f}, rows = {one.rows} }}"
        for kind, one in forms.bands.items()
    ]
    return "\n".join(lines) + "\n"


def _show(title: str, found: dict[str, dict[str, float]]) -> None:
    print(title)
    for kind, one in found.items():
        print(
            f"  {kind:16s} {one['rows']:7,.0f} rows   mean {one['mean']:6.1%}   p90 {one['p90']:6.1%}   "
            f"bias {one['bias']:+6.1%}"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Fit or predict, print the errors and the bound, keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, help="predict this table with the packaged forms instead of fitting")
    parser.add_argument("--write", action="store_true", help="replace the packaged forms")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kernels.json"))
    given = parser.parse_args(argv)
    rows = table_rows(given.table or TABLE)
    results: dict[str, Any] = {}
    violations = 0
    by_part: dict[str, list[Rows]] = {}
    for one in rows:
        try:
            by_part.setdefault(accelerator(one.hardware).name, []).append(one)
        except HardwareError as error:
            print(f"left out: {error}")
    for name, mine in by_part.items():
        if given.table is None:
            forms = fitted(mine, name)
            found = {"fitted": judged(forms, mine)}
            first = [one for one in mine if one.tp == 1]
            unseen = [one for one in mine if one.tp > 1]
            if unseen:
                found["unseen tensor-parallel degrees"] = judged(fitted(first, name), unseen)
            if given.write:
                FOLDER.mkdir(parents=True, exist_ok=True)
                (FOLDER / f"{name}.toml").write_text(written(forms), encoding="utf-8")
        else:
            forms = all_forms()[name]
            found = {f"{one.model} tp {one.tp}": judged(forms, [one]) for one in mine}
        for title, numbers in found.items():
            _show(f"{name}, {title}", numbers)
        above = [bound.above(one, model(one.model), accelerator(name)) for one in mine]
        worst = max(one.largest for one in above)
        violations += sum(one.rows_above for one in above)
        print(
            f"{name}, roofline bound: {sum(one.rows_above for one in above)} of {sum(one.rows for one in above):,} "
            f"rows above it, largest bound / measured {worst:.3f}"
        )
        results[name] = {**found, "bound": [asdict(one) for one in above], "forms": asdict(replace(forms))}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(results, indent=1, default=str) + "\n")
    return 1 if violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
