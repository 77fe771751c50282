"""The channel-context codec: cells, ROM rows, parameters, and closed forms on normal data."""

from __future__ import annotations

import hashlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_codecs.codecs.adaptive import Adaptive
from linepress_codecs.codecs.context import Context, ContextTables
from linepress_codecs.context.cells import ESCAPED, cell_of, middle, value_of
from linepress_codecs.context.channel import COLUMNS, ChannelTables, FloatShape, fit_channels
from linepress_codecs.context.rows import ESCAPE_SYMBOL, NEAR, OFFSET, ROWS, cell_edges, normal_cdf, row_frequencies
from linepress_codecs.contracts import Geometry, Lines, Packed
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import FORMATS, Format
from linepress_codecs.layout import to_lines
from linepress_codecs.tans.bits import BitReader, BitWriter
from linepress_codecs.tans.static import StaticTables, elements_of

from .test_tans import Stream, decode_states

BF16 = FORMATS["bf16"]


def bf16(values: np.ndarray) -> np.ndarray:
    """Rounded to nearest, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def autoregressive(channels: int, tokens: int, slope: float, seed: int, mean: float = 0.0) -> np.ndarray:
    """[1, tokens, channels]: stationary, deviation 1 in every channel."""
    rng = np.random.Generator(np.random.PCG64(seed))
    x = np.zeros((tokens, channels))
    x[0] = rng.normal(size=channels)
    for t in range(1, tokens):
        x[t] = slope * x[t - 1] + math.sqrt(1 - slope**2) * rng.normal(size=channels)
    return (x + mean)[None]


def bits_of(value: int) -> int:
    return value.bit_length()


def reference_cell(u: int, cell: int, fmt: Format) -> tuple[int, int, int]:
    """(index, raw bits, their value) of a finite, non-zero element in the words of FORMAT-ai.md."""
    shape = FloatShape.of(fmt)
    sign, magnitude = u >> (fmt.bits - 1), u & ((1 << (fmt.bits - 1)) - 1)
    exponent, significand = magnitude >> fmt.mantissa_bits, magnitude & ((1 << fmt.mantissa_bits) - 1)
    if exponent:
        significand |= 1 << fmt.mantissa_bits
    top = max(exponent, 1) - shape.bias - fmt.mantissa_bits + bits_of(significand) - 1
    if top < cell:
        index, raw = 9 + top - cell, bits_of(significand) - 1
    else:
        raw = max(bits_of(significand) - 1 - (top - cell), 0)
        grow = max(top - cell - bits_of(significand) + 1, 0)
        index = 8 + ((significand >> raw) << grow)
    return (-index if sign else index), raw, significand & ((1 << raw) - 1)


def reference_line(packed: Packed, i: int, model: ChannelTables, streams: int, r: int) -> list[tuple[int, int]]:
    """(cell index or `ESCAPED`, raw field) of each element, read the slow and obvious way."""
    size = 1 << r
    m = packed.format.elements_in(packed.line_bytes)
    chain = m // streams
    stream = Stream(packed, i)
    mode, bits, base = decode_states([1, size // 16, size - size // 16 - 1], r, 1)[stream.read(r)]
    assert mode == 2
    states = [base + stream.read(bits)] + [stream.read(r) for _ in range(streams - 1)]
    frequency = row_frequencies(r)
    assert packed.geometry.channel is not None
    level, widening, mean, slope = (int(v) for v in model.columns[packed.geometry.channel[i]])
    first = level + widening
    mean_first, drop = 4 * mean, first // 4 - level // 4
    mean_next = mean_first << drop
    index = [0] * m
    guess = [mean_first] * streams
    for t in range(chain):
        for c in range(streams):
            sigma = (first if t == 0 else level) % 4
            cells = (abs(guess[c]) + 4) // 8
            near = min(cells, NEAR)
            table = decode_states([int(f) for f in frequency[sigma * (NEAR + 1) + near]], r, None)
            s, bits, base = table[states[c]]
            states[c] = base + stream.read(bits)
            if s == ESCAPE_SYMBOL:
                index[c * chain + t] = ESCAPED
                guess[c] = mean_next
                continue
            k = s - OFFSET + cells - near
            k = -k if guess[c] < 0 else k
            index[c * chain + t] = k
            centre = max(8 * abs(k) - 60, 0) * (1 if k > 0 else -1)
            if t == 0:
                centre <<= drop
            guess[c] = mean_next + (slope * (centre - mean_next) + 4) // 8
    raw = sum(state << (r * c) for c, state in enumerate(states)) | stream.read(stream.left) << (r * streams)
    out = []
    for j in range(m):
        cell = (first if j % chain == 0 else level) // 4 - 1
        if index[j] == ESCAPED:
            width = packed.format.bits
        elif index[j] == 0:
            width = 1
        else:
            shape = FloatShape.of(packed.format)
            magnitude, width = value_of(
                abs(index[j]), cell, np.uint64(shape.width), np.uint64(shape.mantissa), shape.bias, shape.top
            )
            assert width >= 0
            assert magnitude >= 0
        out.append((index[j], raw & ((1 << width) - 1)))
        raw >>= width
    assert raw == 0
    return out


@pytest.mark.parametrize("name", ["bf16", "fp16", "e4m3", "e5m2", "e4m3fnuz", "e5m2fnuz"])
def test_cells_of_every_value(name: str) -> None:
    """Every element of a format: cell by the text's words, and back to the element with its raw bits."""
    fmt = FORMATS[name]
    shape = FloatShape.of(fmt)
    rng = np.random.Generator(np.random.PCG64(1))
    every = np.arange(1 << fmt.bits) if fmt.bits == 8 else rng.integers(0, 1 << 16, 3000)
    width, mantissa = np.uint64(fmt.bits), np.uint64(fmt.mantissa_bits)
    for u in every.tolist():
        for cell in (-20, -3, 0, 2, 9):
            index, raw = cell_of(np.uint64(u), cell, width, mantissa, shape.bias)
            if abs(index) == ESCAPED or index == 0:
                continue
            want = reference_cell(u, cell, fmt)
            assert (index, int(raw)) == want[:2], f"{name} {u:#x} cell {cell}"
            magnitude, back = value_of(abs(index), cell, width, mantissa, shape.bias, shape.top)
            assert back == int(raw)
            assert magnitude | want[2] | ((u >> (fmt.bits - 1)) << (fmt.bits - 1)) == u


