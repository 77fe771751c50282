"""YAML 1.2, strictly: what a reader of the file would think it says, or an error with file and line.

Only the core schema's scalars mean anything but text (``null``, ``true``, ``false``, integers, floats); ``yes``,
``on`` and dates stay text; ``012`` is refused because YAML 1.1 and 1.2 read it differently. Duplicate keys, anchors,
aliases, tags, a second document and deep nesting are refused.

The grammar is libyaml's, whose events are read once; what they mean is decided here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from linepress.errors import LinepressError, SuiteError

Place = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
_GLUED = re.compile(r"[|>][-+0-9]*#")
"""Taken by libyaml, and no YAML (1.2.2, § 6.6: white space parts a comment from what is before it)."""
_MEANING = frozenset("~nNtTfF.+-0123456789")
"""Beginnings of words that are not text."""
_MAX_BYTES = 4 << 20
_MAX_DEPTH = 64
_UNLIKE = re.compile("[\x85\u2028\u2029]|(?<!\\A)\ufeff")
"""Ends of lines in YAML 1.1 and characters in 1.2; a mark of byte order anywhere but at the beginning."""
_MAX_DIGITS = 300
"""Of a number: no value has more, and Python refuses to read an integer of over 4,300."""


@dataclass(frozen=True)
class Document:
    """A parsed file.

    Attributes
    ----------
    path : Path
        The file, named in every error.
    text : str
        Its content.
    data
        Plain dicts, lists and scalars.
    lines : dict
        Place of a value, as a tuple of keys and indices -> its line, from 1.
    """

    path: Path
    text: str
    data: Any
    lines: dict[Place, int] = field(default_factory=dict)

    def line(self, place: Place) -> int:
        """Line of the value at ``place``, or of the nearest value around it that the file has."""
        for end in range(len(place), -1, -1):
            if place[:end] in self.lines:
                return self.lines[place[:end]]
        return 1

    def error(self, place: Place, what: str, kind: type[LinepressError] = SuiteError) -> LinepressError:
        """An error that says file, line, place and ``what``."""
        where = dotted(place)
        return kind(f"{self.path}:{self.line(place)}: {where + ': ' if where else ''}{what}")

    def parse(self, model: type[M], kind: type[LinepressError] = SuiteError) -> M:
        """The document as a pydantic model; the first thing wrong becomes one sentence with file and line."""
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            raise self._explain(error, model, kind) from None

    def _explain(self, error: ValidationError, model: type[BaseModel], kind: type[LinepressError]) -> LinepressError:
        problems = error.errors(include_url=False, include_context=True)
        problems = [p for p in problems if _branch_taken(dict(p))] or problems
        # An unknown key often explains the missing one beside it, so it is told first.
        problems.sort(key=lambda p: (p["type"] != "extra_forbidden", self.line(_in_file(p["loc"], self.data))))
        first = problems[0]
        place = _in_file(first["loc"], self.data)
        what = _sentence(dict(first), place, model, self.data)
        others = {_in_file(p["loc"], self.data) for p in problems} - {place}
        others = {other for other in others if place[: len(other)] != other}
        if others:
            what += f" (and {len(others)} more)"
        return self.error(place, what, kind)


def dotted(place: Place) -> str:
    """``codecs[2].tables``: a place in words; a key is somebody's text, so what cannot be printed is escaped."""
    words = ""
    for step in place:
        if isinstance(step, int):
            words += f"[{step}]"
        else:
            key = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in step)
            words += f"{'.' if words else ''}{key}"
    return words


