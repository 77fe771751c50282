"""One pass over one file: its hash, its kind, its geometry and its undefined values, from the same bytes.

Every byte is read once, through one descriptor, hashed, and shown to whatever else must look at it, so that a verdict
cannot be about other bytes than the hash.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field

from linepress.submission.check import content
from linepress.submission.check.header import HeaderError, HeaderLimitError, Tensors, read_tensors
from linepress.submission.check.ledger import Ledger, name_of
from linepress.submission.check.library import disagreements
from linepress.submission.check.limits import Limits

BUFFER_BYTES = 256 << 10
"""Stays in a core's cache between the read and the hash."""


@dataclass
class FileFacts:
    """What one pass found.

    Attributes
    ----------
    path : str
    n_bytes : int
    sha256 : str
        Of every byte; empty when the file could not be read to its end.
    kind : str
        safetensors, json, text, or empty when it is none of them.
    tensors : Tensors | None
        Of a safetensors file whose header holds up.
    raw : bytes
        The whole of a JSON or text file, empty for the others.
    """

    path: str
    n_bytes: int
    sha256: str = ""
    kind: str = ""
    tensors: Tensors | None = None
    raw: bytes = field(default=b"", repr=False)


class _Pass:
    """Sequential reads of one descriptor, all hashed."""

    def __init__(self, descriptor: int, n_bytes: int) -> None:
        self.descriptor = descriptor
        self._digest = hashlib.sha256()
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self.n_bytes = n_bytes
        self.at = 0
        self.tail = b""

    def take(self, most: int = BUFFER_BYTES) -> memoryview:
        """The next bytes, at most ``most`` of them and none past the size the file had; empty at the end."""
        wanted = min(most, BUFFER_BYTES, self.n_bytes - self.at)
        if wanted <= 0:
            return self._view[:0]
        got = os.readv(self.descriptor, [self._view[:wanted]])
        part = self._view[:got]
        self._digest.update(part)
        if self.at + got > self.n_bytes - content.TAIL_BYTES:
            self.tail = (self.tail + bytes(part))[-content.TAIL_BYTES :]
        self.at += got
        return part

    def at_offset(self, offset: int, n: int) -> bytes:
        """``n`` bytes from ``offset`` on, out of turn and not hashed."""
        return os.pread(self.descriptor, n, offset)

    def exactly(self, n: int) -> bytes:
        """The next ``n`` bytes, fewer only at the end of the file."""
        parts = bytearray()
        while len(parts) < n and (part := self.take(n - len(parts))):
            parts += part
        return bytes(parts)

    def finish(self) -> str:
        """sha256 of the whole file; empty when it ended early or goes on."""
        while self.take():
            continue
        whole = self.at == self.n_bytes and not os.read(self.descriptor, 1)
        return self._digest.hexdigest() if whole else ""


def read_file(path: str, descriptor: int, n_bytes: int, limits: Limits, ledger: Ledger, already: int) -> FileFacts:
    """Read the file behind ``descriptor`` once and note what it breaks; ``already`` tensors were counted before."""
    facts = FileFacts(path, n_bytes)
    label = name_of(path)
    stream = _Pass(descriptor, n_bytes)
    head = _head(descriptor)
    if reason := content.refused_of(head, n_bytes):
        ledger.fail("S02", f"{label} is {reason}")
    elif _is_safetensors(path, head, n_bytes):
        facts.kind = "safetensors"
        _read_safetensors(facts, stream, head, limits, ledger, already)
    elif not content.archive_of(head, b"", n_bytes, lambda offset, n: b""):
        _read_small(facts, stream, label, limits, ledger)
    facts.sha256 = stream.finish()
    if not facts.sha256:
        ledger.fail("S10", f"{label} grew or shrank while it was read")
    if archive := content.archive_of(head, stream.tail, n_bytes, stream.at_offset):
        ledger.fail("S02", f"{label} is {archive}")
        ledger.fail("S15", f"{label} is {archive}; hand the files in one by one")
    return facts


def _head(descriptor: int) -> bytes:
    """First bytes, to choose how the pass reads them; the pass reads and hashes them again and compares."""
    return os.pread(descriptor, content.HEAD_BYTES, 0)


def _is_safetensors(path: str, head: bytes, n_bytes: int) -> bool:
    # By content; a file that only claims the name is read as safetensors too, so that the reason is given.
    return content.looks_safetensors(head, n_bytes) or path.endswith(".safetensors")


