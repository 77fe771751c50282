"""docs/partners.md, followed literally: the commands of its first block, taken from the page, by a newcomer."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from linepress.submission.fixtures import build
from linepress_kit.intake_server import IntakeServer

PAGE = Path(__file__).parents[3] / "docs" / "partners.md"
ADDRESS = "https://intake.example.com"
SUITE = """\
name: smoke
version: 1
sources: [{uri: taken-from-the-submission.safetensors}]
codecs: [raw, huffman]
packings: [stream]
seeds: {sample: 1}
repeats: 1
"""
"""What the page's commands ask for by default, made small."""


def commands() -> list[str]:
    section = PAGE.read_text(encoding="utf-8").partition("## The whole way")[2]
    return [line for line in section.split("```")[1].splitlines() if line.strip()]


def test_the_page_shows_each_step_of_the_way() -> None:
    verbs = [line.split()[1] for line in commands() if line.startswith("linepress ")]
    assert verbs == ["pack", "submit", "send", "verify", "verify"]
    text = PAGE.read_text(encoding="utf-8")
    for said in ("status page", "sign in", "/v1/signing-key", "--kind", "HTTPS_PROXY", "linepress-verify"):
        assert said in text


@pytest.mark.slow  # one whole validation
@pytest.mark.timeout(240)
def test_a_newcomer_who_follows_the_page_gets_a_certificate(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("the page uses curl, which this machine has not")
    values = np.random.Generator(np.random.PCG64(7)).normal(0, 0.02, 64 * 256).astype(np.float32)
    bf16 = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    model = tmp_path / "SmolLM2-135M"
    model.mkdir()
    tensors = {"model.layers.0.mlp.up_proj.weight": ("BF16", [64, 256], bf16)}
    (model / "model.safetensors").write_bytes(build(tensors))
    (model / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    (model / "LICENSE").write_text("Apache License 2.0\n", encoding="utf-8")
    (tmp_path / "smoke.yaml").write_text(SUITE, encoding="utf-8")
    with IntakeServer(tmp_path / "data", ("--suite", str(tmp_path / "smoke.yaml"))) as server:
        environment = {**os.environ, "LINEPRESS_TOKEN": ""}
        token = server.add_partner("acme")
        for line in commands():
            line = line.replace(ADDRESS, server.url).replace("lpk_…", token)
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                environment[name] = value
                continue
            words = shlex.split(line.replace("$LINEPRESS_TOKEN", environment["LINEPRESS_TOKEN"]))
            if words[0] == "linepress":
                words[:1] = [sys.executable, "-c", "from linepress.cli.app import main; main()"]
            done = subprocess.run(
                words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "results reproduced to the bit" in done.stdout
        # what the report shows its partner
        (found,) = server.request("GET", "/v1/submissions", token).json["submissions"]
        report = server.request("GET", f"/v1/submissions/{found['id']}/report", token).text
        assert "acme/smollm2-135m: validated" in report
        assert f"<dd>{os.uname().nodename}" not in report
        assert str(tmp_path) not in report
        page = server.request("GET", f"/submissions/{found['id']}", headers=server.sign_in(token)).text
        assert "Certificate" in page
        # sending again says that it is the same, with other options that it is another; after a delete it is new
        send = next(line for line in commands() if line.startswith("linepress send")).partition(" --wait")[0]
        words = shlex.split(send.replace(ADDRESS, server.url))
        words[:1] = [sys.executable, "-c", "from linepress.cli.app import main; main()"]

        def again(*more: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*words, *more],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        assert "were declared before" in again().stderr
        assert "were declared before" not in again("--publish").stderr
        assert server.request("DELETE", f"/v1/submissions/{found['id']}", token).status == 200
        fresh = again()
        assert fresh.returncode == 0, fresh.stderr
        assert found["id"] not in fresh.stdout
        environment["LINEPRESS_TOKEN"] = "lpk_wrong"
        refused = again()
        assert (refused.returncode, "set LINEPRESS_TOKEN" in refused.stderr) == (1, True), refused.stderr
