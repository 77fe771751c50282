"""Bad input, and the tests with its bytes: the table of the threat model, from the marker ``threat`` on the tests.

``python -m benchmarks.tools.threats`` prints it in Markdown; ``pytest -m threat`` runs what stands in it. A marker
names the bad input, then those cases of a parametrised test that it is about.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[2] / "tests"


@dataclass(frozen=True, slots=True)
class Held:
    """A test that holds a bad input off; ``absent`` are cases of its marker that its module does not write."""

    file: str
    test: str
    cases: tuple[str, ...]
    absent: tuple[str, ...]

    def __str__(self) -> str:
        names = [f"{self.test}[{case}]" for case in self.cases] or [self.test]
        return f"`{self.file}`: " + ", ".join(f"`{name}`" for name in names)


def threats(tests: Path = TESTS) -> dict[str, list[Held]]:
    """Bad input -> the tests marked with it, by file; read from the text of the tests, nothing is imported."""
    found: dict[str, list[Held]] = {}
    for path in sorted(tests.rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if "mark.threat(" not in text:
            continue
        tree = ast.parse(text)
        written = _texts(tree)
        for test in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            for what, *cases in filter(None, map(_words, test.decorator_list)):
                absent = tuple(case for case in cases if case not in written)
                held = Held(str(path.relative_to(tests)), test.name, tuple(cases), absent)
                found.setdefault(what, []).append(held)
    return found


def _words(decorator: ast.expr) -> list[str]:
    if not isinstance(decorator, ast.Call) or not ast.unparse(decorator.func).endswith("mark.threat"):
        return []
    return [ast.literal_eval(word) for word in decorator.args]


def _texts(tree: ast.Module) -> set[str]:
    """Every text of a module outside its markers: a case that went away still stands in its marker."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    inside = {id(word) for call in calls if _words(call) for word in call.args}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside
    }


def main() -> None:
    """Print the table."""
    print("| bad input | tests |\n|---|---|")
    for what, held in threats().items():
        print(f"| {what} | {'; '.join(map(str, held))} |")


if __name__ == "__main__":
    main()
