"""Layouts: exact orders by hand, inverses, chunks, padding, and arrays as they come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_codecs.contracts import Lines
from linepress_codecs.errors import SpecError, UnsupportedFormatError
from linepress_codecs.formats import FORMATS, Format
from linepress_codecs.layout import LAYOUTS, chunks, extent, from_lines, iter_lines, stored_bits, to_lines

BF16, FP32, E4M3, INT4 = (FORMATS[n] for n in ("bf16", "fp32", "e4m3", "int4"))


def counted(*shape: int, dtype: str = "<u2") -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)


def items(lines: np.ndarray, dtype: str = "<u2") -> np.ndarray:
    return lines.view(dtype)


def test_row_is_memory_order_with_a_zero_tail() -> None:
    lines = to_lines(counted(40) + 1, "row", BF16)
    assert len(lines) == 2
    assert items(lines.data).reshape(-1).tolist() == list(range(1, 41)) + [0] * 24
    assert lines.geometry.channel is None


def test_channel_line_holds_consecutive_tokens_of_one_channel() -> None:
    heads, tokens, dim = 2, 64, 3
    array = counted(heads, tokens, dim)
    lines = to_lines(array, "channel", BF16)
    assert lines.geometry.n_channels == heads * dim
    for line in range(len(lines)):
        block, channel = divmod(line, heads * dim)
        head, d = divmod(channel, dim)
        assert lines.geometry.channel is not None
        assert lines.geometry.channel[line] == channel
        assert items(lines.data[line]).tolist() == array[head, 32 * block : 32 * block + 32, d].tolist()


def test_channel_of_a_matrix_is_its_last_axis() -> None:
    array = counted(32, 5)
    lines = to_lines(array, "channel", BF16)
    assert [items(lines.data[c]).tolist() for c in range(5)] == array.T.tolist()


def test_output_keeps_a_line_in_one_row() -> None:
    lines = to_lines(counted(3, 40), "output", BF16)
    assert lines.geometry.channel is not None
    assert lines.geometry.channel.tolist() == [0, 0, 1, 1, 2, 2]
    assert items(lines.data[3])[:8].tolist() == list(range(72, 80))
    assert not items(lines.data[3])[8:].any()


def test_paged_orders_place_each_element_where_the_engine_does() -> None:
    heads, tokens, dim = 2, 20, 16
    array = (np.arange(heads * tokens * dim, dtype="<u2") + 1).reshape(heads, tokens, dim)
    flat = {name: items(to_lines(array, name, BF16).data).reshape(-1) for name in LAYOUTS if "paged" in name}
    x = 8
    for head, token, d in [(0, 0, 0), (1, 3, 5), (1, 15, 15), (0, 16, 1), (1, 19, 9)]:
        block, slot = divmod(token, 16)
        value = array[head, token, d]
        assert flat["paged-vllm"][((block * 16 + slot) * heads + head) * dim + d] == value
        assert flat["paged-vllm-v"][((block * heads + head) * dim + d) * 16 + slot] == value
        key = (((block * heads + head) * (dim // x) + d // x) * 16 + slot) * x + d % x
        assert flat["paged-vllm-k"][key] == value
        assert flat["paged-hf"][((head * 2 + block) * 16 + slot) * dim + d] == value
    for name, held in flat.items():
        assert np.count_nonzero(held) == array.size, name
        assert len(held) == heads * 32 * dim, name


def channels_of(lines: Lines) -> np.ndarray:
    """Channel of each element by the words of `Lines`."""
    assert lines.geometry.channel is not None
    per = lines.format.elements_in(lines.line_bytes)
    first = lines.geometry.channel.astype(np.int64)[:, None]
    span = lines.geometry.channel_span or lines.geometry.n_channels
    return first - first % span + (first % span + np.arange(per) // (lines.geometry.channel_run or per)) % span


@pytest.mark.parametrize("line_bytes", [32, 64, 128])
@pytest.mark.parametrize("fmt", [BF16, FP32, E4M3], ids=lambda f: f.name)
@pytest.mark.parametrize(("heads", "dim"), [(3, 64), (2, 16), (1, 96), (2, 32)])
def test_every_element_knows_its_channel(heads: int, dim: int, fmt: Format, line_bytes: int) -> None:
    """The value of each element is its channel; token layouts must find it again, padding aside."""
    tokens = 32
    ids = np.arange(heads * dim).reshape(heads, 1, dim)
    array = np.broadcast_to(ids + 1, (heads, tokens, dim)).astype(fmt.storage)
    for layout in LAYOUTS:
        if layout == "output":
            continue
        for lines in (
            to_lines(array, layout, fmt, line_bytes),
            *iter_lines(array, layout, fmt, 2000, line_bytes),
        ):
            stored = lines.data.reshape(-1).view(fmt.storage).reshape(len(lines), -1).astype(np.int64)
            assert ((stored == channels_of(lines) + 1) | (stored == 0)).all(), layout
            assert lines.geometry.n_channels == heads * dim
            assert (stored > 0).any()


def test_rows_of_any_length_wrap_within_their_head() -> None:
    array = np.broadcast_to(np.arange(1, 51), (40, 50)).astype("<u2")
    lines = to_lines(array, "row", BF16)
    stored = items(lines.data).reshape(len(lines), -1).astype(np.int64)
    assert ((stored == channels_of(lines) + 1) | (stored == 0)).all()


def test_rows_without_channels() -> None:
    for shape in ((640,), (15, 64), (0, 64)):
        lines = to_lines(np.zeros(shape, "<u2"), "row", BF16)
        assert (lines.geometry.channel, lines.geometry.n_channels) == (None, 1), shape


def test_partly_filled_pages_are_counted_apart() -> None:
    counts = extent((3, 17, 64), "paged-vllm", BF16)
    assert counts.raw_bytes == 3 * 17 * 64 * 2
    assert counts.allocated_bytes == 3 * 32 * 64 * 2
    assert counts.pad_bytes == counts.allocated_bytes - counts.raw_bytes
    assert extent((3, 32, 64), "paged-vllm", BF16).pad_bytes == 0


shapes = st.one_of(
    st.tuples(st.integers(0, 200)),
    st.tuples(st.integers(0, 70), st.integers(0, 50)),
    st.tuples(st.integers(0, 4), st.integers(0, 70), st.integers(0, 40)),
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 40), st.integers(0, 9)),
)


@settings(max_examples=150, deadline=None)
@given(
    shape=shapes,
    layout=st.sampled_from(sorted(LAYOUTS)),
    fmt=st.sampled_from([BF16, FP32, E4M3]),
    line_bytes=st.sampled_from([32, 64]),
    chunk_bytes=st.sampled_from([1, 700, 5000, 1 << 20]),
    seed=st.integers(0, 9),
)
def test_inverse_and_chunks(shape, layout, fmt, line_bytes, chunk_bytes, seed) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.Generator(np.random.PCG64(seed))
    array = rng.integers(0, 256**fmt.storage.itemsize, shape).astype(fmt.storage)
    try:
        lines = to_lines(array, layout, fmt, line_bytes)
    except SpecError:
        assert len(shape) < 2 or layout == "paged-vllm-k"
        return
    counts = extent(shape, layout, fmt, line_bytes)
    assert (len(lines), lines.geometry.n_channels) == (counts.n_lines, counts.n_channels)
    assert counts.pad_bytes == lines.data.size - array.nbytes >= 0
    assert np.array_equal(from_lines(lines.data, shape, layout, fmt), array)
    parts = list(iter_lines(array, layout, fmt, chunk_bytes, line_bytes))
    joined = np.concatenate([p.data for p in parts]) if parts else lines.data[:0]
    assert np.array_equal(joined, lines.data)
    if lines.geometry.channel is not None and parts:
        assert np.array_equal(np.concatenate([p.geometry.channel for p in parts]), lines.geometry.channel)
        assert {p.geometry.n_channels for p in parts} == {lines.geometry.n_channels}


def test_chunks_are_bounded() -> None:
    for layout, shape in (("row", (1 << 20,)), ("output", (512, 512)), ("channel", (4, 4096, 16))):
        sizes = [c.of(np.empty(shape, "<u2")).nbytes for c in chunks(shape, layout, BF16, 1 << 16)]
        assert max(sizes) <= 1 << 16, layout
        assert len(sizes) > 4, layout


def test_arrays_as_they_come_mean_the_same() -> None:
    array = counted(6, 64, 8)
    want = to_lines(array, "channel", BF16).data
    strided = np.zeros((6, 128, 8), "<u2")
    strided[:, ::2] = array
    assert np.array_equal(to_lines(strided[:, ::2], "channel", BF16).data, want)
    assert np.array_equal(to_lines(np.asfortranarray(array), "channel", BF16).data, want)
    assert np.array_equal(to_lines(array.astype(">u2"), "channel", BF16).data, want)
    assert np.array_equal(to_lines(array.view("<i2"), "channel", BF16).data, want)
    half = array.view("<f2")
    assert np.array_equal(to_lines(half, "channel", FORMATS["fp16"]).data, want)


def test_nan_payloads_survive_byte_swapping() -> None:
    nan = np.array([0x7FA00001, 0xFFC12345], "<u4")
    assert np.array_equal(stored_bits(nan.view("<f4").astype(">f4", casting="equiv"), FP32), nan)


@pytest.mark.parametrize(
    ("shape", "layout", "fmt", "error"),
    [
        ((5,), "channel", BF16, SpecError),
        ((5,), "output", BF16, SpecError),
        ((2, 16, 12), "paged-vllm-k", BF16, SpecError),
        ((2, 16), "diagonal", BF16, SpecError),
        ((2, 16, 8), "channel", INT4, UnsupportedFormatError),
        ((4, 4), "row", FP32, UnsupportedFormatError),
    ],
)
def test_what_a_shape_cannot_take_is_refused(shape, layout, fmt, error) -> None:  # type: ignore[no-untyped-def]
    dtype = "u1" if fmt is INT4 else "<u2"
    with pytest.raises(error):
        to_lines(np.zeros(shape, dtype), layout, fmt)


def test_wrong_line_counts_and_sizes_are_refused() -> None:
    with pytest.raises(SpecError, match="cannot be a tensor"):
        from_lines(np.zeros((3, 64), np.uint8), (32,), "row", BF16)
    with pytest.raises(SpecError, match="line size"):
        to_lines(counted(8), "row", BF16, 48)
