"""The channel-context codec on lines of several channels: rows and pages."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_codecs.codecs.adaptive import Adaptive
from linepress_codecs.codecs.context import Context, ContextTables
from linepress_codecs.context.cells import ESCAPED
from linepress_codecs.context.channel import ChannelTables, fit_channels
from linepress_codecs.context.order import order_of
from linepress_codecs.context.rows import ESCAPE_SYMBOL, NEAR, OFFSET, row_frequencies
from linepress_codecs.contracts import Geometry, Lines, Packed
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import FORMATS
from linepress_codecs.layout import to_lines
from linepress_codecs.tans.static import elements_of

from .test_context import autoregressive, bf16, reference_cell
from .test_tans import Stream, decode_states

BF16 = FORMATS["bf16"]
PAGES = ["paged-hf", "paged-vllm", "paged-vllm-k", "paged-vllm-v", "row"]


def heads_of(slope: float, seed: int, mean: float = 0.0) -> np.ndarray:
    """[3, 256, 64] of bf16: three heads whose channels differ in mean."""
    heads = [autoregressive(64, 256, slope, seed + h, mean) for h in range(3)]
    values = np.concatenate(heads)
    values += np.linspace(-4, 4, 3 * 64).reshape(3, 1, 64)
    return bf16(values)


@pytest.mark.parametrize("streams", [1, 2, 4, 8])
@pytest.mark.parametrize("layout", PAGES)
def test_context_is_the_previous_token_of_the_same_channel(layout: str, streams: int) -> None:
    """Elements hold token * 64 + channel: the context must hold the same channel, one token earlier."""
    tokens, dim = 16, 64
    array = (np.arange(tokens)[:, None] * dim + np.arange(dim)).astype("<u2")[None]
    lines = to_lines(array, layout, BF16)
    order = order_of(lines, 32, streams)
    assert sorted(order.steps.tolist()) == list(range(32))
    at = np.argsort(order.steps)
    stored = elements_of(lines.data, BF16).astype(np.int64)
    pairs = [(j, int(b)) for j, b in enumerate(order.before) if b >= 0]
    for j, b in pairs:
        assert at[b] < at[j]
        assert (stored[:, j] - stored[:, b] == dim).all()
    assert set(np.flatnonzero(order.needed).tolist()) == {b for _, b in pairs}
    # 4 tokens of 8 channels in a key line; runs of 16 tokens in a value line; single tokens elsewhere.
    want = {"paged-vllm-k": 24, "paged-vllm-v": 32 - max(2, streams)}.get(layout, 0)
    assert len(pairs) == want


def reference_woven(packed: Packed, i: int, model: ChannelTables, streams: int, r: int) -> list[tuple[int, int]]:
    """(cell index or `ESCAPED`, cell exponent) of each element of a line of runs of one, by FORMAT-ai.md."""
    size, m = 1 << r, packed.format.elements_in(packed.line_bytes)
    stream = Stream(packed, i)
    mode, bits, base = decode_states([1, size // 16, size - size // 16 - 1], r, 1)[stream.read(r)]
    assert mode == 2
    states = [base + stream.read(bits)] + [stream.read(r) for _ in range(streams - 1)]
    frequency = row_frequencies(r)
    assert packed.geometry.channel is not None
    f, span = int(packed.geometry.channel[i]), packed.geometry.channel_span
    index: list[int] = []
    cells: list[int] = []
    guess: list[int] = []
    for j in range(m):
        level, widening, mean, slope = (int(v) for v in model.columns[f - f % span + (f % span + j) % span])
        first = level + widening
        drop = first // 4 - level // 4
        mean_next = 4 * mean << drop
        late = j >= span
        prediction = guess[j - span] if late else 4 * mean
        grade = level if late else first
        whole = (abs(prediction) + 4) // 8
        near = min(whole, NEAR)
        table = decode_states([int(v) for v in frequency[grade % 4 * (NEAR + 1) + near]], r, None)
        s, bits, base = table[states[j % streams]]
        states[j % streams] = base + stream.read(bits)
        k = s - OFFSET + whole - near
        k = -k if prediction < 0 else k
        centre = max(8 * abs(k) - 60, 0) * (1 if k > 0 else -1) << (0 if late else drop)
        escaped = s == ESCAPE_SYMBOL
        guess.append(mean_next if escaped else mean_next + (slope * (centre - mean_next) + 4) // 8)
        index.append(ESCAPED if escaped else k)
        cells.append(grade // 4 - 1)
    return list(zip(index, cells, strict=True))


@pytest.mark.parametrize("streams", [1, 2, 4])
@pytest.mark.parametrize("layout", ["paged-hf", "paged-vllm-k"])
def test_streams_as_the_format_says(layout: str, streams: int) -> None:
    array = heads_of(0.9, 3)
    array[1, 40, 7] = bf16(np.array([900.0]))[0]
    lines = to_lines(array, layout, BF16)
    model = fit_channels([lines], streams)
    assert model is not None
    codec = Context(streams=streams)
    tables = ContextTables(model, codec.precision)
    packed = codec.encode(lines, tables)
    elements = elements_of(lines.data, BF16)
    for i in range(0, len(lines), 61):
        for j, (index, cell) in enumerate(reference_woven(packed, i, model, streams, codec.precision)):
            u = int(elements[i, j])
            if index == 0:
                assert u in (0, 1 << 15)
            elif index != ESCAPED:
                assert index == reference_cell(u, cell, BF16)[0]


@pytest.mark.parametrize("layout", PAGES)
def test_near_the_closed_form_in_pages(layout: str) -> None:
    """Entropy of a normal value, with context for as many elements as a line of the layout has it for."""
    slope = 0.9
    values = np.concatenate([autoregressive(64, 2048, slope, 11 + h) for h in range(2)])
    stored = bf16(values)
    lines = to_lines(stored, layout, BF16)
    codec = Context()
    model = fit_channels([lines], codec.streams)
    assert model is not None
    got = codec.measure(lines, ContextTables(model, codec.precision)).mean() / 32
    ulp = (((stored >> 7) & 255).astype(np.float64) - 127).mean() - 7
    first = 0.5 * math.log2(2 * math.pi * math.e) - ulp
    later = first + 0.5 * math.log2(1 - slope**2)
    share = {"paged-vllm-k": 24 / 32, "paged-vllm-v": 30 / 32}.get(layout, 0.0)
    bound = share * later + (1 - share) * first
    assert bound * 0.998 <= got <= bound * 1.015 + 0.05


def test_pages_beat_tables_of_the_whole_tensor() -> None:
    array = heads_of(0.5, 5)
    for layout in PAGES:
        lines = to_lines(array, layout, BF16)
        context, adaptive = Context(), Adaptive()
        tables = context.fit([lines])
        assert isinstance(tables, ContextTables)
        assert isinstance(tables.model, ChannelTables)
        ours = int(context.measure(lines, tables).sum()) + 8 * len(tables.to_bytes())
        assert ours < 0.97 * int(adaptive.measure(lines, adaptive.fit([lines])).sum()), layout


def test_value_pages_cost_what_channel_lines_cost() -> None:
    """Two runs of 16 tokens in a line are two sub-streams of a channel-major line, in another order of lines."""
    array = heads_of(0.9, 7)
    one, other = (to_lines(array, layout, BF16) for layout in ("channel", "paged-vllm-v"))
    codec = Context()
    assert codec.fit([one]).to_bytes() == codec.fit([other]).to_bytes()
    sizes = [int(codec.measure(x, codec.fit([x])).sum()) for x in (one, other)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.002)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["bf16", "fp16", "fp32", "e4m3", "e5m2"]),
    st.sampled_from([32, 64, 128]),
    st.integers(1, 9),
    st.integers(0, 2**32),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([(1, 0), (1, 3), (1, 8), (1, 64), (4, 0), (16, 24), (3, 5), (500, 2)]),
)
def test_any_bits_come_back(
    fmt: str, line_bytes: int, n: int, seed: int, streams: int, shape: tuple[int, int]
) -> None:
    """Random lines, random channels (some unknown), any run and span: geometry never harms the data."""
    form = FORMATS[fmt]
    rng = np.random.Generator(np.random.PCG64(seed))
    smooth = np.cumsum(rng.integers(0, 3, (n, line_bytes)), axis=1).astype(np.uint8)
    rough = rng.integers(0, 256, (n, line_bytes), dtype=np.uint8)
    mixed = np.where(rng.random((n, line_bytes)) < 0.02, rough, smooth)
    mixed[rng.integers(n)] = 0
    ids = rng.integers(0, 40, n).astype(np.uint32)
    model = fit_channels([Lines(smooth, form, Geometry(ids, 24, *shape))], streams)
    assert model is not None
    codec = Context(streams=streams)
    tables = ContextTables(model, codec.precision)
    for data in (smooth, rough, mixed):
        lines = Lines(data, form, Geometry(ids, 24, *shape))
        packed = codec.encode(lines, tables)
        assert np.array_equal(codec.decode(packed, tables), data)
        assert np.array_equal(codec.measure(lines, tables), packed.bits)
        assert np.array_equal(codec.decode_line(packed, n // 2, tables), data[n // 2])


def test_a_geometry_that_no_layout_has_is_refused() -> None:
    lines = to_lines(heads_of(0.5, 5), "paged-hf", BF16)
    codec = Context()
    tables = codec.fit([lines])
    packed = codec.encode(lines, tables)
    for run, span in ((-1, 0), (1, -64)):
        bent = replace(packed, geometry=Geometry(packed.geometry.channel, 192, run, span))
        with pytest.raises(CorruptDataError, match="negative"):
            codec.decode(bent, tables)
