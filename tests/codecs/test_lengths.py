"""`dual` and `quad`: the published code lengths, the areas' search, damaged tables."""

from __future__ import annotations

import numpy as np
import pytest

from linepress_codecs.codecs.lengths import AreaTables, Dual, Quad
from linepress_codecs.contracts import Lines
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import FORMATS
from linepress_codecs.layout import to_lines
from linepress_codecs.testing import gaussian_bits


def bytes_of(values: np.ndarray) -> Lines:
    return Lines(values.astype(np.uint8).reshape(-1, 64), FORMATS["uint8"])


def test_dual_lengths_are_four_and_nine() -> None:
    """Bytes 0 to 7 half of the time: 1 + 64 * (4 + 9) / 2 bits on average, as arXiv:2602.17849v1 counts them."""
    rng = np.random.Generator(np.random.PCG64(1))
    common = rng.random(64_000) < 0.5
    lines = bytes_of(np.where(common, rng.integers(0, 8, 64_000), rng.integers(8, 256, 64_000)))
    tables = Dual().fit([lines])
    assert isinstance(tables, AreaTables)
    assert sorted(tables.symbols.tolist()) == list(range(8))
    assert len(tables.to_bytes()) == 2 + 8
    expected = 1 + np.where(lines.data < 8, 4, 9).sum(axis=1)
    expected = np.where(expected < 512, expected, 514)
    assert np.array_equal(Dual().measure(lines, tables), expected)


def test_quad_has_eight_areas_of_at_most_four_lengths_and_the_cheapest() -> None:
    lines = to_lines(gaussian_bits(FORMATS["e4m3"], 64_000, 0.02, 1), "row", FORMATS["e4m3"])
    tables = Quad().fit([lines])
    assert isinstance(tables, AreaTables)
    assert len(tables.widths) == 8
    assert len(set(tables.widths)) <= 4
    assert sum(1 << k for k in tables.widths) >= 256
    best = Quad().measure(lines, tables).sum()
    for widths in ((5,) * 8, (3, 4, 5, 5, 5, 5, 5, 7), (4, 4, 4, 5, 5, 6, 6, 6)):
        assert best <= Quad().measure(lines, AreaTables(widths, tables.symbols)).sum()


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        (Dual(), bytes([3, 8]) + bytes(7)),
        (Dual(), bytes([3, 8]) + bytes(8)),
        (Dual(), bytes([2, 8]) + bytes(range(8))),
        (Quad(), bytes([5] * 7 + [4]) + bytes(range(256))),
        (Quad(), bytes([4] * 8) + bytes(range(256))),
        (Quad(), bytes([5] * 7 + [9]) + bytes(range(256))),
        (Quad(), b""),
    ],
)
def test_tables_no_encoder_wrote(codec: Dual | Quad, data: bytes) -> None:
    with pytest.raises(CorruptDataError, match="areas or symbols"):
        codec.tables_from_bytes(data)
