"""Hostile bytes: 10,000 mutations, and the kernels under Numba's bounds checking."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from linepress_codecs.contracts import LineCodec
from linepress_codecs.formats import FORMATS
from linepress_codecs.registry import make, parse_spec
from linepress_codecs.testing import sample_lines
from linepress_codecs.testing.fuzzing import fuzz

CASES = [
    ("huffman", "bf16", 4000),
    ("huffman:tables=4:substreams=4", "bf16", 2500),
    ("huffman", "fp16", 1000),
    ("huffman:tables=2", "fp32", 1000),
    ("huffman", "e4m3", 1000),
    ("raw", "bf16", 500),
]


def test_ten_thousand_mutations_are_planned() -> None:
    assert sum(n for _, _, n in CASES) == 10_000


@pytest.mark.parametrize(("spec", "name", "mutations"), CASES)
def test_mutations(spec: str, name: str, mutations: int) -> None:
    codec = make(*parse_spec(spec))
    assert isinstance(codec, LineCodec)
    lines = dict(sample_lines(FORMATS[name]))["mixed"][:24]
    count = fuzz(codec, lines, mutations, seed=len(spec) + mutations)
    assert count.tried == mutations
    assert count.refused + count.decoded == mutations
    assert count.refused > mutations // 10
    assert count.decoded > 0


SCRIPT = """
import numpy as np
from linepress_codecs.huffman import kernels
from linepress_codecs.contracts import Lines
from linepress_codecs.formats import FORMATS
from linepress_codecs.testing.fuzzing import fuzz
from linepress_codecs.registry import make
from linepress_codecs.testing import sample_lines
from numba import njit
try:
    njit(lambda a: a[a.size])(np.zeros(3))
except IndexError:
    print("bounds are checked")
for options in ({}, {"tables": 2, "substreams": 4}):
    codec = make("huffman", options)
    for name in ("bf16", "fp16", "fp32", "e4m3"):
        for line_bytes in (64, 32):
            for label, lines in sample_lines(FORMATS[name], line_bytes):
                tables = codec.fit([lines])
                packed = codec.encode(lines, tables)
                assert np.array_equal(codec.decode(packed, tables), lines.data), label
        fuzz(codec, dict(sample_lines(FORMATS[name]))["mixed"][:24], 300, seed=7)
print("whole")
"""


CHECKED = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_OPT": "0"}
"""Checked, and not optimised: compiling is all that takes time."""


@pytest.mark.slow
def test_kernels_stay_inside_their_arrays(tmp_path: Path) -> None:
    """Takes over 5 s: the kernels are compiled anew, with bounds checks, into a cache of their own."""
    environment = {**os.environ, **CHECKED, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:2] == ["bounds are checked", "whole"], done.stdout
