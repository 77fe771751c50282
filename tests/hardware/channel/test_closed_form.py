"""Closed forms against counting by brute force and against figures of the literature."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linepress_hardware.channel import closed_form as cf
from linepress_hardware.errors import ConfigurationError

LINES = st.lists(st.integers(0, 64), min_size=1, max_size=60)


def placed(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    length = np.array(lengths, np.int32)
    return np.cumsum(length, dtype=np.int64) - length, length


@given(s=st.integers(1, 64), atom=st.sampled_from([16, 32, 64]))
def test_random_offset_is_the_mean_over_every_offset(s: int, atom: int) -> None:
    counted = np.mean([(offset + s - 1) // atom - offset // atom + 1 for offset in range(atom)])
    assert cf.atoms_random_offset(float(s), atom) == pytest.approx(counted)


def test_43_bytes_on_32_and_64_byte_atoms() -> None:
    assert float(cf.atoms_random_offset(43.0, 32)) == pytest.approx(2.3125)  # + 16 % over 2 raw atoms
    assert float(cf.atoms_random_offset(43.0, 64)) == pytest.approx(1.65625)  # + 66 % over 1
    assert float(cf.atoms_random_offset(0.0, 32)) == 0


@given(lengths=LINES, atom=st.sampled_from([8, 32, 64]))
def test_atoms_of_places_and_sequential_against_sets(lengths: list[int], atom: int) -> None:
    start, length = placed(lengths)
    touched = [
        set(range(s // atom, (s + n - 1) // atom + 1)) if n else set() for s, n in zip(start, length, strict=True)
    ]
    assert cf.atoms_of_places(start, length, atom).tolist() == [len(t) for t in touched]
    assert cf.atoms_sequential(start, length, atom) == len(set().union(*touched))


def test_sequential_atoms_do_not_depend_on_the_order_of_places() -> None:
    start, length = placed([40, 41, 42, 43, 5, 64])
    shuffled = np.array([3, 1, 5, 0, 2, 4])
    assert cf.atoms_sequential(start[shuffled], length[shuffled], 32) == cf.atoms_sequential(start, length, 32)


def test_metadata_hit_rate_is_the_reach_of_the_cache() -> None:
    assert cf.metadata_hit_rate_random(98304, 64, 4096, 1 << 30) == pytest.approx(1536 * 4096 / 2**30)
    assert cf.metadata_hit_rate_random(98304, 64, 4096, 1 << 20) == 1.0
    assert cf.metadata_hit_rate_random(0, 64, 4096, 1 << 20) == 0.0


def gains(**changed: float) -> cf.Gains:
    values: dict[str, float] = {
        "line_bytes": 64,
        "atom_bytes": 32,
        "sequential_atoms_per_line": 2.0,
        "random_atoms_per_line": 2.0,
        "metadata_atoms_per_page": 0.0,
        "lines_per_page": 64,
        "metadata_hit_rate": 1.0,
        "packed_bytes_per_line": 64.0,
        "plain_sequential_GBps": 40.0,
        "plain_random_GBps": 15.0,
        "ceiling_GBps": 76.8,
    }
    return cf.gains(**{**values, **changed})  # type: ignore[arg-type]


def test_gains_are_one_without_compression() -> None:
    found = gains()
    assert (found.sequential, found.random, found.mixed, found.capacity) == pytest.approx((1, 1, 1, 1))


def test_gains_count_atoms_and_metadata_and_respect_the_ceiling() -> None:
    found = gains(sequential_atoms_per_line=1.28, metadata_atoms_per_page=2.0, metadata_hit_rate=0.0)
    assert found.sequential == pytest.approx(2 / (1.28 + 2 / 64))
    assert found.random == pytest.approx(0.5)
    assert gains(sequential_atoms_per_line=0.5, ceiling_GBps=60.0).sequential == pytest.approx(1.5)


def test_random_gains_count_rows_where_rows_bind_the_plain_channel() -> None:
    # 2 ns a row, 64 B at 30 GB/s are 2.13 ns: rows bind. A line and its metadata open two.
    bound = {"plain_random_GBps": 30.0, "plain_sequential_GBps": 45.0, "row_ns": 2.0}
    rows = {"random_rows_per_line": 1.0, "metadata_rows_per_page": 1.0, "metadata_atoms_per_page": 2.0}
    assert gains(**bound, **rows, metadata_hit_rate=0.0).random == pytest.approx(0.5)
    # Straddled atoms of the same row are free until the wires are full: 5 atoms at what a stream reaches.
    assert gains(**bound, random_rows_per_line=1.0, random_atoms_per_line=2.9).random == pytest.approx(1.0)
    assert gains(**bound, random_rows_per_line=1.0, random_atoms_per_line=5.0).random == pytest.approx(2 / 5 * 1.5)
    # A plain channel that takes far longer than its rows is bound by something else: atoms.
    assert gains(**{**bound, "row_ns": 1.0}, random_atoms_per_line=2.5).random == pytest.approx(0.8)


def test_an_atom_of_no_bytes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="atom of 0 B"):
        cf.atoms_random_offset(3.0, 0)
    with pytest.raises(ConfigurationError, match="atom of 0 B"):
        cf.atoms_aligned(3.0, 0)
    assert cf.atoms_aligned(np.array([0.0, 1.0, 32.0, 33.0]), 32).tolist() == [0, 1, 1, 2]
