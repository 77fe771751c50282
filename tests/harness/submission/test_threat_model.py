"""The threat model names a test for each bad input: it fails here when a named test or case goes away."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "threat-model.md"
HEADING = "## Bad input, and the test with its bytes"

EXPECTED = (
    "each of S01–S21",
    "an archive bomb",
    "a header of 100 MB",
    "10^6 tiny tensors",
    "names of files with `../`, NUL, newline, over 255 bytes",
    "names of tensors with `../`, NUL, newline",
    "names that are HTML",
    "symbolic links",
    "hard links",
    "devices",
    "a file that changes between check and use",
    "two partners with one name",
    "a token of another partner",
    "an upload cut at every stage",
    "uploads out of order, twice",
    "a licence that forbids redistribution",
    "a submission that never ends",
)
"""Bad input that a partner or a stranger is known to try, and that the page must answer with a test."""


def table() -> dict[str, list[tuple[str, str, str]]]:
    """Bad input -> ``(file, test, case or nothing)`` of each test that the page names for it."""
    section = PAGE.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    found: dict[str, list[tuple[str, str, str]]] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("| ") or cells[0] == "bad input":
            continue
        what, tests = cells
        rows = found.setdefault(what, [])
        file = ""
        for word in re.findall(r"`([^`]+)`", tests):
            if word.endswith(".py"):
                file = word
                continue
            named = re.fullmatch(r"(test_\w+)(?:\[(.+)\])?", word)
            assert named is not None, f"{what}: {word} is not the name of a test"
            rows.append((file, named[1], named[2] or ""))
    return found


@cache
def module(file: str) -> tuple[frozenset[str], frozenset[str]]:
    """``(test functions, texts)`` of a module below ``tests/``."""
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return frozenset(tests), frozenset(texts)


@pytest.mark.parametrize(
    ("what", "tests"), table().items(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_each_bad_input_has_the_tests_that_the_page_names(what: str, tests: list[tuple[str, str, str]]) -> None:
    assert tests, f"{what}: the page names no test"
    for file, test, case in tests:
        functions, texts = module(file)
        assert test in functions, f"{what}: {file} has no {test}; write it again or mend the page"
        assert not case or case in texts, f"{what}: {file} has no case {case!r}; write it again or mend the page"


@pytest.mark.parametrize("what", EXPECTED)
def test_the_page_answers_what_is_known_to_be_tried(what: str) -> None:
    assert any(what in row for row in table()), f"the page has no row about {what}"


def test_a_test_that_went_away_is_noticed() -> None:
    gone = [("harness/submission/test_hostile.py", "test_that_never_was", "")]
    with pytest.raises(AssertionError, match="has no test_that_never_was"):
        test_each_bad_input_has_the_tests_that_the_page_names("anything", gone)
    gone = [("harness/submission/test_hostile.py", "test_only_regular_files", "a case that never was")]
    with pytest.raises(AssertionError, match="has no case"):
        test_each_bad_input_has_the_tests_that_the_page_names("anything", gone)


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE.read_text(encoding="utf-8"))
    assert {"intake.md", "partners.md"} <= set(links)
    assert all((PAGE.parent / link).is_file() for link in links)
