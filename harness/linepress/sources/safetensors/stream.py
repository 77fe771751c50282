"""The reader of safetensors headers, for sources and submissions alike: bytes in, tensors out, one at a time.

Implements the checks of safetensors' own parser (`safetensors/src/tensor.rs` at 1b0fe9c) under its error names. The
header is read in pieces and never held whole: what is kept of a tensor is its name, type, shape and two offsets.
Nothing is allocated from a number that the header states before that number has been checked. Breaches of the format
are `HeaderError`; what the format's library lets through and its README does not (leading white space, padding other
than spaces, a name twice, unknown fields, more than 8 axes, products beyond 63 bits beside a zero, names that cannot
be printed or climb) is gathered in ``strict`` while the reading goes on, and is no less refused.
"""

from __future__ import annotations

import codecs
import math
import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from linepress.sources.text import StrictJsonError, shown, strict_json

PIECE_BYTES = 1 << 16
MAX_KEY_CHARS = 4096
MAX_BODY_CHARS = 4096
MAX_METADATA_CHARS = 1 << 20
MAX_METADATA_KEYS = 4096
STRICT_KEPT = 50
MAX_DIMENSION = 2**63 - 1
MAX_NAME = 512
MAX_RANK = 8
MOST_TENSORS = 10_000_000
DTYPE_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip
LIBRARY_INTEGER = 2**64 - 1
FIELDS = {"dtype", "shape", "data_offsets"}
JSON = "InvalidHeaderDeserialization"
"""Name of the rule that a header is JSON of the right form."""

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_FLAT = re.compile(r'\{(?:[^{}"]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+[{}]', re.DOTALL)
_SCALAR = re.compile(r"[^,{}\[\]\"]*+")


