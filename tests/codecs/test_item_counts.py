"""Tables fitted from items counted before are those of a pass over the lines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from linepress_codecs.bounds import BoundAccumulator
from linepress_codecs.contracts import ItemCounts, Lines, spread_lines
from linepress_codecs.formats import FORMATS
from linepress_codecs.layout import to_lines
from linepress_codecs.testing.inputs import gaussian_bits
from linepress_codecs.variant import Variant

N_LINES = 20_000


class Counted(list[Lines]):
    item_counts: ItemCounts | None = None


def chunks(name: str) -> Counted:
    """Lines in two chunks, some all zero, some with zeros, some one value only."""
    fmt = FORMATS[name]
    lines = to_lines(gaussian_bits(fmt, N_LINES * fmt.elements_in(64), 0.02, 5), "row", fmt)
    data = lines.data.copy()
    data[::97] = 0
    data[5::211, :48] = 0
    data[7::311] = data[7, 0]
    lines = replace(lines, data=data)
    return Counted([lines[:7001], lines[7001:]])


def counted(parts: Counted) -> Counted:
    accumulator, sample, seen = BoundAccumulator(parts[0].format), [], 0
    for lines in parts:
        accumulator.add(lines)
        sample.append(spread_lines(lines, seen, sum(map(len, parts))))
        seen += len(lines)
    found = Counted(parts)
    found.item_counts = accumulator.item_counts(np.concatenate(sample))
    return found


@pytest.mark.parametrize("spec", ["huffman", "huffman:tables=4", "tans", "adaptive"])
@pytest.mark.parametrize("name", ["bf16", "fp16", "e4m3", "int8", "int16", "uint8"])
def test_tables_are_those_of_a_pass(name: str, spec: str) -> None:
    parts, codec = chunks(name), Variant.parse(spec).line_codec
    told = counted(parts)
    assert told.item_counts is not None
    assert told.item_counts.zero_lines >= N_LINES // 97
    assert codec.fit(told).to_bytes() == codec.fit(parts).to_bytes()


@pytest.mark.parametrize("name", ["fp32", "int4"])
def test_items_of_other_widths_are_not_told(name: str) -> None:
    assert counted(chunks(name)).item_counts is None
