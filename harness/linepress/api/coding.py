"""`codec`: one codec on arrays, line by line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import Lines, Packed, Tables
from linepress_codecs.formats import format_named
from linepress_codecs.layout import from_lines, to_lines
from linepress_codecs.variant import Variant


@dataclass(frozen=True)
class ArrayCodec:
    """A line codec in its layout. ``tables`` come from `fit` and go with what `encode` gives."""

    variant: Variant

    def lines(self, array: Any) -> Lines:
        """The lines of an array (NumPy, ml_dtypes or torch) in this layout."""
        from linepress.sources.arrays import as_numpy

        values, name = as_numpy(array)
        fmt = format_named(name)
        return to_lines(
            np.ascontiguousarray(values).view(fmt.storage), self.variant.layout, fmt, self.variant.line_bytes
        )

    def fit(self, array: Any) -> Tables:
        """Tables learned from an array."""
        return self.variant.line_codec.fit([self.lines(array)])

    def measure(self, array: Any, tables: Tables) -> NDArray[np.uint16]:
        """Coded bits of each line, uint16[n], without writing the code."""
        return self.variant.line_codec.measure(self.lines(array), tables)

    def encode(self, array: Any, tables: Tables) -> Packed:
        """The code of all lines."""
        return self.variant.line_codec.encode(self.lines(array), tables)

    def decode(self, packed: Packed, tables: Tables, like: Any) -> NDArray[Any]:
        """The array again, with the shape and dtype of ``like``; raises `CorruptDataError` for damaged code."""
        from linepress.sources.arrays import as_numpy

        values, name = as_numpy(like)
        lines = self.variant.line_codec.decode(packed, tables)
        bits = from_lines(lines, values.shape, self.variant.layout, format_named(name))
        return bits.view(values.dtype).reshape(values.shape)

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        """Line ``i`` alone, uint8[line bytes], without its neighbours."""
        return self.variant.line_codec.decode_line(packed, i, tables)


def codec(spec: str) -> ArrayCodec:
    """A line codec by its specification, such as ``huffman:tables=4:layout=channel``.

    Raises `SpecError` with a valid example for anything unknown, and for a block codec.
    """
    variant = Variant.parse(spec)
    _ = variant.line_codec
    return ArrayCodec(variant)
