"""YAML 1.2, strictly: what a reader of the file would think it says, or an error with file and line.

Only the core schema's scalars mean anything but text (``null``, ``true``, ``false``, integers, floats); ``yes``,
``on`` and dates stay text; ``012`` is refused because YAML 1.1 and 1.2 read it differently. Duplicate keys, anchors,
aliases, tags and a second document are refused.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from linepress.errors import LinepressError, SuiteError

Place = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = {".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
_MAX_BYTES = 4 << 20
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


def parse_yaml(text: str, path: Path, kind: type[LinepressError] = SuiteError) -> Document:
    """`read_yaml` over text that is already there; ``path`` only names it."""
    yaml = YAML(typ="safe", pure=True)
    try:
        _refuse_tricks(yaml, text, path, kind)
        node = cast("Node | None", YAML(typ="safe", pure=True).compose(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        what = " ".join(str(error.problem or error.context or "not YAML").split())
        raise kind(f"{path}:{line}: not YAML: {what}; mend this line") from None
    except YAMLError as error:
        raise kind(f"{path}: not YAML: {' '.join(str(error).split())}; mend the file") from None
    except RecursionError:
        raise kind(f"{path}: nested too deeply; flatten it") from None
    if node is None:
        raise kind(f"{path}: is empty; write at least the required keys")
    lines: dict[Place, int] = {}
    data = _build(node, (), lines, path, kind)
    return Document(path, text, data, lines)


def _refuse_tricks(yaml: YAML, text: str, path: Path, kind: type[LinepressError]) -> None:
    documents = 0
    for event in yaml.parse(text):
        name = type(event).__name__
        line = event.start_mark.line + 1
        if name == "DocumentStartEvent":
            documents += 1
            if documents > 1:
                raise kind(f"{path}:{line}: a second document (---); keep one document a file")
        if name == "AliasEvent" or getattr(event, "anchor", None):
            raise kind(f"{path}:{line}: anchors and aliases (& and *) are not taken; write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None and str(tag) not in ("", "None"):
            raise kind(f"{path}:{line}: the tag {tag} is not taken; write a plain value")


def _build(node: Node, place: Place, lines: dict[Place, int], path: Path, kind: type[LinepressError]) -> Any:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, ScalarNode):
        return _scalar(node, path, kind)
    if isinstance(node, SequenceNode):
        return [_build(item, (*place, i), lines, path, kind) for i, item in enumerate(node.value)]
    if not isinstance(node, MappingNode):
        raise kind(f"{path}:{node.start_mark.line + 1}: neither a mapping, a list nor a value; mend this line")
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            raise kind(f"{path}:{line}: a key must be a word; mend this line")
        key = str(key_node.value)
        if key in found:
            first = lines[(*place, key)]
            raise kind(f"{path}:{line}: key {key!r} is given twice, first in line {first}; keep one")
        lines[(*place, key)] = line
        found[key] = _build(value_node, (*place, key), lines, path, kind)
    return found


def _scalar(node: ScalarNode, path: Path, kind: type[LinepressError]) -> Any:
    text = str(node.value)
    if node.style is not None:
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
