"""A variant: a codec with resolved options, the layout its lines come from, a line size and a packing.

Printed and parsed as ``huffman:tables=4:layout=channel:packing=classes,set=0/22/44/64`` with only non-defaults shown;
in YAML also as a mapping whose lists are swept: ``{codec: huffman, tables: [1, 4, 16]}``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from linepress_codecs.contracts import LINE_BYTES, BlockCodec, Codec, LineCodec
from linepress_codecs.errors import SpecError
from linepress_codecs.layout import check_layout
from linepress_codecs.packing import Packing, Stream, parse_packing
from linepress_codecs.registry import make, parse_spec

DEFAULT_LAYOUT = "row"
DEFAULT_PACKING: Packing = Stream()
COMMON_OPTIONS = ("layout", "packing", "line")
LINE_SIZES = (32, 64, 128)


@dataclass(frozen=True)
class Variant:
    """One way of coding a tensor; hashable, picklable, and the same thing whenever ``spec`` is the same.

    Attributes
    ----------
    codec : LineCodec | BlockCodec
    layout : str
        A name from `linepress_codecs.layout.LAYOUTS`.
    packing : Packing
        How the coded lines lie in memory; ignored by block codecs.
    line_bytes : int
        32, 64 or 128; codecs that take fewer say so when they are given lines.
    """

    codec: Codec
    layout: str = DEFAULT_LAYOUT
    packing: Packing = DEFAULT_PACKING
    line_bytes: int = LINE_BYTES

    @classmethod
    def parse(cls, text: str) -> Variant:
        """From ``name:key=value``; raises `SpecError` with a valid example."""
        return cls.of(*parse_spec(text))

    @classmethod
    def of(cls, codec_id: str, options: Mapping[str, Any]) -> Variant:
        """From a codec name and its options, with ``layout``, ``packing`` and ``line`` among them."""
        own = {k: v for k, v in options.items() if k not in COMMON_OPTIONS}
        layout = check_layout(str(options.get("layout", DEFAULT_LAYOUT)))
        packing = options.get("packing", DEFAULT_PACKING)
        line = str(options.get("line", LINE_BYTES))
        if line not in map(str, LINE_SIZES):
            raise SpecError(
                f"variant {codec_id}: line={line} is not one of {', '.join(map(str, LINE_SIZES))} (bytes)"
            )
        return cls(
            codec=make(codec_id, own),
            layout=layout,
            packing=packing if isinstance(packing, Packing) else parse_packing(str(packing)),
            line_bytes=int(line),
        )

    @property
    def spec(self) -> str:
        """The variant as text; ``parse(spec)`` gives an equal variant."""
        parts = [self.codec.spec]
        if self.layout != DEFAULT_LAYOUT:
            parts.append(f"layout={self.layout}")
        if self.line_bytes != LINE_BYTES:
            parts.append(f"line={self.line_bytes}")
        if self.packing != DEFAULT_PACKING:
            parts.append(f"packing={self.packing.spec.replace(':', ',')}")
        return ":".join(parts)

    @property
    def line_codec(self) -> LineCodec:
        """The codec as a line codec; raises `SpecError` for a block codec."""
        if not isinstance(self.codec, LineCodec):
            raise SpecError(f"{self.codec.codec_id} is a block codec: it has no lines")
        return self.codec

    @property
    def block_codec(self) -> BlockCodec:
        """The codec as a block codec; raises `SpecError` for a line codec."""
        if not isinstance(self.codec, BlockCodec):
            raise SpecError(f"{self.codec.codec_id} is a line codec: it has no blocks")
        return self.codec

    def identity(self) -> dict[str, Any]:
        """What enters the case key: every resolved option, the format version, layout, line size and packing.

        The packing changes no coded bit, but a row states the packed ratio under it.
        """
        return {
            "codec": self.codec.codec_id,
            "options": {k: _plain(v) for k, v in self.codec.options().items()},
            "format_version": self.codec.format_version,
            "layout": self.layout,
            "line_bytes": self.line_bytes,
            "packing": self.packing.spec,
        }

    def __str__(self) -> str:
        return self.spec


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def expand(entry: str | Mapping[str, Any]) -> list[Variant]:
    """The variants that one entry of a suite stands for.

    A string is one variant. A mapping has ``codec`` and options; an option given as a list is swept, several lists
    as a full grid in the order written. Raises `SpecError` for anything else, and for two equal variants in a sweep.
    """
    if isinstance(entry, str):
        return [Variant.parse(entry)]
    if not isinstance(entry, Mapping) or not isinstance(entry.get("codec"), str):
        raise SpecError(f"a codec entry is a string or a mapping with `codec:`, not {entry!r}")
    axes = [(key, value if isinstance(value, list) else [value]) for key, value in entry.items() if key != "codec"]
    for key, values in axes:
        if not values:
            raise SpecError(f"codec {entry['codec']}: the sweep {key}: [] is empty; give at least one value")
    name, fixed = parse_spec(entry["codec"])
    variants = []
    for point in itertools.product(*(values for _, values in axes)):
        options = dict(fixed)
        for (key, _), value in zip(axes, point, strict=True):
            if key in fixed:
                raise SpecError(f"codec {entry['codec']} gives {key} twice; keep one")
            options[key] = _text(value)
        variants.append(Variant.of(name, options))
    if len(set(variants)) != len(variants):
        raise SpecError(f"codec {name}: the sweep gives one variant twice; remove the repeated value")
    return variants


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?")
_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_UNITS |= {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_bytes(text: str) -> int:
    """Bytes from ``64``, ``64B``, ``64KiB`` (2^10) or ``64kB`` (10^3), up to TiB and TB; raises ValueError otherwise.

    The one grammar of sizes: of options of codecs, of suites and of the command line.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a size: write bytes, or for instance 64KiB, 8MiB or 2GB")
    return int(match[1]) * _UNITS[match[2]]


def show_size(size: int) -> str:
    """The shortest exact spelling of a size in bytes: 64B, 4KiB, 1MiB."""
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"
