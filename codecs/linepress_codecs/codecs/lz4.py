"""``lz4``: LZ4 block format by the reference library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from linepress_codecs.codecs.block import BLOCK_METADATA, LibraryCodec
from linepress_codecs.registry import register


@register
@dataclass(frozen=True)
class Lz4(LibraryCodec):
    """LZ4 blocks. Level 1 is the fast compressor, 2 to 12 the high-compression one (same format)."""

    codec_id: ClassVar[str] = "lz4"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "LZ4 by the reference library"
    source: ClassVar[str] = "lz4 (github.com/lz4/lz4) through the lz4 package"

    level: int = field(default=1, metadata={"choices": tuple(range(1, 13)), "help": "1 fast, 2 up high compression"})
    block: int = field(default=64 << 10, metadata=BLOCK_METADATA)

    def _compress(self, block: memoryview) -> bytes:
        import lz4.block

        if self.level == 1:
            return bytes(lz4.block.compress(block, store_size=False))
        return bytes(lz4.block.compress(block, mode="high_compression", compression=self.level, store_size=False))

    def _decompress(self, code: memoryview, n: int) -> bytes:
        import lz4.block

        return bytes(lz4.block.decompress(code, uncompressed_size=n))

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        import lz4.block

        return (lz4.block.LZ4BlockError, ValueError, OverflowError, MemoryError)
