"""``snappy``: Snappy raw format by the cramjam library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from linepress_codecs.codecs.block import BLOCK_METADATA, LibraryCodec
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.registry import register


@register
@dataclass(frozen=True)
class Snappy(LibraryCodec):
    """Snappy raw blocks (no framing): a varint of the length, then literals and copies."""

    codec_id: ClassVar[str] = "snappy"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "Snappy by cramjam"
    source: ClassVar[str] = "github.com/google/snappy format_description.txt, through cramjam (snap crate)"

    block: int = field(default=64 << 10, metadata=BLOCK_METADATA)

    def _compress(self, block: memoryview) -> bytes:
        import cramjam

        return bytes(cramjam.snappy.compress_raw(block))

    def _decompress(self, code: memoryview, n: int) -> bytes:
        import cramjam

        # The stream states its own length: check it before the library allocates that much.
        if (claimed := _varint(code)) != n:
            raise CorruptDataError(f"the Snappy block says {claimed} B where {n} B were due")
        return bytes(cramjam.snappy.decompress_raw(code))

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        import cramjam

        return (cramjam.DecompressionError, ValueError)


def _varint(code: memoryview) -> int:
    value = 0
    for i, byte in enumerate(code[:5]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value
    raise CorruptDataError("the Snappy block's length is cut off")
