"""One design against the Python codec on lines of files, bit for bit and error flag by error flag."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np

from linepress.rtl.crafted import delta_lines
from linepress.rtl.placements import CODECS, placement_vectors
from linepress.rtl.vectors import corner_lines, damaged_vectors, line_vectors
from linepress_codecs.codecs.adaptive import Adaptive
from linepress_codecs.codecs.window import WindowTables
from linepress_codecs.contracts import NOWHERE, LineCodec, Lines, NoTables, Tables
from linepress_codecs.huffman.canonical import code_lengths
from linepress_codecs.huffman.tables import HuffmanTables
from linepress_codecs.registry import make, parse_spec
from linepress_codecs.tans.static import FINE_MANTISSA_BITS
from linepress_hardware.rtl.catalog import DECODER, Design
from linepress_hardware.rtl.simulate.run import simulate
from linepress_hardware.rtl.simulate.vectors import Outcome, Vectors

CORNER_SHARE, LESS = 50, 10
"""One corner line of each of the four kinds for so many real lines, 16 at least; lines under tables but the first."""
NOTHING = Outcome("", 0, 0, 0, -1, 0, 0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Check:
    """What was shown: ``real`` + ``corner`` undamaged lines and ``damaged`` ones, ``refused`` of them by Python."""

    design: str
    codec: str
    real: int
    corner: int
    damaged: int
    refused: int
    seed: int
    outcome: Outcome

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def table_sets(codec: LineCodec, lines: Lines, corner: Lines) -> list[Tables]:
    """Tables to run under: fitted with zero lines among the lines, fitted without, and odd ones.

    The odd ones are what no fit of real lines gives and a tensor's table bytes may say: tables of one element
    in both signs, for ``window`` a base so high that its last codes pass the largest exponent, for ``huffman`` codes
    of other lengths, for ``adaptive`` every field there is, fewer tables than the engine has, and none.
    """
    zeros = corner[: len(corner) // 2]
    whole = replace(lines, data=np.concatenate([lines.data, zeros.data]), geometry=NOWHERE)
    some = replace(whole, data=whole.data[whole.data.any(axis=1)])
    one = np.full((len(corner), some.format.elements_in(64)), some.data.view(some.format.storage).max())
    one[:, ::2] ^= one.dtype.type(1 << (some.format.bits - 1))
    same = replace(lines, data=one.view(np.uint8), geometry=NOWHERE)
    sets = [codec.fit([whole]), codec.fit([some]), codec.fit([same])]
    if isinstance(sets[0], NoTables):
        return sets[:1]
    if codec.codec_id == "window":
        sets.append(WindowTables((1 << lines.format.exponent_bits) - 3))
    if codec.codec_id == "adaptive":
        # Of lines of one sign the sign costs nothing in the field.
        sign = some.format.storage.type(1 << (some.format.bits - 1))
        positive = replace(some, data=(some.data.view(some.format.storage) & ~sign).view(np.uint8))
        sets.append(codec.fit([some[:1]]))
        for mantissa in range(FINE_MANTISSA_BITS + 1):
            one_field = replace(cast(Adaptive, codec), mantissa=mantissa, tables=mantissa + 1 & ~mantissa)
            sets += [one_field.fit([some]), one_field.fit([positive])]
    if codec.codec_id == "huffman":
        # Lengths of other shapes, over the same symbols.
        symbols = np.flatnonzero(cast(HuffmanTables, sets[0]).lengths[0])
        for skew in (0.3, 1.2):
            counts = np.zeros(256, np.int64)
            counts[symbols] = 1 + 1e6 / (1 + np.argsort(np.argsort(symbols * 37 % 101))) ** (2 * skew)
            sets.append(HuffmanTables(code_lengths(counts, 12)[None, :], zero_lines=True))
    return sets


def vector_sets(design: Design, lines: Lines, damaged: int, seed: int) -> tuple[list[Vectors], Check]:
    """Vectors of ``lines`` and corner lines, and for a decoder of damaged ones, shuffled: a set for each of
    `table_sets`, all lines in the first, `LESS` times fewer in the others."""
    rng = np.random.default_rng(seed)
    if design.packing:
        corner = corner_lines(lines, max(16, len(lines) // CORNER_SHARE), rng)
        every = replace(lines, data=np.concatenate([lines.data, corner.data]), geometry=NOWHERE)
        sets = placement_vectors(design, every, rng)
        n_real = len(CODECS) * len(lines)
        n_odd = sum(map(len, sets)) - n_real
        return sets, Check(design.name, design.packing, n_real, n_odd, 0, 0, seed, NOTHING)
    codec = make(*parse_spec(design.codec))
    assert isinstance(codec, LineCodec)
    corner = corner_lines(lines, max(16, len(lines) // CORNER_SHARE), rng)
    if codec.codec_id == "bdi":
        corner = replace(corner, data=np.concatenate([corner.data, delta_lines(len(corner), rng)]))
    sets = []
    shown = Check(design.name, codec.spec, 0, 0, 0, 0, seed, NOTHING)
    for i, tables in enumerate(table_sets(codec, lines, corner)):
        real = lines if i == 0 else _some(lines, len(lines) // LESS, rng)
        odd = corner if i == 0 else _some(corner, len(corner) // LESS, rng)
        every = replace(lines, data=np.concatenate([real.data, odd.data]), geometry=NOWHERE)
        vectors = line_vectors(design, codec, tables, every, rng)
        whole = len(vectors)
        if design.kind == DECODER and design.checks and damaged:
            n = damaged if i == 0 else damaged // LESS + 1
            vectors = vectors.joined(damaged_vectors(design, codec, tables, every, n, rng))
        sets.append(vectors.taken(rng.permutation(len(vectors))))
        shown = replace(
            shown, real=shown.real + len(real), corner=shown.corner + len(odd),
            damaged=shown.damaged + len(vectors) - whole, refused=shown.refused + int(vectors.error.sum()),
        )  # fmt: skip
    return sets, shown


def _some(lines: Lines, n: int, rng: np.random.Generator) -> Lines:
    return replace(lines, data=lines.data[rng.integers(0, len(lines), max(n, 1))], geometry=NOWHERE)


def check(design: Design, lines: Lines, damaged: int, simulator: str, seed: int) -> Check:
    """Simulate ``design`` over ``lines`` and ``damaged`` damaged ones."""
    sets, shown = vector_sets(design, lines, damaged, seed)
    return replace(shown, outcome=simulate(design, sets, simulator))
