"""A streaming reader of safetensors headers, written for this check alone: bytes in, tensors out, one at a time.

The header is read in pieces and never held whole: what is kept of a tensor is its name, type, shape and two offsets.
Breaches of the format are `HeaderError` (rule S07); what the format's library lets through but this project does not
(rule S08) is gathered in ``strict`` while the reading goes on.
"""

from __future__ import annotations

import codecs
import math
import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from linepress.sources.safetensors.header import DTYPE_BITS, MAX_NAME
from linepress.sources.text import StrictJsonError, strict_json
from linepress.submission.check.ledger import name_of
from linepress.submission.check.limits import Limits

PIECE_BYTES = 1 << 16
MAX_KEY_CHARS = 4096
MAX_BODY_CHARS = 4096
MAX_METADATA_CHARS = 1 << 20
MAX_METADATA_KEYS = 4096
STRICT_KEPT = 50
MAX_DIMENSION = 2**63 - 1
LIBRARY_INTEGER = 2**64 - 1
FIELDS = {"dtype", "shape", "data_offsets"}

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_FLAT = re.compile(r"\{[^{}]*+\}")
_SCALAR = re.compile(r"[^,{}\[\]\"]*+")


class HeaderError(Exception):
    """A header that breaks the safetensors format; the message says how."""


class HeaderLimitError(Exception):
    """A header with more in it than a submission may have."""


@dataclass
class Tensors:
    """Tensors of one file in the order of the header; offsets in bytes from the start of the data."""

    names: list[str] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    begins: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))
    strict: list[str] = field(default_factory=list)
    strict_more: int = 0

    def object(self, reason: str) -> None:
        """Note a breach of rule S08."""
        if len(self.strict) < STRICT_KEPT:
            self.strict.append(reason)
        else:
            self.strict_more += 1

    def by_offset(self) -> list[int]:
        """Indices of the tensors in the order of their bytes."""
        return sorted(range(len(self.names)), key=lambda i: (self.begins[i], self.ends[i]))


