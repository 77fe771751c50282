"""tANS tables and the static codecs on them: by hand, against a plain reading of ``FORMAT-ai.md``, and by entropy."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_codecs import targets
from linepress_codecs.bounds import BoundAccumulator
from linepress_codecs.codecs.adaptive import Adaptive
from linepress_codecs.codecs.tans import Tans
from linepress_codecs.contracts import Lines, Packed
from linepress_codecs.errors import CorruptDataError, UnsupportedFormatError
from linepress_codecs.formats import FORMATS, Format
from linepress_codecs.layout import to_lines
from linepress_codecs.tans.bits import BitReader, BitWriter
from linepress_codecs.tans.fit import fit_static
from linepress_codecs.tans.static import INTEGER, SIGN_CODED, SIGN_RAW, Field, StaticTables, data_of, elements_of
from linepress_codecs.tans.tables import build, normalise
from linepress_codecs.testing import gaussian_bits, sample_lines

BF16 = FORMATS["bf16"]


def rows(*frequencies: dict[int, int]) -> np.ndarray:
    out = np.zeros((len(frequencies), 256), np.int32)
    for row, frequency in zip(out, frequencies, strict=True):
        for symbol, count in frequency.items():
            row[symbol] = count
    return out


class Stream:
    """A payload read bit by bit, low bit first."""

    def __init__(self, packed: Packed, i: int) -> None:
        start, size = int(packed.starts[i]), int(packed.bits[i])
        whole = int.from_bytes(packed.payload.tobytes(), "little")
        self.value = (whole >> start) & ((1 << size) - 1)
        self.left = size

    def read(self, bits: int) -> int:
        assert bits <= self.left, "a line reads past its size"
        value = self.value & ((1 << bits) - 1)
        self.value >>= bits
        self.left -= bits
        return value


def decode_states(frequency: Iterable[int], precision: int, reserved: int | None) -> list[tuple[int, int, int]]:
    """(symbol, bits, base) of each state, from the words of FORMAT-ai.md."""
    return _decode_states(tuple(frequency), precision, reserved)


@cache
def _decode_states(frequency: tuple[int, ...], precision: int, reserved: int | None) -> list[tuple[int, int, int]]:
    size = 1 << precision
    step = size // 2 + size // 8 + 3
    symbol: list[int | None] = [None] * size
    if reserved is not None:
        for x in range(15, size, 16):
            symbol[x] = reserved
    at = 0
    for s, count in enumerate(frequency):
        if s == reserved:
            continue
        for _ in range(count):
            while symbol[at] is not None:
                at = (at + step) % size
            symbol[at] = s
            at = (at + step) % size
    seen = list(frequency)
    out = []
    for x in range(size):
        s = symbol[x]
        assert s is not None
        y = seen[s]
        seen[s] += 1
        bits = precision - (y.bit_length() - 1)
        out.append((s, bits, (y << bits) - size))
    return out


def reference_line(packed: Packed, i: int, tables: StaticTables, streams: int) -> list[int]:
    """Elements of one line, read the slow and obvious way."""
    r, width, fmt = tables.precision, packed.format.bits, packed.format
    m = fmt.elements_in(packed.line_bytes)
    stream = Stream(packed, i)
    if stream.left == 4:
        assert stream.read(4) == 15
        return [0] * m
    head = decode_states([int(f) for f in tables.mode], r, 1)
    mode, bits, base = head[stream.read(r)]
    x = base + stream.read(bits)
    if mode == 0:
        value = x | stream.read(stream.left) << r
        return [(value >> (width * j)) & ((1 << width) - 1) for j in range(m)]
    states = [x] + [stream.read(r) for _ in range(streams - 1)]
    table = decode_states([int(f) for f in tables.frequency[mode - 2]], r, None)
    coded = m - tables.tail
    symbols = []
    for j in range(coded):
        s, bits, base = table[states[j % streams]]
        states[j % streams] = base + stream.read(bits)
        symbols.append(s)
    raw = sum(state << (r * c) for c, state in enumerate(states))
    raw |= stream.read(stream.left) << (r * streams)
    field, out = tables.field, []
    for j in range(m):
        s = symbols[j] if j < coded else 0
        if s == 0:
            out.append(raw & ((1 << width) - 1))
            raw >>= width
        elif s == 1:
            out.append(0)
        else:
            v = s - 2 + tables.first
            low = raw & ((1 << field.low) - 1)
            raw >>= field.low
            if field.signed == SIGN_RAW:
                sign, magnitude = raw & 1, v
                raw >>= 1
            elif field.signed == SIGN_CODED:
                sign, magnitude = v & 1, v >> 1
            else:
                out.append(((v << field.low) | low) ^ field.flip)
                continue
            out.append((sign << (width - 1)) | (magnitude << field.low) | low)
    assert raw == 0
    return out


def test_table_by_hand() -> None:
    """Six bits, A 32, B 16, C 16: states alternate as the step of 43 lays them, A reads 1 bit, B and C read 2."""
    machine = build(rows({0: 32, 1: 16, 2: 16}), 6)
    entries = [(int(e) >> 16, int(e) >> 12 & 15, int(e) & 4095) for e in machine.decode]
    assert [s for s, _, _ in entries].count(0) == 32
    assert entries[0] == (0, 1, 0)  # first A: y = 32, one bit, (32 << 1) - 64
    assert entries[43] == (0, 1, 2 * next(k for k, x in enumerate(sorted(43 * i % 64 for i in range(32))) if x == 43))
    assert {(s, b) for s, b, _ in entries} == {(0, 1), (1, 2), (2, 2)}
    assert entries == decode_states([32, 16, 16], 6, None)


@pytest.mark.parametrize("precision", [6, 9, 11, 12])
def test_encoder_undoes_decoder(precision: int) -> None:
    rng = np.random.Generator(np.random.PCG64(precision))
    size = 1 << precision
    frequency = normalise(rng.integers(0, 1000, 20) ** 2, size, np.arange(20) < 3)
    machine = build(rows({s: int(f) for s, f in enumerate(frequency)}), precision)
    for x in range(size):
        entry = int(machine.decode[x])
        symbol, bits, base = entry >> 16, entry >> 12 & 15, entry & 4095
        for read in {0, (1 << bits) - 1}:
            before = size + base + read
            nb = (before + int(machine.encode_bits[symbol])) >> 16
            after = int(machine.encode_state[(before >> nb) + int(machine.encode_find[symbol])])
            assert (nb, before & ((1 << nb) - 1), after) == (bits, read, size + x)


def test_reserved_states_are_those_that_end_in_ones() -> None:
    machine = build(rows({0: 1, 1: 64, 2: 959}), 10, reserved=1)
    symbols = machine.decode >> 16
    assert np.array_equal(np.flatnonzero(symbols == 1), np.arange(15, 1024, 16))
    with pytest.raises(ValueError, match="reserved"):
        build(rows({0: 1, 1: 63, 2: 960}), 10, reserved=1)
    with pytest.raises(ValueError, match="sum"):
        build(rows({0: 1023}), 10)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=200), st.sampled_from([9, 10, 12]))
def test_normalise(counts: list[int], precision: int) -> None:
    size = 1 << precision
    must = np.zeros(len(counts), bool)
    must[0] = True
    out = normalise(np.array(counts), size, must)
    assert out.sum() == size
    assert out[0] >= 1
    whole = sum(counts)
    for count, f in zip(counts[1:], out[1:], strict=True):
        if count * 2 * size >= whole > 0:
            assert f >= 1
        if count == 0 and whole:
            assert f == 0


@given(st.lists(st.tuples(st.integers(1, 2**31), st.integers(-(2**31), 2**31)), max_size=50))
def test_table_bits(values: list[tuple[int, int]]) -> None:
    out = BitWriter()
    for positive, signed in values:
        out.gamma(positive)
        out.signed(signed)
        out.write(positive, 7)
    out.write_many([p % 8 for p, _ in values], 3)
    source = BitReader(out.to_bytes())
    for positive, signed in values:
        assert source.gamma() == positive
        assert source.signed() == signed
        assert source.read(7) == positive % 128
    assert source.read_many(len(values), 3).tolist() == [p % 8 for p, _ in values]
    source.finish()
    with pytest.raises(CorruptDataError, match="end early"):
        source.read(64)


@pytest.mark.parametrize("fmt", [f for f in FORMATS.values() if f.bits <= 32], ids=lambda f: f.name)
@pytest.mark.parametrize("codec", [Adaptive(), Tans(streams=1), Adaptive(tables=2, streams=8, precision=9)], ids=str)
def test_streams_as_the_format_says(codec: Adaptive | Tans, fmt: Format) -> None:
    for name, lines in sample_lines(fmt):
        if name not in ("mixed", "sparse", "gaussian"):
            continue
        tables = codec.fit([lines])
        assert isinstance(tables, StaticTables)
        packed = codec.encode(lines, tables)
        want = elements_of(lines.data, fmt)
        for i in range(0, len(lines), 3):
            got = reference_line(packed, i, tables, codec.streams)
            assert got == want[i].tolist(), f"{codec} {fmt.name} {name} line {i}"


def test_size_of_a_line_by_hand() -> None:
    """One exponent only: the symbol has 1,023 of 1,024 states, so 32 steps read almost nothing.

    States of 4 streams are 40 of the 256 raw bits; a line is the raw bits, and a handful of bits for the steps: each
    costs log2(1024 / 1023) = 0.0014, the mode at most log2(1024 / 959) and a bit of rounding a stream.
    """
    rng = np.random.Generator(np.random.PCG64(1))
    mantissas = rng.integers(0, 128, (200, 32)).astype(np.uint16)
    signs = rng.integers(0, 2, (200, 32)).astype(np.uint16) << 15
    lines = Lines((signs | (120 << 7) | mantissas).view(np.uint8), BF16)
    codec = Tans()
    tables = codec.fit([lines])
    bits = codec.measure(lines, tables)
    assert bits.min() >= 256
    assert bits.max() <= 256 + 5
    assert bits.mean() <= 256.2


def test_states_cost_nothing() -> None:
    """Eight streams cost no more than one: their states are raw bits that had to be stored anyway."""
    lines = to_lines(gaussian_bits(BF16, 64_000, 0.02, 5), "row", BF16)
    sizes = {}
    for streams in (1, 2, 4, 8):
        codec = Tans(streams=streams)
        sizes[streams] = codec.measure(lines, codec.fit([lines])).mean()
    assert max(sizes.values()) - min(sizes.values()) < 0.6
    bound = BoundAccumulator(BF16).add(lines).bounds()["field_order0"].bits_per_value * 32
    assert bound <= sizes[1] + 0.5
    assert sizes[1] <= bound + 0.5


@pytest.mark.parametrize("fmt", ["bf16", "fp16", "e4m3", "e5m2", "fp32", "int8"])
def test_within_half_a_percent_of_the_entropy(fmt: str) -> None:
    """Independent elements of one distribution: no line beats another's table, so order-0 entropy is the bound."""
    form = FORMATS[fmt]
    lines = to_lines(gaussian_bits(form, 400_000, 0.02, 7), "row", form)
    bounds = BoundAccumulator(form).add(lines).bounds()
    codec = Adaptive(tables=1, mantissa=0)
    got = codec.measure(lines, codec.fit([lines])).sum() / (len(lines) * form.elements_in(64))
    joint, field = bounds["joint_order0"].bits_per_value, bounds["field_order0"].bits_per_value
    assert got >= joint * 0.999
    limit = 1.005 if form.is_float and form.bits > 8 else 1.02
    assert got <= field * limit


