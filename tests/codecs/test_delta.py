"""`delta`: lines against an older version of themselves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from linepress_codecs.codecs.delta import Delta
from linepress_codecs.contracts import Geometry, Lines
from linepress_codecs.delta.kernels import element_of, order_of
from linepress_codecs.delta.tables import DeltaTables
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import FORMATS
from linepress_codecs.layout import to_lines

from .test_context import bf16

BF16 = FORMATS["bf16"]


def against(new: np.ndarray, old: np.ndarray, line_bytes: int = 64) -> Lines:
    lines, base = (to_lines(bits, "row", BF16, line_bytes) for bits in (new, old))
    return replace(lines, geometry=replace(lines.geometry, base=base.data))


def weights(n: int = 64_000, seed: int = 1) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).normal(0, 0.02, n)


def payload_bits(lines: Lines, codec: Delta | None = None) -> float:
    """Bits an element."""
    codec = codec or Delta()
    return float(codec.measure(lines, codec.fit([lines])).sum()) / (lines.data.size / 2)


@pytest.mark.parametrize("floats", [True, False])
@pytest.mark.parametrize("width", [4, 8, 16, 32])
def test_the_order_of_elements_goes_both_ways(width: int, floats: bool) -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    values = {
        0,
        1,
        (1 << width) - 1,
        1 << (width - 1),
        (1 << (width - 1)) - 1,
        *rng.integers(0, 1 << width, 50).tolist(),
    }
    for u in values:
        place = int(order_of(np.uint64(u), np.uint64(width), floats))
        assert int(element_of(place, np.uint64(width), floats)) == u
    if floats and width == 16:
        ascending = np.sort(np.array([-3.5, -1.0, -0.0, 0.0, 1e-3, 2.0, 1e30]))
        places = [int(order_of(np.uint64(u), np.uint64(16), True)) for u in bf16(ascending).tolist()]
        assert places == sorted(places)
        assert len(set(places)) == len(places)


def test_differences_of_one_exponent_cost_their_entropy() -> None:
    """Base elements 1.0 … 1.5, differences uniform over seven steps: log2(7) bits and a flush of ten bits a line."""
    rng = np.random.Generator(np.random.PCG64(3))
    old = (0x3F80 + rng.integers(8, 56, 64_000)).astype("<u2")
    new = (old + rng.integers(-3, 4, old.shape)).astype("<u2")
    found = payload_bits(against(new, old))
    assert math.log2(7) < found < math.log2(7) + 11 / 32


@pytest.mark.parametrize(("update", "least"), [(1e-3, 9.5), (1e-1, 1.85)])
def test_a_small_update_is_small(update: float, least: float) -> None:
    """Noise of a share of the weights' own size: ratios as of the class bound less what a line's state costs."""
    old = weights()
    rng = np.random.Generator(np.random.PCG64(4))
    lines = against(bf16(old + rng.normal(0, 0.02 * update, old.shape)), bf16(old))
    codec = Delta()
    tables = codec.fit([lines])
    packed = codec.encode(lines, tables)
    assert np.array_equal(codec.decode(packed, tables), lines.data)
    bound = codec.class_bound(BF16, tables)
    assert bound is not None
    bound.add(lines, packed.bits)
    bits = packed.bits.sum() / (lines.data.size / 2)
    assert 16 / bits > least
    assert bits + 1 / 32 >= bound.bound().bits_per_value
    assert bits <= bound.bound().bits_per_value + 11 / 32


def test_an_unchanged_tensor_is_flags_and_a_new_one_is_raw() -> None:
    old = bf16(weights())
    same = against(old, old)
    assert (Delta().measure(same, Delta().fit([same])) == 4).all()
    rng = np.random.Generator(np.random.PCG64(5))
    other = against(rng.integers(0, 1 << 16, old.shape).astype("<u2"), old)
    assert payload_bits(other) < 16.5


def test_a_line_needs_its_own_base_only() -> None:
    old = weights()
    lines = against(bf16(old * 1.01), bf16(old))
    codec = Delta(streams=4)
    tables = codec.fit([lines])
    packed = codec.encode(lines, tables)
    assert packed.geometry.base is not None
    for i in (0, 5, len(lines) - 1):
        noise = np.full_like(packed.geometry.base, 0xA5)
        noise[i] = packed.geometry.base[i]
        alone = codec.decode_line(replace(packed, geometry=Geometry(base=noise)), i, tables)
        assert np.array_equal(alone, lines.data[i])


def test_without_a_base_it_is_still_lossless() -> None:
    lines = to_lines(bf16(weights()), "row", BF16)
    tables = Delta().fit([lines])
    assert np.array_equal(Delta().decode(Delta().encode(lines, tables), tables), lines.data)


def test_what_no_encoder_wrote_is_refused() -> None:
    old = weights(6400)
    lines = against(bf16(old * 1.001), bf16(old))
    tables = Delta().fit([lines])
    assert isinstance(tables, DeltaTables)
    packed = Delta().encode(lines, tables)
    assert packed.geometry.base is not None
    for base in (packed.geometry.base[:-1], packed.geometry.base[:, :32], packed.geometry.base.astype(np.uint16)):
        with pytest.raises(CorruptDataError, match="base lines"):
            Delta().decode(replace(packed, geometry=Geometry(base=base)), tables)
    low = tables.low.copy()
    low[0] = 16
    bent = DeltaTables(tables.width, tables.first, low, tables.frequency, tables.precision)
    with pytest.raises(CorruptDataError, match="none can have"):
        Delta().tables_from_bytes(bent.to_bytes())
