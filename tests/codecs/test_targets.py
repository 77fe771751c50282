"""Every form of the hot loops, on one machine: the same streams, hostile input, and no byte read past a buffer."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from linepress_codecs import targets
from linepress_codecs.contracts import LineCodec, Lines
from linepress_codecs.errors import CorruptDataError, SpecError
from linepress_codecs.formats import FORMATS
from linepress_codecs.layout import to_lines
from linepress_codecs.registry import make, parse_spec
from linepress_codecs.testing import gaussian_bits, sample_lines
from linepress_codecs.testing.fuzzing import fuzz

from .test_context import bf16
from .test_turning import ROTATIONS, keys

FORMS = tuple(targets.TARGETS)


def codec_of(spec: str) -> LineCodec:
    codec = make(*parse_spec(spec))
    assert isinstance(codec, LineCodec)
    return codec


def tokens(layout: str, heads: int = 1) -> Lines:
    """Some tokens of 64 channels, each with a mean and a memory of the token before; odd values here and there."""
    rng = np.random.Generator(np.random.PCG64(5))
    x = rng.normal(0, 1, (heads, 128, 64)).cumsum(axis=1) * 0.2 + rng.normal(0, 3, 64)
    bits = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    bits[0, 3, 5], bits[0, 40, 7], bits[0, 77, 9] = 0, 0x7F80, 0x0001
    return to_lines(bits, layout, FORMATS["bf16"])


CASES = {
    "tans": ("tans", "bf16"),
    "adaptive": ("adaptive", "bf16"),
    "adaptive e4m3": ("adaptive", "e4m3"),
    "tans int8": ("tans", "int8"),
    "window": ("window", "bf16"),
    "window e4m3": ("window:bits=2", "e4m3"),
    "context rows": ("context", "row"),
    "context channels": ("context", "channel"),
    "context four streams": ("context:streams=4", "row"),
    "context turning rows": ("context", "turning row"),
    "context turning channels": ("context", "turning channel"),
    "context turning, four streams": ("context:streams=4", "turning channel"),
}


def lines_of(kind: str) -> Lines:
    if kind in FORMATS:
        return dict(sample_lines(FORMATS[kind]))["mixed"]
    if kind.startswith("turning"):
        bits = bf16(keys(ROTATIONS["half"], 128, 2))
        bits[0, 3, 5], bits[0, 40, 7], bits[0, 77, 9] = 0, 0x7F80, 0x0001
        return to_lines(bits, kind.split()[1], FORMATS["bf16"])
    return tokens(kind)


@contextmanager
def guarded(data: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The bytes, with a page behind them that no one may read."""
    page = mmap.PAGESIZE
    room = -(-len(data) // page) * page
    memory = mmap.mmap(-1, room + page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address + room), page, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    copy = np.frombuffer(memory, np.uint8, len(data), room - len(data))
    copy[:] = data
    yield copy
    ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + room), page, mmap.PROT_READ | mmap.PROT_WRITE)


@pytest.mark.parametrize("case", CASES)
def test_all_forms_write_and_read_the_same(case: str) -> None:
    spec, kind = CASES[case]
    codec = codec_of(spec)
    inputs = [lines_of(kind)] if kind not in FORMATS else [x for _, x in sample_lines(FORMATS[kind])]
    for lines in inputs:
        tables = codec.fit([lines])
        codes = []
        for form in targets.TARGETS:
            with targets.forced(form):
                packed = codec.encode(lines, tables)
                assert np.array_equal(codec.measure(lines, tables), packed.bits)
                assert np.array_equal(codec.decode(packed, tables), lines.data)
                codes.append((packed.payload.tobytes(), packed.bits.tolist(), packed.starts.tolist()))
        assert all(code == codes[0] for code in codes)