def test_cells_ascend_and_tile_the_line() -> None:
    edges = [cell_edges(k) for k in range(-60, 61)]
    for (_, high), (low, _) in itertools.pairwise(edges):
        assert low == high or (abs(low - high) <= 2.0**-7 and abs(low) <= 2.0**-8)
    for k in (9, 10, 30, -9, -30):
        low, high = cell_edges(k)
        assert middle(np.int64(k)) == round(8 * (low + high) / 2)


def test_normal_cdf_against_the_library() -> None:
    z = np.linspace(-6.5, 6.5, 2001)
    want = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z])
    assert np.abs(normal_cdf(z) - want).max() < 1e-12
    assert normal_cdf(np.array([-50.0, 50.0])).tolist() == pytest.approx([0.0, 1.0], abs=1e-11)


@pytest.mark.parametrize(
    ("precision", "digest"),
    [(9, "b038e8f6ceb0d98f"), (10, "0d2c9df98701ac90"), (11, "afd8d4c7713d184c"), (12, "7f85e836e516c65d")],
)
def test_rows_never_change(precision: int, digest: str) -> None:
    """The rows are part of the format: a change of any frequency needs a new format version."""
    rows = row_frequencies(precision)
    assert rows.shape == (ROWS, 256)
    assert (rows.sum(axis=1) == 1 << precision).all()
    assert (rows[:, ESCAPE_SYMBOL] >= 1).all()
    assert (rows[:, 159:ESCAPE_SYMBOL] == 0).all()
    assert hashlib.sha256(rows.astype("<i4").tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize("streams", [1, 2, 4, 8])
@pytest.mark.parametrize("name", ["bf16", "fp16", "fp32", "e4m3"])
def test_streams_as_the_format_says(name: str, streams: int) -> None:
    fmt = FORMATS[name]
    values = autoregressive(8, 128, 0.9, 3, mean=1.5)
    values[0, :, 3] *= 1e-3
    values[0, :, 4] += 40
    values[0, 7, 5] = 500
    wide = values.astype(np.float32).view(np.uint32)
    array = {
        "bf16": bf16(values),
        "fp32": wide,
        "fp16": values.astype(np.float16).view(np.uint16),
        "e4m3": (bf16(values) >> 8).astype(np.uint8),
    }[name]
    lines = to_lines(array, "channel", fmt)
    model = fit_channels([lines], streams)
    assert model is not None
    codec = Context(streams=streams)
    tables = ContextTables(model, codec.precision)
    packed = codec.encode(lines, tables)
    assert np.array_equal(codec.decode(packed, tables), lines.data)
    elements = elements_of(lines.data, fmt)
    chain = elements.shape[1] // streams
    checked = 0
    for i in range(0, len(lines), 5):
        if packed.bits[i] >= 512:
            continue
        level, widening = (int(v) for v in model.columns[lines.geometry.channel[i], :2])  # type: ignore[index]
        for j, (index, field) in enumerate(reference_line(packed, i, model, streams, codec.precision)):
            u = int(elements[i, j])
            if index == ESCAPED:
                assert field == u
            elif index == 0:
                assert u in (0, 1 << (fmt.bits - 1))
            else:
                cell = ((level + widening) if j % chain == 0 else level) // 4 - 1
                want = reference_cell(u, cell, fmt)
                assert (index, field) == (want[0], want[2])
            checked += 1
    assert checked > 100


def test_the_last_cell_before_the_escape() -> None:
    """Indices around the end of the symbols, on both sides, with and without a shift."""
    tables = ContextTables(ChannelTables(np.array([[4, 0, 0, 0], [4, 0, 60, 0], [4, 0, -60, 8]], np.int32)), 10)
    steps = np.arange(-140, 140, dtype=np.float64) + 0.25
    values = np.concatenate([steps, steps])[: 32 * 17].reshape(17, 32)
    for channel in range(3):
        ids = np.full(17, channel, np.uint32)
        lines = Lines(bf16(values).view(np.uint8), BF16, Geometry(ids, 3))
        codec = Context()
        packed = codec.encode(lines, tables)
        assert np.array_equal(codec.decode(packed, tables), lines.data)
        assert np.array_equal(codec.measure(lines, tables), packed.bits)


@pytest.mark.parametrize("slope", [0.0, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("mean", [0.0, 3.0, 10.0])
def test_near_the_closed_form_on_normal_data(slope: float, mean: float) -> None:
    """Entropy of the value given the one before: log2(s sqrt(2 pi e)) - E log2(ulp), s = sqrt(1 - slope^2).

    No code of this model's class goes below it (up to sampling error); this one stays within 1.5 % above: cells are
    up to half a deviation wide with raw bits inside (0.15 %), deviations are quantised and outliers hedged. The first
    element of each stream has no context, in the closed form too.
    """
    values = autoregressive(64, 2048, slope, 11, mean)
    stored = bf16(values)
    lines = to_lines(stored, "channel", BF16)
    codec = Context()
    model = fit_channels([lines], codec.streams)
    assert model is not None
    tables = ContextTables(model, codec.precision)
    exponent = ((stored >> 7) & 255).astype(np.float64) - 127
    ulp = exponent.mean() - 7
    entropy = 0.5 * math.log2(2 * math.pi * math.e)
    later = entropy + 0.5 * math.log2(1 - slope**2) - ulp
    first = entropy - ulp
    bound = (later * (16 - 1) + first) / 16
    got = codec.measure(lines, tables).mean() / 32
    if math.sqrt(1 - slope**2) / 2.0**ulp > 4:
        assert got >= bound * 0.998
        assert got <= bound * 1.015 + 0.05
    else:
        # Below four ulp a value is a lump, not a density: the closed form no longer bounds from below.
        assert got <= bound * 1.015 + 0.15


def test_states_are_paid_by_raw_bits_even_far_from_zero() -> None:
    """Mean 46 deviations away: cells of one ulp would leave no raw bits to start the states from (4.44 bits)."""
    lines = to_lines(bf16(autoregressive(64, 2048, 0.9, 11, mean=20.0)), "channel", BF16)
    codec = Context()
    got = codec.measure(lines, codec.fit([lines])).mean() / 32
    assert got < 4.15  # closed form 3.92


def test_parameters_of_a_known_process() -> None:
    lines = to_lines(bf16(autoregressive(32, 4096, 0.75, 5, mean=2.0)), "channel", BF16)
    model = fit_channels([lines], 1)
    assert model is not None
    level, widening, mean, slope = model.columns.T
    assert np.median(slope) == 6  # 0.75 in eighths
    assert np.median(level) == round(4 * math.log2(math.sqrt(1 - 0.75**2)))
    assert np.median(level + widening) == 0  # deviation 1
    assert np.median(mean) == 8  # 2.0 in half cells of 2^(0 - 1)


def test_streams_cost_their_first_elements_only() -> None:
    lines = to_lines(bf16(autoregressive(32, 1024, 0.9, 5)), "channel", BF16)
    mean = {}
    for streams in (1, 2, 4):
        codec = Context(streams=streams)
        mean[streams] = codec.measure(lines, codec.fit([lines])).mean()
    gain = -0.5 * math.log2(1 - 0.9**2)  # what context is worth to one element
    assert mean[2] - mean[1] == pytest.approx(gain, abs=0.7)
    assert mean[4] - mean[2] == pytest.approx(2 * gain, abs=1.2)


def test_falls_back_without_channels_and_when_channels_do_not_pay() -> None:
    array = bf16(autoregressive(32, 512, 0.9, 5))
    row = to_lines(array.reshape(-1), "row", BF16)
    tables = Context().fit([row])
    assert isinstance(tables, ContextTables)
    assert isinstance(tables.model, StaticTables)
    adaptive = Adaptive(streams=2, precision=10)
    assert np.array_equal(Context().measure(row, tables), adaptive.measure(row, adaptive.fit([row])))
    rng = np.random.Generator(np.random.PCG64(1))
    two_values = np.where(rng.random((1, 512, 32)) < 0.5, 0x3F80, 0x4000).astype(np.uint16)
    lines = to_lines(two_values, "channel", BF16)
    tables = Context().fit([lines])
    assert isinstance(tables, ContextTables)
    assert isinstance(tables.model, StaticTables)


def test_lines_of_unknown_channels_still_code() -> None:
    lines = to_lines(bf16(autoregressive(8, 256, 0.9, 5)), "channel", BF16)
    tables = Context().fit([lines])
    other = Lines(lines.data, BF16, Geometry(np.full(len(lines), 77, np.uint32), 78))
    packed = Context().encode(other, tables)
    assert np.array_equal(Context().decode(packed, tables), lines.data)
    bare = Lines(lines.data, BF16)
    assert np.array_equal(Context().decode(Context().encode(bare, tables), tables), lines.data)


@settings(deadline=None)
@given(
    st.integers(0, 20).flatmap(
        lambda n: st.tuples(
            *(
                st.lists(st.integers(low, high), min_size=n, max_size=n)
                for low, high in ((-500, 500), (0, 48), (-2047, 2047), (-8, 8))
            )
        )
    )
)
def test_channel_tables_round_trip(columns: tuple[list[int], ...]) -> None:
    table = ChannelTables(np.array(columns, np.int32).reshape(len(COLUMNS), -1).T)
    out = BitWriter()
    table.write(out)
    source = BitReader(out.to_bytes())
    again = ChannelTables.read(source)
    source.finish()
    assert np.array_equal(again.columns, table.columns)


@pytest.mark.parametrize(
    ("column", "value", "message"), [(1, 49, "widening"), (2, 2048, "mean"), (3, 9, "slope"), (0, 9000, "level")]
)
def test_parameters_out_of_range_are_refused(column: int, value: int, message: str) -> None:
    columns = np.zeros((3, 4), np.int32)
    columns[1, column] = value
    out = BitWriter()
    out.write(1, 1)
    ChannelTables(columns).write(out)
    with pytest.raises(CorruptDataError, match=message):
        Context().tables_from_bytes(out.to_bytes())


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["bf16", "fp16", "fp32", "e4m3", "e5m2"]),
    st.sampled_from([32, 64]),
    st.integers(1, 8),
    st.integers(0, 2**32),
    st.sampled_from([1, 2, 4, 8]),
)
def test_any_bits_come_back(fmt: str, line_bytes: int, n: int, seed: int, streams: int) -> None:
    """Random lines under parameters fitted on other, smooth lines: escapes, raw lines, infinities."""
    form = FORMATS[fmt]
    rng = np.random.Generator(np.random.PCG64(seed))
    smooth = np.cumsum(rng.integers(0, 3, (n, line_bytes)), axis=1).astype(np.uint8)
    rough = rng.integers(0, 256, (n, line_bytes), dtype=np.uint8)
    mixed = np.where(rng.random((n, line_bytes)) < 0.02, rough, smooth)
    ids = np.arange(n, dtype=np.uint32) % 3
    model = fit_channels([Lines(smooth, form, Geometry(ids, 3))], streams)
    assert model is not None
    codec = Context(streams=streams)
    tables = ContextTables(model, codec.precision)
    for data in (smooth, rough, mixed):
        lines = Lines(data, form, Geometry(ids, 3))
        packed = codec.encode(lines, tables)
        assert np.array_equal(codec.decode(packed, tables), data)
        assert np.array_equal(codec.measure(lines, tables), packed.bits)
