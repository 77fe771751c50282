"""The recorded cast ``dequant:…`` of GGUF tensors against golden vectors of the gguf package's own dequantiser."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from linepress.errors import SourceError
from linepress.sources import TensorRef, open_source
from linepress.sources.gguf.dequantise import DEQUANTISERS
from linepress.sources.gguf.ggml import TYPES, ggml_type
from linepress.sources.staging import staged
from linepress.stages.measure.case import measure_case
from linepress_codecs.variant import Variant
from linepress_kit.gguf_files import build_gguf

GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "gguf" / "dequantised.json").read_text())
IDS = {kind.name: number for number, kind in TYPES.items()}
RNG = np.random.Generator(np.random.PCG64(17))


def golden(name: str) -> tuple[bytes, np.ndarray]:
    """(two blocks as stored, the values that the reference gives for them)."""
    blocks, values = (base64.b64decode(GOLDEN[name][key]) for key in ("blocks", "values"))
    return blocks, np.frombuffer(values, "<f4")


def tensor_of(tmp_path: Path, name: str, data: bytes, rows: int = 1) -> TensorRef:
    kind = ggml_type(name)
    columns = len(data) // kind.block_bytes // rows * kind.block_elements
    path = tmp_path / "model.gguf"
    path.write_bytes(build_gguf([("blk.0.ffn_up.weight", [columns, rows], IDS[name], data)]))
    return open_source(str(path)).tensors()[0]


@pytest.mark.parametrize("name", DEQUANTISERS)
def test_values_are_those_of_the_reference_bit_for_bit(tmp_path: Path, name: str) -> None:
    blocks, values = golden(name)
    stored = tensor_of(tmp_path, name, blocks, rows=2)
    for target, kind in (
        ("fp32", np.dtype("<f4")),
        ("bf16", np.dtype(ml_dtypes.bfloat16)),
        ("fp16", np.dtype("<f2")),
    ):
        tensor = stored.with_cast(f"dequant:{target}")
        assert (tensor.format.name, tensor.shape) == (target, (2, len(values) // 2))
        with np.errstate(over="ignore"):
            expected = values.astype(kind).tobytes()
        assert tensor.n_bytes == len(expected)
        assert tensor.read(0, tensor.n_bytes).tobytes() == expected
        assert tensor.read(6, 22).tobytes() == expected[6:22], "ranges need not start at a block or at a value"
        assert tensor.content_sha256() == stored.content_sha256(), "a record names the stored bytes"


def test_every_type_of_the_task_has_a_golden_vector() -> None:
    assert set(GOLDEN) == set(DEQUANTISERS)
    assert {"Q4_0", "Q8_0", "Q4_K", "Q6_K", "MXFP4"} <= set(GOLDEN)


def test_the_row_says_that_it_was_dequantised_and_the_report_keeps_it_apart(tmp_path: Path) -> None:
    blocks, _ = golden("Q4_K")
    stored = tensor_of(tmp_path, "Q4_K", blocks * 64, rows=8)
    row = measure_case(stored.with_cast("dequant:bf16"), Variant.parse("huffman"), repeats=0)
    assert (row["cast"], row["format"], row["shape"]) == ("dequant:bf16", "bf16", [8, 4096])
    assert row["content_sha256"] == stored.content_sha256()
    assert row["lossless"]
    again = staged(stored.with_cast("dequant:bf16")).tensor
    assert (again.cast, again.format.name, again.shape) == ("", "bf16", (8, 4096))
    assert stored.with_cast("dequant:bf16").with_cast("none") == stored

    import pyarrow as pa

    from linepress.records.measured import measure_frame
    from linepress.records.summary import DataClass

    table = pa.table({"kind": ["weight"], "source": [row["source"]], "cast": [row["cast"]]})
    frame = measure_frame(table, {"sources": []})
    assert frame.text("origin").tolist() == ["dequantised"]
    assert DataClass("weights", "bf16", "dequant:bf16", "dequantised").label == (
        "dequantised weights, unpacked to bf16"
    )


def test_floats_of_the_same_file_are_rounded_as_a_loader_does(tmp_path: Path) -> None:
    values = RNG.standard_normal(64).astype("<f4")
    tensor = tensor_of(tmp_path, "F32", values.tobytes(), rows=2).with_cast("dequant:bf16")
    assert tensor.read(0, 128).tobytes() == values.astype(ml_dtypes.bfloat16).tobytes()


def test_what_cannot_be_dequantised_is_one_sentence(tmp_path: Path) -> None:
    two = RNG.integers(0, 256, 2 * 66, dtype=np.uint8).tobytes()
    grid = tensor_of(tmp_path, "IQ2_XXS", two)
    with pytest.raises(SourceError, match=r"stored as IQ2_XXS: dequant takes GGUF tensors, not split, of Q4_0"):
        grid.with_cast("dequant:bf16")
    with pytest.raises(SourceError, match="stored as I32: dequant takes"):
        tensor_of(tmp_path, "I32", bytes(64)).with_cast("dequant:bf16")
    with pytest.raises(SourceError, match="does not say to what: use bf16, fp16, fp32, for example dequant:bf16"):
        grid.with_cast("dequant")
    with pytest.raises(SourceError, match="does not say to what"):
        grid.with_cast("dequant:e4m3")
    blocks, _ = golden("Q8_0")
    stored = tensor_of(tmp_path, "Q8_0", blocks)
    with pytest.raises(SourceError, match="stored as uint8: a cast to e4m3 takes bf16, fp16, fp32"):
        stored.with_cast("e4m3:scale=tensor")
    for part in open_source(stored.uri, split=True).tensors():
        with pytest.raises(SourceError, match="not split"):
            part.with_cast("dequant:bf16")


def test_the_type_is_not_cut_off_by_a_long_header(tmp_path: Path) -> None:
    keys = {f"general.entry.{i:02d}": "x" for i in range(60)}
    path = tmp_path / "m.gguf"
    blocks, _ = golden("Q8_0")
    path.write_bytes(build_gguf([("w", [64], IDS["Q8_0"], blocks)], text_keys=keys))
    assert open_source(str(path)).tensors()[0].with_cast("dequant:bf16").n_elements == 64