def test_ten_thousand_mutations() -> None:
    """Of which every form refuses the same number."""
    for seed, (spec, kind) in enumerate(CASES.values()):
        counts = []
        for form in FORMS:
            with targets.forced(form):
                counts.append(fuzz(codec_of(spec), lines_of(kind)[:24], 10_000 // len(CASES), seed))
        assert all(count == counts[0] for count in counts), spec
        assert counts[0].refused > counts[0].tried // 20
        assert counts[0].decoded > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
@pytest.mark.parametrize("form", targets.TARGETS)
@pytest.mark.parametrize("case", CASES)
def test_nothing_is_read_past_a_payload_or_a_line(case: str, form: str) -> None:
    """Payload and lines end at a page that cannot be read, as they are, cut and with bits flipped."""
    spec, kind = CASES[case]
    codec, lines = codec_of(spec), lines_of(kind)
    rng = np.random.Generator(np.random.PCG64(9))
    with targets.forced(form):
        tables = codec.fit([lines])
        packed = codec.encode(lines, tables)
        with guarded(lines.data.reshape(-1)) as data:
            again = codec.encode(replace(lines, data=data.reshape(lines.data.shape)), tables)
            assert again.payload.tobytes() == packed.payload.tobytes()
        for trial in range(40):
            end = len(packed.payload) - (trial % 9 if trial else 0)
            with guarded(packed.payload[:end]) as payload:
                if trial % 3 == 1:
                    payload[rng.integers(len(payload) - 400, len(payload), 8)] = rng.integers(0, 256, 8)
                hostile = replace(packed, payload=payload)
                try:
                    assert codec.decode(hostile, tables).shape == lines.data.shape
                except CorruptDataError:
                    assert trial


@pytest.mark.parametrize("form", FORMS)
def test_lines_of_a_payload_lie_in_any_order_and_far_apart(form: str) -> None:
    """Half of them behind more bits than positions of 32 bits reach; the pages between are never touched."""
    codec, lines = codec_of("adaptive"), lines_of("bf16")
    tables = codec.fit([lines])
    packed = codec.encode(lines, tables)
    far = 600 << 20
    payload = np.zeros(far + len(packed.payload), np.uint8)
    payload[: len(packed.payload)] = payload[far:] = packed.payload
    starts = packed.starts.copy()
    starts[::2] += np.uint64(8 * far)
    order = np.random.Generator(np.random.PCG64(3)).permutation(len(lines))
    mixed = replace(
        packed, payload=payload, starts=starts[order], bits=packed.bits[order], geometry=packed.geometry[order]
    )
    with targets.forced(form):
        assert np.array_equal(codec.decode(mixed, tables), lines.data[order])


def test_a_damaged_line_is_named_in_the_middle_of_a_batch() -> None:
    lines = Lines(gaussian_bits(FORMATS["bf16"], 32 * 100, 0.02, 3).view(np.uint8).reshape(-1, 64), FORMATS["bf16"])
    for spec in ("tans", "adaptive", "window"):
        codec = codec_of(spec)
        tables = codec.fit([lines])
        packed = codec.encode(lines, tables)
        bits = packed.bits.copy()
        bits[[41, 42, 77]] -= 1
        for form in FORMS:
            with targets.forced(form), pytest.raises(CorruptDataError) as caught:
                codec.decode(replace(packed, bits=bits), tables)
            assert caught.value.line == 41


def test_targets_are_named() -> None:
    assert targets.target().name in targets.TARGETS
    with pytest.raises(SpecError, match="avx2"), targets.forced("sse9"):
        pass


@pytest.mark.slow
def test_a_process_can_be_held_to_older_instructions(tmp_path: Path) -> None:
    """Takes over 5 s: the decoder is compiled anew for another processor, into a cache of its own."""
    codec, lines = codec_of("tans"), lines_of("bf16")
    tables = codec.fit([lines])
    packed = codec.encode(lines, tables)
    parts = {"payload": packed.payload, "starts": packed.starts, "bits": packed.bits}
    np.savez(tmp_path / "code.npz", tables=np.frombuffer(tables.to_bytes(), np.uint8), **parts)
    script = (
        "import hashlib, sys, numpy as np; from linepress_codecs import targets\n"
        "from linepress_codecs.contracts import Packed\n"
        "from linepress_codecs.registry import make; from linepress_codecs.formats import FORMATS\n"
        "code, codec = np.load(sys.argv[1]), make('tans', {})\n"
        "packed = Packed(code['payload'], code['starts'], code['bits'], FORMATS['bf16'], 64)\n"
        "out = codec.decode(packed, codec.tables_from_bytes(code['tables'].tobytes()))\n"
        "print(targets.target().name, hashlib.sha256(out).hexdigest())\n"
    )
    environment = {**os.environ, targets.VARIABLE: "avx2", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script, str(tmp_path / "code.npz")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["avx2", hashlib.sha256(lines.data.tobytes()).hexdigest()]


def test_no_kernel_closes_over_another() -> None:
    """Numba would not know it again: it would be compiled in every process, whatever its cache holds."""
    import gc

    from numba.core.dispatcher import Dispatcher

    for name in ("tans", "adaptive", "context", "window", "huffman", "gauss"):
        make(name, {})
    own = [each for each in gc.get_objects() if issubclass(type(each), Dispatcher)]
    kernels = [each for each in own if str(each.py_func.__module__).startswith("linepress")]
    assert len(kernels) > 50
    for kernel in kernels:
        for cell in kernel.py_func.__closure__ or ():
            assert not isinstance(cell.cell_contents, Dispatcher), f"{kernel.py_func.__module__}.{kernel.__name__}"
