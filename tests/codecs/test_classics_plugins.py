"""The family in `linepress list codecs` and in sweeps, and a codec that another installed package announces."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from linepress.cli.app import app
from linepress.run.plan import make_plan
from linepress.sources.hashes import HashCache
from linepress.suite.model import load_suite
from linepress_codecs.variant import expand

FAMILY = ["zero", "repeat", "bdi", "fpc", "fpcd", "cpack", "bpc", "sc2", "best-of"]


def listed(text: str) -> dict[str, dict[str, object]]:
    return {row["codec"]: row for row in json.loads(text)}


def test_the_family_is_listed_with_sentence_and_source() -> None:
    result = CliRunner().invoke(app, ["list", "codecs", "--json"])
    assert result.exit_code == 0, result.output
    rows = listed(result.output)
    for name in FAMILY:
        assert rows[name]["kind"] == "line"
        assert rows[name]["from"] == "linepress_codecs"
        assert rows[name]["summary"], name
        assert rows[name]["source"], name
    assert rows["bdi"]["options"] == ["threshold", "accounting"]


def test_sweeps_reach_the_family() -> None:
    variants = expand({"codec": "bdi", "accounting": ["paper", "gem5"], "threshold": [50, 100]})
    assert [v.spec for v in variants] == [
        "bdi:threshold=50",
        "bdi",
        "bdi:threshold=50:accounting=gem5",
        "bdi:accounting=gem5",
    ]
    assert [v.spec for v in expand({"codec": "sc2", "capacity": [64, 1024]})] == ["sc2:capacity=64", "sc2"]
    assert [v.spec for v in expand({"codec": "bpc", "delta": [33, 32], "line": [64, 32]})] == [
        "bpc",
        "bpc:line=32",
        "bpc:delta=32",
        "bpc:delta=32:line=32",
    ]


PLUGIN = '''
from dataclasses import dataclass, field
from linepress_codecs.codecs.raw import Raw

@dataclass(frozen=True)
class Elsewhere(Raw):
    """Raw under another name, with an option to sweep."""

    codec_id = "elsewhere"
    summary = "a codec of another package"
    source = "test"
    level: int = field(default=1, metadata={"choices": (1, 2, 3), "help": "nothing"})
'''


def install(folder: Path, name: str, module: str, code: str, entry: str) -> None:
    """A package as an installer leaves it: a module and its dist-info with entry points."""
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[linepress.codecs]\n{entry}\n")


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=110, check=False
    )


SCRIPT = """
import sys
from linepress.cli.app import main

def run(*arguments):
    sys.argv = ["linepress", *arguments]
    try:
        main()
    except SystemExit as end:
        print("exit", end.code, flush=True)

run("list", "codecs", "--json")
run("measure", sys.argv[1] + "/x.npy", "-c", "elsewhere:level=2", "--repeats", "0", "--json")

from linepress.sources.hashes import HashCache
from linepress.run.plan import make_plan
from linepress.suite.model import load_suite
from pathlib import Path
folder = Path(FOLDER)
plan = make_plan(load_suite(str(folder / "suite.yaml")), HashCache(folder / "cache.sqlite"))
print([plan.variants[case.variant].spec for case in plan.cases])

from linepress_codecs.registry import make
from linepress_codecs.testing import line_checks
for check in line_checks()[:3]:
    check(make("elsewhere", {"level": "3"}))
print("whole")
"""


def test_a_codec_of_another_package(tmp_path: Path) -> None:
    """It is listed with its package, measured by the command line, swept by a suite, and passes the kit."""
    install(
        tmp_path, "linepress-elsewhere", "linepress_elsewhere", PLUGIN, "elsewhere = linepress_elsewhere:Elsewhere"
    )
    np.save(tmp_path / "x.npy", np.zeros(4096, np.float32))
    (tmp_path / "suite.yaml").write_text(
        "name: own\nversion: 1\nsources:\n  - uri: x.npy\ncodecs:\n  - codec: elsewhere\n    level: [1, 3]\n  - bpc\n"
    )
    script = f"FOLDER = {str(tmp_path)!r}\n" + SCRIPT.replace("sys.argv[1]", "FOLDER")
    done = python(tmp_path, script)
    assert done.returncode == 0, done.stderr[-2000:]
    rows, end = json.JSONDecoder().raw_decode(done.stdout)
    row = {row["codec"]: row for row in rows}["elsewhere"]
    assert row["from"] == "linepress_elsewhere"
    assert row["options"] == ["level"]
    rest = done.stdout[end:]
    assert rest.count("exit 0") == 2, rest + done.stderr[-1000:]
    assert '"elsewhere:level=2"' in rest
    assert rest.endswith("['elsewhere', 'elsewhere:level=3', 'bpc']\nwhole\n")


def test_a_package_may_not_take_a_known_name(tmp_path: Path) -> None:
    code = PLUGIN.replace('codec_id = "elsewhere"', 'codec_id = "bdi"')
    install(tmp_path, "linepress-thief", "linepress_thief", code, "bdi = linepress_thief:Elsewhere")
    done = python(tmp_path, "from linepress_codecs.registry import codecs; codecs()")
    assert done.returncode != 0
    assert "two codecs call themselves 'bdi'" in done.stderr
    assert "rename one" in done.stderr


def test_suites_take_the_family(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(4096, np.float32))
    path = tmp_path / "suite.yaml"
    entries = "".join(f"  - codec: {name}\n    line: [32, 64]\n" for name in FAMILY)
    path.write_text(f"name: own\nversion: 1\nsources:\n  - uri: x.npy\ncodecs:\n{entries}")
    plan = make_plan(load_suite(str(path)), HashCache(tmp_path / "cache.sqlite"))
    assert [plan.variants[case.variant].spec for case in plan.cases] == [
        spec for name in FAMILY for spec in (f"{name}:line=32", name)
    ]
