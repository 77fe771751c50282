"""What the decoders of the classic codecs promise beyond the conformance kit: one code a line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from linepress_codecs.contracts import LineCodec, Lines, Packed, Tables
from linepress_codecs.errors import CorruptDataError
from linepress_codecs.formats import FORMATS
from linepress_codecs.registry import make, parse_spec
from linepress_codecs.testing import changed, sample_lines
from linepress_codecs.testing.fuzzing import fuzz

SPECS = [
    "zero",
    "repeat",
    "bdi",
    "bdi:accounting=gem5:threshold=50",
    "fpc",
    "fpcd",
    "cpack:threshold=75",
    "bpc",
    "bpc:delta=32",
    "sc2",
    "sc2:capacity=16",
    "best-of",
    "best-of:of=zero+sc2,capacity=64+huffman",
]


def codec_of(spec: str) -> LineCodec:
    codec = make(*parse_spec(spec))
    assert isinstance(codec, LineCodec)
    return codec


def decode_or_line(
    codec: LineCodec, packed: Packed, i: int, tables: Tables
) -> tuple[NDArray[np.uint8] | None, int | None]:
    """(line i, None), or (None, the line that the refusal names)."""
    try:
        return codec.decode_line(packed, i, tables), None
    except CorruptDataError as error:
        return None, error.line


@pytest.mark.parametrize("spec", SPECS[:11])
@pytest.mark.parametrize("line_bytes", [64, 32])
def test_a_line_has_one_code(spec: str, line_bytes: int) -> None:
    """Any bit of a code flipped: refused, or the code of another line, which that line's encoder writes alike."""
    codec = codec_of(spec)
    for name, lines in sample_lines(FORMATS["int32"], line_bytes):
        if name not in ("special values", "gaussian", "sparse", "mixed"):
            continue
        part = lines[4:14]
        tables = codec.fit([lines])
        packed = codec.encode(part, tables)
        rng = np.random.Generator(np.random.PCG64(5))
        for i in range(len(part)):
            start, size = int(packed.starts[i]), int(packed.bits[i])
            for bit in rng.permutation(size)[:40] + start:
                payload = packed.payload.copy()
                payload[bit // 8] ^= 1 << (bit % 8)
                bent = changed(packed, payload=payload)
                out, refused_at = decode_or_line(codec, bent, i, tables)
                if out is None:
                    assert refused_at == i
                    continue
                other = Lines(out[None], part.format)
                again = codec.encode(other, tables)
                assert again.bits[0] == size, f"{spec} {name}: line {i} has a second code (bit {bit - start})"
                code = np.unpackbits(payload, bitorder="little")[start : start + size]
                assert np.array_equal(np.unpackbits(again.payload, bitorder="little")[:size], code)


@pytest.mark.parametrize("spec", SPECS)
def test_mutations(spec: str) -> None:
    codec = codec_of(spec)
    lines = dict(sample_lines(FORMATS["int16"]))["mixed"][:24]
    count = fuzz(codec, lines, 1000, seed=11)
    assert count.tried == 1000
    assert count.refused + count.decoded == 1000
    assert count.refused > 100
    assert count.decoded > 0


SCRIPT = """
import numpy as np
from linepress_codecs.formats import FORMATS
from linepress_codecs.testing.fuzzing import fuzz
from linepress_codecs.registry import make, parse_spec
from linepress_codecs.testing import sample_lines
from numba import njit
try:
    njit(lambda a: a[a.size])(np.zeros(3))
except IndexError:
    print("bounds are checked")
for spec in ("zero", "bdi", "bdi:accounting=gem5", "fpc", "fpcd", "cpack", "bpc", "sc2", "best-of:of=zero+fpc"):
    codec = make(*parse_spec(spec))
    for name in ("bf16", "int32"):
        for line_bytes in (64, 32):
            for label, lines in sample_lines(FORMATS[name], line_bytes):
                tables = codec.fit([lines])
                packed = codec.encode(lines, tables)
                assert np.array_equal(codec.decode(packed, tables), lines.data), label
            fuzz(codec, dict(sample_lines(FORMATS[name], line_bytes))["mixed"][:24], 200, seed=7)
print("whole")
"""


CHECKED = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_OPT": "0"}
"""Checked, and not optimised: compiling is all that takes time."""


@pytest.mark.slow
def test_kernels_stay_inside_their_arrays(tmp_path: Path) -> None:
    """Takes over 5 s: the kernels are compiled anew, with bounds checks, into a cache of their own."""
    environment = {**os.environ, **CHECKED, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=115, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:2] == ["bounds are checked", "whole"], done.stdout
