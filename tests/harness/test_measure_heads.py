"""Coded bits by KV head: held against each head measured alone, and null where there is no such sum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from linepress.errors import RecordError
from linepress.records import RunStore
from linepress.sources import open_source
from linepress.sources.snapshot.lay import plan_blocks, to_blocks
from linepress.sources.snapshot.write import write_snapshot, write_tensors
from linepress.stages.measure.case import measure_case
from linepress_codecs.layout import LAYOUTS
from linepress_codecs.variant import Variant

CODEC = "bdi"  # learns nothing, so that a head alone is coded as it is among others


def cache(shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """Each head has more zero tokens and channels than the one before: taken for another one, it has another size."""
    array = np.random.Generator(np.random.PCG64(9)).integers(1, 1 << 16, shape).astype(np.uint16)
    for head in range(shape[0]):
        array[head, : shape[-2] * head // shape[0]] = 0
        array[head, ..., : shape[-1] * head // shape[0]] = 0
    return array


def row_of(path: Path, array: NDArray[np.uint16], spec: str, name: str = "key_cache_tensor_0") -> dict[str, Any]:
    write_tensors(path, {name: ("bf16", array)}, {"holds": "keys"} if name.startswith("key_cache_t") else {})
    return measure_case(open_source(str(path)).tensor(name), Variant.parse(spec), repeats=0, chunk_bytes=4096)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
@pytest.mark.parametrize("tokens", [64, 50])
def test_each_head_has_the_bits_it_has_alone(tmp_path: Path, layout: str, tokens: int) -> None:
    array = cache((3, tokens, 32))
    spec = f"{CODEC}:layout={layout}"
    row = row_of(tmp_path / "all.safetensors", array, spec)
    alone = [row_of(tmp_path / f"{h}.safetensors", array[h : h + 1], spec)["payload_bits"] for h in range(3)]
    assert row["head_bits"] == alone
    assert len(set(alone)) == 3
    assert sum(alone) == row["payload_bits"]


@pytest.mark.parametrize(
    ("arrangement", "axis"), [("paged-vllm", 2), ("paged-vllm-hnd", 1), ("paged-vllm-classic", 1)]
)
def test_pages_as_they_lie_have_their_heads_where_the_engine_puts_them(
    tmp_path: Path, arrangement: str, axis: int
) -> None:
    plan = plan_blocks([50], shared_tokens=0, free_blocks=0, seed=1)
    pages = {kind: to_blocks([cache((3, 50, 32))], plan, kind, arrangement) for kind in ("key", "value")}
    caches = {f"{kind}_cache_tensor_0": ("bf16", array) for kind, array in pages.items()}
    write_snapshot(tmp_path / "s.safetensors", caches, {"arrangement": arrangement, "tokens": "50"}, plan.tables)
    variant = Variant.parse(CODEC)
    for kind, array in pages.items():
        ref = open_source(f"memory:{tmp_path / 's.safetensors'}").tensor(f"{kind}_cache_tensor_0")
        row = measure_case(ref, variant, repeats=0, chunk_bytes=4096)
        parts = [np.ascontiguousarray(np.take(array, [head], axis)) for head in range(3)]
        alone = [row_of(tmp_path / f"{kind}{h}.safetensors", p, CODEC, "w") for h, p in enumerate(parts)]
        assert row["head_bits"] == [one["payload_bits"] for one in alone]
        assert len(set(row["head_bits"])) == 3
        assert sum(row["head_bits"]) == row["payload_bits"]


@pytest.mark.parametrize("layout", ["row", "paged-vllm"])
def test_a_line_that_crosses_heads_gives_none(tmp_path: Path, layout: str) -> None:
    row = row_of(tmp_path / "s.safetensors", cache((3, 3, 24)), f"{CODEC}:layout={layout}")
    assert row["head_bits"] is None


def test_what_has_no_heads_or_no_lines_gives_none(tmp_path: Path) -> None:
    array = cache((4, 64, 32))
    assert row_of(tmp_path / "w.safetensors", array, CODEC, "model.layers.0.mlp.up_proj.weight")["head_bits"] is None
    assert row_of(tmp_path / "f.safetensors", array[0], CODEC, "layers.0.key_cache")["head_bits"] is None
    for block in ("64B", "4KiB"):
        assert row_of(tmp_path / "b.safetensors", array, f"lz4:block={block}")["head_bits"] is None


@pytest.mark.parametrize("missing", ["head_bits", "bits_max"])
def test_a_part_from_before_the_column_reads_as_null_and_no_other_column_may_lack(
    tmp_path: Path, missing: str
) -> None:
    store = RunStore.create(tmp_path / "run", {"run_id": "r"})
    part = store.append("measure", [{"case_key": "k", "status": "ok", "row": 0}])
    assert part is not None
    pq.write_table(pq.ParquetFile(part).read().drop_columns([missing]), part)
    if missing == "head_bits":
        assert store.rows("measure", ["case_key", "head_bits"]) == [{"case_key": "k", "head_bits": None}]
        assert store.rows("measure", ["head_bits"]) == [{"head_bits": None}]
    else:
        with pytest.raises(RecordError, match="damaged"):
            store.rows("measure", [missing])


def test_the_record_keeps_them(tmp_path: Path) -> None:
    row = row_of(tmp_path / "s.safetensors", cache((2, 64, 32)), f"{CODEC}:layout=channel")
    store = RunStore.create(tmp_path / "run", {"run_id": "r"})
    store.append("measure", [{**row, "case_key": "k", "status": "ok", "row": 0}])
    assert store.rows("measure", ["head_bits"]) == [{"head_bits": row["head_bits"]}]
