"""One large tensor under a line codec, measured in parts: tables fitted once, chunks coded anywhere, one row merged.

Three steps, each a pure function that a worker can run: `fit` learns the tables of the whole tensor, `part` codes,
verifies and times a run of its chunks with these tables, `merge` makes the row. A line decodes alone and no bound
looks past a line, so every column but the times equals that of `linepress.stages.measure.case.measure_case`; the
times are sums over the same chunks. What goes from step to step is pickled here, in one piece: arrays that come out
of shared memory could not be written to, and kernels would be compiled again for them.
"""

from __future__ import annotations

import pickle
import socket
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from linepress.sources import LineStream, TensorRef
from linepress.sources.base import whole_blocks
from linepress.sources.bytes import cache_key
from linepress.sources.staging import Staged, staged
from linepress.stages.measure.case import DEFAULT_CHUNK_BYTES, DEFAULT_REPEATS, row_of
from linepress.stages.measure.coded import MeasureError
from linepress.stages.measure.lines import CodedPart, Fitted, code_part, fit_lines, merge_parts
from linepress_codecs.bounds import BoundAccumulator
from linepress_codecs.contracts import LineCodec
from linepress_codecs.layout import chunks, extent
from linepress_codecs.variant import Variant

SPLIT_BYTES = 1 << 30
"""Raw bytes above which a tensor is split, unless the run says otherwise."""
PARTS_OF_SPLIT = 4
"""Parts to each ``split_bytes``: enough for the cores of a node, and each still long beside its start."""
PROTOCOL = 5
LEVEL = 1
"""Histograms are mostly zeros: 6 MB a part become some 100 kB before they travel."""

Part = tuple[int, int]
"""First chunk and the one after the last."""
CONTENT: Part = (0, 0)
"""The part without chunks: it hashes the stored bytes, beside those that code them."""


@dataclass(frozen=True, slots=True)
class _Start:
    """What `fit` hands on: tables, and the state of the file on the machine that read it."""

    fitted: Fitted
    host: str
    key: str


@dataclass(frozen=True, slots=True)
class _Done:
    """What a part hands on."""

    content_sha256: str = ""
    coded: CodedPart | None = None
    bounds: BoundAccumulator | None = None


def parts_of(tensor: TensorRef, variant: Variant, chunk_bytes: int, split_bytes: int) -> tuple[Part, ...]:
    """The parts of a case, `CONTENT` first; empty where it is measured in one piece.

    In one piece: tensors of at most ``split_bytes`` (all, if it is 0), block codecs, tensors that are staged before
    they are measured (each worker would fetch or cast all of it), and layouts that give a single chunk.
    """
    if not split_bytes or tensor.n_bytes <= split_bytes or not tensor.local or variant.codec.kind != "line":
        return ()
    step = whole_blocks(chunk_bytes, variant.line_bytes)
    n_chunks = sum(1 for _ in chunks(tensor.shape, variant.layout, tensor.format, step, variant.line_bytes))
    n_parts = min(-(-tensor.n_bytes * PARTS_OF_SPLIT // split_bytes), n_chunks)
    if n_parts < 2:
        return ()
    borders = [n_chunks * i // n_parts for i in range(n_parts + 1)]
    return (CONTENT, *pairwise(borders))


def fit(tensor: TensorRef, variant: Variant, *, chunk_bytes: int = DEFAULT_CHUNK_BYTES, **_: Any) -> bytes:
    """First step: the tables of the whole tensor, exactly those of a case in one piece."""
    key = cache_key(tensor.location)
    fitted = fit_lines(_stream(tensor, variant, chunk_bytes), variant.line_codec)
    _whole(tensor, key).check_unchanged()
    return pickle.dumps(_Start(fitted, socket.gethostname(), key), PROTOCOL)


def part(
    tensor: TensorRef,
    variant: Variant,
    start: bytes,
    where: Part,
    *,
    repeats: int = DEFAULT_REPEATS,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    seed: int = 0,
    verify: bool = True,
    **_: Any,
) -> bytes:
    """Second step, once for each of `parts_of`, anywhere and in any order.

    Raises as `measure_case` does; `SourceError` also where the file changed since `fit` read it on this machine.
    """
    begun: _Start = pickle.loads(start)
    # the inode change time means something on one machine only; size and date are checked by every read
    key = begun.key if begun.host == socket.gethostname() else cache_key(tensor.location)
    if where == CONTENT:
        done = _Done(content_sha256=staged(tensor).content_sha256)
    else:
        stream = _stream(tensor, variant, chunk_bytes, where)
        bounds = BoundAccumulator(tensor.format)
        coded = code_part(
            stream, variant.line_codec, begun.fitted, repeats=repeats, seed=seed, verify=verify, bounds=bounds
        )
        done = _Done(coded=coded, bounds=bounds)
    _whole(tensor, key).check_unchanged()
    return zlib.compress(pickle.dumps(done, PROTOCOL), LEVEL)


def merge(
    tensor: TensorRef,
    variant: Variant,
    start: bytes,
    parts: Iterable[bytes],
    *,
    packings: Sequence[str] = (),
    repeats: int = DEFAULT_REPEATS,
    seed: int = 0,
    verify: bool = True,
    **_: Any,
) -> dict[str, Any]:
    """Last step: the row, from the parts in the order of `parts_of`; one part is held at a time."""
    begun: _Start = pickle.loads(start)
    counts = extent(tensor.shape, variant.layout, tensor.format, variant.line_bytes)
    counted = BoundAccumulator(tensor.format)
    content: list[str] = []

    def coded_parts() -> Iterator[CodedPart]:
        for data in parts:
            done: _Done = pickle.loads(zlib.decompress(data))
            if done.bounds is not None:
                counted.merge(done.bounds)
            if done.coded is None:
                content.append(done.content_sha256)
            else:
                yield done.coded

    codec: LineCodec = variant.line_codec
    coded = merge_parts(
        coded_parts(), counts.n_lines, codec, begun.fitted, variant.line_bytes, repeats=repeats, verify=verify
    )
    if len(content) != 1:
        raise MeasureError(f"tensor {tensor.name!r}: {len(content)} of its parts hashed the content; one must")
    return row_of(tensor, variant, coded, counted.bounds(), content[0], packings=packings, seed=seed)


def measure_in_parts(tensor: TensorRef, variant: Variant, parts: Sequence[Part], **options: Any) -> dict[str, Any]:
    """The three steps in a plain loop; ``options`` as for `measure_case`."""
    start = fit(tensor, variant, **options)
    made = (part(tensor, variant, start, where, **options) for where in parts)
    return merge(tensor, variant, start, made, **options)


def _stream(tensor: TensorRef, variant: Variant, chunk_bytes: int, where: Part | None = None) -> LineStream:
    line_bytes = variant.line_bytes
    first, end = where or (0, None)
    return LineStream(tensor, chunk_bytes, variant.layout, line_bytes, line_bytes, first, end)


def _whole(tensor: TensorRef, key: str) -> Staged:
    """The tensor in place, as it was when ``key`` was taken."""
    return Staged(tensor, "", tensor, key)
