"""The report in headless Chromium, where one is installed: the script sorts and filters, nothing is fetched."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from linepress.report import build_report
from linepress_kit.synthetic_run import Shape, make_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--virtual-time-budget=4000",
)


def dump(page: Path, profile: Path) -> str:
    """The document after its scripts ran."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    make_run(folder, Shape(layers=12))
    return build_report(folder)


def test_all_cases_unfold_and_headings_sort(report: Path, tmp_path: Path) -> None:
    text = report.read_text(encoding="utf-8")
    click = (
        "<script>setTimeout(function () {"
        "document.querySelector('#claims-table th button').click();"
        "var i = document.querySelector('.tools input'); i.value = 'down_proj e5m2';"
        "i.dispatchEvent(new Event('input'));"
        "}, 1500);</script></body>"
    )
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", click), encoding="utf-8")
    seen = dump(page, tmp_path / "profile")
    assert 'aria-sort="ascending"' in seen
    where = re.search(r"1 to (\d+) of ([\d,]+) cases", seen)
    assert where is not None
    assert where.group(2) == str(12 * 9)


def test_a_phone_scrolls_tables_not_the_page(report: Path, tmp_path: Path) -> None:
    measure = (
        "<script>document.title = 'width ' + document.documentElement.scrollWidth + ' of ' + "
        "document.documentElement.clientWidth;</script></body>"
    )
    page = tmp_path / "page.html"
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", measure), encoding="utf-8")
    seen = dump(page, tmp_path / "profile")
    found = re.search(r"width (\d+) of (\d+)", seen)
    assert found is not None
    assert int(found.group(1)) <= int(found.group(2))
