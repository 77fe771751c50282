"""Figures of the RTL designs, from ``measured.json`` (written by ``python -m benchmarks.rtl --write``)."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from linepress_codecs.contracts import Figure, HardwareCard


@cache
def record() -> dict[str, Any]:
    """The whole file: tools, libraries with their hashes, and a row a design."""
    text = (files("linepress_codecs.cards") / "measured.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def cycles_of(design: str) -> Figure:
    """Clocks from line to line, as the simulation saw them on every line."""
    row = record()["designs"][design]
    return Figure(row["cycles"], "cycles", "simulated", _proof(design, row["simulation"]))


def interval_of(design: str) -> Figure:
    """Clocks between two lines of one engine."""
    row = record()["designs"][design]
    return Figure(row["interval"], "cycles", "simulated", _proof(design, row["simulation"]))


def clock_of(design: str, status: str = "synthesised", why: str = "") -> Figure:
    """The clock of the first corner with its wires; other corners are named in the source."""
    first, *others = record()["designs"][design]["mapped"]["timings"]
    rest = "; ".join(f"{t['clock_GHz']:.2f} GHz {_corner(t)}" for t in others)
    source = f"{why}RTL design {design}, {_corner(first)}, pre-layout (no placement, clock tree or memory); {rest}"
    return Figure(round(first["clock_GHz"], 3), "GHz", status, source)


def area_of(design: str) -> Figure:
    """Area of the cells, table registers among them, memories not."""
    mapped = record()["designs"][design]["mapped"]
    corner = _corner(mapped["timings"][0])
    source = f"RTL design {design}: {mapped['cells']:,} cells, {corner}, pre-layout, no memories"
    return Figure(round(mapped["area_um2"]), "um2", "synthesised", source)


def rtl_card(decoder: str, encode: Figure | str, sram: Figure, anchors: tuple[Figure, ...]) -> HardwareCard:
    """The card of a codec whose ``decoder`` is a design; ``encode`` names the encoder's design, or is an estimate.

    The clock is the lower one of decoder and encoder, where that was synthesised; the area the decoder's.
    """
    designs = [decoder]
    if isinstance(encode, str) and "mapped" in record()["designs"][encode]:
        designs.append(encode)
    return HardwareCard(
        decode_latency_cycles=cycles_of(decoder),
        encode_latency_cycles=cycles_of(encode) if isinstance(encode, str) else encode,
        initiation_interval_cycles=interval_of(decoder),
        clock_GHz=min((clock_of(each) for each in designs), key=lambda f: f.value),
        table_sram_bytes=sram,
        anchors=anchors,
        area_um2=area_of(decoder),
    )


def _corner(timing: dict[str, Any]) -> str:
    wires = f"{timing['wire_fF']:g} fF of wire a pin" if timing["wire_fF"] else "no wires"
    return f"{timing['library']} {timing['corner']}, {wires}"


def _proof(design: str, shown: dict[str, Any]) -> str:
    return (
        f"RTL design {design} in {shown['simulator']}: {shown['lines']:,} lines, {shown['refused']:,} of them "
        f"damaged and refused, {shown['differ']} differ from the codec"
    )
