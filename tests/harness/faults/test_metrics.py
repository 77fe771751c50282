"""What Prometheus sees of a run on a cluster."""

from __future__ import annotations

import re
import time
import urllib.request
import uuid

import pytest

from linepress.cluster.metrics import EXPORTED
from linepress_kit.driver_kit import CASES, Drivers
from linepress_kit.loopback import Loopback

SERIES = re.compile(r"^(ray_linepress_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
RUN = re.compile(r'\brun="([^"]*)"')
STATUS = re.compile(r'\bstatus="([^"]*)"')


def scraped(nodes: Loopback, run: str) -> dict[str, float]:
    """Sum over workers of each series of this run, by name and status."""
    found: dict[str, float] = {}
    for node in nodes.nodes:
        try:
            with urllib.request.urlopen(f"http://{node.ip}:{node.metrics_port}/metrics", timeout=3) as answer:
                text = answer.read().decode()
        except OSError:
            continue  # the exporter of a node is up some time after the node
        for name, labels, value in SERIES.findall(text):
            if RUN.findall(labels) == [run]:
                series = " ".join([name, *STATUS.findall(labels)])
                found[series] = found.get(series, 0.0) + float(value)
    return found


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_run_is_counted_under_its_own_name(nodes: Loopback, drivers: Drivers) -> None:
    """Over 5 s: a real driver against two real Ray nodes."""
    run = f"counted-{uuid.uuid4().hex[:8]}"
    drivers.variables["RAY_metrics_report_interval_ms"] = "500"
    process = drivers.start("--out", run)
    most: dict[str, float] = {}
    while process.poll() is None:
        for name, value in scraped(nodes, run).items():
            most[name] = max(most.get(name, 0.0), value)
        time.sleep(0.2)
    code, _document, err = drivers.finish(process)
    assert code == 0, err
    assert {name.split()[0] for name in most} == set(EXPORTED)
    cases = most["ray_linepress_cases_total ok"]
    assert 0 < cases <= CASES
    assert most["ray_linepress_raw_bytes_total ok"] == cases * 512 * 512 * 2
    assert 0 < most["ray_linepress_case_seconds_count"] <= CASES
    assert 0 < most["ray_linepress_cases_waiting"] < CASES
    assert 0 < most["ray_linepress_cases_in_flight"] <= CASES
    assert "ray_linepress_cases_total failed" not in most
