"""The table of schemes: rows, the answer to the question, and ``linepress channel --schemes``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.schemes import BEGIN, END, with_section
from click.testing import CliRunner

from linepress.cli.hardware.channel import command
from linepress.stages.channel.schemes import chosen_schemes, verdict
from linepress.tables.markdown import as_markdown
from linepress.tables.schemes import scheme_table
from linepress_hardware.errors import ConfigurationError


def row(name: str, capacity: float, random: float) -> dict[str, Any]:
    return {"scheme": name, "memory": "m", "data": "weights", "capacity": capacity, "gain_random": random}


def test_the_verdict_names_the_most_capacity_among_those_that_keep_random_lines() -> None:
    rows = [row("a", 1.4, 0.5), row("b", 1.2, 0.96), row("c", 1.3, 0.97), row("raw", 1.0, 1.0)]
    (said,) = verdict(rows)
    assert said.startswith("m, weights: c keeps 0.97 of plain's random bandwidth at capacity 1.300, 0.100 below")
    assert said.endswith("the most (a 1.400, which keeps 0.50)")
    assert verdict([row("a", 1.4, 0.5), row("raw", 1.0, 1.0)]) == [
        "m, weights: no scheme keeps 0.95 of plain's random bandwidth with any capacity; nearest a: 0.50 at 1.400"
    ]
    assert verdict([row("a", 1.4, float("nan"))]) == []


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(ConfigurationError, match="unknown scheme 'zip': known are all, stream"):
        chosen_schemes(("zip",))


def measured(folder: Path, names: list[str]) -> dict[str, Any]:
    path = folder / "sizes.json"
    path.write_text(json.dumps({"344": 3, "352": 1}))
    arguments = [str(path), "--memory", "ddr4", "--within", "10", "--requests", "1000"]
    arguments += ["--set", "footprint_bytes=67108864", "--json"]
    arguments += [x for name in names for x in ("--schemes", name)]
    found = CliRunner().invoke(command, arguments)
    assert found.exit_code == 0, found.output
    document: dict[str, Any] = json.loads(found.output)
    assert [r["scheme"] for r in document["schemes"]] == names
    return document


def test_schemes_of_a_histogram(tmp_path: Path) -> None:
    document = measured(tmp_path, ["stream", "cells-96", "lcp"])
    by_name = {r["scheme"]: r for r in document["schemes"]}
    # 43.25 B a line: no LCP page holds it, so that it is the plain channel; a block is read for one line.
    assert by_name["lcp"]["capacity"] == 1.0
    assert by_name["lcp"]["gain_random"] == pytest.approx(1.0, abs=0.02)
    assert by_name["lcp"]["sram_bytes"] == 0
    assert by_name["cells-96"]["capacity"] == pytest.approx(128 / 96)
    assert by_name["cells-96"]["metadata_cache_bytes"] == 0
    assert by_name["cells-96"]["gain_random"] > by_name["stream"]["gain_random"]
    assert document["verdict"]
    table = "\n".join(as_markdown(scheme_table(document["schemes"])))
    assert "| cells-96 | 1.333 |" in table


@pytest.mark.slow  # a block of 45 lines is read for each random one; a store is filled before it is written
def test_blocks_and_what_is_written(tmp_path: Path) -> None:
    trace, written = measured(tmp_path, ["trace", "compresso-dynamic"])["schemes"]
    assert trace["gain_random"] < 0.1 < 1.2 < trace["gain_sequential"]
    assert written["mode"] == "inline"
    assert written["capacity"] < 1  # no class between 32 and 64 B holds 43 B, and the metadata stays


def test_the_section_goes_between_its_markers() -> None:
    assert with_section(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    with pytest.raises(ValueError, match="no markers"):
        with_section("nothing", "new")
