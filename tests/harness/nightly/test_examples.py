"""The examples for cron, GitHub Actions and Kubernetes give commands that the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from linepress.cli.nightly import command
from linepress.errors import EXIT_STORE_REFUSES
from linepress.records.remote import RemoteError

DEPLOY = Path(__file__).parents[3] / "deploy"


def load(name: str) -> Any:
    return YAML(typ="safe").load((DEPLOY / name).read_text(encoding="utf-8"))


def accepted(words: list[str]) -> dict[str, Any]:
    """What the command makes of its arguments; click refuses an unknown option."""
    assert words[:1] == ["nightly"]
    with command.make_context("nightly", words[1:]) as context:
        return dict(context.params)


def test_cron_runs_one_night_at_a_time() -> None:
    lines = (DEPLOY / "cron" / "linepress").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if re.match(r"\d", line)]
    assert line.split()[:5] == ["30", "1", "*", "*", "*"]
    assert "flock -n" in line
    words = shlex.split(line.partition("bin/linepress ")[2].partition(" 2>>")[0])
    assert accepted(words)["baseline"] == "latest-good"


def test_the_workflow_runs_the_night_and_keeps_the_report() -> None:
    job = load("github-actions/nightly.yaml")["jobs"]["nightly"]
    run = next(step for step in job["steps"] if "linepress nightly" in step.get("run", ""))
    words = shlex.split(run["run"].partition("bin/linepress ")[2].partition(" >>")[0])
    assert accepted(words)["suite_name"] == "nightly"
    assert "${{" not in run["run"], "an input goes through the environment, never into the script"
    assert job["steps"][-1]["if"] == "always()"
    assert accepted(words)["out"] == Path("$NIGHT")
    kept = job["steps"][-1]["with"]["path"].splitlines()
    assert all(path.startswith("${{ env.NIGHT }}/") for path in kept), "one night, not all of them"


def test_the_cron_job_does_not_try_a_verdict_again() -> None:
    job = load("k8s-cronjob/cronjob.yaml")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    template = job["spec"]["jobTemplate"]["spec"]
    assert template["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [1, 2, 3, 4]
    assert RemoteError.exit_code == EXIT_STORE_REFUSES == 5, "a store that was away is tried again"
    (container,) = template["template"]["spec"]["containers"]
    parsed = accepted(container["command"][1:])
    assert parsed["hosts_alike"]
    assert parsed["runs"] == Path("/data/runs")


# Values of secrets, not the words: prose may say where a password belongs.
SECRET = re.compile(r"hooks\.|(?:token|password)\s*[:=]\s*[^\s<$]\S{5}|://[^\s/:@]+:[^\s/@<$]+@", re.IGNORECASE)


@pytest.mark.parametrize("file", sorted(p for p in DEPLOY.rglob("*") if p.is_file()), ids=lambda p: p.name)
def test_no_example_holds_a_secret(file: Path) -> None:
    assert not SECRET.search(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "url: https://hooks.example.org/services/T0/B0",
        "token: lp_0123456789abcdef",
        "password=hunter2",
        "Password: hunter2",
        "LINEPRESS_DATABASE=postgresql://linepress:hunter2@db/linepress",
    ],
)
def test_a_secret_in_an_example_would_be_found(text: str) -> None:
    assert SECRET.search(text)