def test_mantissa_bit_pays_on_a_normal_distribution() -> None:
    """Within one exponent small mantissas are likelier, so coding the top bit gains; auto finds that."""
    lines = to_lines(gaussian_bits(BF16, 400_000, 0.02, 7), "row", BF16)
    size = {m: int(Adaptive(1, m).measure(lines, Adaptive(1, m).fit([lines])).sum()) for m in (0, 1, 2, -1)}
    assert size[1] < size[0]
    assert size[-1] <= min(size.values())


def test_tables_follow_lines_of_two_scales() -> None:
    """Lines alternate between two scales eight octaves apart: two tables gain about one bit an element over one."""
    small, large = gaussian_bits(BF16, 32_000, 2.0**-8, 1), gaussian_bits(BF16, 32_000, 1.0, 2)
    data = np.stack([small.reshape(-1, 32), large.reshape(-1, 32)], axis=1).reshape(-1)
    lines = to_lines(data, "row", BF16)
    one, two = Adaptive(tables=1, mantissa=0), Adaptive(tables=2, mantissa=0)
    gain = one.measure(lines, one.fit([lines])).mean() - two.measure(lines, two.fit([lines])).mean()
    assert 29 < gain < 33  # one bit an element less one bit a line for the mode


def test_zero_lines_take_four_bits_and_raw_lines_twelve_more() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    data = gaussian_bits(BF16, 32 * 100, 0.02, 7).reshape(100, 32).copy()
    data[10] = 0
    data[20] = rng.integers(0, 65536, 32)
    lines = Lines(data.view(np.uint8), BF16)
    codec = Adaptive()
    bits = codec.measure(lines, codec.fit([lines]))
    assert bits[10] == 4
    assert bits[20] == 512 + 11


