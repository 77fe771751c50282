"""Lines for a simulation: a seeded sample over every tensor of files that has the design's format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from linepress.errors import SourceError
from linepress.sources.base import TensorRef
from linepress_codecs.contracts import LINE_BYTES, Lines
from linepress_codecs.formats import Format

CHUNK_BYTES = 4 << 20


def sample(tensors: Sequence[TensorRef], fmt: Format, most: int, rng: np.random.Generator) -> Lines:
    """Up to ``most`` lines of the tensors of format ``fmt``, spread evenly over all of them, in stored order.

    Raises `SourceError` where no tensor has the format, or none is as long as a line.
    """
    fitting = [t for t in tensors if t.format == fmt and t.n_bytes >= LINE_BYTES]
    if not fitting:
        have = ", ".join(sorted({t.format.name for t in tensors})) or "none"
        raise SourceError(f"no selected tensor is {fmt.name} (there are {have}): give one, or cast with --cast")
    counts = np.array([t.n_bytes // LINE_BYTES for t in fitting])
    total = int(counts.sum())
    chosen = np.sort(rng.choice(total, min(most, total), replace=False))
    ends = np.cumsum(counts)
    parts = []
    for tensor, end, count in zip(fitting, ends, counts, strict=True):
        own = chosen[(chosen >= end - count) & (chosen < end)] - (end - count)
        for at in range(0, int(count), CHUNK_BYTES // LINE_BYTES):
            stop = min(at + CHUNK_BYTES // LINE_BYTES, int(count))
            here = own[(own >= at) & (own < stop)] - at
            if len(here):
                data = tensor.read(at * LINE_BYTES, stop * LINE_BYTES).reshape(-1, LINE_BYTES)
                parts.append(data[here])
    return Lines(np.concatenate(parts), fmt)
