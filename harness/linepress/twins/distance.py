"""How far a twin is from what it stands for: line sizes of both under the same codecs, group by group.

``mean_pct`` is the difference of mean coded line sizes; ``distance_pct`` is the Wasserstein-1 distance of the two
distributions of line sizes over the real mean: zero only if every size is as frequent in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from linepress.sources.base import LineStream, TensorRef
from linepress_codecs.contracts import LINE_BYTES
from linepress_codecs.errors import SpecError, UnsupportedFormatError
from linepress_codecs.variant import Variant

CHUNK_BYTES = 16 << 20
PROBES = ("huffman", "huffman:layout=channel", "context:layout=channel")
"""Codecs that twins are judged by: order of memory, channels, and channels with the previous token as context."""
LIMIT_PCT = 1.0


@dataclass
class Sizes:
    """Line sizes of one group under one codec: counts by coded bits, uint64[bits + 1]."""

    real: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(8 * LINE_BYTES + 1, np.uint64))
    twin: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(8 * LINE_BYTES + 1, np.uint64))


@dataclass(frozen=True, slots=True)
class Distance:
    """Of one group under one codec; mean line sizes in bits."""

    group: str
    codec: str
    lines: int
    real_mean_bits: float
    twin_mean_bits: float
    mean_pct: float
    distance_pct: float


def distances(pairs: Iterable[tuple[TensorRef, TensorRef]], probes: Sequence[str] = PROBES) -> list[Distance]:
    """Distances of (real, twin) tensors by group and probe; a codec that does not take a tensor leaves it out."""
    variants = [Variant.parse(text) for text in probes]
    found: dict[tuple[str, str], Sizes] = {}
    for real, twin in pairs:
        for variant in variants:
            if variant.layout == "channel" and real.kind not in ("key", "value"):
                continue
            try:
                a, b = line_bits(real, variant), line_bits(twin, variant)
            except (UnsupportedFormatError, SpecError):
                continue
            sizes = found.setdefault((real.group, variant.spec), Sizes())
            sizes.real += a
            sizes.twin += b
    return [_distance(group, codec, sizes) for (group, codec), sizes in sorted(found.items())]


def line_bits(tensor: TensorRef, variant: Variant) -> NDArray[np.uint64]:
    """Histogram of coded bits a line, with tables fitted to the tensor itself."""
    codec = variant.line_codec
    stream = LineStream(tensor, CHUNK_BYTES, variant.layout, variant.line_bytes)
    tables = codec.fit(stream)
    counts = np.zeros(8 * LINE_BYTES + 1, np.uint64)
    for lines in stream:
        bits = np.minimum(codec.measure(lines, tables), 8 * LINE_BYTES)
        counts += np.bincount(bits, minlength=len(counts)).astype(np.uint64)
    return counts


def _distance(group: str, codec: str, sizes: Sizes) -> Distance:
    bits = np.arange(len(sizes.real))
    real, twin = (counts / max(int(counts.sum()), 1) for counts in (sizes.real, sizes.twin))
    mean = float(real @ bits)
    other = float(twin @ bits)
    apart = float(np.abs(np.cumsum(real - twin)).sum())
    scale = 100 / mean if mean else 0.0
    return Distance(group, codec, int(sizes.real.sum()), mean, other, scale * (other - mean), scale * apart)
