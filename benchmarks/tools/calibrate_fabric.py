"""Constants of measured collectives (nccl-tests style tables) from half of the rows, errors on the other half."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Any

import numpy as np

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.collectives import bus_bandwidth_factor

OPERATIONS = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
    "all_to_all": "all_to_all",
}


@dataclass(frozen=True)
class MeasuredCollective:
    """One measured row: least time, and bus bandwidth of a large message."""

    system: str
    operation: str
    n: int
    floor_us: float
    bus_GBps: float


@dataclass(frozen=True)
class Constants:
    """What one system's collectives are made of.

    Attributes
    ----------
    launch_us, step_us : float
        Floor = launch + step × steps; a ring takes N − 1 steps, an all-reduce twice that.
    pairwise_us : float
        Added to the launch for each doubling of the peers of an all-to-all.
    ring_GBps : float
        What a ring moves, one way.
    copy_GBps : float
        Rate of the copy of an accelerator's own N-th.
    reduce_GBps : float | None
        What switches that reduce move, one way; None where no calibration row shows them at work.
    """

    launch_us: float
    step_us: float
    pairwise_us: float
    ring_GBps: float
    copy_GBps: float
    reduce_GBps: float | None

    def floor_us(self, operation: str, n: int) -> float:
        """Least time of a small message."""
        if operation == "all_to_all":
            return self.launch_us + self.pairwise_us * log2(n)
        return self.launch_us + self.step_us * _steps(operation, n)

    def bus_GBps(self, operation: str, n: int, in_network: bool = False) -> float | None:
        """Bus bandwidth of a large message; None for reduction in the switch without its constant.

        Ring: S / t = 1 / ((N − 1)/N k / ring + 1/N / copy), k = 2 for an all-reduce. In the switch: (N + 1) / N S.
        """
        if in_network:
            if self.reduce_GBps is None:
                return None
            return bus_bandwidth_factor(operation, n) * self.reduce_GBps * n / (n + 1)
        factor = bus_bandwidth_factor(operation, n)
        return factor / (factor / self.ring_GBps + 1 / (n * self.copy_GBps))


def _steps(operation: str, n: int) -> int:
    return (2 if operation == "all_reduce" else 1) * (n - 1)


def measured_rows(rows: Sequence[Mapping[str, str]]) -> list[MeasuredCollective]:
    """Rows of ``nccl_measured.csv`` (columns in its README); raises `ConfigurationError` naming row and column."""
    out = []
    for number, row in enumerate(rows, start=1):
        try:
            if row["operation"] not in OPERATIONS:
                known = ", ".join(OPERATIONS)
                raise ConfigurationError(f"measured row {number}: operation {row['operation']!r}; use one of {known}")
            n, floor_us, bus = int(row["n_gpus"]), float(row["floor_us"]), float(row["busbw_GBps"])
        except KeyError as error:
            raise ConfigurationError(f"measured row {number} has no column {error}; see the file's README") from None
        except ValueError as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(f"measured row {number}: {error}; give numbers") from None
        if n < 2 or not floor_us > 0 or not bus > 0:
            raise ConfigurationError(f"measured row {number} has a number that is not positive; mend or leave it out")
        out.append(MeasuredCollective(row["system"], OPERATIONS[row["operation"]], n, floor_us, bus))
    return out


def split(
    rows: Sequence[MeasuredCollective], parity: int = 1
) -> tuple[list[MeasuredCollective], list[MeasuredCollective]]:
    """Rows whose place in the file, counted from 0, is odd (`parity` 1) or even (0) calibrate; the others are
    predicted."""
    return list(rows[parity::2]), list(rows[1 - parity :: 2])


def reduces_in_switch(row: MeasuredCollective, systems: Mapping[str, int]) -> bool:
    """Whether a row's all-reduce is done by the switches: `systems` says from how many accelerators on."""
    least = systems.get(row.system)
    return row.operation == "all_reduce" and least is not None and row.n >= least


def fit(rows: Sequence[MeasuredCollective], systems: Mapping[str, int]) -> Constants:
    """Constants of one system by least squares of the relative error.

    Raises
    ------
    ConfigurationError
        Too few rows: ring operations of at least two sizes of N are needed.
    """
    ring = [row for row in rows if row.operation != "all_to_all"]
    pairwise = [row for row in rows if row.operation == "all_to_all"]
    on_ring = [row for row in rows if not reduces_in_switch(row, systems)]
    if len({_steps(row.operation, row.n) for row in ring}) < 2 or len({row.n for row in on_ring}) < 2:
        raise ConfigurationError(f"{len(rows)} measured rows do not fix the constants; give rows of two values of N")
    launch, step = _relative_lsq(
        [[1.0, _steps(row.operation, row.n)] for row in ring], [row.floor_us for row in ring]
    )
    doubling = [(row.floor_us - launch) / log2(row.n) for row in pairwise]
    slow, copy = _relative_lsq(
        [[bus_bandwidth_factor(row.operation, row.n), 1 / row.n] for row in on_ring],
        [bus_bandwidth_factor(row.operation, row.n) / row.bus_GBps for row in on_ring],
    )
    reduced = [
        row.bus_GBps / bus_bandwidth_factor(row.operation, row.n) * (row.n + 1) / row.n
        for row in rows
        if reduces_in_switch(row, systems)
    ]
    return Constants(
        float(launch),
        float(step),
        float(np.mean(doubling)) if doubling else float(step),
        float(1 / slow),
        float(1 / copy) if copy > 0 else float("inf"),
        statistics.mean(reduced) if reduced else None,
    )


def _relative_lsq(matrix: Sequence[Sequence[float]], target: Sequence[float]) -> Any:
    a, y = np.asarray(matrix, np.float64), np.asarray(target, np.float64)
    return np.linalg.lstsq(a / y[:, None], np.ones(y.size), rcond=None)[0]


# NCCL reduces in NVSwitch (NVLS) on H100 with all eight GPUs: bus bandwidth jumps from 350 to 445 GB/s there.
IN_SWITCH = {"h100_sxm": 8}


def predict(
    rows: Sequence[MeasuredCollective], parity: int = 1, systems: Mapping[str, int] = IN_SWITCH
) -> list[dict[str, Any]]:
    """Fit each system on its half of the rows and predict the other half.

    Returns
    -------
    list[dict]
        One row a predicted measurement: system, operation, n, measured and predicted floor and bus bandwidth, their
        relative errors (None where no constant is known).
    """
    known, unseen = split(rows, parity)
    out = []
    for system in dict.fromkeys(row.system for row in rows):
        constants = fit([row for row in known if row.system == system], systems)
        for row in unseen:
            if row.system != system:
                continue
            floor = constants.floor_us(row.operation, row.n)
            bus = constants.bus_GBps(row.operation, row.n, reduces_in_switch(row, systems))
            out.append(
                {
                    "system": system,
                    "operation": row.operation,
                    "n": row.n,
                    "floor_us": row.floor_us,
                    "predicted_floor_us": floor,
                    "floor_error": floor / row.floor_us - 1,
                    "bus_GBps": row.bus_GBps,
                    "predicted_bus_GBps": bus,
                    "bus_error": None if bus is None else bus / row.bus_GBps - 1,
                    "constants": constants,
                }
            )
    return out
