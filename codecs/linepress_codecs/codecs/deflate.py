"""``deflate``: Deflate by three libraries, so that the format and the implementation can be told apart."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import ClassVar, cast

from linepress_codecs.codecs.block import BLOCK_METADATA, LibraryCodec
from linepress_codecs.errors import CorruptDataError, SpecError
from linepress_codecs.registry import register


@register
@dataclass(frozen=True)
class Deflate(LibraryCodec):
    """Raw Deflate (RFC 1951), no wrapper, window of 32 KiB.

    ``zlib`` takes levels 1 to 9, ``isal`` 1 to 3, ``libdeflate`` 1 to 12.
    """

    codec_id: ClassVar[str] = "deflate"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "Deflate by zlib, ISA-L or libdeflate"
    source: ClassVar[str] = "RFC 1951; Python's zlib, the isal package, the deflate package (libdeflate)"

    level: int = field(default=6, metadata={"choices": tuple(range(1, 13)), "help": "the library's own scale"})
    block: int = field(default=64 << 10, metadata=BLOCK_METADATA)
    lib: str = field(
        default="zlib", metadata={"choices": ("zlib", "isal", "libdeflate"), "help": "library that does the work"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        top = {"zlib": 9, "isal": 3, "libdeflate": 12}[self.lib]
        if self.level > top:
            raise SpecError(
                f"codec deflate: {self.lib} has levels 1 to {top}, not {self.level}; "
                f"for example deflate:level={top}:lib={self.lib}"
            )

    def _compress(self, block: memoryview) -> bytes:
        if self.lib == "zlib":
            import zlib

            return zlib.compress(block, self.level, wbits=-15)
        if self.lib == "isal":
            from isal import isal_zlib

            return bytes(isal_zlib.compress(block, self.level, wbits=-15))
        import deflate

        return bytes(deflate.deflate_compress(block, self.level))

    def _decompress(self, code: memoryview, n: int) -> bytes:
        if self.lib == "libdeflate":
            import deflate

            return bytes(deflate.deflate_decompress(code, n))
        library = importlib.import_module("zlib" if self.lib == "zlib" else "isal.isal_zlib")
        engine = library.decompressobj(wbits=-15)
        out = bytes(engine.decompress(code, n + 1))
        if not engine.eof or engine.unused_data or engine.unconsumed_tail:
            raise CorruptDataError("the Deflate stream does not end where the block's code ends")
        return out

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        import zlib

        import deflate
        from isal import isal_zlib

        # The package's type stubs call its error class an instance.
        isal_error = cast("type[Exception]", isal_zlib.error)
        return (zlib.error, isal_error, deflate.DeflateError, ValueError)
