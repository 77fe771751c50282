"""Page contracts: every layout of every engine gives back what was laid, and refuses what does not fit it."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from linepress.errors import SourceError
from linepress.sources import open_source
from linepress.sources.snapshot.contract import NAMES, Layout, layouts, read_layouts
from linepress.sources.snapshot.lay import blocks_of, lay_out, plan_blocks, to_batch
from linepress.sources.snapshot.validate import FAIL, validate
from linepress.sources.snapshot.write import write_snapshot

LENGTHS = (21, 9)
HEADS, DIM, LAYERS = 2, 64, 2
DOC = Path(__file__).parents[3] / "docs" / "snapshot-format.md"
ENGINES = sorted({x.engine for x in layouts().values()} - {"snapshot format"})


def stored_width(layout: Layout) -> int:
    """Items of a head's row as the layout stores it."""
    if layout.record_bytes:
        return layout.record_bytes
    if layout.scale_bytes:
        return DIM + layout.scale_bytes
    return DIM // layout.block_values * layout.block_bytes if layout.block_bytes else DIM


def snapshot(layout: Layout, path: Path) -> dict[tuple[str, int], np.ndarray]:
    """Write a snapshot in the layout; its tokens by (side, layer)."""
    rng = np.random.Generator(np.random.PCG64(7))
    dtype, top, fmt = (np.uint8, 0x70, "uint8") if layout.packed else (np.uint16, 0x3F00, "bf16")
    heads = HEADS if any("H" in axes for axes in layout.axes.values()) else 1
    sides = ("key", "value") if layout.joined or "value" in layout.axes else ("key",)
    lengths = LENGTHS if layout.paged or layout.padded else LENGTHS[:1]
    block = 16 if any("N/x" in axes for axes in layout.axes.values()) else 1 if layout.state else 4
    parts = {
        (side, layer): [rng.integers(1, top, (heads, n, stored_width(layout))).astype(dtype) for n in lengths]
        for side in sides
        for layer in range(LAYERS)
    }
    said = {"arrangement": layout.name, "kv_heads": str(heads), "layers": str(LAYERS), "padding": "left"}
    said["head_dim"] = str(stored_width(layout) if layout.record_bytes else DIM)
    if sides == ("key",):
        said["holds"] = "states" if layout.state else "latent"
    tables = {}
    if layout.paged:
        plan = plan_blocks(lengths, block_tokens=block, free_blocks=2, seed=1)
        tables = plan.tables
        pages = {key: blocks_of(sequences, plan) for key, sequences in parts.items()}
    else:
        pages = {key: to_batch(sequences) for key, sequences in parts.items()}
        tables = {"sequence_tokens": np.array(lengths, np.int32)} if layout.padded else {}
    tensors = {name: (fmt, array) for name, array in lay_out(pages, layout).items()}
    write_snapshot(path, tensors, said, tables)
    return {key: np.concatenate(sequences, axis=1) for key, sequences in parts.items()}


