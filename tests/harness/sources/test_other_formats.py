"""GGUF, NumPy and files that are refused by what they hold."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from linepress.errors import SourceError
from linepress.sources import open_source
from linepress.submission.fixtures import build
from linepress_kit.gguf_files import build_gguf as gguf
from linepress_kit.gguf_files import gguf_text as text

RNG = np.random.Generator(np.random.PCG64(5))


def write(tmp_path: Path, data: bytes, name: str) -> str:
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


F16 = RNG.standard_normal(64).astype(np.float16).tobytes()
Q8 = RNG.integers(0, 256, 4 * 34, dtype=np.uint8).tobytes()
Q6K = RNG.integers(0, 256, 2 * 210, dtype=np.uint8).tobytes()
MXFP4 = RNG.integers(0, 256, 2 * 17, dtype=np.uint8).tobytes()


def test_gguf_tensors_are_read_as_they_lie(tmp_path: Path) -> None:
    keys = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.block_count") + struct.pack("<II", 4, 2),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bb"),
        text("tokenizer.ggml.scores") + struct.pack("<IIQ2f", 9, 6, 2, 0.5, 1.5),
    ]
    data = gguf(
        [
            ("token_embd.weight", [32, 2], 1, F16),
            ("blk.3.attn_q.weight", [64, 2], 8, Q8),
            ("blk.3.ffn_down.weight", [256, 2], 14, Q6K),
        ],
        keys=keys,
    )
    source = open_source(write(tmp_path, data, "model.bin"))  # told by content, not by suffix
    found = {t.name: t for t in source.tensors()}
    embed, q, down = found["token_embd.weight"], found["blk.3.attn_q.weight"], found["blk.3.ffn_down.weight"]
    assert (embed.format.name, embed.shape, embed.group) == ("fp16", (2, 32), "embed")
    assert embed.read(0, 128).tobytes() == F16
    assert (q.format.name, q.shape, q.group, q.layer) == ("uint8", (2, 68), "q_proj", 3)
    assert q.read(0, len(Q8)).tobytes() == Q8
    assert (down.metadata["ggml_type"], down.read(3, 400).tobytes()) == ("Q6_K", Q6K[3:400])
    assert q.metadata["general.architecture"] == "llama"


@pytest.mark.parametrize(
    ("kind", "dims", "data", "block", "scales", "formats"),
    [
        (8, [64, 2], Q8, 34, [(0, 2)], ("fp16", "int8")),
        (14, [256, 2], Q6K, 210, [(192, 210)], ("uint8", "uint8")),
        (39, [32, 2], MXFP4, 17, [(0, 1)], ("e8m0", "e2m1")),
    ],
)
def test_gguf_scales_and_quants_apart_are_the_same_bytes(
    tmp_path: Path,
    kind: int,
    dims: list[int],
    data: bytes,
    block: int,
    scales: list[tuple[int, int]],
    formats: tuple[str, str],
) -> None:
    uri = write(tmp_path, gguf([("blk.0.ffn_up.weight", dims, kind, data)]), "m.gguf")
    apart = open_source(uri, split=True).tensors()
    assert [t.name.split("#")[1] for t in apart] == ["scales", "quants"]
    assert tuple(t.format.name for t in apart) == formats
    blocks = np.frombuffer(data, np.uint8).reshape(-1, block)
    is_scale = np.zeros(block, bool)
    for start, end in scales:
        is_scale[start:end] = True
    for tensor, mask in zip(apart, (is_scale, ~is_scale), strict=True):
        expected = blocks[:, mask].tobytes()
        assert tensor.read(0, tensor.n_bytes).tobytes() == expected
        assert tensor.read(1, tensor.n_bytes - 1).tobytes() == expected[1:-1], "ranges need not start at a block"
    assert sum(t.n_bytes for t in apart) == len(data)


ONE = [("w", [32, 2], 1, F16)]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (gguf(ONE)[:20], "truncated"),
        (gguf(ONE)[:-40], "past the end"),
        (gguf(ONE, version=1), "version 1 is not read"),
        (gguf(ONE, version=1 << 24), "version 1 is not read"),
        (gguf(ONE, counts=(1 << 40, 0)), "claims 1099511627776 tensors"),
        (gguf(ONE, counts=(1, 1 << 40)), "claims 1 tensors and"),
        (gguf(ONE, counts=(9, 1)), "unprintable name"),
        (gguf([("w", [33, 2], 8, Q8)]), "not whole Q8_0 blocks"),
        (gguf([("w", [2**40, 2**40], 1, F16)]), "larger than any file"),
        (gguf([("w", [1] * 5, 1, F16)]), "5 axes"),
        (gguf([*ONE, *ONE]), "'w' stands twice"),
        (gguf([*ONE, ("v", [32, 2], 1, F16)], offsets=[0, 32]), "over another"),
        (gguf(ONE, offsets=[8]), "misaligned"),
        (gguf(ONE, keys=[text("k") + struct.pack("<I", 77)]), "unknown type 77"),
        (
            gguf(ONE, keys=[text("k") + struct.pack("<IIQ", 9, 8, 1 << 60)]),
            "claims 1152921504606846976 items of type 8",
        ),
        (gguf(ONE, keys=[text("k") + struct.pack("<IIQ", 9, 9, 1 << 60)]), "items of type 9"),
        (gguf(ONE, keys=[text("k") + struct.pack("<IIQ", 9, 77, 1)]), "unknown type 77"),
        (gguf(ONE, keys=[text("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 9]), "nested 8 deep"),
        (gguf(ONE, keys=[text("k") + struct.pack("<IIQ", 9, 0, 1 << 60)]), "truncated or lying"),
        (gguf(ONE, keys=[struct.pack("<Q", 1 << 60)]), "text of"),
        (gguf(ONE, keys=[text("general.alignment") + struct.pack("<II", 4, 3)]), "not a multiple of 8"),
    ],
)
def test_lying_gguf_is_one_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence) as caught:
        open_source(write(tmp_path, data, "m.gguf"))
    assert "\n" not in str(caught.value)


def test_every_truncation_of_a_gguf_is_refused(tmp_path: Path) -> None:
    data = gguf(ONE)
    for n in range(1, len(data)):
        with pytest.raises(SourceError):
            open_source(write(tmp_path, data[:n], "m.gguf"))


# ------------------------------------------------------------------------------------------------ NumPy


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "i1", "u1", "<i4"])
def test_npy_is_read_as_stored(tmp_path: Path, dtype: str) -> None:
    array = RNG.integers(-100, 100, (7, 5)).astype(dtype)
    np.save(tmp_path / "layers.2.mlp.up_proj.npy", array)
    tensor = open_source(str(tmp_path / "layers.2.mlp.up_proj.npy")).tensors()[0]
    assert (tensor.shape, tensor.group, tensor.layer) == ((7, 5), "up_proj", 2)
    assert tensor.read(0, tensor.n_bytes).tobytes() == array.tobytes()


def test_npy_bf16_needs_its_format_said(tmp_path: Path) -> None:
    array = RNG.standard_normal((4, 4)).astype(ml_dtypes.bfloat16)
    np.save(tmp_path / "x.npy", array.view(np.uint16))
    assert open_source(str(tmp_path / "x.npy")).tensors()[0].format.name == "int16"
    tensor = open_source(str(tmp_path / "x.npy"), dtype="bf16").tensors()[0]
    assert (tensor.format.name, tensor.read(0, 32).tobytes()) == ("bf16", array.tobytes())
    with pytest.raises(SourceError, match="cannot be read as 'e4m3'"):
        open_source(str(tmp_path / "x.npy"), dtype="e4m3")


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.array([{"a": 1}], dtype=object), "Python objects"),
        (np.zeros(4, ">f4"), r"big-endian \(>f4\); save it with array\.astype\('<f4'\)"),
        (np.zeros(4, "<f8"), "no element format covers"),
        (np.asfortranarray(np.zeros((4, 5), "<f4")), "Fortran order"),
        (np.zeros(4, [("a", "<f4")]), "structured records"),
        (np.zeros(4, "V2"), "opaque"),
    ],
)
def test_npy_that_cannot_be_read_says_why(tmp_path: Path, array: np.ndarray, sentence: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(SourceError, match=sentence):
        open_source(str(tmp_path / "x.npy"))


def test_truncated_and_lying_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 4), "<f4"))
    data = (tmp_path / "x.npy").read_bytes()
    for n in range(8, len(data), 7):
        with pytest.raises(SourceError):
            open_source(write(tmp_path, data[:n], "y.npy"))
    with pytest.raises(SourceError, match=r"needs .* B but the file has"):
        open_source(write(tmp_path, data.replace(b"(4, 4)", b"(4, 9)"), "y.npy"))
    with pytest.raises(SourceError, match="impossible shape"):
        open_source(write(tmp_path, data.replace(b"(4, 4), ", b"(4, -4),"), "y.npy"))
    with pytest.raises(SourceError, match=r"not that of a \.npy file"):
        open_source(write(tmp_path, data.replace(b"(4, 4), ", b"exit(), "), "y.npy"))


# ------------------------------------------------------------------------------------------------ refused by content


def test_pickles_are_refused_by_content_with_the_conversion(tmp_path: Path) -> None:
    for protocol in range(2, 6):
        uri = write(tmp_path, pickle.dumps({"w": [1, 2]}, protocol), "model.safetensors")
        with pytest.raises(SourceError, match=r"is a pickle, which is never loaded; convert it first: python -c "):
            open_source(uri)
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(SourceError, match=r"PyTorch checkpoint .* never loaded; convert it first"):
        open_source(str(tmp_path / "pytorch_model.bin"))
    with pytest.raises(SourceError, match="is a pickle"):
        open_source(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="PyTorch checkpoint"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "Git LFS pointer"),
        (b"\x7fELF" + bytes(100), "program"),
        (b"#!/bin/sh\n" + bytes(100), "script"),
        (b"\x1f\x8b" + bytes(100), "gzip"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
        (b"not a checkpoint at all, but text of some length", "is not safetensors, GGUF or NumPy"),
    ],
)
def test_other_content_is_named(tmp_path: Path, data: bytes, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        open_source(write(tmp_path, data, "model.pt"))


def test_a_header_length_that_reads_as_pickle_opcodes_is_still_safetensors(tmp_path: Path) -> None:
    """640 = 80 02: the length field of a true file may look like a pickle's first bytes."""
    for pad in range(8, 700, 8):
        data = build({"w": ("BF16", [2], b"abcd")}, metadata={"pad": "x" * pad})
        if data[:2] == b"\x80\x02":
            break
    assert data[:2] == b"\x80\x02"
    assert open_source(write(tmp_path, data, "w.safetensors")).tensors()[0].read(0, 4).tobytes() == b"abcd"