@pytest.mark.parametrize("form", targets.TARGETS)
def test_eight_escapes_in_a_row(form: str) -> None:
    """Neighbours that take more bits than a word holds, in a line that is still coded."""
    data = np.full((4_000, 32), 0x3F80, np.uint16)
    data[:, 1::2] += 0x80
    data[7, 8:16], data[8, 8:15] = 0x0080, 0x0080
    lines = Lines(data.view(np.uint8), BF16)
    codec = Tans(precision=12)
    tables = codec.fit([lines])
    with targets.forced(form):
        packed = codec.encode(lines, tables)
    escape = packed.bits[7].astype(int) - packed.bits[8]
    assert 12 + 16 - 8 - 2 <= escape <= 12 + 16 - 8
    assert packed.bits[7] < 512
    assert np.array_equal(codec.measure(lines, tables), packed.bits)
    assert np.array_equal(codec.decode(packed, tables), lines.data)


def test_small_tensors_do_not_pay_for_tables() -> None:
    lines = to_lines(gaussian_bits(BF16, 64, 0.02, 7), "row", BF16)
    tables = Adaptive().fit([lines])
    total = Adaptive().measure(lines, tables).sum() / 8 + len(tables.to_bytes())
    assert total <= 2 * 64 + 8


def test_exact_zeros_have_a_symbol_where_it_pays() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    data = np.where(rng.random(32_000) < 0.5, 0, gaussian_bits(BF16, 32_000, 0.02, 7)).astype(np.uint16)
    lines = to_lines(data, "row", BF16)
    codec = Adaptive(tables=1)
    tables = codec.fit([lines])
    assert isinstance(tables, StaticTables)
    assert tables.use_zero
    per_element = codec.measure(lines, tables).mean() / 32
    assert per_element < 1 + 0.5 * 10.7  # one bit to tell zeros, the rest as ever


