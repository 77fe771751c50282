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


def draw(model: TensorModel, seed: int, index: int) -> NDArray[np.unsignedinteger]:
    """The stored bits of tensor ``index`` in the model's shape (PCG64 of seed and index)."""
    rng = np.random.Generator(np.random.PCG64([seed, index]))
    fmt = format_named(model.format)
    if model.histogram:
        n = int(np.prod(model.shape)) * fmt.storage.itemsize
        share = np.array(model.histogram)
        raw = rng.choice(256, size=n, p=share / share.sum()).astype(np.uint8)
        return raw.view(fmt.storage).reshape(model.shape)
    values = shaped(model, base(model, rng))
    if model.zero_lines > 0:
        per = LINE_BYTES // fmt.storage.itemsize
        n_lines = -(-values.size // per)
        silent = rng.permutation(n_lines)[: round(model.zero_lines * n_lines)]
        flat = values.reshape(-1)
        for line in silent:
            flat[line * per : (line + 1) * per] = 0
    top = float(ml_dtypes.finfo(FLOATS[model.format]).max)  # type: ignore[no-untyped-call]
    stored = np.clip(values, -top, top).astype(np.float32).astype(FLOATS[model.format])
    return stored.view(fmt.storage).reshape(model.shape)


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


def shaped(model: TensorModel, values: Floats) -> Floats:
    """Magnitudes through the model's table: straight lines between knots on logarithmic axes; below the first knot
    the smallest are zero."""
    if not model.knots:
        return values
    given, wanted = np.array(model.knots).T
    size = np.abs(values)
    with np.errstate(divide="ignore"):
        log = np.log2(size)
    mapped = np.interp(log, given, wanted)
    below = log < given[0]
    mapped[below] = log[below] + wanted[0] - given[0]
    out: Floats = np.copysign(np.exp2(mapped), values)
    if model.zero > 0:
        out[below] = 0
    return out
