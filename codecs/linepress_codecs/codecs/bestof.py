"""``best-of``: the smallest of several codecs, line by line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.bitio import as_words, frozen
from linepress_codecs.checks import check_geometry, check_index, check_tables_type, single
from linepress_codecs.classic import bestof as kernels
from linepress_codecs.classic.bestof import BestOfTables, split_tables
from linepress_codecs.classic.bits import SLACK_WORDS
from linepress_codecs.contracts import Figure, HardwareCard, LineCodec, Lines, Packed, Tables
from linepress_codecs.errors import CorruptDataError, SpecError
from linepress_codecs.formats import Format
from linepress_codecs.registry import make, parse_spec, register

MOST_PARTS = 16
_EXAMPLE = "for example best-of:of=bdi+fpc+bpc,delta=32"


@lru_cache(maxsize=64)
def parse_parts(text: str) -> tuple[LineCodec, ...]:
    """The codecs of ``bdi,accounting=gem5+fpc``: parts joined by ``+``, options of a part set off by commas.

    Raises `SpecError` for fewer than 2 or more than 16 parts, a part twice, a block codec, or a nested best-of.
    """
    specs = text.split("+")
    if not 2 <= len(specs) <= MOST_PARTS:
        raise SpecError(f"best-of takes 2 to {MOST_PARTS} codecs, not {len(specs)}; {_EXAMPLE}")
    parts: list[LineCodec] = []
    for spec in specs:
        name, options = parse_spec(spec.strip().replace(",", ":"))
        if name == BestOf.codec_id:
            raise SpecError(f"best-of cannot be one of its own parts; {_EXAMPLE}")
        codec = make(name, options)
        if not isinstance(codec, LineCodec):
            raise SpecError(f"best-of chooses line by line, and {name} is a block codec; {_EXAMPLE}")
        if codec in parts:
            raise SpecError(f"best-of names {codec.spec} twice; {_EXAMPLE}")
        parts.append(codec)
    return tuple(parts)


@register
@dataclass(frozen=True)
class BestOf(LineCodec):
    """A selector of ceil(log2 parts) bits, then the line in the code of that part, its own header included.

    The part with the fewest bits codes the line, the first of equals; a line that none shortens is raw in one of
    them. In software each line starts on a 64-bit word.
    """

    codec_id: ClassVar[str] = "best-of"
    format_version: ClassVar[int] = 1
    summary: ClassVar[str] = "the smallest of several line codecs, chosen per line, the selector counted"
    source: ClassVar[str] = "Multi compressor of gem5 v24.0.0.1, by size in bits instead of its size classes"

    of: str = field(
        default="bdi+fpc+cpack+bpc",
        metadata={"help": "codecs joined by +, a part's options set off by commas: bdi,accounting=gem5+fpc"},
    )

    def __post_init__(self) -> None:
        # One spelling for equal lists, so that equal variants have equal keys.
        object.__setattr__(self, "of", "+".join(part.spec.replace(":", ",") for part in parse_parts(self.of)))

    @property
    def parts(self) -> tuple[LineCodec, ...]:
        """The codecs chosen from."""
        return parse_parts(self.of)

    @property
    def selector_bits(self) -> int:
        return (len(self.parts) - 1).bit_length()

    def options(self) -> dict[str, Any]:
        """The options, and the format version of every part: a part's new stream is a new stream of the whole."""
        return {**super().options(), "versions_of": [part.format_version for part in self.parts]}

    def supports(self, fmt: Format) -> bool:
        return all(part.supports(fmt) for part in self.parts)

    def fit(self, chunks: Iterable[Lines]) -> BestOfTables:
        return BestOfTables(tuple(part.fit(chunks) for part in self.parts))

    def tables_from_bytes(self, data: bytes) -> BestOfTables:
        parts = self.parts
        written = split_tables(data, len(parts))
        return BestOfTables(tuple(part.tables_from_bytes(own) for part, own in zip(parts, written, strict=True)))

    def _own(self, tables: Tables) -> tuple[Tables, ...]:
        check_tables_type(self, tables, BestOfTables)
        own = cast(BestOfTables, tables).parts
        if len(own) != len(self.parts):
            raise CorruptDataError(f"the tables are those of {len(own)} parts, the codec has {len(self.parts)}")
        return own

    def _choose(self, lines: Lines, own: tuple[Tables, ...]) -> tuple[NDArray[np.intp], NDArray[np.uint16]]:
        """(part, its bits with the selector) of each line."""
        self.check(lines)
        sizes = np.stack([part.measure(lines, tables) for part, tables in zip(self.parts, own, strict=True)])
        chosen = np.argmin(sizes, axis=0)
        return chosen, sizes.min(axis=0) + np.uint16(self.selector_bits)

    def measure(self, lines: Lines, tables: Tables) -> NDArray[np.uint16]:
        return self._choose(lines, self._own(tables))[1]

    def encode(self, lines: Lines, tables: Tables) -> Packed:
        own = self._own(tables)
        chosen, bits = self._choose(lines, own)
        words = (bits.astype(np.uint64) + np.uint64(63)) >> np.uint64(6)
        ends = np.cumsum(words)
        starts = (ends - words) << np.uint64(6)
        out = np.empty(int(ends[-1]) + 1 if len(lines) else 1, np.uint64)
        for i, (part, part_tables) in enumerate(zip(self.parts, own, strict=True)):
            mine = np.flatnonzero(chosen == i)
            if len(mine) == 0:
                continue
            code = part.encode(lines[mine], part_tables)
            kernels.join(
                mine,
                np.uint64(i),
                np.uint64(self.selector_bits),
                frozen(as_words(code.payload, 1)),
                code.starts,
                code.bits,
                out,
                starts,
            )
        payload = out[: len(out) - 1].view(np.uint8)
        return Packed.of(lines, payload, starts, bits)

    def decode(self, packed: Packed, tables: Tables) -> NDArray[np.uint8]:
        own = self._own(tables)
        check_geometry(packed, aligned_bits=64)
        skip = self.selector_bits
        if (packed.bits < skip).any():
            short = int(np.argmax(packed.bits < skip))
            raise CorruptDataError(f"{packed.bits[short]} bits end before the selector of {skip}", line=short)
        payload = frozen(as_words(packed.payload, SLACK_WORDS))
        starts = np.ascontiguousarray(packed.starts)
        selected = np.empty(len(packed), np.uint8)
        kernels.selectors(payload, starts, np.uint64(skip), selected)
        if (selected >= len(own)).any():
            bad = int(np.argmax(selected >= len(own)))
            raise CorruptDataError(f"selector {selected[bad]} is not one of {len(own)} parts", line=bad)
        out = np.empty((len(packed), packed.line_bytes), np.uint8)
        for i, (part, part_tables) in enumerate(zip(self.parts, own, strict=True)):
            mine = np.flatnonzero(selected == i)
            if len(mine):
                out[mine] = self._decode_part(part, part_tables, packed, payload, mine)
        return out

    def _decode_part(
        self, part: LineCodec, tables: Tables, packed: Packed, payload: NDArray[np.uint64], mine: NDArray[np.intp]
    ) -> NDArray[np.uint8]:
        """The lines that one part codes, as a `Packed` of their own."""
        bits = packed.bits[mine] - np.uint16(self.selector_bits)
        words = (bits.astype(np.uint64) + np.uint64(63)) >> np.uint64(6)
        ends = np.cumsum(words)
        code = np.empty(int(ends[-1]) + 1, np.uint64)
        starts = np.ascontiguousarray(packed.starts)
        kernels.split(mine, np.uint64(self.selector_bits), payload, starts, bits, code, ends - words)
        alone = replace(
            packed,
            payload=code[:-1].view(np.uint8),
            starts=(ends - words) << np.uint64(6),
            bits=bits,
            geometry=packed.geometry[mine],
        )
        try:
            return part.decode(alone, tables)
        except CorruptDataError as error:
            raise error if error.line is None else error.at(int(mine[error.line])) from None

    def decode_line(self, packed: Packed, i: int, tables: Tables) -> NDArray[np.uint8]:
        check_index(packed, i)
        one = single(packed, i)
        try:
            check_geometry(one, aligned_bits=64)
            first, words = int(packed.starts[i]) // 8, -(-int(packed.bits[i]) // 64)
            alone = replace(one, payload=packed.payload[first : first + 8 * words], starts=np.zeros(1, np.uint64))
            line: NDArray[np.uint8] = self.decode(alone, tables)[0]
        except CorruptDataError as error:
            raise error.at(i) from None
        return line

    def card(self, fmt: Format) -> HardwareCard:
        """The slowest part and a cycle to select; table memories side by side."""
        cards = [part.card(fmt) for part in self.parts]
        slowest = "the slowest part + 1 cycle to select, as gem5's Multi compressor"

        def worst(name: str, more: float, unit: str, why: str) -> Figure:
            return Figure(max(getattr(card, name).value for card in cards) + more, unit, "derived", why)

        return HardwareCard(
            decode_latency_cycles=worst("decode_latency_cycles", 1, "cycles", slowest),
            encode_latency_cycles=worst("encode_latency_cycles", 1, "cycles", slowest),
            initiation_interval_cycles=worst("initiation_interval_cycles", 0, "cycles", "the slowest part"),
            clock_GHz=Figure(
                min(card.clock_GHz.value for card in cards), "GHz", "derived", "the lowest clock of the parts"
            ),
            table_sram_bytes=Figure(
                sum(card.table_sram_bytes.value for card in cards), "B", "derived", "sum over the parts"
            ),
            anchors=tuple(dict.fromkeys(anchor for card in cards for anchor in card.anchors)),
        )
