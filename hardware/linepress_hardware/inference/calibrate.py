"""Three constants from measured serving points, and the error on points they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.catalog.accelerators import Accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.capacity import budget_bytes, footprint, largest_batch
from linepress_hardware.inference.compression import PLAIN
from linepress_hardware.inference.operators import decode, operators
from linepress_hardware.inference.parallel import Parallel
from linepress_hardware.inference.precision import Precision
from linepress_hardware.inference.roofline import device
from linepress_hardware.inference.serving import Engine, simulate
from linepress_hardware.inference.shapes import ModelShape
from linepress_hardware.inference.step_cost import Calibration, StepCost, step_cost
from linepress_hardware.inference.trace import closed_loop
from linepress_hardware.inference.traffic import step_time

# Where the search starts: typical shares of peak, and a millisecond of host time a step.
START = (0.8, 0.6, 1.0e-3)
ROUNDS = 4


@dataclass(frozen=True)
class MeasuredPoint:
    """One measured serving point: a closed loop of `concurrency` requests of one length."""

    prompt_tokens: int
    answer_tokens: int
    concurrency: int
    tp: int
    tpot_s: float
    ttft_s: float


def measured_points(rows: Sequence[Mapping[str, str]]) -> list[MeasuredPoint]:
    """Rows of ``measured_serving_*.csv`` (columns in its README) as points.

    Raises
    ------
    ConfigurationError
        A column is missing or not a number; the message names row and column.
    """
    out = []
    for number, row in enumerate(rows, start=1):
        try:
            out.append(
                MeasuredPoint(
                    int(row["input_tokens"]),
                    int(row["output_tokens"]),
                    int(row["batch_size"]),
                    int(row["tp_size"]),
                    float(row["measured_tpot_ms"]) / 1e3,
                    float(row["measured_ttft_ms"]) / 1e3,
                )
            )
        except KeyError as error:
            raise ConfigurationError(f"measured row {number} has no column {error}; see the file's README") from None
        except ValueError as error:
            raise ConfigurationError(f"measured row {number}: {error}; give numbers") from None
    return out


def split(points: Sequence[MeasuredPoint]) -> tuple[list[MeasuredPoint], list[MeasuredPoint]]:
    """Every other point, in the order of the file: even ones calibrate, odd ones are predicted."""
    return list(points[0::2]), list(points[1::2])


@dataclass(frozen=True)
class Model:
    """Shape, part and precision that points were measured on, with the step costs already computed."""

    shape: ModelShape
    part: Accelerator
    precision: Precision
    engine: Engine
    costs: dict[int, StepCost]

    @classmethod
    def of(
        cls,
        shape: ModelShape,
        part: Accelerator,
        precision: Precision,
        points: Sequence[MeasuredPoint],
        engine: Engine | None = None,
    ) -> Model:
        """Step costs for every tensor-parallel degree among `points`."""
        limits = replace(engine or Engine(), usable_share=1.0)  # measured points did fit
        longest = max(point.prompt_tokens + point.concurrency for point in points)
        costs = {
            tp: step_cost(shape, part, precision, parallel=Parallel(tp), max_tokens=max(limits.max_tokens, longest))
            for tp in sorted({point.tp for point in points})
        }
        return cls(shape, part, precision, limits, costs)

    def predict_tpot_s(self, point: MeasuredPoint, by: Calibration) -> float:
        """Mean time per output token of the point's closed loop."""
        limits = replace(self.engine, max_sequences=point.concurrency)
        requests = closed_loop(point.concurrency, point.prompt_tokens, point.answer_tokens, rounds=ROUNDS)
        served = simulate(
            self.shape,
            self.part,
            requests,
            precision=self.precision,
            parallel=Parallel(point.tp),
            engine=limits,
            calibration=by,
            cost=self.costs[point.tp],
        )
        return float(served.summary["tpot_mean_s"])

    def roofline_step_s(self, point: MeasuredPoint) -> float:
        """Lower bound of a decode step: bytes and operations at peak, context at the prompt's end, links for nothing.

        Of the clients only those decode together whose prompts and answers fit the memory. Launch times of
        collectives differ between libraries by more than the bound could bear, so none is added.
        """
        parallel = Parallel(point.tp)
        held = footprint(self.shape, self.precision, PLAIN, parallel)
        budget = budget_bytes(self.part, parallel.tp, 1.0)
        fitting = largest_batch(held, budget, point.prompt_tokens + point.answer_tokens)
        step = decode(max(1, min(point.concurrency, fitting)), point.prompt_tokens)
        ops = operators(self.shape, step, self.precision, fused_attention=True, parallel=parallel)
        return float(step_time(ops, device(self.part, self.precision), None).overlapped_s)

    def errors(self, points: Sequence[MeasuredPoint], by: Calibration) -> NDArray[np.float64]:
        """Relative error of the predicted TPOT, signed."""
        return np.array([self.predict_tpot_s(point, by) / point.tpot_s - 1 for point in points])


def fit(model: Model, points: Sequence[MeasuredPoint], *, iterations: int = 40) -> Calibration:
    """The constants with the least mean absolute relative error on `points`; deterministic simplex search."""

    def loss(x: NDArray[np.float64]) -> float:
        memory, compute, overhead = (float(value) for value in x)
        if not (0 < memory <= 1 and 0 < compute <= 1 and overhead >= 0):
            return float("inf")
        return float(np.abs(model.errors(points, Calibration(memory, compute, overhead))).mean())

    best = _nelder_mead(loss, np.array(START), iterations)
    return Calibration(*(float(value) for value in best))


def report(errors: NDArray[np.float64]) -> dict[str, Any]:
    """Median, mean and 90th percentile of the absolute relative error, and the mean signed one."""
    size = np.abs(errors)
    return {
        "points": int(size.size),
        "median_error": float(np.median(size)),
        "mean_error": float(size.mean()),
        "p90_error": float(np.percentile(size, 90)),
        "bias": float(errors.mean()),
    }


def _nelder_mead(
    loss: Callable[[NDArray[np.float64]], float], start: NDArray[np.float64], iterations: int
) -> NDArray[np.float64]:
    """Nelder & Mead (1965) with the usual coefficients; first steps of a quarter of each coordinate."""
    simplex = [start, *(start * (1 + 0.25 * (np.arange(start.size) == i)) for i in range(start.size))]
    values = [loss(point) for point in simplex]
    for _ in range(iterations):
        order = np.argsort(values, kind="stable")
        simplex, values = [simplex[i] for i in order], [values[i] for i in order]
        centre = np.mean(simplex[:-1], axis=0)
        reflected = 2 * centre - simplex[-1]
        value = loss(reflected)
        if value < values[0]:
            stretched = 3 * centre - 2 * simplex[-1]
            far = loss(stretched)
            simplex[-1], values[-1] = (stretched, far) if far < value else (reflected, value)
        elif value < values[-2]:
            simplex[-1], values[-1] = reflected, value
        else:
            inside = (centre + simplex[-1]) / 2
            value = loss(inside)
            if value < values[-1]:
                simplex[-1], values[-1] = inside, value
            else:
                simplex = [simplex[0], *((simplex[0] + point) / 2 for point in simplex[1:])]
                values = [values[0], *(loss(point) for point in simplex[1:])]
    best: NDArray[np.float64] = simplex[int(np.argmin(values))]
    return best
