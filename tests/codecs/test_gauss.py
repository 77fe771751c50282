"""`gauss`: the scale without a histogram, the frequencies of a normal distribution, tables nobody wrote."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from linepress_codecs.codecs.gauss import Gauss, GaussTables
from linepress_codecs.contracts import Lines
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import FORMATS
from linepress_codecs.layout import to_lines
from linepress_codecs.tans.kernels import FIRST


def normal(sigma: float, n: int = 1 << 16) -> Lines:
    values = np.random.Generator(np.random.PCG64(1)).normal(0, sigma, n).astype(np.float32)
    return to_lines((values.view(np.uint32) >> 16).astype(np.uint16), "row", FORMATS["bf16"])


@pytest.mark.parametrize("quarter", [-23, -22, 0, 5, 41])
def test_the_mean_exponent_tells_the_deviation(quarter: int) -> None:
    tables = Gauss().fit([normal(2.0 ** (quarter / 4))])
    assert isinstance(tables, GaussTables)
    assert tables.scale == quarter
    assert len(tables.to_bytes()) == 4


def test_frequencies_are_the_mass_of_each_octave() -> None:
    """Biased exponent v has the normal mass between 2^(v - 127) and its double; of 1,024, to half a unit."""
    tables = GaussTables(10, 8, 7, -20)
    mass = [
        math.erf(2.0 ** (v + 1 - 127 + 5) / math.sqrt(2)) - math.erf(2.0 ** (v - 127 + 5) / math.sqrt(2))
        for v in range(tables.first, tables.first + tables.frequency.shape[1] - FIRST)
    ]
    share = np.maximum(np.round(1024 * np.array(mass)), 1)
    assert tables.frequency.sum() == 1024
    largest = np.argsort(-share)[:4]
    rest = np.delete(np.arange(len(share)), largest)
    assert np.array_equal(tables.frequency[0, FIRST:][rest], share[rest])


@pytest.mark.parametrize(
    "data",
    [b"", bytes(5), struct.pack("<BBh", 8, 8, 0), struct.pack("<BBh", 1, 6, 0), struct.pack("<BBh", 8, 7, 600)],
)
def test_tables_no_encoder_wrote(data: bytes) -> None:
    with pytest.raises(CorruptDataError, match="gauss tables"):
        Gauss().tables_from_bytes(data)
