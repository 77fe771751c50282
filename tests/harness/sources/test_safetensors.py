"""Safetensors by own reader: what is read agrees with the library; every lying header is one clear sentence."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from linepress.errors import EXIT_NOTHING_MEASURED, SourceError
from linepress.sources import open_source
from linepress.sources.safetensors.header import SafetensorsError, parse_header
from linepress.submission.fixtures import build, header_of
from linepress.submission.fixtures import safetensors_bytes as pack

X = {"dtype": "BF16", "shape": [4, 4], "data_offsets": [0, 32]}
BODY = bytes(range(32))


def write(tmp_path: Path, data: bytes, name: str = "x.safetensors") -> str:
    path = tmp_path / name
    path.write_bytes(data)
    return str(path)


def entry(**changes: Any) -> dict[str, Any]:
    return {**X, **changes}


# ------------------------------------------------------------------------------------------------ what is read


def test_bytes_are_those_the_library_gives(tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    arrays = {
        "a": rng.standard_normal((33, 7)).astype(np.float32),
        "b": rng.standard_normal((5, 4, 3)).astype(np.float16),
        "c": rng.standard_normal(100).astype(ml_dtypes.bfloat16),
        "d": rng.integers(-128, 128, (9, 9), dtype=np.int8),
        "e": rng.standard_normal((8, 8)).astype(ml_dtypes.float8_e4m3fn),
    }
    path = tmp_path / "x.safetensors"
    save_file(arrays, path, metadata={"made": "here"})
    source = open_source(str(path))
    formats = {t.name: t.format.name for t in source.tensors()}
    assert formats == {"a": "fp32", "b": "fp16", "c": "bf16", "d": "int8", "e": "e4m3"}
    for tensor in source.tensors():
        array = arrays[tensor.name]
        assert tensor.shape == array.shape
        assert tensor.read(0, tensor.n_bytes).tobytes() == array.tobytes()
        assert tensor.content_sha256() == hashlib.sha256(array.tobytes()).hexdigest()
        assert tensor.metadata == {"made": "here"}
    assert source.revision.startswith("sha256:")


def test_no_more_than_the_asked_range_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = write(tmp_path, build({"w": ("BF16", [1000, 1000], bytes(2_000_000))}))
    tensor = open_source(uri).tensors()[0]
    asked: list[int] = []
    real = os.preadv

    def counting(fd: int, buffers: Any, offset: int) -> int:
        asked.append(sum(len(b) for b in buffers))
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", counting)
    open_source(uri)
    assert sum(asked) < 1000, "opening reads the header only"
    asked.clear()
    tensor.read(500, 564)
    assert sum(asked) == 64


def test_formats_without_an_element_format_are_listed_as_skipped(tmp_path: Path) -> None:
    data = build(
        {"ids": ("I64", [2], bytes(16)), "w": ("BF16", [4, 4], BODY), "none": ("BF16", [0, 4], b"")},
    )
    source = open_source(write(tmp_path, data))
    assert [t.name for t in source.tensors()] == ["w"]
    assert source.skipped() == {
        "ids": "dtype I64 has no element format",
        "none": "empty (shape [0, 4])",
    }


def test_packed_four_bit_layouts_are_told_by_their_names(tmp_path: Path) -> None:
    data = build(
        {
            "l.qweight": ("I32", [2, 4], bytes(32)),
            "m.experts_blocks": ("U8", [2, 16], bytes(32)),
            "m.experts_scales": ("U8", [2, 1], bytes(2)),
            "n.weight": ("U8", [2, 8], bytes(16)),
            "n.weight_scale": ("F8_E4M3", [2, 1], bytes(2)),
            "n.weight_scale_2": ("F32", [1], bytes(4)),
            "plain.weight": ("U8", [2, 8], bytes(16)),
        }
    )
    found = {t.name: (t.format.name, t.n_elements) for t in open_source(write(tmp_path, data)).tensors()}
    assert found == {
        "l.qweight": ("int4", 64),
        "m.experts_blocks": ("e2m1", 64),
        "m.experts_scales": ("e8m0", 2),
        "n.weight": ("e2m1", 32),
        "n.weight_scale": ("e4m3", 2),
        "n.weight_scale_2": ("fp32", 1),
        "plain.weight": ("uint8", 16),
    }


def test_offsets_out_of_header_order_are_legal(tmp_path: Path) -> None:
    header = header_of({"b": entry(data_offsets=[32, 64]), "a": entry()})
    tensors = open_source(write(tmp_path, pack(header, BODY + BODY[::-1]))).tensors()
    assert [t.name for t in tensors] == ["a", "b"], "in stored order"
    assert tensors[1].read(0, 32).tobytes() == BODY[::-1]


def test_parts_in_every_layout_are_the_lines_of_the_whole(tmp_path: Path) -> None:
    from linepress_codecs.layout import to_lines

    rng = np.random.Generator(np.random.PCG64(3))
    array = rng.integers(0, 2**16, (3, 100, 24), dtype=np.uint16)
    uri = write(
        tmp_path,
        build(
            {
                "key_cache_tensor_0": ("BF16", [3, 100, 24], array.tobytes()),
                "value_cache_tensor_0": ("BF16", [3, 100, 24], array.tobytes()),
            }
        ),
    )
    tensor = open_source(uri).tensors()[0]
    for layout in ("row", "output", "channel", "paged-vllm", "paged-vllm-v", "paged-hf"):
        whole = to_lines(array, layout, tensor.format)
        for chunk_bytes in (64, 1000, 5000, 1 << 20):
            parts = list(tensor.lines(chunk_bytes, layout))
            assert np.array_equal(np.concatenate([p.data for p in parts]), whole.data), (layout, chunk_bytes)
            if whole.geometry.channel is not None:
                ids = [p.geometry.channel for p in parts if p.geometry.channel is not None]
                assert np.array_equal(np.concatenate(ids), whole.geometry.channel)


# ------------------------------------------------------------------------------------------------ lying headers

HEADER = header_of({"x": X})
BIG = 2**62

LIES: list[tuple[str, bytes, str]] = [
    ("HeaderTooSmall", b"", "is empty"),
    ("HeaderTooSmall", b"\0\0\0", "has 3 B"),
    ("HeaderTooLarge", pack(HEADER, BODY, length=100_000_001), "over the limit of 100000000 B"),
    ("InvalidHeaderLength", pack(HEADER, BODY, length=5000), "truncated or not safetensors"),
    ("InvalidHeaderLength", pack(HEADER)[:-1], "truncated"),
    ("InvalidHeaderStart", pack(b" " + HEADER[:-1], BODY), "does not begin with"),
    ("InvalidHeaderStart", pack(b"[]      ", BODY), "does not begin with"),
    ("InvalidHeaderPadding", pack(HEADER[:-1] + b"\n", BODY), "padded with spaces"),
    ("InvalidHeaderPadding", pack(HEADER.rstrip() + b"\0", BODY), "padded with spaces"),
    ("InvalidHeaderDeserialization", pack(b'{"x": }', BODY), "not valid JSON"),
    ("InvalidHeaderDeserialization", pack(b'{"\xff": 1}', BODY), "not UTF-8"),
    ("InvalidHeaderDeserialization", pack(b'{"a":' * 5000 + b"1" + b"}" * 5000, BODY), "nested too deeply"),
    ("InvalidHeaderDeserialization", pack(HEADER.rstrip()[:-1] + b"," + HEADER.rstrip()[1:], BODY), "stands twice"),
    (
        "InvalidHeaderDeserialization",
        pack(b'{"x":{"dtype":"BF16","dtype":"F16","shape":[4,4],"data_offsets":[0,32]}}', BODY),
        "'dtype' stands twice",
    ),
    (
        "InvalidHeaderDeserialization",
        pack(b'{"x":{"dtype":"BF16","shape":[NaN],"data_offsets":[0,2]}}', b"ab"),
        "NaN",
    ),
    ("InvalidMetadata", pack(header_of({"__metadata__": None, "x": X}), BODY), "text to text"),
    ("InvalidMetadata", pack(header_of({"__metadata__": {"a": 1}, "x": X}), BODY), "text to text"),
    ("InvalidName", pack(header_of({"": X}), BODY), "1 to 512 printable"),
    ("InvalidName", pack(header_of({"a\nb": X}), BODY), r"a\\nb"),
    ("InvalidName", pack(header_of({"../../etc/passwd": X}), BODY), "no '..'"),
    ("InvalidName", pack(header_of({"n" * 513: X}), BODY), "1 to 512"),
    ("InvalidTensorFields", pack(header_of({"x": entry(extra=1)}), BODY), "nothing else|only"),
    ("InvalidTensorFields", pack(header_of({"x": {"dtype": "BF16", "shape": [4, 4]}}), BODY), "must have"),
    ("InvalidTensorFields", pack(header_of({"x": [1]}), BODY), "must have"),
    ("UnknownDtype", pack(header_of({"x": entry(dtype="BF17")}), BODY), "unknown dtype 'BF17': known are BOOL"),
    ("UnknownDtype", pack(header_of({"x": entry(dtype="bf16")}), BODY), "unknown dtype 'bf16'"),
    ("InvalidShape", pack(header_of({"x": entry(shape=[4, -4])}), BODY), "integers from 0"),
    ("InvalidShape", pack(header_of({"x": entry(shape=[4.0, 4])}), BODY), "integers from 0"),
    ("InvalidShape", pack(header_of({"x": entry(shape=[True, 16])}), BODY), "integers from 0"),
    ("InvalidShape", pack(header_of({"x": entry(shape="16")}), BODY), "list of integers"),
    ("RankTooLarge", pack(header_of({"x": entry(shape=[1] * 9)}), BODY), "9 axes"),
    ("ValidationOverflow", pack(header_of({"x": entry(shape=[BIG, BIG])}), BODY), "larger than any file"),
    (
        "ValidationOverflow",
        pack(header_of({"x": entry(shape=[0, BIG, BIG], data_offsets=[0, 0])})),
        "larger than any",
    ),
    ("InvalidOffset", pack(header_of({"x": entry(data_offsets=[0, 16, 32])}), BODY), "two integers"),
    ("InvalidOffset", pack(header_of({"x": entry(data_offsets=[-32, 0])}), BODY), "from 0 up"),
    ("InvalidOffset", pack(header_of({"x": entry(data_offsets=[32, 0])}), BODY), "before it begins"),
    ("InvalidOffset", pack(header_of({"x": entry(data_offsets=[8, 40])}), bytes(40)), "leaves a hole"),
    ("InvalidOffset", pack(header_of({"a": X, "b": entry(data_offsets=[16, 48])}), bytes(48)), "overlaps"),
    ("InvalidOffset", pack(header_of({"a": X, "b": entry(data_offsets=[40, 72])}), bytes(72)), "leaves a hole"),
    (
        "MisalignedSlice",
        pack(header_of({"x": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}}), b"a"),
        "12 bits",
    ),
    ("TensorInvalidInfo", pack(header_of({"x": entry(shape=[4, 5])}), BODY), r"is 40 B but its offsets span 32 B"),
    (
        "InvalidHeaderDeserialization",
        pack(b'{"x":{"dtype":"BF16","shape":[4,4],"data_offsets":[-0,32]}}', BODY),
        "number with a sign",
    ),
    (
        "InvalidHeaderDeserialization",
        pack(b'{"x":{"dtype":"BF16","shape":[16,-0],"data_offsets":[0,0]}}'),
        "number with a sign",
    ),
    (
        "InvalidHeaderDeserialization",
        pack(b'{"__metadata__":{"k":"\\ud800"},"x":{"dtype":"BF16","shape":[4,4],"data_offsets":[0,32]}}', BODY),
        "half of a surrogate pair",
    ),
    (
        "InvalidHeaderDeserialization",
        pack(b'{"__metadata__":{"\\udc00":"v"},"x":{"dtype":"BF16","shape":[4,4],"data_offsets":[0,32]}}', BODY),
        "half of a surrogate pair",
    ),
    (
        "InvalidHeaderDeserialization",
        pack(b'{"\\ud83d":{"dtype":"BF16","shape":[4,4],"data_offsets":[0,32]}}', BODY),
        "half of a surrogate pair",
    ),
    ("MetadataIncompleteBuffer", pack(HEADER, BODY[:-1]), "truncated"),
    ("MetadataIncompleteBuffer", pack(HEADER, BODY + b"!"), "1 B follow the last tensor"),
]


@pytest.mark.parametrize(("rule", "data", "sentence"), LIES, ids=[f"{i}-{lie[0]}" for i, lie in enumerate(LIES)])
def test_lying_header_is_one_sentence(tmp_path: Path, rule: str, data: bytes, sentence: str) -> None:
    with pytest.raises(SafetensorsError, match=sentence) as caught:
        open_source(write(tmp_path, data))
    assert caught.value.rule == rule
    assert caught.value.exit_code == EXIT_NOTHING_MEASURED
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_the_true_file_that_the_lies_are_made_of_is_taken(tmp_path: Path) -> None:
    assert open_source(write(tmp_path, pack(HEADER, BODY))).tensors()[0].read(0, 32).tobytes() == BODY


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = pack(HEADER, BODY)
    for n in range(len(data)):
        with pytest.raises(SourceError):
            open_source(write(tmp_path, data[:n]))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_headers_are_refused_or_read_as_the_library_reads_them(data: st.DataObject) -> None:
    raw = bytearray(header_of({"a": X, "b": entry(data_offsets=[32, 64])}))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    file = pack(bytes(raw), bytes(64))
    try:
        header = parse_header(bytes(raw), len(file), "mutant")
    except SafetensorsError:
        return
    library = {k: v for k, v in json.loads(bytes(raw)).items() if k != "__metadata__"}
    assert {e.name: [e.start - 8 - len(raw), e.end - 8 - len(raw)] for e in header.entries} == {
        k: v["data_offsets"] for k, v in library.items()
    }


def test_whatever_is_taken_the_library_takes_too(tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.PCG64(9))
    base = bytearray(header_of({"a": X, "b": entry(data_offsets=[32, 64])}))
    taken = 0
    for _ in range(3000):
        raw = bytearray(base)
        raw[int(rng.integers(len(raw)))] = int(rng.integers(32, 127))
        file = pack(bytes(raw), bytes(64))
        try:
            parse_header(bytes(raw), len(file), "mutant")
        except SafetensorsError:
            continue
        path = write(tmp_path, file)
        try:
            with safe_open(path, "np") as opened:
                opened.keys()
        except SafetensorError as error:  # pragma: no cover
            pytest.fail(f"the library refuses {bytes(raw)!r}: {error}")
        taken += 1
    assert taken > 50, "some mutants only rename a tensor and must be taken"


# ------------------------------------------------------------------------------------------------ files and folders


def test_missing_file_and_missing_folder_content(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such file: .*none\.safetensors; check the path"):
        open_source(str(tmp_path / "none.safetensors"))
    with pytest.raises(SourceError, match=r"holds no \.safetensors file"):
        open_source(str(tmp_path))


def test_file_changed_after_opening_is_never_measured(tmp_path: Path) -> None:
    uri = write(tmp_path, pack(HEADER, BODY))
    tensor = open_source(uri).tensors()[0]
    Path(uri).write_bytes(pack(HEADER, BODY[::-1]))
    os.utime(uri, ns=(1, 1))
    with pytest.raises(SourceError, match="changed while it was being read"):
        tensor.read(0, 32)
    Path(uri).unlink()
    with pytest.raises(SourceError, match="is the file still there"):
        tensor.read(0, 32)


def shards(folder: Path, weight_map: dict[str, str] | None, files: dict[str, list[str]]) -> str:
    for file, names in files.items():
        (folder / file).write_bytes(build({name: ("BF16", [4, 4], BODY) for name in names}))
    if weight_map is not None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return str(folder)


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_sharded_folder_with_and_without_index(tmp_path: Path) -> None:
    uri = shards(tmp_path, {"a": ONE, "b": TWO}, {ONE: ["a"], TWO: ["b"]})
    assert [t.name for t in open_source(uri).tensors()] == ["a", "b"]
    (tmp_path / "model.safetensors.index.json").unlink()
    assert [t.name for t in open_source(uri).tensors()] == ["a", "b"]


@pytest.mark.parametrize(
    ("weight_map", "files", "sentence"),
    [
        (
            {"a": ONE, "b": TWO},
            {ONE: ["a"]},
            "shard model-00002-of-00002.safetensors, which the index names, is",
        ),
        ({"a": ONE, "b": ONE}, {ONE: ["a"]}, r"puts 'b' in model-00001.* where it is not"),
        ({"a": ONE}, {ONE: ["a", "b"]}, "does not name 'b'"),
        ({"a": ONE, "b": TWO}, {ONE: ["a", "b"], TWO: ["b"]}, "tensor 'b' is in .* and in"),
        ({"a": "../x.safetensors"}, {ONE: ["a"]}, "bare .safetensors name"),
        ({"a": "/etc/x.safetensors"}, {ONE: ["a"]}, "bare .safetensors name"),
        ({"a": "weights.bin"}, {ONE: ["a"]}, "bare .safetensors name"),
        ({"a": 7}, {ONE: ["a"]}, "bare .safetensors name"),
        ({}, {ONE: ["a"]}, "no weight_map"),
        (None, {ONE: ["a"]}, "shard 2 of 2 of 'model' is missing"),
        (None, {ONE: ["a"], TWO: ["a"]}, "tensor 'a' is in"),
    ],
)
def test_folder_that_contradicts_itself_is_refused(
    tmp_path: Path, weight_map: dict[str, str] | None, files: dict[str, list[str]], sentence: str
) -> None:
    with pytest.raises(SourceError, match=sentence):
        open_source(shards(tmp_path, weight_map, files))


def test_index_is_strict_json(tmp_path: Path) -> None:
    shards(tmp_path, None, {ONE: ["a"], TWO: ["b"]})
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x", "a": "y"}}')
    with pytest.raises(SourceError, match="'a' stands twice"):
        open_source(str(tmp_path))


def test_separate_files_of_a_folder_keep_their_tensors_apart(tmp_path: Path) -> None:
    uri = shards(tmp_path, None, {"one.safetensors": ["a"], "two.safetensors": ["a"]})
    assert [t.name for t in open_source(uri).tensors()] == ["one/a", "two/a"]
