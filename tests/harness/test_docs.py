"""What the documents say works as written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOWTO = ROOT / "docs" / "codec-howto.md"
KIT = """
from linepress_codecs.registry import codecs
from linepress_codecs.testing import line_checks
from same import Same

assert codecs()["same"] is Same
checks = line_checks()
for check in checks:
    check(Same())
print(len(checks), "checks")
"""


def test_the_codec_of_the_howto_passes_the_conformance_kit(tmp_path: Path) -> None:
    # In a process of its own: registering a codec here would show it to every other test.
    code = re.search(r"```python\n(.*?)```", HOWTO.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    (tmp_path / "same.py").write_text(code.group(1), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", KIT], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 10


@pytest.mark.parametrize(
    "page",
    sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]),
    ids=lambda p: p.name,
)
def test_links_and_pictures_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_every_linepress_command_in_the_documents_is_a_verb() -> None:
    from linepress.cli.app import VERBS

    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for verb in re.findall(r"(?:^|[`/ ])linepress ([a-z]+)(?= |$|`)", "\n".join(_code(text)), re.MULTILINE):
            assert verb in VERBS, f"{page.name} shows linepress {verb}"


def _code(text: str) -> list[str]:
    blocks = [code for kind, code in re.findall(r"```([a-z]*)\n(.*?)```", text, re.DOTALL) if kind != "python"]
    return [*blocks, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]


def test_the_suite_of_the_readme_is_one(tmp_path: Path) -> None:
    from linepress.suite.model import load_suite

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    suites = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "sources:" in block]
    assert suites
    for i, block in enumerate(suites):
        file = tmp_path / f"suite-{i}.yaml"
        file.write_text(block, encoding="utf-8")
        assert load_suite(str(file)).model.codecs


def test_the_claim_of_the_claims_page_is_one(tmp_path: Path) -> None:
    from linepress.claims import load_claims

    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    file = tmp_path / "claims.yaml"
    file.write_text("version: 1\npublished:\n  vendor: {title: data sheet}\nclaims:\n" + block, encoding="utf-8")
    assert load_claims(file).claims[0].id == "vendor-bf16"


def test_readme_table_goes_between_its_markers() -> None:
    from benchmarks.tools.readme import with_table

    from linepress.errors import LinepressError

    once = with_table("a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n", "x", "| new |", "from here")
    assert "old" not in once
    assert once == with_table(once, "x", "| new |", "from here")
    with pytest.raises(LinepressError, match="no markers"):
        with_table("a\n", "x", "| new |", "from here")


def test_the_python_page_works_as_written() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    text = re.sub(r"<!-- not run.*?```python\n.*?```", "", text, flags=re.DOTALL)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert "again" in names


def test_the_product_knows_no_test_helper() -> None:
    packages = [ROOT / top for top in ("codecs", "hardware", "harness", "suites")]
    for file in (file for package in packages for file in package.rglob("*.py")):
        assert "linepress_kit" not in file.read_text(encoding="utf-8"), (
            f"{file} would not work outside this repository"
        )
