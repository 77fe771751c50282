"""What is in ``deploy/`` and ``ray_cluster.yaml`` is taken by the programs that it is for."""

from __future__ import annotations

import copy
import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from linepress.cli.run import command as run_command
from linepress.cluster.metrics import EXPORTED

ROOT = Path(__file__).resolve().parents[2]
RAY_METRICS = {"ray_node_cpu_utilization", "ray_node_mem_used"}  # of Ray's reporter agent, one a node


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


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "deploy/grafana.json").read_text(encoding="utf-8"))
    return found


def test_the_dashboard_asks_for_what_is_exported() -> None:
    asked = set(re.findall(r"\bray_\w+", json.dumps(dashboard())))
    assert asked == set(EXPORTED) | RAY_METRICS


def test_the_dashboard_has_what_grafana_needs() -> None:
    found = dashboard()
    assert found["title"]
    assert found["uid"]
    assert found["schemaVersion"] >= 36
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 0
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    variables = {variable["name"] for variable in found["templating"]["list"]}
    for panel in panels:
        assert panel["title"]
        assert panel["type"] == "timeseries"
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables


def test_prometheus_reads_the_file_that_ray_writes() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    found = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = found["scrape_configs"]
    assert job["file_sd_configs"] == [{"files": [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]}]
