"""``zstd``: Zstandard frames by the reference library."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from linepress_codecs.codecs.block import BLOCK_METADATA, LibraryCodec
from linepress_codecs.registry import register

if TYPE_CHECKING:
    import zstandard


@lru_cache(maxsize=64)
def _compressor(level: int, thread: int) -> zstandard.ZstdCompressor:
    """One compressor a level and thread: making a new one each call doubles the time of a small block."""
    import zstandard

    del thread
    return zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)


@lru_cache(maxsize=64)
def _decompressor(thread: int) -> zstandard.ZstdDecompressor:
    import zstandard

    del thread
    return zstandard.ZstdDecompressor()


@register
@dataclass(frozen=True)
class Zstd(LibraryCodec):
    """Zstandard, one frame a block, content size in the frame, no checksum, no dictionary."""

    codec_id: ClassVar[str] = "zstd"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "Zstandard by the reference library"
    source: ClassVar[str] = "RFC 8878; github.com/facebook/zstd through the zstandard package"

    level: int = field(default=1, metadata={"choices": tuple(range(1, 23)), "help": "1 fastest to 22 smallest"})
    block: int = field(default=64 << 10, metadata=BLOCK_METADATA)

    def _compress(self, block: memoryview) -> bytes:
        from threading import get_ident

        return _compressor(self.level, get_ident()).compress(block)

    def _decompress(self, code: memoryview, n: int) -> bytes:
        from threading import get_ident

        import zstandard

        # The frame states its own size: check it before the library allocates that much.
        claimed = zstandard.frame_content_size(code)
        if claimed != n:
            raise zstandard.ZstdError(f"the frame says {claimed} B where {n} B were due")
        return _decompressor(get_ident()).decompress(code, max_output_size=n, allow_extra_data=False)

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        import zstandard

        return (zstandard.ZstdError,)
