"""Measure stages whose codecs got worse: put in place of the real one, they run on real workers.

A test sets ``linepress.run.plan.MEASURE_TARGET`` to one of them, which is what a bad commit would do.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np

from linepress.sources import TensorRef
from linepress.stages.measure.case import measure_case
from linepress_codecs.variant import Variant

LOSING = "linepress_kit.worse_codecs:losing_a_bit"
SLOWER = "linepress_kit.worse_codecs:five_percent_slower"
VICTIM = "huffman"
VICTIM_TENSORS = ("1", "_20")
"""Ends of names: one of the drawn tensors, and layer 20 of the bundled KV cache."""


def losing_a_bit(tensor: TensorRef, variant: Variant, **options: Any) -> dict[str, Any]:
    """`measure_case` with a Huffman decoder that flips the last bit of the first line of some tensors."""
    if variant.codec.codec_id != VICTIM or not tensor.name.endswith(VICTIM_TENSORS):
        return measure_case(tensor, variant, **options)
    true = type(variant.line_codec).decode

    def decode(*arguments: Any) -> Any:
        lines = np.array(true(*arguments))
        lines[0, -1] ^= 1
        return lines

    with patch.object(type(variant.line_codec), "decode", decode):
        return measure_case(tensor, variant, **options)


def five_percent_slower(tensor: TensorRef, variant: Variant, **options: Any) -> dict[str, Any]:
    """`measure_case` with a Huffman decoder that takes 5 % longer."""
    with slower_decode(variant, 0.05):
        return measure_case(tensor, variant, **options)


@contextlib.contextmanager
def slower_decode(variant: Variant, share: float) -> Iterator[None]:
    """Within the block the Huffman decoder spins for ``share`` of its own time after each call."""
    if variant.codec.codec_id != VICTIM:
        yield
        return
    with patch.object(type(variant.line_codec), "decode", _spinning(type(variant.line_codec).decode, share)):
        yield


def _spinning(true: Callable[..., Any], share: float) -> Callable[..., Any]:
    def decode(*arguments: Any) -> Any:
        start = time.perf_counter()
        lines = true(*arguments)
        end = time.perf_counter()
        until = end + share * (end - start)
        while time.perf_counter() < until:
            continue
        return lines

    return decode