def read_yaml(path: Path | str, kind: type[LinepressError] = SuiteError) -> Document:
    """Parse a file; raises ``kind`` with file and line on anything that is not strict YAML 1.2 (see the module)."""
    file = Path(path)
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise kind(f"{file}: over {_MAX_BYTES >> 20} MiB is not a YAML file anyone wrote; give another file")
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise kind(f"{file}: there is no such file; check the path") from None
    except UnicodeDecodeError as error:
        raise kind(f"{file}: not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise kind(f"{file}: cannot be read ({error.strerror}); check the path and its permissions") from None
    return parse_yaml(text, file, kind)


def parse_yaml(
    text: str, path: Path, kind: type[LinepressError] = SuiteError, max_depth: int = _MAX_DEPTH
) -> Document:
    """`read_yaml` over text that is already there; ``path`` only names it. At most ``max_depth`` levels."""
    if found := _UNLIKE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise kind(
            f"{path}:{line}: YAML 1.1 and 1.2 read the character U+{ord(found[0]):04X} differently; write it as an "
            "escape in double quotes"
        )
    text = text.removeprefix("\ufeff")
    reader = _Reader(text, path, kind, max_depth)
    try:
        data = reader.document(yaml.parse(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        what = " ".join(str(error.problem or error.context or "not YAML").split())
        raise kind(f"{path}:{line}: not YAML: {what}; mend this line") from None
    except yaml.YAMLError as error:
        raise kind(f"{path}: not YAML: {' '.join(str(error).split())}; mend the file") from None
    except UnicodeEncodeError:
        raise kind(f"{path}: not YAML: half a surrogate pair is no character; mend the file") from None
    return Document(path, text, data, reader.lines)


class _Reader:
    """Builds plain data of the events of one document."""

    def __init__(self, text: str, path: Path, kind: type[LinepressError], max_depth: int) -> None:
        self.lines: dict[Place, int] = {}
        self._text, self._path, self._kind, self._max_depth = text, path, kind, max_depth
        self._events: Iterator[Any] = iter(())

    def document(self, events: Iterator[Any]) -> Any:
        """The data of the one document that there must be."""
        self._events = events
        next(events)  # the stream
        begin = next(events)
        if isinstance(begin, yaml.StreamEndEvent):
            raise self._kind(f"{self._path}: is empty; write at least the required keys")
        if begin.version not in (None, (1, 2)):
            raise self._error(begin, "says that it is not YAML 1.2; take the line %YAML away")
        data = self._value(next(events), (), 1)
        next(events)  # the end of the document
        after = next(events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._error(after, "a second document (---); keep one document a file")
        return data

    def _error(self, event: Any, what: str) -> LinepressError:
        return self._kind(f"{self._path}:{event.start_mark.line + 1}: {what}")

    def _value(self, event: Any, place: Place, depth: int) -> Any:
        """The value that begins with ``event``; inside ``depth`` collections, this one among them."""
        if place not in self.lines:
            self.lines[place] = event.start_mark.line + 1
        kind = type(event)
        if kind is yaml.AliasEvent or event.anchor is not None or event.tag is not None:
            raise self._trick(event)
        if kind is yaml.ScalarEvent:
            if event.style in ("|", ">") and _GLUED.match(self._text, event.start_mark.index):
                raise self._error(event, f"a comment right behind {event.style}; put a space before #")
            return event.value if event.style else _plain(event, self._path, self._kind)
        if depth > self._max_depth:
            raise self._error(event, f"nested over {self._max_depth} levels deep; flatten it")
        following = self._events
        if kind is yaml.SequenceStartEvent:
            items: list[Any] = []
            while type(item := next(following)) is not yaml.SequenceEndEvent:
                items.append(self._value(item, (*place, len(items)), depth + 1))
            return items
        found: dict[str, Any] = {}
        while type(name := next(following)) is not yaml.MappingEndEvent:
            if type(name) is yaml.AliasEvent or name.anchor is not None or name.tag is not None:
                raise self._trick(name)
            if type(name) is not yaml.ScalarEvent:
                raise self._error(name, "a key must be a word; mend this line")
            key = name.value
            here = (*place, key)
            if key in found:
                raise self._error(name, f"key {key!r} is given twice, first in line {self.lines[here]}; keep one")
            self.lines[here] = name.start_mark.line + 1
            found[key] = self._value(next(following), here, depth + 1)
        return found

    def _trick(self, event: Any) -> LinepressError:
        if type(event) is yaml.AliasEvent or event.anchor is not None:
            return self._error(event, "anchors and aliases (& and *) are not taken; write the value out")
        return self._error(event, f"the tag {event.tag!r} is not taken; write a plain value")


def _plain(node: Any, path: Path, kind: type[LinepressError]) -> Any:
    """What a word without quotes means."""
    text = node.value
    if text and text[0] not in _MEANING:
        return text
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if len(text) > _MAX_DIGITS and any(form.match(text) for form in (_INT, _OCTAL, _HEX, _FLOAT)):
        raise kind(f"{path}:{node.start_mark.line + 1}: a number of {len(text)} characters; quote it if it is text")
    if _INT.match(text):
        return int(text)
    if _LEADING_ZERO.match(text):
        raise kind(
            f"{path}:{node.start_mark.line + 1}: {text} is octal in YAML 1.1 and decimal in 1.2; write "
            f'{text.lstrip("+-0_") or 0}, or "{text}" for text'
        )
    if _OCTAL.match(text):
        return int(text[2:], 8)
    if _HEX.match(text):
        return int(text[2:], 16)
    if _FLOAT.match(text):
        return float(text)
    return _SPECIAL.get(text.lower(), text)


def _in_file(loc: tuple[int | str, ...], data: Any) -> Place:
    """The part of a pydantic location that exists in the file (unions add names of branches in between)."""
    place: list[str | int] = []
    here = data
    for i, step in enumerate(loc):
        if isinstance(here, Mapping) and isinstance(step, str):
            if step in here:
                place.append(step)
                here = here[step]
            elif i == len(loc) - 1:
                place.append(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            place.append(step)
            here = here[step]
    return tuple(place)


def _branch_taken(problem: Mapping[str, Any]) -> bool:
    """Whether a pydantic problem is about the value as written: a mapping where a scalar branch of a union was tried
    is not, its own branch tells what is wrong with it."""
    scalar = problem["loc"] and problem["loc"][-1] in ("str", "int", "float", "bool")
    return not (scalar and isinstance(problem.get("input"), dict | list))


def _sentence(problem: dict[str, Any], place: Place, model: type[BaseModel], data: Any) -> str:
    kind = problem["type"]
    context = problem.get("ctx", {})
    if kind == "extra_forbidden":
        allowed = _keys_at(model, place[:-1], data)
        return unknown("key", str(place[-1]), allowed)
    if kind == "missing":
        return "is missing; add this key"
    given = problem.get("input")
    shown = f"{given!r}" if isinstance(given, str | int | float | bool) or given is None else type(given).__name__
    if kind in ("literal_error", "enum"):
        allowed_text = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
        allowed = [word.strip() for word in allowed_text.split(",")]
        return unknown("value", given, allowed) if isinstance(given, str) else f"{shown} is not one of {allowed_text}"
    if kind == "value_error":
        return str(context.get("error", problem["msg"]))
    message = str(problem["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{shown} is not valid: it must be {message}" if message != problem["msg"] else f"{shown}: {message}"


def unknown(what: str, given: str, allowed: list[str]) -> str:
    """``unknown key 'codec', did you mean 'codecs'? Allowed: …`` as one sentence."""
    near = difflib.get_close_matches(given, allowed, n=1, cutoff=0.5)
    hint = f", did you mean {near[0]!r}?" if near else ";"
    return f"unknown {what} {given!r}{hint} allowed are {', '.join(sorted(allowed))}"


def _keys_at(model: type[BaseModel], place: Place, data: Any) -> list[str]:
    """Keys that the model takes at ``place``, found by walking its annotations."""
    candidates: list[type[BaseModel]] = [model]
    for step in place:
        if isinstance(step, int):
            continue
        following: list[type[BaseModel]] = []
        for candidate in candidates:
            info = candidate.model_fields.get(step)
            if info is not None:
                following += list(_models_in(info.annotation))
        candidates = following or candidates
    del data
    return sorted({key for candidate in candidates for key in candidate.model_fields})


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models_in(part)
