"""Which designs there are: a name each, the codec whose lines they take, and how they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from linepress_hardware.errors import UnknownPartError
from linepress_hardware.rtl.decoders.adaptive import AdaptiveCore, AdaptiveDecoder
from linepress_hardware.rtl.decoders.bdi import BdiDecoder
from linepress_hardware.rtl.decoders.bpc import BpcDecoder
from linepress_hardware.rtl.decoders.huffman import HuffmanDecoder
from linepress_hardware.rtl.decoders.tans import TansCore, TansDecoder
from linepress_hardware.rtl.decoders.window import WindowDecoder
from linepress_hardware.rtl.encoders.huffman import HuffmanEncoder
from linepress_hardware.rtl.encoders.window import WindowEncoder
from linepress_hardware.rtl.line import E4M3, LineEngine
from linepress_hardware.rtl.placement.align import ByteAligner
from linepress_hardware.rtl.placement.pairs import PairsAddress
from linepress_hardware.rtl.placement.spill import SpillAddress

DECODER, ENCODER, PLACEMENT = "decoder", "encoder", "placement"


@dataclass(frozen=True)
class Design:
    """One design.

    Attributes
    ----------
    codec : str
        Specification of the codec as the codec package prints it; empty for placement units.
    format : str
        Element format of its lines.
    make : callable
        The whole engine, memories included: what is simulated and emitted.
    core : callable | None
        What is synthesised where memories lie outside of it; None: the whole engine.
    outside : str
        What lies outside of the core.
    symbols : int
        Most symbols of a Huffman table that the engine holds.
    packing : str
        The packing whose lines a placement unit finds.
    addresses : bool
        Whether a placement unit gives addresses, not lines.
    checks : bool
        Whether a decoder refuses damaged lines; False where it trusts its input.
    """

    name: str
    kind: str
    codec: str
    format: str
    summary: str
    make: Callable[[], LineEngine]
    core: Callable[[], LineEngine] | None = None
    outside: str = ""
    symbols: int = 256
    packing: str = ""
    addresses: bool = False
    checks: bool = True

    @property
    def held_against(self) -> str:
        """The codec or packing of the design."""
        return self.codec or self.packing

    def synthesised(self) -> LineEngine:
        return (self.core or self.make)()


_WINDOW, _HUFFMAN, _TANS = "window", "huffman:substreams=8", "tans:streams=8"

DESIGNS = {
    design.name: design
    for design in (
        Design("window-decoder", DECODER, _WINDOW, "bf16", "count escapes, select", WindowDecoder),
        Design("window-e4m3-decoder", DECODER, _WINDOW, "e4m3", "the same generator", lambda: WindowDecoder(E4M3)),
        Design("huffman8-decoder", DECODER, _HUFFMAN, "bf16", "8 lanes, a code in two clocks", HuffmanDecoder),
        Design(
            "huffman8-64-decoder",
            DECODER,
            _HUFFMAN,
            "bf16",
            "as huffman8-decoder, tables of at most 64 symbols",
            lambda: HuffmanDecoder(symbols=64),
            symbols=64,
        ),
        Design(
            "tans8-decoder",
            DECODER,
            _TANS,
            "bf16",
            "two lines in a ring of two clocks",
            TansDecoder,
            TansCore,
            "eight memories of 2,048 x 22 bits, one read port each",
        ),
        Design(
            "adaptive8-decoder",
            DECODER,
            "adaptive:streams=8",
            "bf16",
            "the ring of tans8-decoder over four tables, fields of any width",
            AdaptiveDecoder,
            AdaptiveCore,
            "eight memories of 10,240 x 23 bits, one read port each",
        ),
        Design("bdi-decoder", DECODER, "bdi", "bf16", "add, then encode again to check", BdiDecoder),
        Design(
            "bdi-trusting-decoder",
            DECODER,
            "bdi",
            "bf16",
            "the adders alone, as published decompressors are",
            lambda: BdiDecoder(checks=False),
            checks=False,
        ),
        Design(
            "bpc-trusting-decoder",
            DECODER,
            "bpc",
            "bf16",
            "four planes a clock, as published decompressors without checks",
            BpcDecoder,
            checks=False,
        ),
        Design("window-encoder", ENCODER, _WINDOW, "bf16", "compare, count, a selection a slot", WindowEncoder),
        Design("window-e4m3-encoder", ENCODER, _WINDOW, "e4m3", "the same generator", lambda: WindowEncoder(E4M3)),
        Design("huffman8-encoder", ENCODER, _HUFFMAN, "bf16", "ranks, codes, codes joined to lanes", HuffmanEncoder),
        Design(
            "pairs-address",
            PLACEMENT,
            "",
            "bf16",
            "the lengths before a pair summed",
            PairsAddress,
            packing="pairs",
            addresses=True,
        ),
        Design(
            "spill-address",
            PLACEMENT,
            "",
            "bf16",
            "a group's rests placed one after another",
            SpillAddress,
            packing="spill",
            addresses=True,
        ),
        Design(
            "aligner",
            PLACEMENT,
            "",
            "bf16",
            "a line out of two 64 B beats, from any byte",
            ByteAligner,
            packing="stream",
        ),
    )
}


def design(name: str) -> Design:
    """The design of a name; raises `UnknownPartError` that lists them."""
    if name not in DESIGNS:
        raise UnknownPartError(f"no RTL design is called {name!r}; there are {', '.join(DESIGNS)}")
    return DESIGNS[name]


def designs_of(codec: str, fmt: str, kind: str = DECODER) -> list[Design]:
    """Designs for lines of ``codec`` in ``fmt``, the first being the one its card speaks of.

    Raises `UnknownPartError` that says which codecs and formats have one.
    """
    found = [d for d in DESIGNS.values() if (d.codec, d.format, d.kind) == (codec, fmt, kind)]
    if not found:
        have = sorted({f"{d.codec} ({d.format})" for d in DESIGNS.values() if d.kind == kind})
        raise UnknownPartError(f"{codec} has no {kind} as RTL for {fmt}; there are {', '.join(have)}")
    return found
