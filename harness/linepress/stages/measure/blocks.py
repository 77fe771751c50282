"""A block codec over one tensor: its lines, end to end, cut into blocks that are coded each on its own.

Blocks under 4 KiB cost a library call of microseconds for few bytes, so a seeded sample of them is coded instead and
the record says so; the payload is then the sample's, scaled to all blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from linepress.sources import LineStream
from linepress.stages.measure.coded import Clock, Coded, time_rounds, timed_range
from linepress_codecs.codecs.block import SAMPLE_UNDER, sample_blocks
from linepress_codecs.contracts import BlockCodec

SAMPLE_BLOCKS = 8192


def code_blocks(
    stream: LineStream, n_bytes: int, codec: BlockCodec, *, repeats: int, seed: int, verify: bool
) -> Coded:
    """Code the ``n_bytes`` bytes of all lines in blocks (the last may be short)."""
    n_blocks = -(-n_bytes // codec.block)
    chosen: NDArray[np.int64] | None = None
    if codec.block < SAMPLE_UNDER and n_blocks > SAMPLE_BLOCKS:
        chosen = sample_blocks(n_blocks, seed, SAMPLE_BLOCKS)
    encode, decode = Clock(repeats), Clock(repeats)
    sizes: list[int] = []
    mismatch: int | None = None
    timed_bytes = 0
    # A sample of small blocks is timed whole.
    n_chunks = 1 if chosen is not None else stream.n_chunks
    for number, (first, blocks) in enumerate(_batches(stream, codec.block, chosen)):
        codes = _encode_all(codec, blocks)
        sizes += [len(code) for code in codes]
        if verify and mismatch is None:
            for i, (block, code) in enumerate(zip(blocks, codes, strict=True)):
                if codec.decode(code, len(block)) != bytes(block):
                    mismatch = first[i]
                    break
        taken = timed_range(len(blocks), codec.block, number, n_chunks, seed) if repeats else range(0)
        if not taken:
            continue
        part, code_part = blocks[taken.start : taken.stop], codes[taken.start : taken.stop]
        time_rounds(
            ((encode, partial(_encode_all, codec, part)), (decode, partial(_decode_all, codec, code_part, part)))
        )
        timed_bytes += sum(len(block) for block in part)
    return Coded(
        unit_bits=8 * np.array(sizes, dtype=np.int64),
        n_units=n_blocks,
        unit_bytes=codec.block,
        table_bytes=0,
        sampled=chosen is not None,
        verified=verify,
        mismatch=mismatch,
        encode=encode,
        decode=decode,
        measure=None,
        timed_bytes=timed_bytes,
    )


def _encode_all(codec: BlockCodec, blocks: list[memoryview]) -> list[bytes]:
    return [codec.encode(block) for block in blocks]


def _decode_all(codec: BlockCodec, codes: list[bytes], blocks: list[memoryview]) -> None:
    for code, block in zip(codes, blocks, strict=True):
        codec.decode(code, len(block))


def _batches(
    stream: LineStream, block: int, chosen: NDArray[np.int64] | None
) -> Iterator[tuple[list[int], list[memoryview]]]:
    """Blocks chunk by chunk, as (their numbers, their bytes); what a chunk leaves over goes before the next one."""
    rest = np.empty(0, dtype=np.uint8)
    number = 0
    for lines in stream:
        data = lines.data.reshape(-1)
        if len(rest):
            data = np.concatenate([rest, data])
        whole = len(data) // block
        yield from _chosen(data[: whole * block], number, block, chosen)
        number += whole
        rest = data[whole * block :].copy()
    if len(rest):
        yield from _chosen(rest, number, block, chosen)


def _chosen(
    data: NDArray[np.uint8], number: int, block: int, chosen: NDArray[np.int64] | None
) -> Iterator[tuple[list[int], list[memoryview]]]:
    n = -(-len(data) // block)
    if chosen is None:
        take = np.arange(number, number + n)
    else:
        take = chosen[np.searchsorted(chosen, number) : np.searchsorted(chosen, number + n)]
    if len(take):
        view = data.data
        starts = (take - number) * block
        yield [int(i) for i in take], [view[s : min(s + block, len(data))] for s in map(int, starts)]