class HeaderError(Exception):
    """A header that breaks the safetensors format; the message says how. ``rule`` is the broken rule's name."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


class HeaderLimitError(Exception):
    """A header with more in it than may be."""


@dataclass
class Tensors:
    """Tensors of one file in the order of the header; offsets in bytes from the start of the data."""

    names: list[str] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    begins: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))
    metadata: dict[str, str] = field(default_factory=dict)
    strict: list[str] = field(default_factory=list)
    strict_rules: list[str] = field(default_factory=list)
    strict_more: int = 0

    def object(self, rule: str, reason: str) -> None:
        """Note what the library lets through and we do not."""
        if len(self.strict) < STRICT_KEPT:
            self.strict.append(reason)
            self.strict_rules.append(rule)
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
            raise HeaderError(JSON, f"the header is not UTF-8 ({error.reason})") from None
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
                    raise HeaderError(JSON, f"{what} is over {limit} characters long")
                self.at = found.end()
                return found.group()
            if len(self.buffer) - self.at > limit:
                raise HeaderError(JSON, f"{what} is over {limit} characters long or never ends")
            if not self.more() and not (found and self.ended):
                raise HeaderError(JSON, f"the header ends inside {what}")

    def expect(self, characters: str, what: str) -> str:
        found = self.peek()
        if not found or found not in characters:
            seen = shown(found) if found else "its end"
            raise HeaderError(JSON, f"the header is not valid JSON: {what} expected, found {seen}")
        self.at += 1
        return found


def read_tensors(
    pieces: Callable[[], bytes],
    data_bytes: int,
    *,
    most: int = MOST_TENSORS,
    rank: int = MAX_RANK,
    keep_metadata: bool = False,
    out: Tensors | None = None,
) -> Tensors:
    """Read and check one header.

    Parameters
    ----------
    pieces : callable
        Gives the next bytes of the header (without its 8 length bytes), empty at its end.
    data_bytes : int
        Bytes of the file behind the header.
    most, rank : int
        Most tensors, and axes of a tensor.
    keep_metadata : bool
        Gather ``__metadata__`` too.
    out : Tensors | None
        Where to gather, for callers that want what was found before an error.

    Raises `HeaderError` for a breach of the format and `HeaderLimitError` for too many tensors.
    """
    text = _Text(pieces)
    out = Tensors() if out is None else out
    text.more()
    if not text.buffer.startswith("{"):
        if text.peek() != "{":
            raise HeaderError("InvalidHeaderStart", "the header does not begin with '{'")
        out.object("InvalidHeaderStart", "the header does not begin with '{'")
    text.expect("{", "'{'")
    seen: set[str] = set()
    if text.peek() == "}":
        text.expect("}", "'}'")
    else:
        while True:
            _member(text, out, seen, most, rank, keep_metadata)
            if text.expect(",}", "',' or '}'") == "}":
                break
            if text.peek() != '"':
                raise HeaderError(JSON, "the header is not valid JSON: a name expected after ','")
    _padding(text, out)
    _check_layout(out, data_bytes)
    return out


def _member(text: _Text, out: Tensors, seen: set[str], most: int, rank: int, keep_metadata: bool) -> None:
    if text.peek() != '"':
        raise HeaderError(JSON, "the header is not valid JSON: a quoted name expected")
    name = _string(text, MAX_KEY_CHARS, "a name")
    label = f"tensor {shown(name)}"
    if name in seen:
        out.object(JSON, f"{shown(name)} stands twice in the header")
    seen.add(name)
    text.expect(":", "':'")
    if name == "__metadata__":
        _metadata(text, out, keep_metadata)
        return
    if len(out.names) >= most:
        raise HeaderLimitError(f"over {most} tensors")
    first = text.peek()
    if first != "{":
        if first and first in '["-0123456789tfn':
            raise HeaderError("InvalidTensorFields", f"{label} must have dtype, shape and data_offsets only")
        raise HeaderError(JSON, f"the header is not valid JSON: {label} has no value")
    raw = text.take(_FLAT, MAX_BODY_CHARS, f"the entry of {label}")
    if raw.endswith("{"):
        # The library passes over a field that it does not know, whatever lies in it; here that is refused unread.
        nested = f"the entry of {label} is nested too deeply"
        out.object(JSON, nested)
        raise HeaderError(JSON, nested)
    try:
        body = strict_json(raw.encode("utf-8", "surrogatepass"))
    except StrictJsonError as error:
        raise HeaderError(JSON, f"{label}: {error}") from None
    _tensor(name, label, body, out, rank)
    if "-" in raw:
        # -0 is zero to Python and no unsigned integer to the library; no dtype or field has a minus
        raise HeaderError(JSON, f"{label}: a number with a sign")


def _string(text: _Text, limit: int, what: str) -> str:
    raw = text.take(_STRING, limit, what)
    try:
        value = str(strict_json(raw.encode("utf-8", "surrogatepass")))
    except StrictJsonError as error:
        raise HeaderError(JSON, f"{what}: {error}") from None
    if any("\ud800" <= c <= "\udfff" for c in value):
        # half of a surrogate pair: a character to Python, an error to the library
        raise HeaderError(JSON, f"{what}: half of a surrogate pair")
    return value


def _metadata(text: _Text, out: Tensors, keep: bool) -> None:
    rule, must = "InvalidMetadata", "__metadata__ must map text to text"
    if text.peek() != "{":
        word = text.take(_SCALAR, MAX_BODY_CHARS, "__metadata__").strip()
        if word != "null":
            raise HeaderError(rule, f"{must} and is not an object")
        out.object(rule, f"{must} and is null")
        return
    text.expect("{", "'{'")
    keys: set[str] = set()
    if text.peek() == "}":
        text.expect("}", "'}'")
        return
    while True:
        if text.peek() != '"':
            raise HeaderError(JSON, "__metadata__: a quoted key expected")
        key = _string(text, MAX_METADATA_CHARS, "a key of __metadata__")
        if key in keys:
            out.object(JSON, f"__metadata__: {shown(key)} stands twice")
        keys.add(key)
        if len(keys) > MAX_METADATA_KEYS:
            raise HeaderLimitError(f"over {MAX_METADATA_KEYS} keys in __metadata__")
        text.expect(":", "':'")
        if text.peek() != '"':
            raise HeaderError(rule, f"{must}: {shown(key)} is not text")
        value = _string(text, MAX_METADATA_CHARS, "a value of __metadata__")
        if keep:
            out.metadata[key] = value
        if text.expect(",}", "',' or '}'") == "}":
            return


def _tensor(name: str, label: str, body: Any, out: Tensors, rank: int) -> None:
    parts = name.replace("\\", "/").split("/")
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or ".." in parts:
        out.object(
            "InvalidName", f"{label}: a name has 1 to {MAX_NAME} printable characters and no '..' between slashes"
        )
    must = f"{label} must have dtype, shape and data_offsets only"
    missing = FIELDS - body.keys()
    if missing:
        raise HeaderError("InvalidTensorFields", f"{must}, and has no {min(missing)}")
    if unknown := body.keys() - FIELDS:
        out.object("InvalidTensorFields", f"{must}, and has the unknown field {shown(min(unknown))}")
    dtype, shape, offsets = body["dtype"], body["shape"], body["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        known = ", ".join(DTYPE_BITS)
        raise HeaderError("UnknownDtype", f"{label} has the unknown dtype {shown(str(dtype))}: known are {known}")
    if not _integers(shape):
        raise HeaderError("InvalidShape", f"{label}: shape must be a list of integers from 0 to 2^63 - 1")
    if not _integers(offsets) or len(offsets) != 2:
        raise HeaderError("InvalidOffset", f"{label}: data_offsets must be two integers from 0 up")
    begin, end = offsets
    if len(shape) > rank:
        out.object("RankTooLarge", f"{label} has {len(shape)} axes, over {rank}")
    # Sides are multiplied as if zeros were ones: a zero must not hide a product that overflows elsewhere.
    if (
        any(side > MAX_DIMENSION for side in shape)
        or math.prod(max(side, 1) for side in shape) * DTYPE_BITS[dtype] > MAX_DIMENSION
    ):
        out.object("ValidationOverflow", f"{label}: the product of its shape is larger than any file (63 bits)")
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits > LIBRARY_INTEGER:
        raise HeaderError("ValidationOverflow", f"{label}: the product of its shape is larger than any file")
    if bits % 8:
        raise HeaderError("MisalignedSlice", f"{label}: {bits} bits do not fill whole bytes")
    if end < begin:
        raise HeaderError("InvalidOffset", f"{label} ends (byte {end}) before it begins (byte {begin})")
    if end - begin != bits // 8:
        what = f"{dtype} {shape} is {bits // 8} B but its offsets span {end - begin} B"
        raise HeaderError("TensorInvalidInfo", f"{label}: {what}")
    out.names.append(name)
    out.dtypes.append(dtype)
    out.shapes.append(tuple(shape))
    out.begins.append(begin)
    out.ends.append(end)


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= LIBRARY_INTEGER for item in value)


def _padding(text: _Text, out: Tensors) -> None:
    padded = "the header is not a JSON object padded with spaces (0x20)"
    other = False
    while True:
        rest = text.buffer[text.at :]
        text.at = len(text.buffer)
        if rest.strip(" \t\r\n"):
            raise HeaderError("InvalidHeaderPadding", f"{padded}: it goes on after its closing '}}'")
        other = other or bool(rest.strip(" "))
        if not text.more():
            break
    if other:
        out.object("InvalidHeaderPadding", padded)


def _check_layout(out: Tensors, data_bytes: int) -> None:
    reached = 0
    for i in out.by_offset():
        begin, end = out.begins[i], out.ends[i]
        label = f"tensor {shown(out.names[i])}"
        if end > data_bytes:
            what = f"{label} ends {end} B behind the header, where {data_bytes} B are: truncated"
            raise HeaderError("MetadataIncompleteBuffer", what)
        if begin != reached:
            wrong = "overlaps the tensor before it" if begin < reached else "leaves a hole before it"
            raise HeaderError("InvalidOffset", f"{label} {wrong} (begins at {begin}, not {reached})")
        reached = end
    if reached < data_bytes:
        raise HeaderError("MetadataIncompleteBuffer", f"{data_bytes - reached} B follow the last tensor")
