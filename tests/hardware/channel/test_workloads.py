"""Streams of accesses: deterministic, in range, in the proportions asked for; traces parsed strictly."""

from __future__ import annotations

import numpy as np
import pytest

from linepress_hardware.channel import workloads as w
from linepress_hardware.errors import ConfigurationError

N, LINES = 5000, 1 << 14
SHAPE = w.DecodeShape(weight_lines=700, kv_lines=250, append_lines=50)
MAKERS = {
    "sequential": lambda seed: w.sequential(N, LINES, seed=seed),
    "random": lambda seed: w.random(N, LINES, seed=seed, write_share=0.3),
    "mixed": lambda seed: w.mixed(N, LINES, seed=seed, write_share=0.3),
    "kv-gather": lambda seed: w.kv_gather(N, LINES, seed=seed),
    "decode": lambda seed: w.decode(N, LINES, SHAPE, seed=seed),
}


@pytest.mark.parametrize("name", MAKERS)
def test_same_seed_same_stream_in_range(name: str) -> None:
    one, two, other = MAKERS[name](1), MAKERS[name](1), MAKERS[name](2)
    assert np.array_equal(one.line, two.line)
    assert np.array_equal(one.is_write, two.is_write)
    assert len(one) == N
    assert one.line.min() >= 0
    assert one.line.max() < LINES
    assert not np.array_equal(one.line, other.line)


def test_proportions() -> None:
    assert w.random(N, LINES, write_share=0.3).is_write.mean() == pytest.approx(0.3, abs=0.03)
    steps = np.diff(w.sequential(N, LINES).line)
    assert ((steps == 1) | (steps == 1 - LINES)).all()
    gather = np.diff(w.kv_gather(N, LINES, block_lines=16).line)
    assert (gather == 1).mean() > 15 / 16 - 0.01
    decode = w.decode(200_000, 1 << 20, SHAPE)
    assert decode.is_write.mean() == pytest.approx(0.05, abs=0.01)
    assert decode.append is not None
    assert np.array_equal(decode.append, decode.is_write)
    kv = decode.line >= int((1 << 20) * 700 / 950) // 64 * 64
    assert kv.mean() == pytest.approx(0.3, abs=0.02)


def test_decode_shape_of_a_known_model() -> None:
    # Llama-3.1-8B: 218.1 M weights a layer; KV of one token and layer is 2 x 8 x 128 x 2 B = 4 KiB.
    shape = w.DecodeShape.of_model(
        layers=32, hidden=4096, intermediate=14336, kv_heads=8, heads=32, head_dim=128, batch=4, context=1000
    )
    assert shape.weight_lines == 218_103_808 * 2 // 64
    assert shape.kv_lines == 4 * 1000 * 4096 // 64
    assert shape.append_lines == 4 * 4096 // 64
    with pytest.raises(ConfigurationError, match="positive"):
        w.DecodeShape.of_model(
            layers=0, hidden=1, intermediate=1, kv_heads=1, heads=1, head_dim=1, batch=1, context=1
        )


def test_trace_words() -> None:
    words = np.array([0 << 1, (64 << 1) | 1, (130 << 1)], "<u8")
    for form in (words, words.tobytes(), words.tolist()):
        stream = w.trace_stream(form)
        assert stream.line.tolist() == [0, 1, 2]
        assert stream.is_write.tolist() == [False, True, False]


@pytest.mark.parametrize(("data", "says"), [(b"1234567", "not a whole number of 8 B words"), (b"", "empty")])
def test_bad_traces(data: bytes, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        w.trace_stream(data)


def test_empty_workloads_and_intervals_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        w.random(0, 5)
    with pytest.raises(ConfigurationError, match="empty"):
        w.decode(5, 0, SHAPE)
    with pytest.raises(ConfigurationError, match="interval_ns"):
        w.random(5, 5).at_interval(0)
    with pytest.raises(ConfigurationError, match="no lines"):
        w.decode(5, 64, w.DecodeShape(0, 0, 0))


def test_lines_of_a_burst_share_an_id() -> None:
    assert w.sequential(12, 64).in_bursts(4, ids=2).id.tolist() == [0] * 4 + [1] * 4 + [0] * 4
    assert w.sequential(5, 64, ids=2).id.tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(ConfigurationError, match="moves nothing"):
        w.sequential(10, 64).in_bursts(0)
