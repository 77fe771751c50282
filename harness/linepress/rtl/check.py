"""One design against the Python codec on lines of files, bit for bit and error flag by error flag."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from linepress.rtl.vectors import corner_lines, damaged_vectors, joined, line_vectors
from linepress_codecs.contracts import LineCodec, Lines
from linepress_codecs.registry import make, parse_spec
from linepress_hardware.rtl.catalog import DECODER, Design
from linepress_hardware.rtl.simulate.run import simulate
from linepress_hardware.rtl.simulate.vectors import Outcome, Vectors

CORNER_SHARE = 50
"""One corner line of each of the four kinds for so many real lines, 16 at least."""


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


def vectors_for(design: Design, lines: Lines, damaged: int, seed: int) -> tuple[Vectors, Check]:
    """Vectors of ``lines`` under one set of tables, with corner lines, and for a decoder damaged ones; shuffled.

    Tables are fitted on the lines, zero lines and lines with zeros; noise and odd elements then meet tables that do
    not know them.
    """
    rng = np.random.default_rng(seed)
    codec = make(*parse_spec(design.codec))
    assert isinstance(codec, LineCodec)
    corner = corner_lines(lines, max(16, len(lines) // CORNER_SHARE), rng)
    every = replace(lines, data=np.concatenate([lines.data, corner.data]), channel=None)
    tables = codec.fit([every[: len(lines) + len(corner) // 2]])
    vectors = line_vectors(design, codec, tables, every, rng)
    whole = len(vectors)
    if design.kind == DECODER and damaged:
        vectors = joined([vectors, damaged_vectors(design, codec, tables, every, damaged, rng)])
    vectors = vectors.taken(rng.permutation(len(vectors)))
    nothing = Outcome("", 0, 0, 0, -1, 0, 0, 0.0, 0.0, 0.0)
    return vectors, Check(
        design.name,
        codec.spec,
        len(lines),
        len(corner),
        len(vectors) - whole,
        int(vectors.error.sum()),
        seed,
        nothing,
    )


def check(design: Design, lines: Lines, damaged: int, simulator: str, seed: int) -> Check:
    """Simulate ``design`` over ``lines`` and ``damaged`` damaged ones."""
    vectors, shown = vectors_for(design, lines, damaged, seed)
    return replace(shown, outcome=simulate(design, vectors, simulator))
