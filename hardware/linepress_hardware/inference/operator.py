"""One operator of a transformer step: its operations and the bytes it moves, split by what they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Quantity = NDArray[np.float64]  # 0-d for one point, broadcastable for a sweep


def quantity(value: ArrayLike) -> Quantity:
    """`value` as float64, exact for whole numbers below 2^53."""
    return np.asarray(value, dtype=np.float64)


@dataclass(frozen=True)
class Operator:
    """One occurrence on one device; `count` says how often it runs in a step.

    `ops` are multiplications and additions counted apart (2 a multiply-add). `group` names the tensor group
    whose compression ratio its weights have. `kind` picks the peak: ``matmul``, ``attention`` or ``vector``.
    """

    name: str
    count: float
    ops: Quantity
    weight_bytes: Quantity
    act_read_bytes: Quantity
    act_written_bytes: Quantity
    kv_read_bytes: Quantity
    kv_written_bytes: Quantity
    group: str = ""
    kind: str = "matmul"

    @property
    def bytes(self) -> Quantity:
        """All bytes moved."""
        return (
            self.weight_bytes
            + self.act_read_bytes
            + self.act_written_bytes
            + self.kv_read_bytes
            + self.kv_written_bytes
        )

    @property
    def intensity_op_per_B(self) -> Quantity:
        return self.ops / self.bytes


def operator(
    name: str,
    *,
    count: float = 1,
    ops: ArrayLike = 0.0,
    weight: ArrayLike = 0.0,
    act_read: ArrayLike = 0.0,
    act_written: ArrayLike = 0.0,
    kv_read: ArrayLike = 0.0,
    kv_written: ArrayLike = 0.0,
    group: str = "",
    kind: str = "matmul",
) -> Operator:
    """Build an `Operator` from plain numbers or arrays."""
    return Operator(
        name,
        count,
        quantity(ops),
        quantity(weight),
        quantity(act_read),
        quantity(act_written),
        quantity(kv_read),
        quantity(kv_written),
        group,
        kind,
    )


def total(operators: list[Operator], field: str) -> Any:
    """Σ count × field, a float64 scalar or array; `field` is an attribute such as ``ops`` or ``weight_bytes``."""
    return sum(op.count * getattr(op, field) for op in operators)
