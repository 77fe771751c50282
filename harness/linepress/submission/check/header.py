"""The reader of safetensors headers under the limits of a submission (rules S06, S07, S08)."""

from __future__ import annotations

from collections.abc import Callable

from linepress.sources.safetensors import stream
from linepress.sources.safetensors.stream import HeaderError, HeaderLimitError, Tensors
from linepress.submission.check.limits import Limits

__all__ = ["HeaderError", "HeaderLimitError", "Tensors", "read_tensors"]


def read_tensors(
    pieces: Callable[[], bytes], data_bytes: int, limits: Limits, already: int = 0, out: Tensors | None = None
) -> Tensors:
    """`stream.read_tensors` where ``already`` tensors of other files count towards the limit."""
    most = max(0, limits.tensors - already)
    return stream.read_tensors(pieces, data_bytes, most=most, rank=limits.rank, out=out)
