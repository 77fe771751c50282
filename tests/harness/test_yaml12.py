"""The strict YAML loader: what means something, and one sentence with file and line for everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict

from linepress.errors import RecordError, SuiteError
from linepress.suite.yaml12 import parse_yaml, read_yaml

PATH = Path("f.yaml")


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    uri: str
    depth: int = 1
    mode: Literal["fast", "slow"] = "fast"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    parts: list[str | Inner] = []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("2024-01-02", "2024-01-02"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("true", True),
        ("null", None),
        ("12", 12),
        ("-7", -7),
        ("0o14", 12),
        ("0x1F", 31),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".inf", float("inf")),
        ('"012"', "012"),
        ("'true'", "true"),
        ("[1, two]", [1, "two"]),
    ],
)
def test_scalars_of_the_core_schema(text: str, value: object) -> None:
    assert parse_yaml(f"k: {text}\n", PATH).data == {"k": value}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, ["'a'", "given twice", "first in line 1"]),
        ("a: 012\n", 1, ["012", "write 12"]),
        ("a: &x 1\nb: *x\n", 1, ["anchors and aliases"]),
        ("a: !!python/object x\n", 1, ["tag"]),
        ("a: 1\n---\nb: 2\n", 2, ["second document"]),
        ("a: [1,\n", 2, ["not YAML"]),
        ("? [a]\n: 1\n", 1, ["key must be a word"]),
        ("a: 1\nb: 'x\u2028y'\n", 2, ["U+2028", "YAML 1.1 and 1.2 read"]),
        ("a: x\x85b: y\n", 1, ["U+0085"]),
        ("a: x\n\ufeff", 2, ["U+FEFF"]),
        ("\ufeffa: é\nb: >-# x\n  y\n", 2, ["a comment right behind >"]),
        ("%YAML 1.1\n---\na: on\n", 1, ["not YAML 1.2"]),
        ("a:\n" + " - " + "- " * 63 + "x\n", 2, ["nested over 64 levels"]),
    ],
)
def test_refused_with_line(text: str, line: int, words: list[str]) -> None:
    with pytest.raises(SuiteError) as error:
        parse_yaml(text, PATH)
    message = str(error.value)
    assert message.startswith(f"f.yaml:{line}: ")
    for word in words:
        assert word in message


def test_what_no_line_can_be_told_of_is_a_sentence_all_the_same() -> None:
    for text in ("a: \ud800\n", "a: \0\n", "a: \x1b[31m\n"):
        with pytest.raises(SuiteError, match=r"f\.yaml: not YAML: ") as error:
            parse_yaml(text, PATH)
        assert str(error.value).isprintable()
    assert parse_yaml("\ufeffa: 1\n", PATH).data == {"a": 1}
    assert parse_yaml("%YAML 1.2\n---\na: on\n", PATH).data == {"a": "on"}


def test_empty_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="is empty"):
        parse_yaml("# nothing\n", PATH)
    with pytest.raises(SuiteError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SuiteError, match="not UTF-8"):
        read_yaml(binary)
    with pytest.raises(RecordError, match="no such file"):
        read_yaml(tmp_path / "none.yaml", RecordError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name: x\nparts:\n  - uri: a\n    dept: 3\n",
            "f.yaml:4: parts[0].dept: unknown key 'dept', did you mean 'depth'? allowed are depth, mode, uri",
        ),
        ("nam: x\n", "f.yaml:1: nam: unknown key 'nam', did you mean 'name'? allowed are name, parts"),
        (
            "name: x\nparts:\n  - {uri: a, mode: slo}\n",
            "f.yaml:3: parts[0].mode: unknown value 'slo', did you mean 'slow'? allowed are fast, slow",
        ),
        ("name: 3\n", "f.yaml:1: name: 3 is not valid: it must be a valid string"),
        ("parts: []\n", "f.yaml:1: name: is missing; add this key"),
        ("name: x\nparts:\n  - {depth: 2}\n", "f.yaml:3: parts[0].uri: is missing; add this key"),
    ],
)
def test_model_errors_say_place_and_allowed_values(text: str, message: str) -> None:
    with pytest.raises(SuiteError) as error:
        parse_yaml(text, PATH).parse(Outer)
    assert str(error.value).startswith(message)


def test_a_good_document_parses() -> None:
    found = parse_yaml("name: x\nparts: [a, {uri: b, mode: slow}]\n", PATH).parse(Outer)
    assert found.parts == ["a", Inner(uri="b", mode="slow")]
