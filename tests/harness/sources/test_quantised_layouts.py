"""Quantised layouts with bytes as their tools write them: reader, element format, bound and losslessness of each."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from linepress.sources import TensorRef, open_source
from linepress.stages.measure.case import measure_case
from linepress.submission.fixtures import build
from linepress_codecs.variant import Variant

RNG = np.random.Generator(np.random.PCG64(23))
WEIGHT = RNG.normal(0, 0.02, (128, 256)).astype(np.float32)
GROUP = 32
E2M1 = ml_dtypes.float4_e2m1fn
Tensors = dict[str, tuple[str, list[int], bytes]]
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def opened(tmp_path: Path, tensors: Tensors) -> dict[str, TensorRef]:
    path = tmp_path / "model.safetensors"
    path.write_bytes(build(tensors))
    return {tensor.name: tensor for tensor in open_source(str(path)).tensors()}


def quantised(bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(levels [in, out], scales and zero points [groups, out]) of asymmetric quantisation in groups of inputs."""
    grouped = WEIGHT.reshape(-1, GROUP, WEIGHT.shape[1])
    low, high = grouped.min(1), grouped.max(1)
    scales = (high - low) / (2**bits - 1)
    zeros = np.rint(-low / scales)
    levels = np.clip(np.rint(grouped / scales[:, None] + zeros[:, None]), 0, 2**bits - 1)
    return levels.reshape(WEIGHT.shape).astype(np.uint32), scales.astype("<f2"), zeros.astype(np.uint32)


def packed(levels: np.ndarray, bits: int, axis: int, order: tuple[int, ...] | None = None) -> np.ndarray:
    """Integers of ``bits`` bits in I32 along ``axis``, lowest bits first, as AutoGPTQ and AutoAWQ pack them."""
    per = 32 // bits
    rows = np.moveaxis(levels, axis, -1).reshape(*np.moveaxis(levels, axis, -1).shape[:-1], -1, per)
    shifts = np.arange(per, dtype=np.uint32) * np.uint32(bits)
    taken = rows[..., list(order)] if order else rows
    words = np.bitwise_or.reduce(taken << shifts, axis=-1).astype("<u4")
    return np.ascontiguousarray(np.moveaxis(words, -1, axis))


def check(tensor: TensorRef, data: bytes, fmt: str, elements: int) -> None:
    """Read as stored, of this format, coded and decoded bit for bit, no smaller than its bound."""
    assert (tensor.format.name, tensor.n_elements) == (fmt, elements)
    assert tensor.read(0, tensor.n_bytes).tobytes() == data
    row = measure_case(tensor, Variant.parse("zstd:level=3:block=4KiB"), repeats=0)
    assert row["lossless"]
    for spec in ("huffman", "bpc"):
        variant = Variant.parse(spec)
        if not variant.line_codec.supports(tensor.format):
            continue
        row = measure_case(tensor, variant, repeats=0)
        assert row["lossless"]
        if spec == "huffman":
            assert row["bound_ratio"] >= 1
            assert 8 * row["raw_bytes"] / row["bound_ratio"] <= row["payload_bits"] * (1 + 1e-9)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("tool", ["gptq", "awq"])
def test_packed_integers_of_gptq_and_awq(tmp_path: Path, tool: str, bits: int) -> None:
    levels, scales, zeros = quantised(bits)
    order = AWQ_ORDER if tool == "awq" and bits == 4 else None
    words = packed(levels, bits, 0 if tool == "gptq" else 1, order)
    offsets = packed(zeros, bits, 1, order)
    found = opened(
        tmp_path,
        {
            "model.layers.0.mlp.up_proj.qweight": ("I32", list(words.shape), words.tobytes()),
            "model.layers.0.mlp.up_proj.qzeros": ("I32", list(offsets.shape), offsets.tobytes()),
            "model.layers.0.mlp.up_proj.scales": ("F16", list(scales.shape), scales.tobytes()),
        },
    )
    stem = "model.layers.0.mlp.up_proj."
    check(found[stem + "qweight"], words.tobytes(), f"int{bits}", levels.size)
    check(found[stem + "qzeros"], offsets.tobytes(), f"int{bits}", zeros.size)
    check(found[stem + "scales"], scales.tobytes(), "fp16", scales.size)
    assert {t.group for t in found.values()} == {"up_proj"}


