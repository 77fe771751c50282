"""Coded bits by KV head: which lines hold which head, told from the shape, its arrangement and the layout alone.

In every layout the heads take turns in runs of equally many lines, so that the lines, laid out as
``[turn][head][line of a run]``, sum up over the first and last axis. Where a run does not end on a line, a line holds
two heads and there is no such sum.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from linepress.sources import TensorRef
from linepress.sources.snapshot.contract import layouts
from linepress.sources.snapshot.format import CONTIGUOUS
from linepress.sources.snapshot.pages import PagedTokens
from linepress.stages.measure.coded import Coded
from linepress_codecs.tokens import BLOCK_TOKENS


def head_bits(tensor: TensorRef, coded: Coded, layout: str, line_bytes: int) -> list[int] | None:
    """Coded bits of each head's lines, int64 in head order, which sum up to the payload.

    None where the tensor is no cache, has no axis of heads, was coded in blocks or as a sample, or where a line
    crosses heads.
    """
    if coded.sampled or coded.unit_bytes != line_bytes or coded.unit_bits.dtype != np.uint16:
        return None
    axis = _head_axis(tensor)
    if axis is None:
        return None
    heads = tensor.shape[axis]
    run = _run_lines(tensor, axis, layout, line_bytes, coded.n_units)
    if heads == 0 or not run or coded.n_units % (heads * run):
        return None
    turns: NDArray[np.uint16] = coded.unit_bits.astype(np.uint16, copy=False).reshape(-1, heads, run)
    return [int(bits) for bits in turns.sum(axis=(0, 2), dtype=np.int64)]


def _head_axis(tensor: TensorRef) -> int | None:
    if tensor.kind not in ("key", "value"):
        return None
    arrangement = tensor.metadata.get("arrangement", CONTIGUOUS)
    if isinstance(tensor.location, PagedTokens):  # the pages are read as tokens: [kv_heads, tokens, head_dim]
        arrangement = CONTIGUOUS
    layout = layouts().get(arrangement)
    axes = layout.axes.get(tensor.kind, ()) if layout else ()
    return axes.index("H") if "H" in axes and len(axes) == len(tensor.shape) else None


def _run_lines(tensor: TensorRef, axis: int, layout: str, line_bytes: int, n_lines: int) -> int:
    """Lines of one head in a row; 0 where a line crosses heads or the layout mixes the axes of an engine's pages."""
    shape = tensor.shape
    per = line_bytes // tensor.format.storage.itemsize
    if layout == "row":
        return _whole(math.prod(shape[axis + 1 :]), per)
    if axis != len(shape) - 3:
        return 0  # the layout takes other axes for heads, tokens and dim
    tokens, dim = shape[-2:]
    if layout == "output":
        return tokens * -(-dim // per)
    if layout == "channel":
        return dim
    if layout == "paged-vllm":
        return _whole(dim, per)
    if layout in ("paged-vllm-k", "paged-vllm-v"):
        return _whole(BLOCK_TOKENS * dim, per)
    if layout == "paged-hf":
        return _whole(n_lines, math.prod(shape[:-2]))
    return 0


def _whole(number: int, by: int) -> int:
    return number // by if by and number % by == 0 else 0
