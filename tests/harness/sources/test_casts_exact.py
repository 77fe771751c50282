"""Casts are bit for bit what ml_dtypes gives, on every kind of binary32."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from linepress.sources.casts import cast_values, largest, to_float32

DTYPES = {
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
}


def reference(values: np.ndarray, scales: np.ndarray | np.float32, target: str) -> np.ndarray:
    top = np.float32(largest(target))
    with np.errstate(all="ignore"):
        return np.clip(values / scales, -top, top).astype(DTYPES[target]).view(np.uint8)


@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.parametrize("kind", ["any bits", "near the range", "ties", "bf16", "fp16"])
def test_a_cast_is_that_of_ml_dtypes(target: str, kind: str) -> None:
    rng = np.random.Generator(np.random.PCG64(7))
    bits = rng.integers(0, 1 << 32, 200_000, dtype=np.uint64).astype(np.uint32)
    exponent = rng.integers(100, 146, len(bits)).astype(np.uint32) << np.uint32(23)
    if kind == "near the range":
        bits = bits & 0x807FFFFF | exponent
    elif kind == "ties":  # a few upper bits of mantissa, and one far below
        bits = bits & 0x80780000 | exponent | rng.integers(0, 2, len(bits)).astype(np.uint32)
    values = bits.view(np.float32)
    if kind in ("bf16", "fp16"):
        values = to_float32(np.arange(1 << 16, dtype=np.uint32).astype("<u2").view(np.uint8), kind)
    each = (rng.random(len(values)) * 0.1 + 1e-3).astype(np.float32)
    for scales in (np.float32(1), np.float32(0.0371), np.float32(1e-38), each):
        assert np.array_equal(cast_values(values, scales, target), reference(values, scales, target))
