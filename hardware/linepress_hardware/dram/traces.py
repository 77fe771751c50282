"""Request patterns by name, seeded and reproducible, and the trace file format.

The six reference patterns reproduce the traces behind the reference rows word for word (their sha256 is a test).
Random numbers are splitmix64 (Steele, Lea and Flood, OOPSLA 2014; public domain): output k of the stream with seed s
mixes ``s + (k + 1) × 0x9E3779B97F4A7C15`` modulo 2^64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from linepress_hardware.errors import ConfigurationError

LINE_BYTES = 64
FOOTPRINT_LINES = 1 << 22  # 256 MiB, the footprint of the reference traces

U64 = NDArray[np.uint64]

TEXT_BYTES = bytes([9, 10, 13, *range(32, 127)])
# Whether a request of a text trace writes, by the word for it.
DIRECTIONS = {
    "LD": False, "R": False, "READ": False, "P_MEM_RD": False, "ST": True, "W": True, "WRITE": True, "P_MEM_WR": True
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order: byte addresses uint64[n] and directions bool[n]."""

    address_bytes: U64
    is_write: NDArray[np.bool_]

    def __len__(self) -> int:
        return int(self.address_bytes.shape[0])

    def words(self) -> U64:
        """uint64[n]: ``byte_address << 1 | is_write``, the words of a trace file."""
        return (self.address_bytes << np.uint64(1)) | self.is_write.astype(np.uint64)