def test_tables_of_another_width_or_precision_are_refused() -> None:
    lines = to_lines(gaussian_bits(BF16, 3200, 0.02, 7), "row", BF16)
    other = to_lines(gaussian_bits(FORMATS["fp32"], 3200, 0.02, 7), "row", FORMATS["fp32"])
    tables = Tans().fit([lines])
    with pytest.raises(UnsupportedFormatError, match="16-bit"):
        Tans().measure(other, tables)
    with pytest.raises(UnsupportedFormatError, match="precision"):
        Tans(precision=11).measure(lines, tables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": [0, 64, 960]}, "sum to more"),
        ({"frequency": [[0, 0, 1024]]}, "sum to more"),
        ({"frequency": [[1, 0, -1, 1024]]}, "out of range"),
        ({"first": 300}, "do not fit"),
    ],
)
def test_bad_tables_are_refused(change: dict[str, list[int]], message: str) -> None:
    good = {"mode": [1, 64, 959], "frequency": [[24, 0, 1000]], "first": 120}
    kept = {**good, **change}
    tables = StaticTables(
        10,
        16,
        Field(7, SIGN_RAW),
        int(kept["first"]),
        0,
        np.array(kept["mode"]),
        np.array(kept["frequency"]),  # type: ignore[call-overload]
    )
    with pytest.raises(CorruptDataError, match=message):
        Tans().tables_from_bytes(tables.to_bytes())
    restored = Tans().tables_from_bytes(
        StaticTables(
            10, 16, Field(7, SIGN_RAW), 120, 0, np.array(good["mode"]), np.array(good["frequency"])
        ).to_bytes()
    )
    assert isinstance(restored, StaticTables)
    assert restored.frequency.tolist() == good["frequency"]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["bf16", "e5m2", "fp32", "int4", "e8m0"]),
    st.sampled_from([32, 64, 128]),
    st.binary(min_size=0, max_size=1024),
    st.sampled_from([Tans(), Adaptive(2, streams=2), Adaptive(1, 3, 8, 12)]),
)
def test_any_bytes_come_back(fmt: str, line_bytes: int, data: bytes, codec: Tans | Adaptive) -> None:
    form = FORMATS[fmt]
    whole = np.frombuffer(data[: len(data) // line_bytes * line_bytes], np.uint8).reshape(-1, line_bytes)
    lines = Lines(whole, form)
    tables = codec.fit([lines])
    packed = codec.encode(lines, tables)
    assert np.array_equal(codec.decode(packed, tables), whole)
    assert np.array_equal(codec.measure(lines, tables), packed.bits)
    assert np.array_equal(data_of(elements_of(whole, form), form), whole)


def test_fit_survives_integers_at_their_extremes() -> None:
    form = FORMATS["int8"]
    lines = to_lines(np.array([-128, 127, 0, -1] * 6400, np.int8), "row", form)
    tables = fit_static([lines], precision=10, streams=4, tables=4, mantissa=None)
    assert tables.field.signed == INTEGER
    bits = Tans().measure(lines, tables)
    assert bits.min() >= 64 * 2
    assert bits.max() <= 64 * 3  # two bits to tell the values, one raw bit that carries nothing here


def test_packed_nibbles_gain_what_their_entropy_allows() -> None:
    """Normal values rounded to int4, -7 to 7: 3.0 bits of 4; no raw bits, so ten nibbles a line hold the states."""
    rng = np.random.Generator(np.random.PCG64(9))
    q = np.clip(np.round(rng.normal(0, 2.0, 128 * 3000)), -7, 7).astype(np.int64) & 15
    data = (q[0::2] | (q[1::2] << 4)).astype(np.uint8)
    lines = Lines(data.reshape(-1, 64), FORMATS["int4"])
    counts = np.bincount(q) / len(q)
    entropy = -(counts[counts > 0] * np.log2(counts[counts > 0])).sum()
    codec = Adaptive(tables=1, streams=4)
    tables = codec.fit([lines])
    assert isinstance(tables, StaticTables)
    got = codec.measure(lines, tables).mean() / 128
    assert entropy <= got <= entropy * 1.005 + tables.tail * (4 - entropy) / 128 + 0.02
