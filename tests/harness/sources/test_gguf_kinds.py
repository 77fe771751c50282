"""GGUF as it is met: split models, nested arrays, tensors without axes, new and unknown types, big-endian files.

What a file holds was checked against gguf-py 0.17's reader when these were written; its block sizes stand in `SIZES`.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from linepress.errors import SourceError
from linepress.sources import open_source
from linepress.sources.gguf.dequantise import DEQUANTISERS
from linepress.sources.gguf.ggml import TYPES, ggml_type
from linepress.stages.measure.case import measure_case
from linepress_codecs.variant import Variant
from linepress_kit.gguf_files import build_gguf, gguf_text

RNG = np.random.Generator(np.random.PCG64(5))
# gguf.GGML_QUANT_SIZES of the gguf package: elements and bytes of a block
SIZES = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
HALF = RNG.normal(0, 0.02, (4, 64)).astype("<f2")


def count(key: str, value: int, kind: int = 2) -> bytes:
    return gguf_text(key) + struct.pack("<I", kind) + struct.pack({2: "<H", 5: "<i", 4: "<I"}[kind], value)


def part(no: int, of: int, names: list[str], total: int = 4) -> bytes:
    keys = [count("split.no", no), count("split.count", of), count("split.tensors.count", total, 5)]
    return build_gguf([(n, [64, 4], 1, HALF.tobytes()) for n in names], keys=keys)


def split_model(folder: Path, stem: str = "m") -> list[Path]:
    folder.mkdir(exist_ok=True)
    held = [[], ["blk.0.attn_q.weight", "blk.0.attn_k.weight"], ["blk.1.attn_q.weight", "blk.1.attn_k.weight"]]
    paths = [folder / f"{stem}-{i + 1:05d}-of-00003.gguf" for i in range(3)]
    for i, path in enumerate(paths):
        path.write_bytes(part(i, 3, held[i]))
    return paths


def test_sizes_of_blocks_are_the_reference_s() -> None:
    assert {i: (kind.block_elements, kind.block_bytes) for i, kind in TYPES.items() if i != 42} == SIZES


def test_any_part_of_a_split_model_opens_the_whole(tmp_path: Path) -> None:
    for path in split_model(tmp_path / "m"):
        source = open_source(str(path))
        assert [t.name for t in source.tensors()] == [
            "blk.0.attn_q.weight",
            "blk.0.attn_k.weight",
            "blk.1.attn_q.weight",
            "blk.1.attn_k.weight",
        ]
        assert len(source.provenance()["files"]) == 3  # type: ignore[arg-type]
        assert source.tensors()[3].read(0, 512).tobytes() == HALF.tobytes()
    assert len(open_source(str(tmp_path / "m")).tensors()) == 4


def test_missing_parts_are_named(tmp_path: Path) -> None:
    paths = split_model(tmp_path / "m")
    paths[0].unlink()
    paths[2].unlink()
    for uri in (paths[1], tmp_path / "m"):
        with pytest.raises(
            SourceError, match=r"2 of the 3 parts of 'm' are missing \(m-00001-of-00003.gguf, m-00003"
        ):
            open_source(str(uri))


def test_parts_that_contradict_each_other(tmp_path: Path) -> None:
    paths = split_model(tmp_path / "a")
    shutil.copy(paths[1], paths[2])
    with pytest.raises(SourceError, match=r"is in m-00002-of-00003.gguf too"):
        open_source(str(paths[0]))
    paths[2].write_bytes(part(0, 3, ["blk.1.x"]))
    with pytest.raises(SourceError, match="says that it is part 1, its name says 3"):
        open_source(str(paths[0]))
    paths[2].write_bytes(part(2, 3, ["blk.1.x"]))
    with pytest.raises(SourceError, match="the model has 4 tensors, its parts hold 3"):
        open_source(str(paths[0]))
    lone = tmp_path / "renamed.gguf"
    lone.write_bytes(part(1, 3, ["x"]))
    with pytest.raises(SourceError, match=r"part 2 of the 3 parts .* NAME-00001-of-00003"):
        open_source(str(lone))
    (tmp_path / "b").mkdir()
    lone.rename(tmp_path / "b" / "renamed.gguf")
    with pytest.raises(SourceError, match="part 2 of the 3 parts"):
        open_source(str(tmp_path / "b"))


def test_a_folder_of_several_models_keeps_them_apart(tmp_path: Path) -> None:
    split_model(tmp_path)
    (tmp_path / "mmproj.gguf").write_bytes(build_gguf([("blk.0.attn_q.weight", [64, 4], 1, HALF.tobytes())]))
    names = [t.name for t in open_source(str(tmp_path)).tensors()]
    assert len(names) == len(set(names)) == 5
    assert "mmproj/blk.0.attn_q.weight" in names


def test_nested_arrays_and_tensors_without_axes(tmp_path: Path) -> None:
    numbers = struct.pack("<IQ", 4, 2) + struct.pack("<II", 7, 8)
    texts = struct.pack("<IQ", 8, 1) + gguf_text("a")
    nested = gguf_text("deep") + struct.pack("<IIQ", 9, 9, 2) + struct.pack("<IQ", 9, 2) + numbers + texts + texts
    (tmp_path / "m.gguf").write_bytes(
        build_gguf(
            [("scale", [], 0, struct.pack("<f", 1.5)), ("blk.0.w", [64, 4], 1, HALF.tobytes())],
            keys=[gguf_text("deep2") + struct.pack("<IIQ", 9, 9, 1) + numbers, nested],
        )
    )
    scalar, weight = open_source(str(tmp_path / "m.gguf")).tensors()
    assert scalar.shape == (1,)
    assert scalar.read(0, 4).view("<f4")[0] == 1.5
    assert weight.shape == (4, 64)


def test_an_unknown_type_is_skipped_and_said(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(
        build_gguf(
            [
                ("blk.0.a", [64, 4], 1, HALF.tobytes()),
                ("blk.0.b", [64, 4], 99, bytes(70)),
                ("blk.0.c", [64], 28, bytes(512)),
                ("blk.0.d", [64, 4], 1, HALF.tobytes()),
            ]
        )
    )
    source = open_source(str(tmp_path / "m.gguf"))
    assert [t.name for t in source.tensors()] == ["blk.0.a", "blk.0.d"]
    assert "unknown ggml type 99" in source.skipped()["blk.0.b"]
    assert "F64" in source.skipped()["blk.0.c"]
    assert source.tensors()[1].read(0, 512).tobytes() == HALF.tobytes()


@pytest.mark.parametrize(("elements", "block"), [(64, 18), (128, 34)])
def test_two_layouts_under_one_number_are_told_by_their_bytes(tmp_path: Path, elements: int, block: int) -> None:
    data = RNG.integers(0, 256, 16384 // elements * block).astype(np.uint8).tobytes()
    (tmp_path / "m.gguf").write_bytes(
        build_gguf([("blk.0.q", [256, 64], 42, data), ("blk.0.w", [64, 4], 1, HALF.tobytes())])
    )
    tensor = open_source(str(tmp_path / "m.gguf")).tensors()[0]
    assert tensor.read(0, tensor.n_bytes).tobytes() == data


@pytest.mark.parametrize("name", [*DEQUANTISERS, "Q8_1", "NVFP4", "Q1_0", "Q2_0"])
def test_every_block_type_splits_into_scales_and_quants(tmp_path: Path, name: str) -> None:
    kind = ggml_type(name)
    number = next(i for i, other in TYPES.items() if other is kind)
    blocks = RNG.integers(0, 256, (64, kind.block_bytes)).astype(np.uint8)
    path = tmp_path / "m.gguf"
    path.write_bytes(build_gguf([("blk.0.ffn_up.weight", [kind.block_elements * 16, 4], number, blocks.tobytes())]))
    scales, quants = open_source(f"{path}?split=true").tensors()
    assert (scales.name, quants.name) == ("blk.0.ffn_up.weight#scales", "blk.0.ffn_up.weight#quants")
    mask = np.zeros(kind.block_bytes, bool)
    for start, end in kind.scales:
        mask[start:end] = True
    assert scales.read(0, scales.n_bytes).tobytes() == blocks[:, mask].tobytes()
    assert quants.read(0, quants.n_bytes).tobytes() == blocks[:, ~mask].tobytes()
    for tensor in (scales, quants):
        assert measure_case(tensor, Variant.parse("huffman"), repeats=0)["lossless"]


def test_scales_alone_compress_as_half_floats(tmp_path: Path) -> None:
    scales = (np.abs(RNG.normal(0, 0.002, 8192)) + 0.006).astype("<f2")
    blocks = np.concatenate(
        [scales.view(np.uint8).reshape(-1, 2), RNG.integers(0, 256, (8192, 32)).astype(np.uint8)], axis=1
    )
    path = tmp_path / "m.gguf"
    path.write_bytes(build_gguf([("blk.0.ffn_up.weight", [4096, 64], 8, blocks.tobytes())]))
    first, _ = open_source(f"{path}?split=true").tensors()
    row = measure_case(first, Variant.parse("huffman"), repeats=0)
    assert first.format.name == "fp16"
    assert row["payload_ratio"] > 1.3


def test_big_endian_files_are_read_as_the_same_numbers(tmp_path: Path) -> None:
    """As gguf-py reads them: element formats in host order, blocks as they lie."""
    blocks = RNG.integers(0, 256, (8, 34)).astype(np.uint8)
    words = RNG.normal(size=64).astype("<f4")
    tensors = [
        ("blk.0.a", [64, 4], 1, HALF.astype(">f2").tobytes()),
        ("blk.0.b", [64], 0, words.astype(">f4").tobytes()),
        ("blk.0.c", [32, 8], 8, blocks.tobytes()),
        ("blk.0.d", [64], 24, bytes(range(64))),
    ]
    out = b"GGUF" + struct.pack(">IQQ", 3, len(tensors), 1)
    out += struct.pack(">Q", 12) + b"general.name" + struct.pack(">IQ", 8, 4) + b"tiny"
    body = b""
    for name, dims, kind, data in tensors:
        out += (
            struct.pack(">Q", len(name))
            + name.encode()
            + struct.pack(f">I{len(dims)}QIQ", len(dims), *dims, kind, len(body))
        )
        body += data + bytes(-len(data) % 32)
    path = tmp_path / "be.gguf"
    path.write_bytes(out + bytes(-len(out) % 32) + body)
    a, b, c, d = open_source(str(path)).tensors()
    assert a.read(0, a.n_bytes).tobytes() == HALF.tobytes()
    assert a.read(3, 9).tobytes() == HALF.tobytes()[3:9], "ranges need not start at an element"
    assert b.read(0, b.n_bytes).tobytes() == words.tobytes()
    assert c.read(0, c.n_bytes).tobytes() == blocks.tobytes()
    assert d.read(0, d.n_bytes).tobytes() == bytes(range(64))
    assert a.metadata["byte_order"] == "big-endian"
    scales = open_source(f"{path}?split=true").tensor("blk.0.c#scales")
    assert scales.read(0, scales.n_bytes).tobytes() == blocks[:, 1::-1].tobytes()
    with pytest.raises(SourceError):
        c.with_cast("dequant:bf16")
