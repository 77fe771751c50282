"""The codes on every single error and, where they promise it, every double one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from linepress_hardware.channel.ecc import CLEAN, CODES, CORRECTED, DETECTED, SecDed, SymbolCode, code, secded_columns
from linepress_hardware.errors import ConfigurationError


def words(name: str, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    data = np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (n, CODES[name].data_bytes), dtype=np.uint8)
    return data, CODES[name].encode(data)


@pytest.mark.parametrize("name", CODES)
def test_clean_words_decode_to_themselves(name: str) -> None:
    data, coded = words(name, 500)
    decoded = CODES[name].decode(coded)
    assert (decoded.status == CLEAN).all()
    assert (decoded.syndrome == 0).all()
    assert np.array_equal(decoded.data, data)


def test_hsiao_columns_are_distinct_odd_and_balanced() -> None:
    columns = secded_columns()
    assert len(set(columns.tolist())) == 72
    weights = np.array([int(c).bit_count() for c in columns])
    assert (weights % 2 == 1).all()
    rows = np.array([(columns >> b & 1).sum() for b in range(8)])
    assert rows.tolist() == [27] * 8  # 216 ones, the least for 64 odd-weight data columns, spread evenly


def test_secded_corrects_every_single_bit_and_detects_every_double() -> None:
    data, coded = words("secded-72-64", 1)
    single = np.repeat(coded, 72, axis=0)
    for bit in range(72):
        single[bit, bit // 8] ^= np.uint8(1 << (bit % 8))
    decoded = SecDed().decode(single)
    assert (decoded.status == CORRECTED).all()
    assert (decoded.data == data).all()
    pairs = list(combinations(range(72), 2))
    double = np.repeat(coded, len(pairs), axis=0)
    for i, pair in enumerate(pairs):
        for bit in pair:
            double[i, bit // 8] ^= np.uint8(1 << (bit % 8))
    assert (SecDed().decode(double).status == DETECTED).all()


@pytest.mark.parametrize("name", ["rs-34-32", "rs-36-32"])
def test_symbol_codes_correct_every_single_symbol(name: str) -> None:
    data, coded = words(name, 1)
    n = coded.shape[1]
    bad = np.repeat(coded, n * 255, axis=0)
    for position in range(n):
        bad[position * 255 : (position + 1) * 255, position] ^= np.arange(1, 256, dtype=np.uint8)
    decoded = CODES[name].decode(bad)
    assert (decoded.status == CORRECTED).all()
    assert (decoded.data == data).all()


def test_four_check_symbols_detect_every_double_and_triple_tried() -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    chosen = CODES["rs-36-32"]
    _, coded = words("rs-36-32", 20_000, seed=2)
    for count in (2, 3):
        bad = coded.copy()
        for i in range(len(bad)):
            at = rng.choice(36, count, replace=False)
            bad[i, at] ^= rng.integers(1, 256, count, dtype=np.uint8)
        assert (chosen.decode(bad).status == DETECTED).all()


def test_two_check_symbols_cannot_promise_that() -> None:
    # Distance 3: some double errors look like a single one. The campaign counts them as miscorrected.
    rng = np.random.Generator(np.random.PCG64(5))
    data, coded = words("rs-34-32", 5000, seed=2)
    for i in range(len(coded)):
        at = rng.choice(34, 2, replace=False)
        coded[i, at] ^= rng.integers(1, 256, 2, dtype=np.uint8)
    decoded = CODES["rs-34-32"].decode(coded)
    wrong = (decoded.status == CORRECTED) & (decoded.data != data).any(axis=1)
    # A random syndrome pair is that of one of 34 places of 255 with probability 34 / 255.
    assert wrong.mean() == pytest.approx(34 / 255, abs=0.03)


def test_overheads_and_unknown_names() -> None:
    assert code("secded-72-64").overhead == 0.125
    assert code("rs-34-32").overhead == 0.0625
    assert SymbolCode("x", 64, 2).overhead == 1 / 32
    with pytest.raises(ConfigurationError, match="unknown error-correcting code 'none'"):
        code("none")