def _read_small(facts: FileFacts, stream: _Pass, label: str, limits: Limits, ledger: Ledger) -> None:
    """A JSON or text file, held whole."""
    if stream.n_bytes > limits.json_bytes:
        ledger.fail("S02", f"{label} is none of safetensors, JSON and text, and over {limits.json_bytes} B")
        if facts.path.endswith(content.JSON_SUFFIX):
            ledger.fail("S13", f"{label} is over {limits.json_bytes} B")
        return
    raw = stream.exactly(stream.n_bytes)
    facts.raw = raw
    name = posixpath.basename(facts.path)
    if name.endswith(content.JSON_SUFFIX):
        facts.kind = "json"  # whether it is JSON is said where it is parsed
        return
    reason = content.text_problem(name, raw)
    if reason is None and len(raw) > limits.text_bytes:
        reason = f"text over {limits.text_bytes} B"
    if reason:
        ledger.fail("S02", f"{label} is {reason}")
    else:
        facts.kind = "text"


def _read_safetensors(
    facts: FileFacts, stream: _Pass, head: bytes, limits: Limits, ledger: Ledger, already: int
) -> None:
    label = name_of(facts.path)
    first = stream.exactly(8)
    if len(first) < 8:
        ledger.fail("S07", f"{label} has {facts.n_bytes} B, fewer than the length of a header takes")
        return
    if not head.startswith(first):
        ledger.fail("S10", f"{label} changed while it was read")
    n = int.from_bytes(first, "little")
    if n > limits.header_bytes or 8 + n > facts.n_bytes:
        ledger.fail(
            "S06", f"{label} claims a header of {n} B: the limit is {limits.header_bytes} B and the file's own size"
        )
        ledger.fail("S07", f"{label} claims a header of {n} B in a file of {facts.n_bytes} B")
        return
    own = _own_reading(facts, stream, first, n, limits, ledger, already)
    if own is not None:
        _undefined_values(own, stream, 8 + n, label, ledger)


def _own_reading(
    facts: FileFacts, stream: _Pass, first: bytes, n: int, limits: Limits, ledger: Ledger, already: int
) -> Tensors | None:
    label = name_of(facts.path)
    digest = hashlib.sha256(first)
    left = n

    def pieces() -> memoryview:
        nonlocal left
        part = stream.take(left) if left else memoryview(b"")
        left -= len(part)
        digest.update(part)
        return part

    own: Tensors | None = None
    gathered = Tensors()
    try:
        own = read_tensors(_bytes_of(pieces), facts.n_bytes - 8 - n, limits, already, gathered)
    except HeaderLimitError as error:
        ledger.fail("S06", f"{label}: {error}")
        ledger.doubt("S07", f"{label} was not read past the limits of S06")
        ledger.doubt("S08", f"{label} was not read past the limits of S06")
        return None
    except HeaderError as error:
        ledger.fail("S07", f"{label}: {error}")
    while pieces():
        continue
    for note in disagreements(stream.descriptor, own, 8 + n, digest.hexdigest()):
        ledger.fail("S07", f"{label}: {note}")
    for note in gathered.strict:
        ledger.fail("S08", f"{label}: {note}")
    if gathered.strict_more:
        ledger.fail("S08", f"{label}: {gathered.strict_more} more breaches")
    if own is None:
        ledger.doubt("S08", f"{label} is no safetensors file by S07")
        return None
    facts.tensors = own
    return own


def _bytes_of(pieces: Callable[[], memoryview]) -> Callable[[], bytes]:
    return lambda: bytes(pieces())


def _undefined_values(own: Tensors, stream: _Pass, data_start: int, label: str, ledger: Ledger) -> None:
    """Read the data of BOOL tensors, whose bytes can only be 0 and 1; the rest is left to the end of the pass."""
    for i in own.by_offset():
        if own.dtypes[i] != "BOOL":
            continue
        begin, end = data_start + own.begins[i], data_start + own.ends[i]
        while stream.at < begin and stream.take(begin - stream.at):
            continue
        bad = 0
        while stream.at < end and (part := stream.take(end - stream.at)):
            bad += len(bytes(part).translate(None, b"\x00\x01"))
        if bad:
            ledger.fail("S08", f"{label}: tensor {name_of(own.names[i])} holds {bad} BOOL bytes other than 0 and 1")
