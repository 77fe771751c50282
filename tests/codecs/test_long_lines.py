"""Well-formed codes longer than the line they stand for, forged element by element: every decoder refuses them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from linepress_codecs.codecs.context import Context, ContextTables
from linepress_codecs.codecs.huffman import Huffman
from linepress_codecs.codecs.window import Window, WindowTables
from linepress_codecs.context.channel import ChannelTables
from linepress_codecs.context.rows import ESCAPE_SYMBOL, channel_machine
from linepress_codecs.contracts import Geometry, LineCodec, Lines, Tables
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import FORMATS
from linepress_codecs.registry import make, parse_spec
from linepress_codecs.tans.codec import StaticTansCodec
from linepress_codecs.tans.kernels import ESCAPE, MODE_CODED
from linepress_codecs.tans.static import StaticTables
from linepress_codecs.tans.tables import Machine
from linepress_codecs.testing import gaussian_bits

BF16 = FORMATS["bf16"]


LINES = Lines(gaussian_bits(BF16, 32 * 41, 0.02, 7).view(np.uint8).reshape(-1, 64), BF16)


def escaped(machine: Machine, symbol: int, elements: list[int], streams: int) -> tuple[int, int]:
    """(code, bits) of a line whose every step is ``symbol`` of row 1, never raw."""
    r = machine.precision
    raw = sum(u << (16 * j) for j, u in enumerate(elements))
    state = [(1 << r) + (raw >> (r * c) & (1 << r) - 1) for c in range(streams)]

    def back(c: int, row: int, symbol: int) -> tuple[int, int]:
        x, place = state[c], 256 * row + symbol
        bits = (x + int(machine.encode_bits[place])) >> 16
        state[c] = int(machine.encode_state[(row << r) + (x >> bits) + int(machine.encode_find[place])])
        return x & (1 << bits) - 1, bits

    fields = [back(q % streams, 1, symbol) for q in reversed(range(len(elements)))]
    head = back(0, 0, MODE_CODED)
    rest = 16 * len(elements) - r * streams
    fields = [(state[0] & (1 << r) - 1, r), head, *((x & (1 << r) - 1, r) for x in state[1:]), *reversed(fields)]
    code, at = 0, 0
    for value, bits in [*fields, (raw >> (r * streams), rest)]:
        code |= value << at
        at += bits
    return code, at


def forged(spec: str) -> tuple[LineCodec, Tables, int, int]:
    """(codec, tables, code, bits) of a line of more than 512 bits that reads well to its very end."""
    elements = [int(u) for u in np.random.Generator(np.random.PCG64(3)).integers(1, 1 << 16, 32)]
    codec = make(*parse_spec(spec))
    assert isinstance(codec, LineCodec)
    if isinstance(codec, Window):
        rests = sum((u & 127 | u >> 15 << 7) << (97 + 8 * j) for j, u in enumerate(elements))
        return (
            codec,
            WindowTables(110),
            rests | sum((u >> 7 & 255) << (353 + 8 * j) for j, u in enumerate(elements)),
            609,
        )
    if isinstance(codec, Huffman):
        tables = codec.fit([LINES])
        bits = 1 + 256 + 32 * int(tables.lengths.max())  # the last canonical code is all ones and as long as any
        return codec, tables, (1 << bits) - 1, bits
    if isinstance(codec, Context):
        tables_of = ContextTables(ChannelTables(np.zeros((1, 4), np.int32)), codec.precision)
        return codec, tables_of, *escaped(channel_machine(codec.precision), ESCAPE_SYMBOL, elements, codec.streams)
    assert isinstance(codec, StaticTansCodec)
    static = codec.fit([LINES])
    assert isinstance(static, StaticTables)
    return codec, static, *escaped(static.machine, ESCAPE, elements, codec.streams)


SPECS = ["window", "huffman", "tans", "tans:streams=1", "adaptive", "context", "context:streams=4"]


@pytest.mark.parametrize("run", [0, 1])
@pytest.mark.parametrize("spec", SPECS)
def test_a_code_longer_than_the_line_is_refused(spec: str, run: int) -> None:
    """Alone, among good lines, and as several neighbours, which kernels take together."""
    codec, tables, code, bits = forged(spec)
    assert bits > 512 + codec_head(codec)
    words = np.frombuffer(code.to_bytes(200, "little"), np.uint8)
    channel = np.zeros(len(LINES), np.uint32)
    lines = replace(LINES, geometry=Geometry(channel, 1, run, 32 if run else 0))
    good = codec.encode(lines, tables)
    for bad in ([0], [37], [17, 18, 19, 20], list(range(len(LINES)))):
        starts, sizes = good.starts.copy(), good.bits.copy()
        starts[bad] = 8 * len(good.payload)
        sizes[bad] = bits
        whole = replace(good, payload=np.concatenate([good.payload, words]), starts=starts, bits=sizes)
        with pytest.raises(CorruptDataError) as caught:
            codec.decode(whole, tables)
        assert caught.value.line == bad[0]
        with pytest.raises(CorruptDataError):
            codec.decode_line(whole, bad[0], tables)


def codec_head(codec: LineCodec) -> int:
    """Most bits before a raw line."""
    return 2 if isinstance(codec, Window | Huffman) else 12