@pytest.mark.parametrize("name", layouts())
def test_what_an_engine_holds_is_read_back(tmp_path: Path, name: str) -> None:
    layout = layouts()[name]
    path = tmp_path / "s.safetensors"
    want = snapshot(layout, path)
    tensors = {(t.kind, t.layer): t for t in open_source(str(path)).tensors()}
    assert set(tensors) == set(want)
    for key, tokens in want.items():
        tensor = tensors[key]
        assert tensor.shape == tokens.shape
        whole = tokens.tobytes()
        assert tensor.read(0, tensor.n_bytes).tobytes() == whole
        for start, end in ((3, 5), (1, len(whole) - 1), (len(whole) // 2, len(whole) // 2 + 300)):
            assert tensor.read(start, end).tobytes() == whole[start:end]
    assert not [f for f in validate(str(path))[0] if f.outcome == FAIL]


@pytest.mark.parametrize("name", layouts())
def test_a_tensor_that_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    """Another number of axes, another width than is stated, both sides where there is one."""
    layout = layouts()[name]
    snapshot(layout, tmp_path / "good.safetensors")
    source = open_source(f"memory:{tmp_path / 'good.safetensors'}")
    said = {"arrangement": name, "head_dim": str(DIM), "holds": "keys and values" if len(layout.axes) > 1 else ""}
    said = {key: text for key, text in said.items() if text}
    if tuple(layout.axes) == ("key",):
        said["holds"] = "states" if layout.state else "latent"
    fmt = "uint8" if layout.packed else "bf16"
    for kind, axes in layout.axes.items():
        called = f"{kind}_cache_tensor" + ("" if "L" in axes else "_0")
        held = next(t for t in source.tensors() if t.name == called)
        array = held.read(0, held.n_bytes).view("<u1" if layout.packed else "<u2").reshape(held.shape)
        width = axes.index("D" if "D" in axes else "x")
        narrow = np.take(array, range(array.shape[width] - 1), width)
        with pytest.raises(SourceError, match=re.escape(called)):
            write_snapshot(tmp_path / "bad.safetensors", {called: (fmt, narrow)}, said)
        with pytest.raises(SourceError, match="has shape"):
            write_snapshot(tmp_path / "bad.safetensors", {called: (fmt, array[None])}, said)
        other = f"{kind}_cache_tensor" + ("_0" if "L" in axes else "")
        with pytest.raises(SourceError, match="is no tensor of"):
            write_snapshot(tmp_path / "bad.safetensors", {other: (fmt, array)}, said)
    assert not (tmp_path / "bad.safetensors").exists()


def test_memory_by_hand() -> None:
    """Where one value lies: token 5 of head 1, channel 3, layer 1's values, blocks of 4 tokens."""
    pages = {
        (side, layer): np.arange(8 * HEADS * 4 * DIM, dtype=np.uint32).reshape(8, HEADS, 4, DIM)
        + np.uint32(100_000 * (2 * layer + (side == "value")))
        for side in ("key", "value")
        for layer in (0, 1)
    }
    want = pages["value", 1][1, 1, 1, 3]
    found = {
        name: lay_out(pages, layouts()[name])
        for name in layouts()
        if not layouts()[name].packed and layouts()[name].joined
    }
    assert found["vllm-0.22"]["kv_cache_tensor_1"][1, 1, 1, 1, 3] == want
    assert found["vllm-0.23"]["kv_cache_tensor_1"][1, 1, 1, 1, 3] == want
    assert found["vllm-0.26"]["kv_cache_tensor_1"].reshape(8, 4, HEADS, 2 * DIM)[1, 1, 1, DIM + 3] == want
    assert found["vllm-0.29:lhbnc"]["kv_cache_tensor"][1, 1, 1, 1, 1, 3] == want
    assert found["vllm-0.29:bhlnc"]["kv_cache_tensor"][1, 1, 1, 1, 1, 3] == want
    assert found["sglang-0.5:page-head"]["kv_cache_tensor"][1, 1, 1, 1, 1, 3] == want
    assert found["lmcache-0.5"]["kv_cache_tensor"].reshape(8, 2, 2, 4, HEADS * DIM)[1, 1, 1, 1, DIM + 3] == want
    assert found["tensorrt-llm"]["kv_cache_tensor"].reshape(8, 2, 2, -1)[1, 1, 1, DIM * 4 + DIM + 3] == want


def test_scales_behind_all_the_data_of_a_page_by_hand() -> None:
    """NVFP4: a side of a page is D/2 bytes of every row, then D/16 of every row; a row is read as both."""
    layout = layouts()["vllm-0.29:nvfp4"]
    width = DIM // 16 * 9
    rows = np.arange(2 * HEADS * 4 * width, dtype=np.uint32).reshape(2, HEADS, 4, width)
    pages = {("key", 0): rows, ("value", 0): rows + np.uint32(10_000)}
    memory = lay_out(pages, layout)["kv_cache_tensor_0"].reshape(2, 2, -1)
    data, scales = memory[1, 1, : HEADS * 4 * DIM // 2], memory[1, 1, HEADS * 4 * DIM // 2 :]
    assert data.reshape(HEADS, 4, -1)[1, 2, 3] == pages["value", 0][1, 1, 2, 3]
    assert scales.reshape(HEADS, 4, -1)[1, 2, 3] == pages["value", 0][1, 1, 2, DIM // 2 + 3]


def test_a_page_of_deepseek_v4_by_hand() -> None:
    """576 B of data of every token, then 8 B of scales of every token."""
    layout = layouts()["vllm-0.29:deepseek-v4"]
    rows = np.arange(2 * 4 * 584, dtype=np.uint32).reshape(2, 1, 4, 584)
    page = lay_out({("key", 0): rows}, layout)["key_cache_tensor_0"].reshape(2, -1)[1]
    assert page[2 * 576 + 5] == rows[1, 0, 2, 5]
    assert page[4 * 576 + 2 * 8 + 5] == rows[1, 0, 2, 576 + 5]


def test_scales_inside_a_cell_by_hand() -> None:
    layout = layouts()["vllm-0.29:per-token-head"]
    rows = np.arange(HEADS * 4 * (DIM + 4), dtype=np.uint32).reshape(1, HEADS, 4, DIM + 4)
    cells = lay_out({("key", 0): rows, ("value", 0): rows + np.uint32(10_000)}, layout)["kv_cache_tensor"]
    cell = cells.reshape(1, 1, 4, HEADS, -1)[0, 0, 2, 1]  # K, its scale, V, its scale
    assert cell[DIM] == rows[0, 1, 2, DIM]
    assert cell[DIM + 4] == 10_000 + rows[0, 1, 2, 0]


def test_every_data_file_is_tested() -> None:
    """What the parametrised tests go through is what lies in the folder."""
    folder = resources.files("linepress.sources.snapshot").joinpath("engines")
    stems = {f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")}
    assert {name.split(":")[0] for name in layouts() if layouts()[name].engine != "snapshot format"} | {
        "snapshot"
    } == stems
    for stem in stems:
        said = tomllib.loads(folder.joinpath(f"{stem}.toml").read_text("utf-8"))["layouts"]
        own = [name for name in layouts() if stem == "snapshot" or name.split(":")[0] == stem]
        assert len(own) >= len(said), stem


def test_the_six_memory_orders_of_vllm() -> None:
    orders = {
        "".join(a for a in x.axes["kv"] if a not in "2D")
        for n, x in layouts().items()
        if n.startswith("vllm-0.29") and x.joined and x.takes_any
    }
    assert orders == {"LBNH", "LBHN", "LHBN", "BLHN", "BLNH", "BHLN"}


def test_blocks_that_a_window_left_behind(tmp_path: Path) -> None:
    """vLLM puts one null block wherever a sliding window has left a block."""
    a = np.arange(1, 1 + 2 * 8 * DIM, dtype=np.uint16).reshape(2, 8, DIM)
    pages = np.zeros((4, 2, 4, DIM), np.uint16)
    pages[2], pages[3] = a[:, :4], a[:, 4:]
    tensors = lay_out({(side, 0): pages for side in ("key", "value")}, layouts()["vllm-0.26"])
    tables = {"block_table": np.array([[0, 0, 2, 3]], np.int32), "sequence_tokens": np.array([16], np.int32)}
    said = {"arrangement": "vllm-0.26", "null_block": "0"}
    path = tmp_path / "s.safetensors"
    write_snapshot(path, {n: ("bf16", x) for n, x in tensors.items()}, said, tables)
    tensor = open_source(str(path)).tensor("key_cache_tensor_0")
    assert tensor.read(0, tensor.n_bytes).tobytes() == a.tobytes()
    assert np.frombuffer(tensor.positions, "<u4").tolist() == list(range(8, 16))
    write_snapshot(path, {n: ("bf16", x) for n, x in tensors.items()}, {"arrangement": "vllm-0.26"}, tables)
    with pytest.raises(SourceError, match="names a block twice"):
        open_source(str(path))


@pytest.mark.parametrize(
    "layout",
    [
        'kv = "B N H D"',
        'key = "B N H 2 D"',
        'key = "B N H"',
        'key = "B B H D"',
        'key = "B N H D x"',
        'key = "B Q H D"',
        'key = "B N H D"\nsize = 3',
        'key = "B D"',
        'key = "L D"\npage = "state"',
        'key = "B N D"\nblock_values = 16\nblock_bytes = 9\nparts = [8, 2]',
        'kv = "B N H 2 D"\nblock_values = 16\nblock_bytes = 9\nparts = [8, 1]',
        "",
    ],
)
def test_data_files_that_say_no_layout(layout: str) -> None:
    text = f'engine = "e"\nversions = "1"\nsource = "s"\n[layouts.a]\n{layout}\n'
    with pytest.raises(SourceError, match="contract e"):
        read_layouts("e", text)


def test_every_layout_states_its_source() -> None:
    for layout in layouts().values():
        assert "@" in layout.source or layout.source == "docs/snapshot-format.md", layout.name


def test_the_page_of_the_format_names_every_engine_and_axis() -> None:
    text = DOC.read_text(encoding="utf-8")
    for engine in ENGINES:
        assert engine in text
    for layout in layouts().values():
        if layout.name.count(":") == 0 and layout.name.count(".") == 0 and layout.engine == "snapshot format":
            for kind in layout.axes:
                assert layout.shape_text(kind) in text.replace("`", ""), layout.name
    assert all(letter in text for letter in NAMES)
    for file in {name.split(":")[0] for name in layouts() if layouts()[name].engine != "snapshot format"}:
        assert f"`{file}`" in text, file
    engines = r"(?:vllm-|sglang-|lmcache-|tensorrt-|transformers-|llama\.|flexkv|dynamo)"
    named = set(re.findall(rf"`({engines}[\w.-]*(?::[\w-]+)?)`", text))
    assert named <= set(layouts()), named - set(layouts())
