"""What Prometheus sees of a run on a cluster."""

from __future__ import annotations

import re
import time
import urllib.request

import pytest

from linepress.testing.driver_kit import CASES, Drivers
from linepress.testing.loopback import Loopback

SERIES = re.compile(r"^ray_(linepress_\w+)\{(.*)\} (\S+)$", re.MULTILINE)
OWN_LABELS = re.compile(r'(?:stage|codec|status)="[^"]*"')


def scraped(nodes: Loopback) -> dict[str, float]:
    """Sum over workers of each ``linepress`` series, by name and linepress's own labels."""
    found: dict[str, float] = {}
    for node in nodes.nodes:
        try:
            with urllib.request.urlopen(f"http://{node.ip}:{node.metrics_port}/metrics", timeout=3) as answer:
                text = answer.read().decode()
        except OSError:
            continue  # the exporter of a node is up some time after the node
        for name, labels, value in SERIES.findall(text):
            series = f"{name}{{{','.join(sorted(OWN_LABELS.findall(labels)))}}}"
            found[series] = found.get(series, 0.0) + float(value)
    return found


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_cases_are_counted_by_stage_codec_and_status(nodes: Loopback, drivers: Drivers) -> None:
    """Over 5 s: a real driver against two real Ray nodes."""
    process = drivers.start("--no-mlflow")
    most: dict[str, float] = {}
    while process.poll() is None:
        for name, value in scraped(nodes).items():
            most[name] = max(most.get(name, 0.0), value)
        time.sleep(0.2)
    code, _, err = drivers.finish(process)
    assert code == 0, err
    cases = most['linepress_cases_total{codec="raw",stage="measure",status="ok"}']
    raw_bytes = most['linepress_raw_bytes_total{codec="raw",stage="measure",status="ok"}']
    assert 0 < cases <= CASES
    assert raw_bytes == cases * 512 * 512 * 2
    assert 0 < most['linepress_case_seconds_count{stage="measure"}'] <= CASES
