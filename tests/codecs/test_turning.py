"""`context` on channels whose means turn in pairs with the position: keys after a rotary embedding."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np
import pytest

from linepress_codecs.codecs.context import Context, ContextTables
from linepress_codecs.context.cells import ESCAPED
from linepress_codecs.context.channel import fit_channels
from linepress_codecs.context.order import order_of
from linepress_codecs.context.rotation import find_rotation, steps_of
from linepress_codecs.context.rows import ESCAPE_SYMBOL, NEAR, OFFSET, row_frequencies
from linepress_codecs.context.turning import TurningTables, sine_rom
from linepress_codecs.context.turning_fit import fit_turning
from linepress_codecs.contracts import Lines, Packed, Rotation
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import FORMATS
from linepress_codecs.layout import from_lines, iter_lines, to_lines
from linepress_codecs.tokens import Tokens

from .test_context import bf16, reference_cell
from .test_tans import Stream, decode_states

BF16 = FORMATS["bf16"]
TURN = 1 << 32
LLAMA3 = tuple(s if i < 8 else s // 8 for i, s in enumerate(steps_of(5e5, 16)))
"""Steps scaled in their slow part only, as Llama 3 scales them."""
ROTATIONS = {
    "half": Rotation(32, 0, False, steps_of(1e4, 16)),
    "interleaved": Rotation(32, 0, True, steps_of(1e4, 16)),
    "partial": Rotation(32, 0, False, steps_of(1e4, 8)),
    "tail": Rotation(48, 16, False, steps_of(1e4, 16)),
    "scaled": Rotation(32, 0, False, LLAMA3),
}


def keys(rotation: Rotation, tokens: int = 256, heads: int = 2, noise: float = 0.15, seed: int = 1) -> np.ndarray:
    """Values [heads, tokens, head_dim] of means of about 1 that turn, and normal noise."""
    rng = np.random.Generator(np.random.PCG64(seed))
    dim, pairs = rotation.head_dim, len(rotation.steps)
    mean = rng.normal(0, 1, (heads, 1, dim))
    angle = 2 * math.pi * np.arange(tokens)[:, None] * np.array(rotation.steps) / TURN
    out = np.broadcast_to(mean, (heads, tokens, dim)).copy()
    part = rotation.offset + np.arange(2 * pairs)
    a, b = (part[::2], part[1::2]) if rotation.interleaved else (part[:pairs], part[pairs:])
    out[..., a] = mean[..., a] * np.cos(angle) - mean[..., b] * np.sin(angle)
    out[..., b] = mean[..., b] * np.cos(angle) + mean[..., a] * np.sin(angle)
    return out + rng.normal(0, noise, out.shape)


def payload(codec: Context, lines: Lines, model: object) -> float:
    return float(codec.measure(lines, ContextTables(model, codec.precision)).mean())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ROTATIONS)
def test_the_rotation_is_found_in_the_data(name: str) -> None:
    rotation = ROTATIONS[name]
    lines = to_lines(bf16(keys(rotation)), "row", BF16)
    codec = Context()
    tables = codec.fit([lines])
    assert isinstance(tables, ContextTables)
    model = tables.model
    assert isinstance(model, TurningTables)
    found = model.rotation
    assert (found.interleaved, found.offset, len(found.steps)) == (
        rotation.interleaved,
        rotation.offset,
        len(rotation.steps),
    )
    # Over the tokens that there are, each pair's phase is right to a sixteenth of a turn.
    drift = (np.array(found.steps) - np.array(rotation.steps) + TURN // 2) % TURN - TURN // 2
    assert np.abs(drift * 256 / TURN).max() < 1 / 16
    told = fit_turning([to_lines(bf16(keys(rotation)), "row", BF16, tokens=Tokens(rotation=rotation))], codec.streams)
    assert told is not None
    assert told.rotation == rotation
    assert payload(codec, lines, model) == pytest.approx(payload(codec, lines, told), rel=0.002)


@pytest.mark.parametrize("layout", ["row", "channel", "paged-hf", "paged-vllm", "paged-vllm-k", "paged-vllm-v"])
def test_the_mean_is_as_good_as_a_known_one(layout: str) -> None:
    """Turning keys cost what the same noise costs around constant means, in every layout."""
    still = replace(ROTATIONS["half"], steps=(0,) * 16)
    codec = Context()
    array = bf16(keys(ROTATIONS["half"], seed=3))
    turning, constant = (to_lines(a, layout, BF16) for a in (array, bf16(keys(still, seed=3))))
    tables = codec.fit([turning])
    packed = codec.encode(turning, tables)
    assert np.array_equal(codec.decode(packed, tables), turning.data)
    assert np.array_equal(from_lines(codec.decode(packed, tables), array.shape, layout, BF16), array)
    for i in (0, 7, len(packed) - 1):
        assert np.array_equal(codec.decode_line(packed, i, tables), turning.data[i])
    best = codec.measure(constant, codec.fit([constant])).mean()
    plain = fit_channels([turning], codec.streams)
    assert packed.bits.mean() < 1.015 * best
    assert packed.bits.mean() < 0.93 * payload(codec, turning, plain)


def test_keys_before_the_rotation_are_told_apart() -> None:
    still = replace(ROTATIONS["half"], steps=(0,) * 16)
    tables = Context().fit([to_lines(bf16(keys(still)), "row", BF16)])
    assert isinstance(tables, ContextTables)
    assert not isinstance(tables.model, TurningTables)
    assert find_rotation(keys(still)[0].astype(np.float32)[:20], 32, None) is None


def test_a_wrong_hint_is_not_believed() -> None:
    lines = to_lines(bf16(keys(ROTATIONS["half"])), "row", BF16)
    wrong = replace(ROTATIONS["half"], steps=steps_of(1e7, 16))
    hinted = replace(lines, rotation=wrong)
    model, other = fit_turning([lines], 2), fit_turning([hinted], 2)
    assert model is not None
    assert other is not None
    assert model.rotation == other.rotation


def test_rates_hold_over_more_tokens_than_the_sample() -> None:
    """6,000 positions: an error of the rate that 1,024 tokens do not show would turn the mean away."""
    rotation = Rotation(32, 0, False, LLAMA3)
    array = bf16(keys(rotation, 6000, 1))
    chunks = list(iter_lines(array, "row", BF16, 64 << 10))
    model, known = fit_turning(chunks, 2), fit_turning([replace(c, rotation=rotation) for c in chunks], 2)
    assert model is not None
    assert known is not None
    found, best = (sum(Context().measure(c, ContextTables(m, 10)).sum() for c in chunks) for m in (model, known))
    assert found < 1.004 * best


def test_sequences_start_anew() -> None:
    """Two sequences in one tensor: positions, not tokens, turn the means."""
    rotation = ROTATIONS["half"]
    one, two = keys(rotation, 160, seed=4), keys(rotation, 96, seed=4)
    array = bf16(np.concatenate([one, two], axis=1))
    positions = np.concatenate([np.arange(160), np.arange(96)]).astype(np.uint32)
    sizes = []
    for tokens in (None, Tokens(positions)):
        lines = to_lines(array, "row", BF16, tokens=tokens)
        sizes.append(Context().measure(lines, Context().fit([lines])).mean())
    assert sizes[1] < 0.99 * sizes[0]


def reference_turning(packed: Packed, i: int, model: TurningTables, streams: int, r: int) -> list[tuple[int, int]]:
    """(cell index or `ESCAPED`, cell exponent) of each element of a line, by FORMAT-ai.md."""
    size, m = 1 << r, packed.format.elements_in(packed.line_bytes)
    stream = Stream(packed, i)
    mode, bits, base = decode_states([1, size // 16, size - size // 16 - 1], r, 1)[stream.read(r)]
    assert mode == 2
    states = [base + stream.read(bits)] + [stream.read(r) for _ in range(streams - 1)]
    frequency = row_frequencies(r)
    assert packed.geometry.channel is not None
    assert packed.geometry.position is not None
    f, t0 = int(packed.geometry.channel[i]), int(packed.geometry.position[i])
    run, span = packed.geometry.channel_run or m, packed.geometry.channel_span or 1 << 40
    rotation, half = model.rotation, len(model.rotation.steps)
    order = order_of(packed, m, streams)
    index, cells, off = [0] * m, [0] * m, [0] * m
    for q, j in enumerate(order.steps.tolist()):
        c = f - f % span + (f % span + j // run) % span
        t = t0 + ((f % span + j) // span if run == 1 else j % run)
        place = c % rotation.head_dim - rotation.offset
        level, widening, mean, slope = (int(v) for v in model.columns[c])
        first = level + widening
        cell, finer, total, coarser = first // 4 - 1, first // 4 - level // 4, 4 * mean << 14, 0
        if 0 <= place < 2 * half:
            side, pair = (place % 2, place // 2) if rotation.interleaved else (place // half, place % half)
            p = c + (1 - 2 * side) * (1 if rotation.interleaved else half)
            phase = ((t * rotation.steps[pair] % TURN + (1 << 21)) % TURN) >> 22
            sine, cosine = _sine(phase), _sine(phase + 256)
            total = 4 * mean * cosine + (4 if side else -4) * int(model.columns[p][2]) * sine
            partner_cell = (int(model.columns[p][0]) + int(model.columns[p][1])) // 4 - 1
            coarser = max(cell - partner_cell, 0)
        centre = (total + (1 << (13 + coarser))) >> (14 + coarser)
        b = int(order.before[j])
        grade = first if b < 0 else level
        prediction = centre if b < 0 else (centre << finer) + (slope * off[b] + 4 >> 3)
        whole = (abs(prediction) + 4) // 8
        near = min(whole, NEAR)
        table = decode_states([int(v) for v in frequency[grade % 4 * (NEAR + 1) + near]], r, None)
        s, bits, base = table[states[q % streams]]
        states[q % streams] = base + stream.read(bits)
        k = s - OFFSET + whole - near
        k = -k if prediction < 0 else k
        seen = max(8 * abs(k) - 60, 0) * (1 if k > 0 else -1) << (finer if b < 0 else 0)
        escaped = s == ESCAPE_SYMBOL
        off[j] = 0 if escaped else seen - (centre << finer)
        index[j], cells[j] = ESCAPED if escaped else k, grade // 4 - 1
    return list(zip(index, cells, strict=True))


def _sine(phase: int) -> int:
    """Sine of ``phase`` / 1024 turns from the quarter-wave ROM."""
    quarter, rest = phase // 256 % 4, phase % 256
    return int(sine_rom()[rest if quarter % 2 == 0 else 256 - rest]) * (-1 if quarter > 1 else 1)


@pytest.mark.parametrize(("layout", "name"), [("row", "half"), ("channel", "tail"), ("paged-vllm-k", "interleaved")])
def test_streams_as_the_format_says(layout: str, name: str) -> None:
    array = bf16(keys(ROTATIONS[name]))
    array[1, 40, 7] = bf16(np.array([900.0]))[0]
    lines = to_lines(array, layout, BF16)
    model = fit_turning([lines], 2)
    assert model is not None
    packed = Context().encode(lines, ContextTables(model, 10))
    stored = lines.data.view("<u2")
    for i in (0, 3, len(lines) // 2, len(lines) - 1):
        for j, (k, cell) in enumerate(reference_turning(packed, i, model, 2, 10)):
            if k != ESCAPED:
                assert k == reference_cell(int(stored[i, j]), cell, BF16)[0]


def test_the_rom_is_the_same_everywhere() -> None:
    rom = sine_rom()
    assert (int(rom[0]), int(rom[128]), int(rom[256])) == (0, 11585, 16384)
    assert hashlib.sha256(rom.astype("<i4").tobytes()).hexdigest()[:16] == "6008b2c6a499dc44"


def test_tables_no_encoder_wrote_are_refused() -> None:
    model = fit_turning([to_lines(bf16(keys(ROTATIONS["half"])), "row", BF16)], 2)
    assert model is not None
    for bent in (
        replace(model.rotation, head_dim=24),
        replace(model.rotation, offset=2),
        replace(model.rotation, steps=()),
        replace(model.rotation, steps=(1,) * 17),
    ):
        data = ContextTables(TurningTables(model.columns, bent), 10).to_bytes()
        with pytest.raises(CorruptDataError, match="turning"):
            Context().tables_from_bytes(data)
    packed = Context().encode(to_lines(bf16(keys(ROTATIONS["half"])), "row", BF16), ContextTables(model, 10))
    assert packed.geometry.position is not None
    with pytest.raises(CorruptDataError, match="positions do not match"):
        Context().decode(
            replace(packed, geometry=replace(packed.geometry, position=packed.geometry.position[:-1])),
            ContextTables(model, 10),
        )
