"""The points of a search: codec, memory, packing, metadata cache, queues and decoders; and what area each costs."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import product
from typing import Any

from linepress_codecs.errors import CodecError
from linepress_codecs.formats import format_named
from linepress_codecs.variant import Variant
from linepress_hardware.channel.config import ChannelConfig

AXES = ("codec", "packing", "metadata_cache_bytes", "queue", "decoders")


@dataclass(frozen=True)
class Point:
    """One configuration on one memory. ``queue`` 0: as the plain channel at its best; ``decoders`` 0: as many as
    keep up with the R channel."""

    memory: str
    codec: str
    packing: str
    metadata_cache_bytes: int
    queue: int
    decoders: int

    def __str__(self) -> str:
        queue = f"queues of {self.queue}" if self.queue else "plain's queues"
        engines = f"{self.decoders} decoders" if self.decoders else "decoders to keep up"
        return f"{self.codec}, {self.packing}, {self.metadata_cache_bytes >> 10} KiB metadata, {queue}, {engines}"


@dataclass(frozen=True)
class Space:
    """What a search ranges over; the first codec and packing with the model's own figures are the default point."""

    codecs: tuple[str, ...]
    packings: tuple[str, ...]
    metadata_cache_bytes: tuple[int, ...]
    queue: tuple[int, ...]
    decoders: tuple[int, ...]

    @classmethod
    def of(cls, codecs: Sequence[str], *, inline: bool, **chosen: Sequence[Any]) -> Space:
        """The axes of ``data/explore.toml``, those in ``chosen`` replaced where they are not empty."""
        axes = data()["axes"]
        known = {"packings": axes["inline" if inline else "offline"], **{a: axes[a] for a in AXES[2:]}}
        taken = {name: tuple(chosen.get(name) or values) for name, values in known.items()}
        return cls(tuple(codecs), **taken)

    def points(self, memory: str) -> list[Point]:
        """Every configuration on one memory, in one order."""
        axes = (self.codecs, self.packings, self.metadata_cache_bytes, self.queue, self.decoders)
        distinct: list[tuple[Any, ...]] = [tuple(dict.fromkeys(axis)) for axis in axes]
        return [Point(memory, *values) for values in product(*distinct)]

    def default(self, memory: str, config: ChannelConfig) -> Point:
        """What ``linepress channel`` takes when nothing is said, which need not lie on the axes."""
        return Point(memory, self.codecs[0], self.packings[0], config.metadata_cache_bytes, 0, config.decoders)


@lru_cache(maxsize=1)
def data() -> dict[str, Any]:
    """``data/explore.toml``: axes, and figures with their source."""
    text = (files("linepress_hardware") / "data" / "explore.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@lru_cache(maxsize=64)
def decoder_of(codec: str) -> tuple[float, int, str]:
    """µm² of one decoder, bytes of its tables, and where that comes from; the card for bf16 lines where there is one.

    Sizes without a known codec, and codecs that nobody synthesised, take the published decoder whose latency the
    channel model takes as well.
    """
    try:
        card = Variant.parse(codec).line_codec.card(format_named("bf16"))
    except (CodecError, ValueError, TypeError):
        card = None
    if card is not None and card.area_um2 is not None:
        return card.area_um2.value, int(card.table_sram_bytes.value), card.area_um2.source
    published = data()["engine"]["decoder_um2"]
    return float(published["value"]), 0, str(published["source"])


def sram_um2(size_bytes: float) -> float:
    """Area of a memory of ``size_bytes``: bits × bitcell / array efficiency."""
    sram = data()["sram"]
    return float(8 * size_bytes * sram["bitcell_um2"]["value"] / sram["array_efficiency"]["value"])


def area_mm2(codec: str, config: ChannelConfig, queue: int, atom_bytes: int) -> float:
    """Decoders with their tables, metadata cache with tags, and both queues; encoders and port are in none of it."""
    decoder, tables, _ = decoder_of(codec)
    sram = data()["sram"]
    entries = config.metadata_cache_bytes / config.metadata_entry_bytes
    cache = config.metadata_cache_bytes + entries * sram["tag_bytes_per_entry"]["value"]
    queues = queue * (2 * sram["queue_entry_bytes"]["value"] + atom_bytes)
    return (config.decoder_count * (decoder + sram_um2(tables)) + sram_um2(cache + queues)) / 1e6
