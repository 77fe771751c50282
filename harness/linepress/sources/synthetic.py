"""``synthetic:`` tensors: a stated distribution, seed and shape, for scale tests without data.

``synthetic:gauss?shape=4096x4096&sigma=0.02&seed=1&dtype=bf16&tensors=4``. Elements are drawn in fixed blocks, each
from its own generator ``PCG64([seed, tensor, block])``, so that any range can be drawn alone and the same bytes come
out whatever the chunk. Synthetic data says something about scale and speed, nothing about models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import parse_qsl

import ml_dtypes
import numpy as np

from linepress.errors import SourceError
from linepress.sources.base import Source, TensorRef
from linepress.sources.bytes import Bytes, check_range
from linepress.sources.groups import KINDS
from linepress_codecs.formats import FORMATS

SCHEME = "synthetic:"
BLOCK_ELEMENTS = 1 << 18
GENERATOR_VERSION = 1
MAX_BYTES = 1 << 44
EXAMPLE = "synthetic:gauss?shape=4096x4096&sigma=0.02&seed=1&dtype=bf16"

DISTRIBUTIONS = {
    "gauss": "normal, mean 0, standard deviation sigma",
    "laplace": "Laplace, mean 0, standard deviation sigma",
    "square": "the square of normal values of standard deviation sigma, as an optimiser's second moments",
    "student": "Student's t with df degrees of freedom, times sigma",
    "random": "uniform over every bit pattern",
    "zeros": "all zero",
}
_FLOATS = {
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
    "fp32": np.float32,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
}


@dataclass(frozen=True, slots=True)
class SyntheticBytes:
    """Bytes of tensor ``index``, drawn on demand."""

    distribution: str
    n_elements: int
    dtype: str
    sigma: float
    df: float
    seed: int
    index: int

    @property
    def n_bytes(self) -> int:
        return self.n_elements * FORMATS[self.dtype].storage.itemsize

    @property
    def identity(self) -> str:
        return (
            f"synthetic{GENERATOR_VERSION}:{self.distribution}:{self.n_elements}:{self.dtype}:{self.sigma!r}:"
            f"{self.df!r}:{self.seed}:{self.index}"
        )

    @property
    def local(self) -> bool:
        return False

    def read(self, start_byte: int, end_byte: int) -> Bytes:
        check_range(start_byte, end_byte, self.n_bytes, f"{SCHEME}{self.distribution}")
        width = FORMATS[self.dtype].storage.itemsize
        step = BLOCK_ELEMENTS * width
        out = np.empty(end_byte - start_byte, dtype=np.uint8)
        for block in range(start_byte // step, -(-end_byte // step)):
            low, high = max(start_byte, block * step), min(end_byte, (block + 1) * step)
            out[low - start_byte : high - start_byte] = self._block(block)[low - block * step : high - block * step]
        return out

    def _block(self, block: int) -> Bytes:
        rng = np.random.Generator(np.random.PCG64([self.seed, self.index, block]))
        if self.distribution == "zeros":
            return np.zeros(BLOCK_ELEMENTS * FORMATS[self.dtype].storage.itemsize, dtype=np.uint8)
        if self.distribution == "random":
            return rng.integers(0, 256, BLOCK_ELEMENTS * FORMATS[self.dtype].storage.itemsize, dtype=np.uint8)
        if self.distribution == "gauss":
            values = rng.standard_normal(BLOCK_ELEMENTS, dtype=np.float32)
        elif self.distribution == "square":
            values = rng.standard_normal(BLOCK_ELEMENTS, dtype=np.float32) ** 2 * np.float32(self.sigma)
        elif self.distribution == "laplace":
            values = rng.laplace(0.0, math.sqrt(0.5), BLOCK_ELEMENTS).astype(np.float32)
        else:
            values = rng.standard_t(self.df, BLOCK_ELEMENTS).astype(np.float32)
        return (values * np.float32(self.sigma)).astype(_FLOATS[self.dtype]).view(np.uint8)


class SyntheticSource(Source):
    """The tensors of one ``synthetic:`` URI; raises `SourceError` for a parameter it does not know."""

    def __init__(self, uri: str) -> None:
        head, _, query = uri[len(SCHEME) :].partition("?")
        given = dict(parse_qsl(query, keep_blank_values=True))
        unknown = set(given) - {"shape", "sigma", "seed", "dtype", "tensors", "df", "group", "layer", "kind", "name"}
        if head not in DISTRIBUTIONS:
            raise SourceError(
                f"{uri}: no distribution {head!r}; use {', '.join(DISTRIBUTIONS)}, for example {EXAMPLE}"
            )
        if unknown:
            raise SourceError(f"{uri}: unknown parameter {sorted(unknown)[0]!r}; for example {EXAMPLE}")
        dtype = given.get("dtype", "bf16")
        opaque = head in ("random", "zeros")
        if dtype not in (FORMATS if opaque else _FLOATS):
            raise SourceError(f"{uri}: {head} cannot be drawn as {dtype!r}; use {', '.join(_FLOATS)}")
        try:
            shape = tuple(int(side) for side in given.get("shape", "1024x1024").split("x"))
            seed, count = int(given.get("seed", "0")), int(given.get("tensors", "1"))
            sigma, df = float(given.get("sigma", "0.02")), float(given.get("df", "5"))
            layer = int(given["layer"]) if "layer" in given else None
        except ValueError as error:
            raise SourceError(f"{uri}: {error}; for example {EXAMPLE}") from None
        kind = given.get("kind", "weight")
        n = math.prod(shape)
        if min(shape) < 0 or seed < 0 or not 1 <= count <= 100_000 or n > MAX_BYTES or kind not in KINDS:
            raise SourceError(
                f"{uri}: a shape, seed, kind or number of tensors is out of range; for example {EXAMPLE}"
            )
        if not (math.isfinite(sigma) and sigma > 0 and math.isfinite(df) and df > 0):
            raise SourceError(f"{uri}: sigma and df must be positive numbers; for example {EXAMPLE}")
        self.uri = uri
        self.revision = f"synthetic-v{GENERATOR_VERSION}"
        notes = (("distribution", DISTRIBUTIONS[head]), ("sigma", repr(sigma)), ("seed", str(seed)))
        name = given.get("name", head)
        self._tensors = [
            TensorRef(
                uri=uri,
                revision=self.revision,
                name=f"{name}.{i}" if count > 1 else name,
                stored_format=dtype,
                shape=shape,
                location=SyntheticBytes(head, n, dtype, sigma, df, seed, i),
                group=given.get("group", "synthetic"),
                layer=layer,
                kind=kind,
                notes=notes,
            )
            for i in range(count)
        ]

    def tensors(self) -> list[TensorRef]:
        return list(self._tensors)

    def provenance(self) -> dict[str, object]:
        return {"uri": self.uri, "kind": "synthetic", "revision": self.revision, **self._tensors[0].metadata}
