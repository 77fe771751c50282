"""What is in ``deploy/`` and ``ray_cluster.yaml`` is taken by the programs that it is for."""

from __future__ import annotations

import copy
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from linepress.cli.run import command as run_command

ROOT = Path(__file__).resolve().parents[2]


def cluster() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))
    return found


def validate(config: dict[str, Any]) -> None:
    """As ``ray up`` does before it touches a machine."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(config)))


def test_ray_up_takes_the_cluster_file() -> None:
    validate(cluster())


@pytest.mark.parametrize("change", [{"max_worker": 2}, {"idle_timeout_minutes": "soon"}])
def test_ray_up_would_refuse_a_wrong_one(change: dict[str, Any]) -> None:
    import jsonschema

    with pytest.raises(jsonschema.ValidationError):
        validate({**cluster(), **change})


def ray_job() -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "deploy/kuberay.yaml").read_text(encoding="utf-8"))
    (found,) = [document for document in documents if document["kind"] == "RayJob"]
    return dict(found["spec"])


def parse(entrypoint: str) -> dict[str, Any]:
    program, verb, *words = shlex.split(entrypoint)
    assert (program, verb) == ("linepress", "run")
    return run_command.make_context("run", words).params


def test_linepress_takes_the_entrypoint_of_the_ray_job() -> None:
    params = parse(ray_job()["entrypoint"])
    assert params["ray_address"] == "auto"
    with pytest.raises(click.NoSuchOption):
        parse(ray_job()["entrypoint"] + " --no-such-option")