def splitmix64(seed: int, count: int) -> U64:
    """First ``count`` outputs of stream ``seed``, uint64."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def from_file(data: bytes) -> Trace:
    """The trace in the bytes of a file: text of Ramulator or DRAMsim3, else words; raises `ConfigurationError`."""
    head = data[:4096]
    text = len(head.split()) > 1 and not head.translate(None, TEXT_BYTES)
    return from_text(data.decode("ascii", "replace")) if text else from_words(data)


def from_text(text: str) -> Trace:
    """The trace in the text of another simulator, one request a line; raises `ConfigurationError` naming the line.

    Ramulator 2 (``LD 0x12345680``, ``ST 12345``), Ramulator 1 (``0x12345680 R``) and DRAMsim3
    (``0x12345680 READ 100``, whose cycle is passed over: requests arrive as the simulation asks). ``#`` begins a
    remark. Addresses with ``0x`` are hexadecimal, and all of DRAMsim3's; the others are decimal.
    """
    address: list[int] = []
    writes: list[bool] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        word, where = (words[0], words[1]) if len(words) == 2 and words[0].upper() in DIRECTIONS else ("", "")
        if not word and len(words) in (2, 3) and words[1].upper() in DIRECTIONS:
            where, word = words[0], words[1]
        try:
            if not word:
                raise ValueError
            base = 16 if where.lower().startswith("0x") or len(words) == 3 else 10
            at = int(where, base)
            if not 0 <= at < 1 << 63:
                raise ValueError
        except ValueError:
            raise ConfigurationError(
                f"line {number} of the trace, {line.strip()[:40]!r}, is no request; lines are LD 0x1240 or ST 0x1240 "
                f"(Ramulator), or 0x1240 READ 100 (DRAMsim3)"
            ) from None
        address.append(at)
        writes.append(DIRECTIONS[word.upper()])
    if not address:
        raise ConfigurationError("the trace holds no request; give one a line")
    return Trace(np.array(address, np.uint64), np.array(writes, np.bool_))


def from_words(data: bytes) -> Trace:
    """The trace in the bytes of a file of little-endian uint64 words; raises `ConfigurationError`."""
    if len(data) == 0 or len(data) % 8:
        raise ConfigurationError(
            f"the trace holds {len(data)} bytes, not a positive multiple of 8; write a little-endian uint64 a request"
        )
    words = np.frombuffer(data, "<u8").astype(np.uint64)
    return Trace(words >> np.uint64(1), (words & np.uint64(1)).astype(np.bool_))


def _reads(lines: NDArray[np.integer]) -> Trace:
    address = lines.astype(np.uint64) * np.uint64(LINE_BYTES)
    return Trace(address, np.zeros(address.shape[0], np.bool_))


def _sequential(n: int, seed: int, lines: int) -> Trace:
    return _reads(np.arange(n) % lines)


def _random(n: int, seed: int, lines: int) -> Trace:
    return _reads(splitmix64(seed, n) % np.uint64(lines))


def _mixed(write_pct: int) -> Callable[[int, int, int], Trace]:
    def make(n: int, seed: int, lines: int) -> Trace:
        draw = splitmix64(seed, 2 * n)
        trace = _reads(draw[0::2] % np.uint64(lines))
        return Trace(trace.address_bytes, draw[1::2] % np.uint64(100) < np.uint64(write_pct))

    return make


def _strided(stride_bytes: int) -> Callable[[int, int, int], Trace]:
    def make(n: int, seed: int, lines: int) -> Trace:
        step = stride_bytes // LINE_BYTES
        lap, position = np.divmod(np.arange(n), max(1, lines // step))
        return _reads((position * step + lap) % lines)

    return make


def _streams(count: int, write_every: int = 0) -> Callable[[int, int, int], Trace]:
    """``count`` sequential streams a power of two apart, interleaved line by line; the last may write."""

    def make(n: int, seed: int, lines: int) -> Trace:
        step, stream = np.divmod(np.arange(n), count)
        trace = _reads((stream * (lines // count) + step) % lines)
        writes = (stream == count - 1) if write_every else np.zeros(n, np.bool_)
        return Trace(trace.address_bytes, writes)

    return make


def _pages(page_bytes: int) -> Callable[[int, int, int], Trace]:
    """Whole pages in random order, each read from its start: a paged gather."""

    def make(n: int, seed: int, lines: int) -> Trace:
        per = page_bytes // LINE_BYTES
        pages = -(-n // per)
        first = (splitmix64(seed, pages) % np.uint64(max(1, lines // per))) * np.uint64(per)
        return _reads((first[:, None] + np.arange(per, dtype=np.uint64)[None, :]).ravel()[:n])

    return make


@dataclass(frozen=True, slots=True)
class Pattern:
    """A named trace: what it is, its default seed and maker ``(n, seed, footprint lines) -> Trace``."""

    help: str
    seed: int
    make: Callable[[int, int, int], Trace]


PATTERNS: dict[str, Pattern] = {
    "seq": Pattern("lines 0, 1, 2, … read in order", 0, _sequential),
    "rand": Pattern("uniform random lines, all reads", 1, _random),
    "rw70": Pattern("uniform random lines, 70 % reads", 2, _mixed(30)),
    "rw50": Pattern("uniform random lines, half reads", 3, _mixed(50)),
    "stride128": Pattern("reads 128 B apart", 0, _strided(128)),
    "stride4k": Pattern("reads 4 KiB apart", 0, _strided(4096)),
    "streams8": Pattern("eight sequential read streams, interleaved", 0, _streams(8)),
    "copy": Pattern("one read and one write stream, interleaved", 0, _streams(2, 1)),
    "pages4k": Pattern("4 KiB pages in random order, each read through", 4, _pages(4096)),
    "pages64k": Pattern("64 KiB pages in random order, each read through", 4, _pages(65536)),
}


def pattern(name: str, n_requests: int, *, seed: int | None = None, footprint_bytes: int | None = None) -> Trace:
    """A named pattern of ``n_requests`` 64-byte requests.

    ``footprint_bytes`` bounds the addresses (256 MiB where None; ``seq`` then wraps at it). Raises
    `ConfigurationError` for an unknown name or a size below one request or line.
    """
    found = PATTERNS.get(name)
    if found is None:
        raise ConfigurationError(f"unknown pattern {name!r}: known are {', '.join(PATTERNS)}")
    lines = FOOTPRINT_LINES if footprint_bytes is None else footprint_bytes // LINE_BYTES
    if n_requests < 1 or lines < 1:
        raise ConfigurationError(f"pattern {name}: {n_requests} requests over {lines} lines; give at least 1 of each")
    return found.make(n_requests, found.seed if seed is None else seed, lines)
