"""Casts are bit for bit what ml_dtypes gives, on every kind of binary32."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from linepress.sources import TensorRef, open_source
from linepress.sources.casts import (
    KIVI_GROUP,
    KIVI_RESIDUAL,
    CastError,
    cast_values,
    kivi_beside_bytes,
    kivi_codes,
    largest,
    to_float32,
)
from linepress.sources.snapshot.write import write_snapshot
from linepress.submission.fixtures import build

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


@pytest.mark.parametrize("stored", ["BF16", "F16"])
@pytest.mark.parametrize("spec", ["e4m3:scale=tensor", "e5m2:scale=none", "e4m3fnuz:scale=tensor"])
def test_a_large_tensor_of_16_bit_values_is_cast_alike(tmp_path: Path, stored: str, spec: str) -> None:
    """Its values are looked up; each that the format has is there."""
    rng = np.random.Generator(np.random.PCG64(2))
    bits = rng.permutation(np.tile(np.arange(1 << 16, dtype="<u2"), 2))
    path = tmp_path / "every.safetensors"
    path.write_bytes(build({"w": (stored, [256, 512], bits.tobytes())}))
    tensor = open_source(str(path)).tensors()[0].with_cast(spec)
    values = to_float32(bits.view(np.uint8), tensor.stored_format)
    scale, target = np.float32(1), spec.partition(":")[0]
    if spec.endswith("tensor"):
        scale = np.abs(values[np.isfinite(values)]).max() / np.float32(largest(target))
    assert np.array_equal(tensor.read(0, tensor.n_bytes), reference(values, scale, target))


def cache(path: Path, tokens: int = 200, dim: int = 64, **said: str) -> dict[str, TensorRef]:
    values = np.random.Generator(np.random.PCG64(3)).normal(0, 2, (2, 2, tokens, dim)).astype(np.float32)
    values[0, 0, 40] = values[1, 1, :, 5] = 0.5
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    names = ("key_cache_tensor_0", "value_cache_tensor_0")
    write_snapshot(path, {name: ("bf16", side) for name, side in zip(names, bits, strict=True)}, said)
    return {t.kind: t for t in open_source(str(path)).tensors()}


def one_group(values: list[float], bits: int) -> list[int]:
    """A group by the paper's formula, one value after the other; the scale in bf16, in which it is stored."""
    least = min(values)
    scale = float(np.float32((np.float32(max(values)) - np.float32(least)) / np.float32(2**bits - 1)).astype(
        ml_dtypes.bfloat16))  # fmt: skip
    return [0 if not scale else min(max(round((v - least) / scale), 0), 2**bits - 1) for v in values]


@pytest.mark.parametrize(("target", "bits"), [("int4", 4), ("int8", 8)])
@pytest.mark.parametrize("kind", ["key", "value"])
def test_kivi_by_the_papers_formula(tmp_path: Path, target: str, bits: int, kind: str) -> None:
    stored = cache(tmp_path / "s.safetensors")[kind]
    cast = stored.with_cast(f"{target}:scale=kivi")
    assert cast.shape == (2, 64, 64 * bits // 8)  # 200 tokens: the newest 136 stay, 64 are two groups
    assert cast.format.name == target
    raw = cast.read(0, cast.n_bytes)
    codes = np.stack([raw & 15, raw >> 4], 1).reshape(-1) if bits == 4 else raw ^ 128
    codes = codes.reshape(2, 64, 64)
    values = to_float32(stored.read(0, stored.n_bytes), "bf16").reshape(2, 200, 64)[:, :64]
    for head, first, other in ((0, 0, 0), (1, 32, 5), (1, 32, 40), (0, 32, 63)):
        if kind == "key":  # a channel of KIVI_GROUP tokens
            at = (head, slice(first, first + KIVI_GROUP), other)
        else:  # KIVI_GROUP channels of a token
            at = (head, other, slice(first, first + KIVI_GROUP))
        want = one_group([float(v) for v in values[at]], bits)
        assert np.abs(codes[at].astype(int) - want).max() <= 1  # binary64 against binary32 at ties
        assert (codes[at] == want).mean() > 0.9
    for start, end in ((0, 1), (1000, 3000), (len(raw) - 7, len(raw))):
        assert np.array_equal(cast.read(start, end), raw[start:end])
    assert kivi_beside_bytes(stored) == (2 * 64 * 64 // KIVI_GROUP * 4, 2 * 136 * 64 * 2)


def test_kivi_comes_within_half_a_step() -> None:
    values = np.random.Generator(np.random.PCG64(4)).normal(0, 3, (5, KIVI_GROUP, 64)).astype(np.float32)
    for kind in ("key", "value"):
        codes, scale, least = kivi_codes(values, kind, 8, "fp32")
        grouped = codes.reshape(values.shape if kind == "key" else (5, KIVI_GROUP, 2, KIVI_GROUP))
        back = (grouped * scale + least).reshape(values.shape)
        assert np.abs(back - values).max() <= 0.5001 * scale.max()
        assert codes.min() == 0
        assert codes.max() == 255


def test_what_kivi_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(CastError, match="more than 159 tokens"):
        cache(tmp_path / "a.safetensors", KIVI_RESIDUAL + KIVI_GROUP - 1)["key"].with_cast("int4:scale=kivi")
    with pytest.raises(CastError, match="multiple of 32"):
        cache(tmp_path / "b.safetensors", dim=48)["key"].with_cast("int8:scale=kivi")
    with pytest.raises(CastError, match="int4:scale=kivi"):
        cache(tmp_path / "c.safetensors")["key"].with_cast("int4:scale=tensor")
    np.save(tmp_path / "w.npy", np.zeros((4, 64), np.float16))
    with pytest.raises(CastError, match="no KV cache"):
        open_source(str(tmp_path / "w.npy")).tensors()[0].with_cast("int4:scale=kivi")
