"""Drawing a tensor from its model: the same model and seed give the same bytes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from linepress.twins.model import SIGMAS, Floats, TensorModel
from linepress_codecs.contracts import LINE_BYTES
from linepress_codecs.formats import format_named

FLOATS = {
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "fp16": np.dtype("<f2"),
    "fp32": np.dtype("<f4"),
    "e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "e4m3fnuz": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "e5m2fnuz": np.dtype(ml_dtypes.float8_e5m2fnuz),
}
"""Formats drawn as numbers; the others are drawn byte by byte from a histogram."""

_TOP = {name: float(ml_dtypes.finfo(kind).max) for name, kind in FLOATS.items()}  # type: ignore[no-untyped-call]


def draw(model: TensorModel, seed: int, index: int) -> NDArray[np.unsignedinteger]:
    """The stored bits of tensor ``index`` in the model's shape (PCG64 of seed and index)."""
    rng = np.random.Generator(np.random.PCG64([seed, index]))
    fmt = format_named(model.format)
    if model.histogram:
        n = int(np.prod(model.shape)) * fmt.storage.itemsize
        share = np.array(model.histogram)
        raw = rng.choice(256, size=n, p=share / share.sum()).astype(np.uint8)
        return raw.view(fmt.storage).reshape(model.shape)
    values = base(model, rng).reshape(-1)
    spoken = np.ones(len(values), np.bool_)
    if model.zero_lines > 0:
        per = LINE_BYTES // fmt.storage.itemsize
        n_lines = -(-len(values) // per)
        silent = np.zeros(n_lines, np.bool_)
        silent[rng.permutation(n_lines)[: round(model.zero_lines * n_lines)]] = True
        spoken = ~np.repeat(silent, per)[: len(values)]
        values[~spoken] = 0
    values[spoken] = placed(values[spoken], model)
    return stored(values, model.format).reshape(model.shape)


def stored(values: Floats, name: str) -> NDArray[np.unsignedinteger]:
    """Bits of ``values`` in a float format, towards zero: a magnitude stays in its octave and none overflows."""
    kind = FLOATS[name]
    numbers = np.clip(values, -_TOP[name], _TOP[name]).astype(np.float32).astype(kind)
    bits: NDArray[np.unsignedinteger] = numbers.view(format_named(name).storage)
    sign = bits.dtype.type(1 << (8 * bits.dtype.itemsize - 1))
    beyond = np.abs(numbers.astype(np.float64)) > np.abs(values)
    bits[beyond & ((bits & ~sign) > 1)] -= bits.dtype.type(1)  # sign and magnitude: one less is one step inwards
    return bits


def base(model: TensorModel, rng: np.random.Generator) -> Floats:
    """Values before the table of magnitudes, float64[heads, rows, columns]."""
    heads, rows, columns = model.heads, model.rows, model.columns
    z = rng.standard_normal((rows, heads, columns))
    share = np.array(model.weights)
    component = SIGMAS[rng.choice(len(SIGMAS), size=z.shape, p=share / share.sum())]
    if model.correlation:
        along(z, _carried(np.array(model.correlation).reshape(heads, columns), share))
    blocks = -(-columns // model.block)
    log_scale = model.row_scale * rng.standard_normal((rows, heads, 1))
    log_scale = log_scale + model.block_scale * rng.standard_normal((rows, heads, blocks))
    scale = np.repeat(np.exp(log_scale), model.block, axis=2)[:, :, :columns]
    scale[0] *= model.first_scale
    z *= component
    z *= scale
    out: Floats = np.array(model.mean).reshape(heads, columns) + np.array(model.deviation).reshape(heads, columns) * z
    return np.ascontiguousarray(out.transpose(1, 0, 2))


def along(z: Floats, carried: Floats) -> None:
    """Make independent standard normals [rows, heads, columns] an AR(1) along rows, in place; variance stays 1."""
    fresh = np.sqrt(1 - carried**2)
    for row in range(1, len(z)):
        z[row] = carried * z[row - 1] + fresh * z[row]


def _carried(correlation: Floats, share: Floats) -> Floats:
    """Correlation of the Gaussians that gives values this correlation once each has its own mixture component."""
    share = share / share.sum()
    loss = float((share @ SIGMAS) ** 2 / (share @ SIGMAS**2))
    return np.clip(correlation / loss, -0.999, 0.999)


def placed(values: Floats, model: TensorModel) -> Floats:
    """Magnitudes moved to the model's shares, in their order: straight lines between knots on logarithmic axes."""
    if not model.knots or not len(values):
        return values
    order = np.argsort(np.abs(values), kind="stable")
    log = np.log2(np.maximum(np.abs(values[order]), 1e-300))
    n_zero = round(model.zero * len(values))
    shares, wanted = np.array(model.knots).T
    at = np.minimum(np.rint(shares * len(values)).astype(np.int64), len(values) - 1)
    given, first = np.unique(log[at], return_index=True)
    size = np.exp2(np.interp(log, given, wanted[first]))
    size[:n_zero] = 0
    out = np.empty_like(values)
    out[order] = np.copysign(size, values[order])
    return out
