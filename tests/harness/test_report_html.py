"""The report as a reader's browser sees it: whole, self-contained, escaped, small."""

from __future__ import annotations

import base64
import gzip
import html as html_text
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from linepress.cli.report import command
from linepress.errors import RecordError
from linepress.records import RunStore
from linepress.report import build_report
from linepress.report.build import MAX_BYTES
from linepress.report.sections.record import MAX_PLAIN_ROWS
from linepress_kit.synthetic_run import Shape, make_run, measure_rows

VOID = {"meta", "link", "br", "hr", "img", "input", "wbr", "col", "source"}
SECTIONS = [
    *("verdict", "headline", "speed", "groups", "layers", "kv", "sizes", "decoders", "channel", "system", "fabric"),
    *("pages", "claims", "failures", "provenance", "cases"),
]


class Page(HTMLParser):
    """Collects what the checks need and fails on a tag that closes what is not open."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        self._table = ""
        self._cell: list[str] | None = None
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._table = str(found.get("id"))
            self.rows[self._table] = []
        elif tag == "tr":
            self.rows[self._table].append([])
        elif tag in ("td", "th"):
            self._cell = []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [str(v) for k, v in attrs if k == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        if tag in ("td", "th") and self._cell is not None:
            self.rows[self._table][-1].append("".join(self._cell))
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)
        if self._cell is not None:
            self._cell.append(data)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs") / "small"
    make_run(folder, Shape(layers=3))
    path = build_report(folder)
    assert path == folder / "report" / "index.html"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(report: str) -> Page:
    return Page(report)


def test_every_section_is_there_and_linked(page: Page) -> None:
    found = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    assert found == SECTIONS
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert [f"#{name}" for name in SECTIONS] == [link for link in links if link != "#main"]


def test_the_first_word_on_kv_is_that_of_tables_of_another_text(page: Page) -> None:
    first = page.texts.index("KV cache, tables of another text")
    assert "1.570 payload, with tables of its own text 1.590 – context, vllm-0.26" in page.texts[first:]
    assert first < page.texts.index("KV cache, bf16, of its own text")


def test_nothing_comes_from_outside(report: str, page: Page) -> None:
    for tag, attrs in page.tags:
        assert tag not in ("iframe", "object", "embed", "base", "link", "img"), tag
        for name, value in attrs.items():
            if name in ("src", "href", "action", "srcset", "data", "poster", "formaction"):
                assert str(value).startswith("#"), f"{tag} {name}={value}"
    style = "".join(re.findall(r"<style>(.*?)</style>", report, re.S))
    assert "@import" not in style
    assert "url(" not in style
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import)\s*\(", report)
    assert "xmlns" not in report


def test_ids_are_unique_and_svg_references_resolve(report: str, page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    known = set(page.ids)
    for reference in re.findall(r"url\(#([^)]+)\)", report):
        assert reference in known
    for tag, attrs in page.tags:
        if tag == "use":
            assert str(attrs["href"])[1:] in known
        for name in str(attrs.get("aria-labelledby") or "").split():
            assert name in known


def test_plots_are_readable_by_all_and_follow_the_colour_setting(report: str, page: Page) -> None:
    figures = sum(tag == "figure" for tag, _ in page.tags)
    captions = [t for t, _ in page.tags if t == "figcaption"]
    svgs = [attrs for tag, attrs in page.tags if tag == "svg"]
    assert figures >= 12
    assert len(captions) == len(svgs) == figures
    assert all(attrs.get("role") == "img" and attrs.get("aria-labelledby") for attrs in svgs)
    drawn = "".join(re.findall(r"<svg.*?</svg>", report, re.S))
    assert "var(--ink)" in drawn
    assert "var(--c0)" in drawn
    assert not re.search(r"(fill|stroke): ?#(?!000000|ffffff)[0-9a-f]{6}", drawn), (
        "a colour that dark mode cannot change"
    )


def test_tables_hold_their_numbers_without_a_script(page: Page) -> None:
    headline = page.rows["headline-table"]
    assert len({len(row) for row in headline if len(row) > 1}) == 1
    best = next(row for row in headline if row[0] == "huffman:tables=4")
    assert re.fullmatch(r"1\.\d{3}", best[1])
    assert "verdict" in " ".join(page.rows["claims-table"][0])
    assert len(page.rows["claims-table"]) > 60


def test_a_failed_case_and_a_broken_gate_are_named(page: Page) -> None:
    text = " ".join(page.texts)
    assert "FAIL:" in text
    assert "DecodeMismatchError" in text
    assert "FAILS" in text
    row = next(r for r in page.rows["headline-table"] if r[0] == "huffman")
    assert row[-1] == "20/21"


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, report: str) -> None:
    make_run(tmp_path / "small", Shape(layers=3))
    assert build_report(tmp_path / "small").read_text(encoding="utf-8") == report


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a$b$c \\frac{1}{2} $\\undefined$",
    "</td></table>&amp;",
    "--></svg><b>",
    "\u202ereversed\u0000nul",
)


def test_what_a_partner_calls_a_tensor_stays_text(tmp_path: Path) -> None:
    store = make_run(tmp_path / "run", Shape(layers=1))
    base = store.rows("measure")[1] | {"status": "ok"}
    rows = []
    for i, hostile in enumerate(HOSTILE):
        row = base | {"tensor": hostile, "group": hostile, "variant": hostile, "case_key": f"hostile-{i}"}
        rows += [row, row | {"case_key": f"failed-{i}", "status": "failed", "error": hostile, "error_type": hostile}]
    store.append("measure", rows)
    store.manifest["suite"]["name"] = HOSTILE[0]
    store.manifest["suite"]["text"] = HOSTILE[4]
    store.save_manifest()
    text = build_report(tmp_path / "run").read_text(encoding="utf-8")
    page = Page(text)
    assert [a["id"] for t, a in page.tags if t == "section"] == SECTIONS
    assert sum(t == "script" for t, _ in page.tags) == 1
    assert not any(t in ("img", "b") for t, _ in page.tags)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text)
    shown = html_text.unescape(text)
    for hostile in HOSTILE:
        assert hostile.replace("\u0000", "\ufffd") in shown


def test_lost_bits_are_the_first_thing_said(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", {"run_id": "run", "suite": {"name": "lossy"}, "counts": {}})
    rows = measure_rows(Shape(layers=1, failing=0, lossy=1), np.random.Generator(np.random.PCG64(1)))
    store.append("measure", itertools.islice(rows, 4))
    store.save_manifest()
    page = Page(build_report(tmp_path / "run").read_text(encoding="utf-8"))
    note = next(i for i, (t, a) in enumerate(page.tags) if t == "p" and "note" in str(a.get("class")))
    assert "bad" in str(page.tags[note][1]["class"])
    assert "1 case was NOT lossless" in " ".join(page.texts)


def test_many_cases_are_embedded_whole_and_shown_in_part(tmp_path: Path) -> None:
    make_run(tmp_path / "run", Shape(layers=12, copies=2))
    text = build_report(tmp_path / "run").read_text(encoding="utf-8")
    page = Page(text)
    n = len(RunStore.open(tmp_path / "run").table("measure"))
    assert n > MAX_PLAIN_ROWS
    assert len(page.rows["cases-table"]) == MAX_PLAIN_ROWS + 1
    packed = re.search(r'id="cases-data-gz">([^<]*)<', text)
    assert packed is not None
    data = json.loads(gzip.decompress(base64.b64decode(packed.group(1))))
    assert len(data["columns"]) == len(data["values"])
    assert all(len(v.get("v") or v["i"]) == n for v in data["values"])
    tensors = data["values"][0]
    assert [tensors["w"][i] for i in tensors["i"][:2]] == [
        page.rows["cases-table"][1][0],
        page.rows["cases-table"][2][0],
    ]


@pytest.mark.slow
def test_fifty_thousand_cases_stay_under_five_megabytes(tmp_path: Path) -> None:
    """Takes over 5 s because 50,000 rows are made, written and drawn."""
    make_run(tmp_path / "run", Shape(layers=32, copies=8))
    assert len(RunStore.open(tmp_path / "run").table("measure", ["case_key"])) > 50_000
    assert build_report(tmp_path / "run").stat().st_size < MAX_BYTES


def test_an_empty_run_says_so(tmp_path: Path) -> None:
    RunStore.create(tmp_path / "run", {"run_id": "run", "suite": {"name": "empty"}, "counts": {}})
    page = Page(build_report(tmp_path / "run").read_text(encoding="utf-8"))
    assert "Nothing is recorded in this run yet." in " ".join(page.texts)


def test_an_unfinished_run_says_how_much_is_missing(tmp_path: Path) -> None:
    counts = {"measure": {"planned": 9, "ok": 3, "failed": 1, "skipped": 0}}
    RunStore.create(tmp_path / "run", {"run_id": "run", "status": "interrupted", "counts": counts})
    text = " ".join(Page(build_report(tmp_path / "run").read_text(encoding="utf-8")).texts)
    assert "5 planned cases have no record yet" in text


def test_command_says_where_and_how_large(tmp_path: Path) -> None:
    RunStore.create(tmp_path / "run", {"run_id": "run", "counts": {}})
    result = CliRunner().invoke(command, [str(tmp_path / "run"), "--json"], catch_exceptions=False)
    document = json.loads(result.stdout)
    assert Path(document["report"]).stat().st_size == document["bytes"]


@pytest.mark.parametrize("prepare", ["missing", "foreign", "other-schema", "damaged"])
def test_a_folder_that_is_no_run_is_refused_in_a_sentence(tmp_path: Path, prepare: str) -> None:
    folder = tmp_path / "run"
    if prepare != "missing":
        folder.mkdir()
    if prepare == "other-schema":
        (folder / "manifest.json").write_text('{"schema_version": 9999}', encoding="utf-8")
    if prepare == "damaged":
        (folder / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(RecordError) as caught:
        build_report(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