def test_widths_that_do_not_fill_bytes_are_bytes(tmp_path: Path) -> None:
    data = bytes(range(128))
    found = opened(
        tmp_path,
        {
            "l.qweight": ("I32", [4, 8], data),
            "l.qzeros": ("I32", [1, 3], bytes(12)),
            "l.scales": ("F16", [1, 32], bytes(64)),
        },
    )
    assert found["l.qweight"].format.name == "uint8"
    assert found["l.qweight"].shape == (4, 32)
    assert "3-bit integers in I32" in found["l.qweight"].metadata["packed"]


def nibbles(values: np.ndarray) -> bytes:
    """E2M1 values two to a byte, the first in the low half."""
    codes = values.astype(E2M1).view(np.uint8).reshape(-1, 2)
    return (codes[:, 0] | (codes[:, 1] << 4)).astype(np.uint8).tobytes()


def test_mxfp4_blocks_and_scales(tmp_path: Path) -> None:
    groups = WEIGHT.reshape(128, -1, GROUP)
    exponent = np.floor(np.log2(np.abs(groups).max(2))) - 2  # OCP MX 1.0, 6.3: largest power of two less emax of E2M1
    payload = nibbles(groups / np.exp2(exponent)[..., None])
    scales = (exponent + 127).astype(np.uint8).tobytes()
    found = opened(
        tmp_path,
        {
            "model.layers.0.mlp.experts.down_proj_blocks": ("U8", [128, 8, 16], payload),
            "model.layers.0.mlp.experts.down_proj_scales": ("U8", [128, 8], scales),
        },
    )
    check(found["model.layers.0.mlp.experts.down_proj_blocks"], payload, "e2m1", WEIGHT.size)
    check(found["model.layers.0.mlp.experts.down_proj_scales"], scales, "e8m0", 128 * 8)


@pytest.mark.parametrize(
    ("weight", "factor"), [("weight", "weight_scale_2"), ("weight_packed", "weight_global_scale")]
)
def test_nvfp4_with_scales(tmp_path: Path, weight: str, factor: str) -> None:
    groups = WEIGHT.reshape(128, -1, 16)
    top = np.abs(groups).max(2)
    whole = np.float32(top.max() / (448 * 6))
    scales = (top / 6 / whole).astype(ml_dtypes.float8_e4m3fn)
    payload = nibbles(groups / (scales.astype(np.float32) * whole)[..., None])
    found = opened(
        tmp_path,
        {
            f"l.q_proj.{weight}": ("U8", [128, 128], payload),
            "l.q_proj.weight_scale": ("F8_E4M3", [128, 16], scales.tobytes()),
            f"l.q_proj.{factor}": ("F32", [1], np.array([whole], "<f4").tobytes()),
        },
    )
    check(found[f"l.q_proj.{weight}"], payload, "e2m1", WEIGHT.size)
    check(found["l.q_proj.weight_scale"], scales.tobytes(), "e4m3", 128 * 16)


@pytest.mark.parametrize(
    ("dtype", "fmt", "kind"),
    [
        ("F8_E4M3", "e4m3", ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", "e5m2", ml_dtypes.float8_e5m2),
        ("F8_E4M3FNUZ", "e4m3fnuz", ml_dtypes.float8_e4m3fnuz),
        ("F8_E5M2FNUZ", "e5m2fnuz", ml_dtypes.float8_e5m2fnuz),
    ],
)
def test_fp8_and_fnuz(tmp_path: Path, dtype: str, fmt: str, kind: type) -> None:
    data = (WEIGHT * 50).astype(kind).tobytes()
    found = opened(tmp_path, {"l.q_proj.weight": (dtype, [128, 256], data)})
    check(found["l.q_proj.weight"], data, fmt, WEIGHT.size)