class _Text:
    """The header as text, filled piece by piece; what has been read is dropped."""

    def __init__(self, pieces: Callable[[], bytes]) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self.buffer = ""
        self.at = 0
        self.ended = False

    def more(self) -> bool:
        """Take another piece; False at the end of the header."""
        if self.ended:
            return False
        piece = self._pieces()
        self.ended = not piece
        try:
            text = self._decoder.decode(piece, final=self.ended)
        except UnicodeDecodeError as error:
            raise HeaderError(f"the header is not UTF-8 ({error.reason})") from None
        self.buffer = self.buffer[self.at :] + text
        self.at = 0
        return not self.ended or bool(text)

    def peek(self) -> str:
        """Next character after JSON white space; empty at the end."""
        while True:
            found = _SPACE.match(self.buffer, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self.more():
                return ""

    def take(self, pattern: re.Pattern[str], limit: int, what: str) -> str:
        """The match of ``pattern`` here, at most ``limit`` characters long."""
        while True:
            found = pattern.match(self.buffer, self.at)
            # a match that touches the end of the buffer may go on in the next piece
            if found and (found.end() < len(self.buffer) or self.ended):
                if found.end() - self.at > limit:
                    raise HeaderError(f"{what} is over {limit} characters long")
                self.at = found.end()
                return found.group()
            if len(self.buffer) - self.at > limit:
                raise HeaderError(f"{what} is over {limit} characters long or never ends")
            if not self.more() and not (found and self.ended):
                raise HeaderError(f"the header ends inside {what}")

    def expect(self, characters: str, what: str) -> str:
        found = self.peek()
        if not found or found not in characters:
            shown = name_of(found) if found else "its end"
            raise HeaderError(f"the header is not valid JSON: {what} expected, found {shown}")
        self.at += 1
        return found


def read_tensors(
    pieces: Callable[[], bytes], data_bytes: int, limits: Limits, already: int = 0, out: Tensors | None = None
) -> Tensors:
    """Read and check one header.

    Parameters
    ----------
    pieces : callable
        Gives the next bytes of the header (without its 8 length bytes), empty at its end.
    data_bytes : int
        Bytes of the file behind the header.
    limits : Limits
    already : int
        Tensors of other files of the submission, counted towards the limit.
    out : Tensors | None
        Where to gather, for callers that want what was found before an error.

    Raises `HeaderError` for a breach of the format and `HeaderLimitError` for too many tensors.
    """
    text = _Text(pieces)
    out = Tensors() if out is None else out
    text.more()
    if not text.buffer.startswith("{"):
        out.object("the header does not begin with '{'")
    text.expect("{", "'{'")
    seen: set[str] = set()
    if text.peek() == "}":
        text.expect("}", "'}'")
    else:
        while True:
            _member(text, out, seen, limits, already)
            if text.expect(",}", "',' or '}'") == "}":
                break
            if text.peek() != '"':
                raise HeaderError("the header is not valid JSON: a name expected after ','")
    _padding(text, out)
    _check_layout(out, data_bytes)
    return out


def _member(text: _Text, out: Tensors, seen: set[str], limits: Limits, already: int) -> None:
    if text.peek() != '"':
        raise HeaderError("the header is not valid JSON: a quoted name expected")
    name = _string(text, MAX_KEY_CHARS, "a name")
    label = f"tensor {name_of(name)}"
    if name in seen:
        out.object(f"{name_of(name)} stands twice in the header")
    seen.add(name)
    text.expect(":", "':'")
    if name == "__metadata__":
        _metadata(text, out)
        return
    if already + len(out.names) >= limits.tensors:
        raise HeaderLimitError(f"over {limits.tensors} tensors")
    if text.peek() != "{":
        raise HeaderError(f"{label} is not an object")
    raw = text.take(_FLAT, MAX_BODY_CHARS, f"the entry of {label}")
    if "-" in raw:
        # -0 is zero to Python and no unsigned integer to the library; no dtype or field has a minus
        raise HeaderError(f"{label}: a number with a sign")
    try:
        body = strict_json(raw.encode("utf-8", "surrogatepass"))
    except StrictJsonError as error:
        raise HeaderError(f"{label}: {error}") from None
    _tensor(name, label, body, out, limits)


def _string(text: _Text, limit: int, what: str) -> str:
    raw = text.take(_STRING, limit, what)
    try:
        value = str(strict_json(raw.encode("utf-8", "surrogatepass")))
    except StrictJsonError as error:
        raise HeaderError(f"{what}: {error}") from None
    if any("\ud800" <= c <= "\udfff" for c in value):
        # half of a surrogate pair: a character to Python, an error to the library
        raise HeaderError(f"{what}: half of a surrogate pair")
    return value


def _metadata(text: _Text, out: Tensors) -> None:
    if text.peek() != "{":
        word = text.take(_SCALAR, MAX_BODY_CHARS, "__metadata__").strip()
        if word != "null":
            raise HeaderError("__metadata__ is not an object")
        out.object("__metadata__ is null")
        return
    text.expect("{", "'{'")
    keys: set[str] = set()
    if text.peek() == "}":
        text.expect("}", "'}'")
        return
    while True:
        if text.peek() != '"':
            raise HeaderError("__metadata__: a quoted key expected")
        key = _string(text, MAX_METADATA_CHARS, "a key of __metadata__")
        if key in keys:
            out.object(f"__metadata__ has {name_of(key)} twice")
        keys.add(key)
        if len(keys) > MAX_METADATA_KEYS:
            raise HeaderLimitError(f"over {MAX_METADATA_KEYS} keys in __metadata__")
        text.expect(":", "':'")
        if text.peek() != '"':
            raise HeaderError(f"__metadata__: {name_of(key)} is not text")
        _string(text, MAX_METADATA_CHARS, "a value of __metadata__")
        if text.expect(",}", "',' or '}'") == "}":
            return


def _tensor(name: str, label: str, body: Any, out: Tensors, limits: Limits) -> None:
    parts = name.replace("\\", "/").split("/")
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or ".." in parts:
        out.object(f"{label}: a name has 1 to {MAX_NAME} printable characters and no '..' between slashes")
    missing = FIELDS - body.keys()
    if missing:
        raise HeaderError(f"{label} has no {min(missing)}")
    if unknown := body.keys() - FIELDS:
        out.object(f"{label} has the unknown field {name_of(min(unknown))}")
    dtype, shape, offsets = body["dtype"], body["shape"], body["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise HeaderError(f"{label} has the unknown dtype {name_of(str(dtype))}")
    if not _integers(shape):
        raise HeaderError(f"{label}: shape is not a list of unsigned integers")
    if not _integers(offsets) or len(offsets) != 2:
        raise HeaderError(f"{label}: data_offsets is not two unsigned integers")
    begin, end = offsets
    if len(shape) > limits.rank:
        out.object(f"{label} has {len(shape)} axes, over {limits.rank}")
    # Sides are multiplied as if zeros were ones: a zero must not hide a product that overflows elsewhere.
    if (
        any(side > MAX_DIMENSION for side in shape)
        or math.prod(max(side, 1) for side in shape) * DTYPE_BITS[dtype] > MAX_DIMENSION
    ):
        out.object(f"{label}: the product of its shape does not fit 63 bits")
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits > LIBRARY_INTEGER:
        raise HeaderError(f"{label}: the product of its shape overflows")
    if bits % 8:
        raise HeaderError(f"{label}: {bits} bits do not fill whole bytes")
    if end < begin or end - begin != bits // 8:
        raise HeaderError(f"{label}: its shape takes {bits // 8} B, its offsets span {end - begin} B")
    out.names.append(name)
    out.dtypes.append(dtype)
    out.shapes.append(tuple(shape))
    out.begins.append(begin)
    out.ends.append(end)


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= LIBRARY_INTEGER for item in value)


def _padding(text: _Text, out: Tensors) -> None:
    other = False
    while True:
        rest = text.buffer[text.at :]
        text.at = len(text.buffer)
        if rest.strip(" \t\r\n"):
            raise HeaderError("the header goes on after its closing '}'")
        other = other or bool(rest.strip(" "))
        if not text.more():
            break
    if other:
        out.object("the header is padded with something other than spaces (0x20)")


def _check_layout(out: Tensors, data_bytes: int) -> None:
    reached = 0
    for i in out.by_offset():
        begin, end = out.begins[i], out.ends[i]
        if begin != reached:
            wrong = "overlaps the tensor before it" if begin < reached else "leaves a hole before it"
            raise HeaderError(f"tensor {name_of(out.names[i])} {wrong} (begins at {begin}, not {reached})")
        reached = end
    if reached > data_bytes:
        raise HeaderError(f"the tensors take {reached} B but {data_bytes} B follow the header: truncated")
    if reached < data_bytes:
        raise HeaderError(f"{data_bytes - reached} B follow the last tensor")