def test_a_uri_carries_its_options_into_a_suite(tmp_path: Path) -> None:
    from linepress.run.plan import make_plan
    from linepress.suite.model import load_suite

    write(tmp_path, gguf([("blk.0.ffn_up.weight", [64, 2], 8, Q8)]), "m.gguf")
    np.save(tmp_path / "x.npy", np.full((4, 64), 0x3F80, np.uint16))
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nversion: 1\nsources:\n  - uri: m.gguf?split=true\n  - uri: x.npy?dtype=bf16\ncodecs: [raw]\n"
    )
    plan = make_plan(load_suite(str(tmp_path / "mine.yaml")))
    assert [(t.name, t.format.name) for t in plan.tensors] == [
        ("blk.0.ffn_up.weight#scales", "fp16"),
        ("blk.0.ffn_up.weight#quants", "int8"),
        ("x", "bf16"),
    ]
    assert open_source(plan.tensors[2].uri).tensors() == plan.tensors[2:], "a record's source opens again"
    asking = write(tmp_path, build({"w": ("BF16", [2], b"abcd")}), "what?split=true")
    assert open_source(asking).tensors()[0].name == "w", "a file of that very name is meant"
    odd = write(tmp_path, gguf([("blk.0.ffn_up.weight", [64, 2], 8, Q8)]), "what?.gguf")
    assert len(open_source(odd).tensors()) == 1
    assert len(open_source(f"{odd}?split=true").tensors()) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("split", "options are key=value"),
        ("split=true&split=true", "each once"),
        ("split=yes", r"split is true or false, not 'yes'; for example \?split=true"),
        ("local=true", "has no option 'local': it takes split"),
        ("torch=1", "has no option 'torch'"),
    ],
)
def test_options_that_mean_nothing_are_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    uri = write(tmp_path, gguf(ONE), "m.gguf")
    with pytest.raises(SourceError, match=sentence):
        open_source(f"{uri}?{text}")


def test_options_and_schemes_that_do_not_exist(tmp_path: Path) -> None:
    uri = write(tmp_path, build({"w": ("BF16", [2], b"abcd")}), "w.safetensors")
    with pytest.raises(SourceError, match="has no option 'split': it takes none"):
        open_source(uri, split=True)
    with pytest.raises(SourceError, match="no such kind of source; use a path, hf://"):
        open_source("s3://bucket/model")
