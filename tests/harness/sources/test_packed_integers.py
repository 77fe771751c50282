"""Integers that quantisers pack into wide items, in every layout in wide use: width told, bound kept, loss none."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from linepress.errors import LinepressError
from linepress.sources import TensorRef, open_source
from linepress.sources.packed import narrower
from linepress.stages.measure.case import measure_case
from linepress.submission.fixtures import build
from linepress_codecs.bounds import held_against
from linepress_codecs.variant import Variant

RNG = np.random.Generator(np.random.PCG64(31))
OUT, IN = 64, 512
Tensors = dict[str, tuple[str, list[int], bytes]]
WEIGHT = RNG.normal(0, 0.02, (OUT, IN)).astype(np.float32)


def codes(bits: int, group: int) -> tuple[np.ndarray, np.ndarray]:
    """(codes [out, in] offset to be positive, scales [out, in / group]) of symmetric quantisation."""
    grouped = WEIGHT.reshape(OUT, -1, group)
    scales = np.abs(grouped).max(2) / (2 ** (bits - 1) - 0.5)
    levels = np.clip(np.rint(grouped / scales[..., None]), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return (levels + 2 ** (bits - 1)).reshape(OUT, IN).astype(np.uint64), scales.astype(np.float16)


def stream(values: np.ndarray, bits: int) -> np.ndarray:
    """Codes of a row one after the other from the lowest bit up, in little-endian words of 32 bits."""
    rows = []
    for row in values:
        flat = ((row[:, None] >> np.arange(bits, dtype=np.uint64)) & 1).astype(np.uint8).reshape(-1)
        flat = np.pad(flat, (0, -len(flat) % 32))
        rows.append(np.packbits(flat, bitorder="little").view("<u4"))
    return np.stack(rows)


def opened(folder: Path, tensors: Tensors) -> dict[str, TensorRef]:
    (folder / "model.safetensors").write_bytes(build(tensors))
    return {t.name: t for t in open_source(str(folder / "model.safetensors")).tensors()}


def no_codec_beats_its_bound(tensor: TensorRef, data: bytes) -> None:
    assert tensor.read(0, tensor.n_bytes).tobytes() == data
    for spec in ("zstd:level=3:block=4KiB", "huffman", "lz4:block=4KiB", "bpc"):
        variant = Variant.parse(spec)
        if variant.codec.kind == "line" and not variant.line_codec.supports(tensor.format):
            continue
        row = measure_case(tensor, variant, repeats=0)
        assert row["lossless"]
        assert row["bound_ratio"] is None or row["payload_ratio"] <= row["bound_ratio"] * (1 + 1e-9), spec


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_compressed_tensors(tmp_path: Path, bits: int) -> None:
    values, scales = codes(bits, 128)
    words = stream(values, bits)
    found = opened(
        tmp_path,
        {
            "l.up_proj.weight_packed": ("I32", list(words.shape), words.tobytes()),
            "l.up_proj.weight_scale": ("F16", list(scales.shape), scales.tobytes()),
            "l.up_proj.weight_shape": ("I64", [2], np.array([OUT, IN], "<i8").tobytes()),
        },
    )
    tensor = found["l.up_proj.weight_packed"]
    assert tensor.format.name == {4: "int4", 8: "int8"}.get(bits, "uint8")
    assert f"{bits}-bit integers in I32, width from weight_shape" in tensor.metadata["packed"]
    no_codec_beats_its_bound(tensor, words.tobytes())


def test_compressed_tensors_zero_points_and_rows_that_do_not_fill_words(tmp_path: Path) -> None:
    words = stream(RNG.integers(0, 16, (8, 30)).astype(np.uint64), 4)
    zeros = stream(RNG.integers(6, 10, (4, 8)).astype(np.uint64), 4).T.copy()
    found = opened(
        tmp_path,
        {
            "l.weight_packed": ("I32", list(words.shape), words.tobytes()),
            "l.weight_zero_point": ("I32", list(zeros.shape), zeros.tobytes()),
            "l.weight_scale": ("BF16", [8, 1], bytes(16)),
            "l.weight_shape": ("I64", [2], np.array([8, 30], "<i8").tobytes()),
        },
    )
    assert words.shape == (8, 4)
    assert {found[f"l.{name}"].format.name for name in ("weight_packed", "weight_zero_point")} == {"int4"}


@pytest.mark.parametrize(("bits", "group"), [(2, 32), (3, 64), (4, 32), (4, 64), (4, 128), (5, 64), (6, 64), (8, 64)])
@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_mlx_affine(tmp_path: Path, bits: int, group: int, kind: str) -> None:
    values, scales = codes(bits, group)
    words = stream(values, bits)
    cast = np.float16 if kind == "F16" else ml_dtypes.bfloat16
    biases = (-(2.0 ** (bits - 1)) * scales.astype(np.float32)).astype(cast)
    found = opened(
        tmp_path,
        {
            "l.up_proj.weight": ("U32", list(words.shape), words.tobytes()),
            "l.up_proj.scales": (kind, list(scales.shape), scales.astype(cast).tobytes()),
            "l.up_proj.biases": (kind, list(biases.shape), biases.tobytes()),
        },
    )
    tensor = found["l.up_proj.weight"]
    assert tensor.metadata["packed"].startswith(f"{bits}-bit integers in U32")
    no_codec_beats_its_bound(tensor, words.tobytes())


def test_mlx_width_that_the_configuration_states_wins(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantization": {"group_size": 64, "bits": 8}}))
    found = opened(
        tmp_path,
        {
            "l.weight": ("U32", [8, 128], bytes(4096)),
            "l.scales": ("F16", [8, 8], bytes(128)),
            "l.biases": ("F16", [8, 8], bytes(128)),
        },
    )
    assert found["l.weight"].metadata["packed"] == "8-bit integers in U32, width from quantization_config"


@pytest.mark.parametrize(
    ("columns", "weight", "scales"), [(64, "e2m1", "e8m0"), (32, "e2m1", "e4m3"), (128, "e4m3", "e8m0")]
)
def test_mlx_microscaled(tmp_path: Path, columns: int, weight: str, scales: str) -> None:
    data = RNG.integers(0, 256, 4 * 8 * columns).astype(np.uint8).tobytes()
    found = opened(
        tmp_path,
        {"l.weight": ("U32", [8, columns], data), "l.scales": ("U8", [8, 16], bytes(range(128)))},
    )
    assert (found["l.weight"].format.name, found["l.scales"].format.name) == (weight, scales)


@pytest.mark.parametrize("state", ["nf4", "fp4"])
def test_bitsandbytes(tmp_path: Path, state: str) -> None:
    values, _ = codes(4, 64)
    data = (values[:, ::2] << 4 | values[:, 1::2]).astype(np.uint8).tobytes()
    found = opened(
        tmp_path,
        {
            "l.q_proj.weight": ("U8", [len(data), 1], data),
            "l.q_proj.weight.absmax": ("U8", [OUT * IN // 64], bytes(OUT * IN // 64)),
            f"l.q_proj.weight.quant_state.bitsandbytes__{state}": ("U8", [2], b"{}"),
        },
    )
    assert found["l.q_proj.weight"].format.name == "int4"
    no_codec_beats_its_bound(found["l.q_proj.weight"], data)


@pytest.mark.parametrize(("bits", "dtype"), [(4, "U8"), (2, "U8"), (3, "I32"), (8, "U8")])
def test_hqq(tmp_path: Path, bits: int, dtype: str) -> None:
    values, _ = codes(bits, 64)
    if bits == 3:  # ten codes a word
        padded = np.pad(values.reshape(-1), (0, -values.size % 10)).reshape(10, -1)
        words = np.bitwise_or.reduce(padded << (27 - 3 * np.arange(10, dtype=np.uint64))[:, None]).astype("<u4")
    else:
        per = 8 // bits
        rows = values.reshape(per, -1)
        shifts = (bits * np.arange(per - 1, -1, -1)).astype(np.uint64)
        words = np.bitwise_or.reduce(rows << shifts[:, None]).astype(np.uint8)
    found = opened(
        tmp_path,
        {
            "l.q_proj.W_q": (dtype, [1, words.size], words.tobytes()),
            "l.q_proj.nbits": ("I64", [], np.array(bits, "<i8").tobytes()),
            "l.q_proj.scale": ("F16", [OUT * IN // 64, 1], bytes(OUT * IN // 32)),
        },
    )
    tensor = found["l.q_proj.W_q"]
    assert tensor.metadata["packed"] == f"{bits}-bit integers in {dtype}, width from nbits"
    no_codec_beats_its_bound(tensor, words.tobytes())


def test_torchao_and_marlin_and_exllama(tmp_path: Path) -> None:
    values, _ = codes(4, 128)
    words = stream(values, 4)
    raw = words.tobytes()
    found = opened(
        tmp_path,
        {
            "a.weight_qdata": ("I32", [OUT // 8, IN // 128, 32, 4], raw),
            "a.weight_scale_and_zero": ("BF16", [IN // 128, OUT, 2], bytes(IN // 128 * OUT * 4)),
            "m.B": ("I32", [IN // 16, OUT * 2], raw),
            "m.s": ("F16", [IN // 128, OUT], bytes(IN // 128 * OUT * 2)),
            "x.q_weight": ("I32", list(words.shape), raw),
            "x.q_scale": ("I32", [4, 8], bytes(128)),
        },
    )
    assert [found[n].format.name for n in ("a.weight_qdata", "m.B", "x.q_weight")] == ["int4", "int4", "uint8"]
    for name in ("a.weight_qdata", "m.B", "x.q_weight"):
        no_codec_beats_its_bound(found[name], raw)


@pytest.mark.parametrize(("bits", "fmt"), [(4, "int4"), (8, "int8")])
def test_packing_under_unknown_names_is_told_by_its_content(tmp_path: Path, bits: int, fmt: str) -> None:
    values, _ = codes(bits, 128)
    words = stream(values, bits)
    found = opened(tmp_path, {"l.secret_codes": ("I32", list(words.shape), words.tobytes())})
    assert found["l.secret_codes"].format.name == fmt
    assert "content" in found["l.secret_codes"].metadata["packed"]
    no_codec_beats_its_bound(found["l.secret_codes"], words.tobytes())


@pytest.mark.parametrize(
    "numbers",
    [
        np.arange(4096),
        np.arange(4096) // 128,
        RNG.integers(0, 32_000, 4096),
        RNG.integers(-3, 4, 4096),
        RNG.integers(0, 1 << 32, 4096, dtype=np.uint64),
        np.zeros(4096),
    ],
)
def test_integers_that_are_what_they_seem_stay(tmp_path: Path, numbers: np.ndarray) -> None:
    data = numbers.astype(np.int64).astype("<i4" if numbers.dtype.kind == "i" else "<u4").reshape(64, 64)
    found = opened(tmp_path, {"l.index": ("I32", [64, 64], data.tobytes())})
    assert found["l.index"].format.name == "int32"
    assert narrower(np.frombuffer(data.tobytes(), np.uint8), 4) is None
    no_codec_beats_its_bound(found["l.index"], data.tobytes())


def test_a_row_whose_codec_beats_its_bound_through_a_wrong_width_fails(tmp_path: Path) -> None:
    words = stream(codes(4, 128)[0], 4)
    np.save(tmp_path / "codes.npy", words.view("<i4"))
    (tensor,) = open_source(str(tmp_path / "codes.npy")).tensors()
    assert tensor.format.name == "int32"
    with pytest.raises(LinepressError, match=r"ratio of 1\.\d+ is above the bound 1\.0.*4-bit integers packed"):
        measure_case(tensor, Variant.parse("zstd:level=3:block=4KiB"), repeats=0)


def test_a_codec_beyond_every_class_is_held_against_none(tmp_path: Path) -> None:
    bits = np.repeat(RNG.integers(0, 1 << 16, (1, 2048)).astype("<u2"), 64, axis=0)
    found = opened(tmp_path, {"l.up_proj.weight": ("BF16", [64, 2048], bits.tobytes())})
    row = measure_case(found["l.up_proj.weight"], Variant.parse("zstd:level=3:block=64KiB"), repeats=0)
    assert row["payload_ratio"] > 5
    assert row["bound_name"] is None
    assert row["bound_ratio"] is None


def test_the_next_class_above_is_taken() -> None:
    ratios = {"own": 1.2, "more": 1.5, "most": 2.0}
    assert held_against("own", 1.2, ratios, 1.1) == ("own", 1.2)
    assert held_against("own", 1.2, ratios, 1.2 * (1 + 1e-12)) == ("own", 1.2)
    assert held_against("own", 1.2, ratios, 1.4) == ("more", 1.5)
    assert held_against("own", 1.2, ratios, 2.5)[0] == ""
