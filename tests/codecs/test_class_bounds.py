"""Bounds of a codec's own class: never above its payload, whatever the layout, and kept where order-0 fails."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_codecs.bounds import BoundAccumulator
from linepress_codecs.codecs.tans import Tans
from linepress_codecs.contracts import LineCodec, Lines
from linepress_codecs.formats import FORMATS
from linepress_codecs.layout import to_lines
from linepress_codecs.registry import make
from linepress_codecs.testing import formats_of, sample_lines
from linepress_codecs.variant import Variant

from .test_context import autoregressive, bf16

BF16 = FORMATS["bf16"]
TOKEN_LAYOUTS = ("row", "channel", "paged-vllm", "paged-vllm-k", "paged-vllm-v", "paged-hf")
OWN_CLASS = ("context", "context:streams=8", "adaptive", "adaptive:tables=1", "tans", "tans:streams=1")
ORDER0 = ("huffman", "huffman:substreams=4", "window")


def figures(spec: str, lines: Lines) -> tuple[int, float, int]:
    """(payload bits, bits of the own-class bound, streams)."""
    codec = Variant.parse(spec).line_codec
    tables = codec.fit([lines])
    bits = codec.measure(lines, tables)
    own = codec.class_bound(lines.format, tables)
    assert own is not None
    for at in range(0, len(lines), 100):  # chunks add up
        own.add(lines[at : at + 100], bits[at : at + 100])
    bound = own.bound()
    assert bound.values == lines.format.elements_in(lines.data.size)
    return int(bits.sum(dtype=np.int64)), bound.bits_per_value * bound.values, codec.options()["streams"]


@pytest.mark.parametrize("layout", TOKEN_LAYOUTS)
@pytest.mark.parametrize("spec", OWN_CLASS)
def test_payload_is_not_below_the_bound_of_its_class(spec: str, layout: str) -> None:
    values = autoregressive(64, 512, 0.9, 7, mean=0.5) * np.exp2(np.arange(64) % 7 - 3)
    payload, bound, _ = figures(spec, to_lines(bf16(values), layout, BF16))
    assert bound <= payload <= 1.02 * bound


@pytest.mark.parametrize("layout", TOKEN_LAYOUTS)
@pytest.mark.parametrize("spec", ORDER0)
def test_payload_is_not_below_order_0_where_that_is_the_class(spec: str, layout: str) -> None:
    lines = to_lines(bf16(autoregressive(64, 512, 0.9, 7)), layout, BF16)
    codec = Variant.parse(spec).line_codec
    tables = codec.fit([lines])
    assert codec.class_bound(BF16, tables) is None
    bound = BoundAccumulator(BF16).add(lines).bounds()["field_order0"]
    assert int(codec.measure(lines, tables).sum(dtype=np.int64)) >= bound.bits_per_value * bound.values - len(lines)


@pytest.mark.parametrize("options", [{"tables": 4}, {"tables": 16}, {"tables": 2, "substreams": 4}], ids=str)
def test_huffman_that_chooses_among_tables_is_held_against_its_own_class(options: dict[str, int]) -> None:
    codec = make("huffman", options)
    assert isinstance(codec, LineCodec)
    for fmt in formats_of(codec):
        for name, lines in sample_lines(fmt):
            tables = codec.fit([lines])
            own = codec.class_bound(fmt, tables)
            if own is None or not len(lines):
                continue
            bits = codec.measure(lines, tables)
            own.add(lines, bits)
            bound = own.bound()
            assert int(bits.sum(dtype=np.int64)) >= bound.bits_per_value * bound.values - 1e-6, (fmt.name, name)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spec=st.sampled_from(OWN_CLASS),
    layout=st.sampled_from(TOKEN_LAYOUTS),
    fmt=st.sampled_from(["bf16", "e4m3"]),
    kind=st.sampled_from(["noise", "zeros", "normal", "sparse"]),
)
def test_any_data_any_layout(seed: int, spec: str, layout: str, fmt: str, kind: str) -> None:
    """payload + streams * lines >= bound: raw lines, zero lines, escapes and padding among them."""
    rng = np.random.Generator(np.random.PCG64(seed))
    form = FORMATS[fmt]
    array = rng.integers(0, 1 << form.bits, (2, 40, 32)).astype(form.storage)
    if kind != "noise":
        normal = bf16(rng.normal(size=array.shape) * np.exp2(rng.integers(-4, 5, 32)))
        array = (normal if fmt == "bf16" else normal >> 8).astype(form.storage)
    if kind == "zeros":
        array[0] = 0
    if kind == "sparse":
        array[rng.random(array.shape) < 0.9] = 0
    lines = to_lines(array, layout, form)
    payload, bound, streams = figures(spec, lines)
    assert payload + streams * len(lines) >= bound


def test_context_goes_below_order_0_but_not_below_its_class() -> None:
    """Slope 0.97, mean ten deviations: an order-0 bound is far above what the previous token leaves."""
    lines = to_lines(bf16(autoregressive(64, 2048, 0.97, 3, mean=10.0)), "channel", BF16)
    payload, bound, _ = figures("context", lines)
    order0 = BoundAccumulator(BF16).add(lines).bounds()["field_order0"]
    assert bound <= payload < 0.9 * order0.bits_per_value * order0.values


def test_known_entropy() -> None:
    """Exponents 120 and 121 in the ratio 1 : 3, all else raw: 8 + H(1/4) bits a value, by hand."""
    rng = np.random.Generator(np.random.PCG64(2))
    exponents = rng.permutation(np.repeat([120, 121], [8_000, 24_000]))
    bits = (exponents << 7 | rng.integers(0, 128, 32_000) | rng.integers(0, 2, 32_000) << 15).astype(np.uint16)
    lines = Lines(bits.view(np.uint8).reshape(-1, 64), BF16)
    codec = Tans()
    tables = codec.fit([lines])
    own = codec.class_bound(BF16, tables)
    assert own is not None
    own.add(lines, codec.measure(lines, tables))
    entropy = -0.25 * math.log2(0.25) - 0.75 * math.log2(0.75)
    bound = own.bound()
    assert bound.bits_per_value == pytest.approx(8 + entropy, abs=1e-9)
    assert bound.ratio == pytest.approx(16 / (8 + entropy))
    assert bound.contexts == 1


def test_no_lines_no_bound() -> None:
    codec = Tans()
    own = codec.class_bound(BF16, codec.fit([]))
    assert own is not None
    assert math.isnan(own.bound().ratio)
