"""The roofline bound of measured kernels: no launch is faster than it, or the bound is wrong.

Bytes are the least traffic (weights, activations and cached keys once) less what the last-level cache holds, because
a profiler repeats a layer and finds its data there; operations run at the peak of the boost clock, which can exceed
the data sheet's by a little (`Accelerator.peak_ops`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.catalog.accelerators import Accelerator
from linepress_hardware.inference.kernels.layers import (
    attention_bytes,
    attention_ops,
    elementwise_bytes,
    heads,
    matrix,
)
from linepress_hardware.inference.kernels.tables import Rows
from linepress_hardware.inference.shapes import ModelShape

F8 = NDArray[np.float64]


@dataclass(frozen=True)
class Above:
    """Rows of one table above the bound; `largest` is the largest bound / measured."""

    model: str
    tp: int
    rows: int
    rows_above: int
    largest: float


def bound_s(rows: Rows, shape: ModelShape, part: Accelerator) -> F8:
    """Seconds below which no row of `rows` can be; NaN for kernels without a count of bytes."""
    ops, moved = np.zeros(rows.seconds.size), np.full(rows.seconds.size, np.nan)
    at = heads(shape, rows.tp)
    for name in np.unique(rows.layer):
        mine = rows.of(str(name))
        if name == "attention":
            four = [v[mine] for v in (rows.chunk, rows.prior, rows.sequences, rows.keys)]
            ops[mine], moved[mine] = attention_ops(at, *four), attention_bytes(at, *four)
        elif name == "experts":
            e = shape.experts
            if e is not None:
                tokens, activated = rows.experts[mine].T
                matrices = 3 if shape.gated_mlp else 2
                width = matrices * shape.hidden * e.intermediate
                ops[mine] = 2.0 * tokens * e.active * width / rows.tp
                moved[mine] = 2.0 * activated * width / rows.tp
        elif (of := matrix(shape, rows.tp, str(name))) is not None:
            ops[mine], moved[mine] = of.ops(rows.tokens[mine]), of.bytes(rows.tokens[mine])
        else:
            moved[mine] = elementwise_bytes(shape, rows.tp, str(name), rows.tokens[mine])
    memory = np.maximum(0.0, moved - part.cache_bytes) / part.bandwidth_Bps
    return np.maximum(memory, ops / part.peak_ops(16))


def above(rows: Rows, shape: ModelShape, part: Accelerator) -> Above:
    """How many rows of a table lie above the bound."""
    quotient = bound_s(rows, shape, part) / rows.seconds
    counted = quotient[np.isfinite(quotient)]
    return Above(rows.model, rows.tp, counted.size, int((counted > 1).sum()), float(counted.max()))
