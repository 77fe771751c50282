"""Which channel each element of a line belongs to, which element is its context, and the order of steps.

Two kinds of lines. Where elements of one channel follow one another (``run`` > 1: `channel`, `output`, the vLLM value
order), stream c codes the c-th part of the line, and an element's context is the one before it if both lie in one run
and one stream. Where neighbours are of different channels (``run`` = 1: `row`, Hugging Face, vLLM NHD and key
orders), element j goes to stream j mod S, and its context is the element ``span`` before it, where the line reaches
back that far: the previous token of the same channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import Lines, Packed
from linepress_codecs.errors import CorruptDataError

NO_SPAN = 1 << 40
"""Stands for "never starts again"; more than any channel id."""


@dataclass(frozen=True, slots=True)
class LineOrder:
    """Geometry of all lines of a tensor, int64 arrays over the elements of a line.

    Attributes
    ----------
    whole : bool
        Whether a line holds one channel only.
    steps : int64[m]
        Element of each step, in coding order; step q belongs to stream q mod S.
    before : int64[m]
        The element that is the context of element j, -1 if none. Coded earlier than j.
    needed : bool[m]
        Whether element j is the context of another.
    offset : int64[m]
        Channels that element j lies behind the first one, modulo ``span``.
    span : int
    later : int64[m]
        Positions that element j lies behind the first one, if the line starts where its span does.
    in_runs : bool
        Whether elements of one channel follow one another.
    """

    whole: bool
    steps: NDArray[np.int64]
    before: NDArray[np.int64]
    needed: NDArray[np.bool_]
    offset: NDArray[np.int64]
    span: int
    later: NDArray[np.int64]
    in_runs: bool

    @property
    def plain_rows(self) -> bool:
        """Whether neighbours are of different channels and no element is context of another in the line."""
        return not self.whole and int(self.offset[1]) == 1 and not self.needed.any()


def order_of(lines: Lines | Packed, m: int, streams: int) -> LineOrder:
    """Order of lines of ``m`` elements; raises `CorruptDataError` for a run or span that no layout has."""
    run, span = lines.geometry.channel_run, lines.geometry.channel_span
    if run < 0 or span < 0:
        raise CorruptDataError(f"runs of {run} elements, spans of {span} channels: neither can be negative")
    return _order(m, streams, min(run or m, m), min(span or NO_SPAN, NO_SPAN))


@lru_cache(maxsize=64)
def _order(m: int, streams: int, run: int, span: int) -> LineOrder:
    element = np.arange(m, dtype=np.int64)
    offset = element // run % span
    if run == 1:
        steps, before = element, np.where(element >= span, element - span, -1)
    else:
        chain = m // streams
        steps = element.reshape(streams, chain).T.reshape(-1).copy()
        before = np.where((element % chain == 0) | (element % run == 0), -1, element - 1)
    needed = np.isin(element, before)
    later = element // span if run == 1 else element % run
    return LineOrder(run == m, steps, before, needed, offset, span, later, run > 1)
