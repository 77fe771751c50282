"""Every finding of the fuzzing (`benchmarks.fuzz`) again: what broke something once must not break it again."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from linepress.suite.yaml12 import dotted
from linepress_kit.intake_server import IntakeServer
from linepress_kit.oracles import judge_answer, judge_manifest, judge_safetensors

FINDINGS = Path(__file__).parents[2] / "data" / "findings"
FILES = sorted(path for path in FINDINGS.iterdir() if path.name != "README.md")


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix == ".bin"], ids=lambda p: p.name)
def test_bytes(path: Path) -> None:
    judge = {"safetensors": judge_safetensors, "manifest": judge_manifest}[path.name.partition("-")[0]]
    said, breaches = judge(path.read_bytes())
    assert breaches == []
    assert said == ("taken" if "-taken" in path.name else "refused")


@pytest.mark.parametrize("path", [p for p in FILES if p.suffix == ".json"], ids=lambda p: p.name)
def test_request(
    path: Path,
    server: IntakeServer,
    partner: Callable[..., tuple[str, str]],
    declare: Callable[..., dict[str, Any]],
) -> None:
    finding = json.loads(path.read_text(encoding="utf-8"))
    body = base64.b64decode(finding["body"]) if finding["body"] else None
    token = partner()[1] if finding["token"] else None
    where = finding["path"]
    if "{own}" in where:
        declared = declare({"manifest.yaml": b"x"})
        where = where.replace("{own}", server.request("POST", "/v1/submissions", token, declared).json["id"])
    answer = server.request(finding["method"], where, token, body, finding["headers"])
    description = server.request("GET", "/v1/openapi.json").json
    # an OPTIONS of schemathesis stands for the address, which the description has under other methods
    assert judge_answer(description, finding["operation"], answer.status, answer.headers, answer.body) == []


def test_every_finding_is_told_in_the_readme() -> None:
    text = (FINDINGS / "README.md").read_text(encoding="utf-8")
    assert len(FILES) >= 8
    assert [path.name for path in FILES if f"`{path.name}`" not in text] == []


def test_the_oracles_can_fail() -> None:
    description = {"paths": {"/x": {"get": {"responses": {"200": {"content": {"text/plain": {}}}}}, "delete": {}}}}
    plain = {"content-type": "text/plain; charset=utf-8"}
    assert judge_answer(description, "GET /x", 200, plain, b"x") == []
    assert judge_answer(description, "GET /x", 200, {"content-type": "text/html"}, b"x") != []
    assert judge_answer(description, "GET /x", 500, plain, b"") == ["status 500"]
    assert judge_answer(description, "GET /x", 418, plain, b"") == ["status 418 is not described"]
    assert judge_answer(description, "POST /x", 405, {"allow": "GET"}, b"") == ["Allow hides DELETE"]


def test_a_key_that_a_terminal_would_act_on_is_escaped() -> None:
    assert dotted(("declares", "\x1b[31mred", 2)) == r"declares.\x1b[31mred[2]"
