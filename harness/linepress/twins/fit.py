"""Fitting a tensor's generator: moments per channel, scales per row and block, a mixture, a table of magnitudes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from linepress.errors import SourceError
from linepress.sources.base import TensorRef
from linepress.twins.draw import FLOATS
from linepress.twins.model import SIGMAS, Floats, TensorModel, rounded
from linepress_codecs.contracts import LINE_BYTES
from linepress_codecs.formats import format_named

SAMPLE = 32_768
"""Values that the mixture is fitted on."""
EM_STEPS = 80
MAX_FIT_BYTES = 1 << 31
_CACHES = ("key", "value")


def fit_tensor(tensor: TensorRef) -> TensorModel:
    """The generator of ``tensor``; memory is about 30 bytes for each of its values.

    Raises `SourceError` for values that are not finite and for tensors over `MAX_FIT_BYTES`.
    """
    if tensor.n_bytes > MAX_FIT_BYTES:
        raise SourceError(
            f"tensor {tensor.name!r} has {tensor.n_bytes} B; a twin takes at most {MAX_FIT_BYTES} B each"
        )
    fmt = tensor.format
    raw = tensor.read(0, tensor.n_bytes)
    heads, rows, columns = _axes(tensor)
    block = min(LINE_BYTES // fmt.storage.itemsize, columns)
    blank = TensorModel(tensor.name, fmt.name, tensor.shape, heads, rows, columns, block)
    if fmt.name not in FLOATS:
        return replace(blank, histogram=rounded(np.bincount(raw, minlength=256) / len(raw)))
    with np.errstate(invalid="ignore"):
        values = raw.view(FLOATS[fmt.name]).astype(np.float64).reshape(heads, rows, columns)
    if not np.isfinite(values).all():
        raise SourceError(f"tensor {tensor.name!r} has values that are not finite; see linepress validate")
    return _shape_table(_structure(blank, values, tensor.kind in _CACHES), values)


def _axes(tensor: TensorRef) -> tuple[int, int, int]:
    """[heads, rows, columns] of a tensor; a vector is rows of one column."""
    shape = tensor.shape
    if len(shape) < 2:
        return 1, int(np.prod(shape)), 1
    if len(shape) == 2 or tensor.kind not in _CACHES:
        return 1, int(np.prod(shape[:-1])), shape[-1]
    return int(np.prod(shape[:-2])), shape[-2], shape[-1]


def _structure(model: TensorModel, values: Floats, cache: bool) -> TensorModel:
    """Everything but the table of magnitudes."""
    first = 1 if cache and model.rows > 8 else 0  # the first token is an attention sink: not one of the others
    body = values[:, first:]
    mean = body.mean(axis=1)
    if not cache:  # a weight's columns have means within their own error: only what exceeds it is kept
        error = body.std(axis=1) / np.sqrt(body.shape[1])
        mean = np.where(np.abs(mean) > 3 * error, mean, 0.0)
    deviation = np.sqrt(((body - mean[:, None]) ** 2).mean(axis=1))
    z = (values - mean[:, None]) / np.where(deviation > 0, deviation, 1)[:, None]
    row_scale, block_scale, scale = _scales(z[:, first:], model.block)
    first_scale = 1.0
    if first:
        first_scale = float(np.sqrt((z[:, 0] ** 2).mean()))
    weights = _mixture((z[:, first:] / scale).reshape(-1))
    correlation: tuple[float, ...] = ()
    if cache and model.rows > 8:
        e = z[:, first:] / scale
        power = (e**2).mean(axis=1)
        lag = (e[:, 1:] * e[:, :-1]).mean(axis=1)
        correlation = rounded(np.clip(lag / np.where(power > 0, power, 1), -0.999, 0.999))
    return replace(
        model,
        mean=rounded(mean),
        deviation=rounded(deviation),
        correlation=correlation,
        weights=rounded(weights),
        row_scale=float(f"{row_scale:.6g}"),
        block_scale=float(f"{block_scale:.6g}"),
        first_scale=float(f"{first_scale:.6g}"),
    )


def _scales(z: Floats, block: int) -> tuple[float, float, Floats]:
    """(deviation of the log scale of rows, of blocks, best guess of every value's scale [heads, rows, columns]).

    The log of a block's root mean square varies by chance too; that part is what remains when the values of each
    column are shuffled along the rows. What neighbouring blocks of a row share is the row's.
    """
    _, rows, columns = z.shape
    if block < 8 or rows < 8:
        return 0.0, 0.0, np.ones_like(z)
    found = _log_rms(z, block)
    rng = np.random.Generator(np.random.PCG64(0))
    chance = float(_log_rms(rng.permuted(z, axis=1), block).var())
    total = float(found.var())
    real = max(total - chance, 0.0)
    centred = found - found.mean()
    shared = 0.0
    if found.shape[2] > 1:
        shared = float(np.clip((centred[:, :, 1:] * centred[:, :, :-1]).mean(), 0.0, real))
    guess = np.exp(centred * (real / total if total > 0 else 0.0))
    return np.sqrt(shared), np.sqrt(real - shared), np.repeat(guess, block, axis=2)[:, :, :columns]


def _log_rms(z: Floats, block: int) -> Floats:
    """Log of the root mean square of each block of columns, [heads, rows, blocks]."""
    columns = z.shape[2]
    edges = np.arange(0, columns, block)
    power = np.add.reduceat(z**2, edges, axis=2) / np.diff(np.append(edges, columns))
    out: Floats = 0.5 * np.log(np.maximum(power, 1e-12))
    return out


def _mixture(values: Floats) -> Floats:
    """Weights of `SIGMAS` by expectation-maximisation on a strided sample."""
    sample = values[:: max(1, len(values) // SAMPLE)]
    density = np.exp(-0.5 * (sample[:, None] / SIGMAS) ** 2) / SIGMAS
    weights = np.full(len(SIGMAS), 1 / len(SIGMAS))
    for _ in range(EM_STEPS):
        share = density * weights
        share /= np.maximum(share.sum(axis=1, keepdims=True), 1e-300)
        weights = share.mean(axis=0)
    out: Floats = np.maximum(weights, 0) + 1e-9
    return out


def _shape_table(model: TensorModel, values: Floats) -> TensorModel:
    """Shares of zeros and of magnitudes below each power of two."""
    spoken, zero_lines = _spoken(values, LINE_BYTES // format_named(model.format).storage.itemsize)
    model = replace(model, zero_lines=float(f"{zero_lines:.6g}"))
    if not len(spoken):
        return model
    size = np.sort(np.abs(spoken))
    n_zero = int(np.searchsorted(size, 0.0, "right"))
    least, most = np.log2(size[n_zero]), np.log2(size[-1])
    wanted = [least, *np.arange(np.floor(least) + 1, np.ceil(most)), most]
    ends = [n_zero, *(int(np.searchsorted(size, 2.0**k)) for k in wanted[1:-1]), len(size)]
    # eight digits: a share must give back its rank in tensors of tens of millions of values
    knots = [(float(f"{end / len(size):.8g}"), float(f"{k:.8g}")) for k, end in zip(wanted, ends, strict=True)]
    if most == least:
        knots = [(knots[0][0], float(f"{least - 1e-6:.8g}")), knots[-1]]
    return replace(model, zero=float(f"{n_zero / len(size):.8g}"), knots=tuple(knots))


def _spoken(values: Floats, per_line: int) -> tuple[Floats, float]:
    """Values of the lines that are not all zero, and the share of lines that are."""
    flat = values.reshape(-1)
    starts = np.arange(0, len(flat), per_line)
    silent = np.add.reduceat(np.abs(flat), starts) == 0
    lengths = np.diff(np.append(starts, len(flat)))
    return flat[np.repeat(~silent, lengths)], float(silent.mean())
