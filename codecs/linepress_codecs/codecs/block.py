"""What the block codecs share: block sizes, the raw fallback, seeded samples of small blocks, hardware cards.

A coded block starts with one flag byte: 1 = the library's code follows, 0 = the block as it is (where the library's
code would not be shorter). The length of a block is geometry that the decoder is given. The flag counts.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.anchors import DEFLATE_ANCHORS
from linepress_codecs.contracts import BlockCodec, Figure, HardwareCard
from linepress_codecs.errors import CorruptDataError, SpecError
from linepress_codecs.formats import Format
from linepress_codecs.variant import parse_bytes, show_size

SMALLEST_BLOCK, LARGEST_BLOCK = 64, 1 << 20
SAMPLE_UNDER = 4096
"""Blocks smaller than this cost a library call of 0.5 to 12 µs each, so the harness codes a seeded sample of them."""

RAW, CODED = b"\x00", b"\x01"

BLOCK_METADATA: dict[str, Any] = {
    "parse": parse_bytes,
    "show": show_size,
    "help": "block size, 64B to 1MiB, a power of two",
}


def sample_blocks(n_blocks: int, seed: int, k: int) -> NDArray[np.int64]:
    """Indices of ``k`` of ``n_blocks`` blocks, sorted, without repetition; all of them if there are no more.

    int64[min(k, n_blocks)], from PCG64(seed): the same sample on every machine.
    """
    if n_blocks <= k:
        return np.arange(n_blocks, dtype=np.int64)
    rng = np.random.Generator(np.random.PCG64(seed))
    return np.sort(rng.choice(n_blocks, size=k, replace=False, shuffle=False)).astype(np.int64)


class LibraryCodec(BlockCodec):
    """A block codec whose work a library does; subclasses give `_compress` and `_decompress`."""

    library_cycles: ClassVar[str] = ""

    def __post_init__(self) -> None:
        block = self.block
        if not SMALLEST_BLOCK <= block <= LARGEST_BLOCK or block & (block - 1):
            raise SpecError(
                f"codec {self.codec_id}: block={show_size(block)} is not a power of two from 64B to 1MiB; "
                f"for example {self.codec_id}:block=64KiB"
            )

    @abstractmethod
    def _compress(self, block: memoryview) -> bytes:
        """The library's code of one non-empty block."""

    @abstractmethod
    def _decompress(self, code: memoryview, n: int) -> bytes:
        """The block, or one of the library's exceptions (`_errors`)."""

    @property
    @abstractmethod
    def _errors(self) -> tuple[type[Exception], ...]:
        """What the library raises on damaged code."""

    def encode(self, block: bytes | memoryview) -> bytes:
        view = memoryview(block).cast("B")
        if len(view) > self.block:
            raise SpecError(f"{self.spec} takes blocks of at most {show_size(self.block)}, not {len(view)} B")
        if len(view) == 0:
            return RAW
        code = self._compress(view)
        return CODED + code if len(code) < len(view) else RAW + bytes(view)

    def decode(self, data: bytes | memoryview, n: int) -> bytes:
        view = memoryview(data).cast("B")
        if not 0 <= n <= self.block:
            raise CorruptDataError(f"a block of {self.spec} has at most {self.block} B, not {n} B")
        if len(view) == 0:
            raise CorruptDataError("the block's code is empty, not even its flag is there")
        flag, code = bytes(view[:1]), view[1:]
        if flag == RAW:
            if len(code) != n:
                raise CorruptDataError(f"a raw block of {n} B came with {len(code)} B")
            return bytes(code)
        if flag != CODED:
            raise CorruptDataError(f"block flag {flag[0]} is neither raw (0) nor coded (1)")
        if len(code) >= n:
            raise CorruptDataError(f"{len(code)} B of code for a block of {n} B, which would have been stored raw")
        try:
            out = self._decompress(code, n)
        except self._errors as error:
            raise CorruptDataError(f"{self.codec_id} refuses the block: {error}") from None
        if len(out) != n:
            raise CorruptDataError(f"the block decodes to {len(out)} B where {n} B were due")
        return out

    def card(self, fmt: Format) -> HardwareCard:
        """Latency of a hardware engine of this class for one block, scaled from published page engines."""
        del fmt
        clock = 2.5
        scale = self.block / 4096
        decode_ns, encode_ns = 277 * scale, 662 * scale
        how = (
            "latency of the published 7 nm Deflate engine for a 4 KiB page, scaled by the block's size; LZ-only "
            "codecs have no published page figure at hand and are taken as no slower"
        )
        return HardwareCard(
            decode_latency_cycles=Figure(decode_ns * clock, "cycles", "estimated", how),
            encode_latency_cycles=Figure(encode_ns * clock, "cycles", "estimated", how),
            initiation_interval_cycles=Figure(
                decode_ns * clock, "cycles", "estimated", "one engine decodes one block at a time"
            ),
            clock_GHz=Figure(clock, "GHz", "published", "TMCC Deflate ASIC (MICRO 2022)"),
            table_sram_bytes=Figure(min(self.block, 32768), "B", "derived", "history window the engine must hold"),
            anchors=DEFLATE_ANCHORS,
        )
