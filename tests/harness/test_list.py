"""``linepress list``: everything that can be named, with where it comes from."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from linepress.cli.list import KINDS, SHOWN, command
from linepress.records import RunStore
from linepress.run.folders import age
from linepress_codecs.contracts import STATUSES
from linepress_codecs.formats import FORMATS


def test_the_command_knows_every_kind() -> None:
    assert set(KINDS) == set(KINDS) == set(SHOWN)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "runs"])
def test_each_kind_lists_something_in_both_forms(kind: str) -> None:
    as_json = CliRunner().invoke(command, [kind, "--json"], catch_exceptions=False)
    rows = json.loads(as_json.stdout)
    assert rows
    name = next(iter(SHOWN[kind]))
    assert len({row[name] for row in rows}) == len(rows)
    text = CliRunner().invoke(command, [kind], catch_exceptions=False).stdout
    for row in rows:
        assert str(row[name]) in text
    for column in SHOWN[kind]:
        assert any(row.get(column) not in (None, "") for row in rows), f"{kind}: {column} is always empty"


def test_codecs_say_what_they_do_and_where_they_come_from() -> None:
    rows = KINDS["codecs"]()
    assert {"raw", "huffman", "lz4", "zstd", "deflate", "snappy"} <= {row["codec"] for row in rows}
    for row in rows:
        assert row["summary"]
        assert row["source"]
        assert row["example"].startswith(row["codec"])


def test_every_codec_shows_a_card_whose_figures_say_where_they_come_from() -> None:
    for row in KINDS["codecs"]():
        card = dict(row["card"])
        assert card.pop("format") in FORMATS, row["codec"]
        anchors = card.pop("anchors")
        assert set(card) >= {"decode_latency_cycles", "encode_latency_cycles", "clock_GHz", "table_sram_bytes"}
        for name, figure in [*card.items(), *((f"anchor {i}", f) for i, f in enumerate(anchors))]:
            where = f"{row['codec']} {name}"
            assert figure["value"] >= 0, where
            assert figure["status"] in STATUSES, where
            assert figure["unit"], where
            assert len(figure["source"]) > 8, where
        assert anchors or row["codec"] == "raw"


def test_parts_of_the_fabric_as_their_files_give_them() -> None:
    links = {row["link"]: row for row in KINDS["links"]()}
    switches = {row["switch"]: row for row in KINDS["switches"]()}
    topologies = {row["topology"]: row for row in KINDS["topologies"]()}
    assert links["ualink-800g"]["rate_Gbps"] == 800
    assert links["nvlink-5"]["links_per_accelerator"] == 18
    assert 0 < links["ualink-800g"]["efficiency_64B_pct"] < 100
    assert (switches["ualink-50t"]["ports_200G"], switches["ualink-50t"]["ports_800G"]) == (256, 64)
    assert (topologies["nvl72"]["links"], topologies["nvl72"]["switches"]) == (72 * 18, 18)
    assert {row["link"] for row in topologies.values()} <= set(links)
    assert {row["switch"] for row in topologies.values() if row["switch"]} <= set(switches)


def test_runs_newest_first_and_foreign_ones_with_what_is_wrong(tmp_path: Path) -> None:
    for name, moment in (("old", "2026-01-01T00:00:00+00:00"), ("new", "2026-02-01T00:00:00+00:00")):
        counts = {"measure": {"planned": 4, "ok": 3, "failed": 1, "skipped": 0}}
        RunStore.create(
            tmp_path / name,
            {"suite": {"name": "smoke"}, "status": "complete", "updated_at": moment, "counts": counts, "git": {}},
        )
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "manifest.json").write_text('{"schema_version": 999}', encoding="utf-8")
    (tmp_path / "no-run").mkdir()
    result = CliRunner().invoke(command, ["runs", "--folder", str(tmp_path), "--json"], catch_exceptions=False)
    rows = json.loads(result.stdout)
    assert [Path(row["run"]).name for row in rows] == ["new", "old", "foreign"]
    assert (rows[0]["ok"], rows[0]["failed"], rows[0]["planned"]) == (3, 1, 4)
    assert "schema version 999" in rows[2]["problem"]
    text = CliRunner().invoke(command, ["runs", "--folder", str(tmp_path)], catch_exceptions=False).stdout
    assert "schema version 999" in text


def test_no_runs_says_how_to_make_one(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["runs", "--folder", str(tmp_path / "none")], catch_exceptions=False)
    assert "linepress run smoke" in result.stdout


def test_an_unknown_kind_names_the_known_ones() -> None:
    result = CliRunner().invoke(command, ["codec"])
    assert result.exit_code == 2
    assert "'codecs'" in result.output


@pytest.mark.parametrize(
    ("then", "text"),
    [
        ("2026-01-02T00:00:00+00:00", "now"),
        ("2026-01-01T23:50:00+00:00", "10 min ago"),
        ("2026-01-01T21:00:00", "3 h ago"),
        ("2025-12-30T00:00:00+00:00", "3 d ago"),
        ("2026-01-03T00:00:00+00:00", "in the future; check the clock"),
        ("yesterday", ""),
        ("", ""),
    ],
)
def test_age(then: str, text: str) -> None:
    assert age(then, datetime(2026, 1, 2, tzinfo=UTC)) == text
