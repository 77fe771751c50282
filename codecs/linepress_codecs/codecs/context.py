"""``context``: channels with a mean and a deviation, the previous token as context; for KV caches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.checks import check_geometry, check_index, check_tables_type
from linepress_codecs.context.bound import ChannelBound
from linepress_codecs.context.channel import ChannelTables, fit_channels, models
from linepress_codecs.context.engine import decode_channel_line, decode_channels, encode_channels, measure_channels
from linepress_codecs.context.rows import ROWS
from linepress_codecs.context.turning import TurningTables
from linepress_codecs.context.turning_engine import (
    TurningBound,
    decode_turning,
    decode_turning_line,
    encode_turning,
    measure_turning,
)
from linepress_codecs.context.turning_fit import fit_turning
from linepress_codecs.contracts import (
    SAMPLE_LINES,
    ClassBound,
    HardwareCard,
    LineCodec,
    Lines,
    Packed,
    Tables,
    count_lines,
)
from linepress_codecs.errors import UnsupportedFormatError
from linepress_codecs.formats import Format
from linepress_codecs.registry import register
from linepress_codecs.tans import options as options
from linepress_codecs.tans.bits import BitReader, BitWriter
from linepress_codecs.tans.bound import StaticBound
from linepress_codecs.tans.card import context_card, static_card
from linepress_codecs.tans.engine import decode_lines, decode_one, encode_lines, measure_lines
from linepress_codecs.tans.fit import fit_static
from linepress_codecs.tans.static import StaticTables

Model = ChannelTables | TurningTables | StaticTables
TURNING_MARK, TURNING_BITS = 0b111110, 6
"""Static tables (first bit 0) of 31 rows, which no tensor has, mark turning channels."""


@dataclass(frozen=True)
class ContextTables:
    """The channels of a tensor, turning or not, or, where those do not pay or do not exist, static tables."""

    model: Model
    precision: int

    def to_bytes(self) -> bytes:
        out = BitWriter()
        if isinstance(self.model, TurningTables):
            out.write(TURNING_MARK, TURNING_BITS)
        else:
            out.write(int(isinstance(self.model, ChannelTables)), 1)
        self.model.write(out)
        return out.to_bytes()


@register
@dataclass(frozen=True)
class Context(LineCodec):
    """Sign, exponent and as many mantissa bits as the channel's deviation resolves, by tANS in ROM tables.

    Each channel has a mean, a deviation and the slope of its regression on the previous token (about two bytes); the
    distribution of the next value is normal around the prediction, over cells of half to a quarter of a deviation,
    and is read from 68 fixed rows. The previous token is context where it lies in the same line (and, where a line
    holds runs of tokens of one channel, in the same sub-stream); all other values are predicted by their channel's
    mean. So a line decodes alone, in rows and pages as in channel-major layouts.

    Without channels in the layout, or for formats without exponents, it is ``adaptive``'s static tables.
    """

    codec_id: ClassVar[str] = "context"
    format_version: ClassVar[int] = 3
    summary: ClassVar[str] = "KV caches: per-channel mean and deviation, previous token as context, fixed tables"
    source: ClassVar[str] = "this project; tANS of J. Duda, arXiv:1311.2540"

    streams: int = options.streams(2)
    precision: int = options.precision(10)

    def supports(self, fmt: Format) -> bool:
        return fmt.bits <= 32

    def fit(self, chunks: Iterable[Lines]) -> Tables:
        static = fit_static(chunks, precision=self.precision, streams=self.streams, tables=4, mantissa=None)
        fitted = (static, fit_channels(chunks, self.streams), fit_turning(chunks, self.streams))
        tables = [ContextTables(model, self.precision) for model in fitted if model is not None]
        if len(tables) == 1:
            return tables[0]
        sizes = [8 * len(each.to_bytes()) for each in tables]
        share = self._share(chunks)
        for lines in chunks:
            part = lines if share == 1 else _every(lines, share)
            for k, each in enumerate(tables):
                sizes[k] += share * int(self.measure(part, each).sum(dtype=np.int64))
        return tables[int(np.argmin(sizes))]

    @staticmethod
    def _share(chunks: Iterable[Lines]) -> int:
        """One line in this many is measured to choose between the models; odd, so that no channel is left out."""
        step = count_lines(chunks) // (4 * SAMPLE_LINES)
        return step | 1

    def tables_from_bytes(self, data: bytes) -> Tables:
        source = BitReader(data)
        model: Model
        if source.peek(TURNING_BITS) == TURNING_MARK:
            source.read(TURNING_BITS)
            model = TurningTables.read(source)
        else:
            model = ChannelTables.read(source) if source.read(1) else StaticTables.read(source, self.precision)
        source.finish()
        return ContextTables(model, self.precision)

    def _own(self, tables: Tables) -> Model:
        check_tables_type(self, tables, ContextTables)
        own = cast(ContextTables, tables)
        if own.precision != self.precision:
            raise UnsupportedFormatError(
                f"{self.spec} was given tables of precision {own.precision}: fit them with the same options"
            )
        return own.model

    def class_bound(self, fmt: Format, tables: Tables) -> ClassBound | None:
        model = self._own(tables)
        if isinstance(model, StaticTables):
            return StaticBound(model, fmt)
        if isinstance(model, TurningTables):
            return TurningBound(model, self.streams, self.precision, fmt)
        return ChannelBound(model, self.streams, self.precision, fmt)

    def measure(self, lines: Lines, tables: Tables) -> NDArray[np.uint16]:
        self.check(lines)
        model = self._own(tables)
        if isinstance(model, StaticTables):
            return measure_lines(lines, model, self.streams)
        if isinstance(model, TurningTables):
            return measure_turning(lines, model, self.streams, self.precision)
        return measure_channels(lines, model, self.streams, self.precision)

    def encode(self, lines: Lines, tables: Tables) -> Packed:
        self.check(lines)
        model = self._own(tables)
        if isinstance(model, StaticTables):
            return encode_lines(lines, model, self.streams)
        if isinstance(model, TurningTables):
            return encode_turning(lines, model, self.streams, self.precision)
        return encode_channels(lines, model, self.streams, self.precision)

    def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
        check_geometry(packed)
        model = self._own(tables)
        if isinstance(model, StaticTables):
            return decode_lines(packed, model, self.streams)
        if isinstance(model, TurningTables):
            return decode_turning(packed, model, self.streams, self.precision)
        return decode_channels(packed, model, self.streams, self.precision)

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        check_index(packed, i)
        model = self._own(tables)
        if isinstance(model, StaticTables):
            return decode_one(packed, i, model, self.streams)
        if isinstance(model, TurningTables):
            return decode_turning_line(packed, i, model, self.streams, self.precision)
        return decode_channel_line(packed, i, model, self.streams, self.precision)

    def card(self, fmt: Format) -> HardwareCard:
        if models(fmt):
            return context_card(fmt, self.streams, self.precision, ROWS)
        return static_card(fmt, self.streams, self.precision, 4)


def _every(lines: Lines, step: int) -> Lines:
    part = lines[::step]
    return replace(part, data=np.ascontiguousarray(part.data))
