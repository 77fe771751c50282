"""The generator of one tensor: a few numbers and vectors, as JSON.

A tensor is ``[heads, rows, columns]``: a cache as it is, a weight ``[1, out, in]``. Each value is

    x = mean[head, column] + deviation[head, column] · scale[row, block] · e

with ``e`` a mixture of zero-mean Gaussians (one of `SIGMAS`, drawn for each value) and, for caches, a first-order
autoregression along the tokens of each channel. ``scale`` is log-normal, one factor a row and one a block of a line's
worth of columns. Last, magnitudes are moved, in their order, to the real shares below each power of two, so that the
twin's exponents are as frequent as the real tensor's. Gaussian scale mixtures for such data: Andrews & Mallows 1974,
J. R. Stat. Soc. B 36(1); the mixture's weights are found by expectation-maximisation (Dempster, Laird & Rubin 1977).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.errors import SourceError
from linepress_codecs.formats import FORMATS

Floats = NDArray[np.float64]
MODEL_VERSION = 1
SIGMAS: Floats = 2.0 ** np.arange(-4, 3.5, 0.5)
"""Standard deviations of the mixture's components, half an octave apart."""
MAX_SIDE = 1 << 40


@dataclass(frozen=True, slots=True)
class TensorModel:
    """Parameters of one tensor's generator; vectors are tuples of floats, rounded to six digits.

    Attributes
    ----------
    name, format, shape
        As stored.
    heads, rows, columns : int
        The shape it is drawn in.
    block : int
        Columns that share a block scale: one line's worth.
    mean, deviation : [heads * columns]
        In units of the stored values.
    correlation : [heads * columns]
        Lag-one correlation along rows; empty where rows are independent (weights).
    weights : [len(SIGMAS)]
        Of the mixture's components.
    row_scale, block_scale : float
        Standard deviations of the logarithm of the row's and the block's factor.
    first_scale : float
        Factor of row 0 of a cache (attention sinks differ from the other tokens); 1 for weights.
    knots : [n, 2]
        Share of values (outside lines that are all zero) smaller in magnitude, and log2 of the magnitude there.
    zero : float
        Share of exact zeros in lines that are not all zero.
    zero_lines : float
        Share of lines (64 B in the order of memory) that are all zero: absent biases, unused rows.
    histogram : [256]
        Frequencies of byte values; only for opaque and integer formats, which are drawn byte by byte.
    """

    name: str
    format: str
    shape: tuple[int, ...]
    heads: int
    rows: int
    columns: int
    block: int
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    correlation: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    row_scale: float = 0.0
    block_scale: float = 0.0
    first_scale: float = 1.0
    knots: tuple[tuple[float, float], ...] = ()
    zero: float = 0.0
    zero_lines: float = 0.0
    histogram: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any, what: str) -> TensorModel:
        """Inverse of `to_json`; raises `SourceError` for anything that no fit wrote."""
        if not isinstance(document, Mapping) or set(document) != set(cls.__slots__):
            raise SourceError(f"{what}: a tensor's parameters are not those of version {MODEL_VERSION}; fit again")
        name, fmt = document["name"], document["format"]
        if not isinstance(name, str) or fmt not in FORMATS:
            raise SourceError(f"{what}: a tensor has no name or the unknown format {fmt!r}; fit again")
        label = f"{what}: {name!r}"
        sides = {key: document[key] for key in ("heads", "rows", "columns", "block")}
        shape = document["shape"]
        if not isinstance(shape, list) or not all(
            type(n) is int and 0 < n < MAX_SIDE for n in [*shape, *sides.values()]
        ):
            raise SourceError(f"{label}: its sizes are not positive numbers; fit again")
        if math.prod(shape) != sides["heads"] * sides["rows"] * sides["columns"]:
            raise SourceError(
                f"{label}: shape {shape} is not {sides['heads']}×{sides['rows']}×{sides['columns']} values"
            )
        model = cls(
            name=name,
            format=fmt,
            shape=tuple(shape),
            **sides,
            mean=_numbers(document["mean"], label),
            deviation=_numbers(document["deviation"], label),
            correlation=_numbers(document["correlation"], label),
            weights=_numbers(document["weights"], label),
            histogram=_numbers(document["histogram"], label),
            row_scale=_number(document["row_scale"], label),
            block_scale=_number(document["block_scale"], label),
            first_scale=_number(document["first_scale"], label),
            zero=_number(document["zero"], label),
            zero_lines=_number(document["zero_lines"], label),
            knots=_knots(document["knots"], label),
        )
        channels = model.heads * model.columns
        if model.histogram:
            if len(model.histogram) != 256 or min(model.histogram) < 0 or sum(model.histogram) <= 0:
                raise SourceError(f"{label}: its histogram is not 256 frequencies; fit again")
        elif (
            len(model.mean) != channels
            or len(model.deviation) != channels
            or len(model.correlation) not in (0, channels)
            or len(model.weights) != len(SIGMAS)
            or min(model.weights) < 0
            or sum(model.weights) <= 0
        ):
            raise SourceError(f"{label}: its vectors do not fit {channels} channels; fit again")
        return model


def _numbers(values: Any, label: str) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(type(v) in (int, float) and math.isfinite(v) for v in values):
        raise SourceError(f"{label}: a parameter is not a list of finite numbers; fit again")
    return tuple(float(v) for v in values)


def _number(value: Any, label: str) -> float:
    return _numbers([value], label)[0]


def _knots(value: Any, label: str) -> tuple[tuple[float, float], ...]:
    pairs = [_numbers(knot, label) for knot in value] if isinstance(value, list) else [()]
    steps = list(pairwise(pairs))
    if (
        any(len(pair) != 2 or not 0 <= pair[0] <= 1 for pair in pairs)
        or len(pairs) == 1
        or any(a[0] > b[0] or a[1] >= b[1] for a, b in steps)
    ):
        raise SourceError(f"{label}: its knots are not a rising list of pairs; fit again")
    return tuple((pair[0], pair[1]) for pair in pairs)


def rounded(values: Floats) -> tuple[float, ...]:
    """To six significant digits: what the JSON keeps and the twin is drawn from."""
    return tuple(float(f"{v:.6g}") for v in values.reshape(-1))
