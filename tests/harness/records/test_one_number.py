"""One number, one value: every place that shows a headline figure shows the same digits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.tools.readme import ratio_table

import linepress_suites
from linepress.cluster.join import Cluster
from linepress.compare.nights import reduce_run
from linepress.intake.work import verdict
from linepress.nightly.summary import markdown
from linepress.records import RunStore
from linepress.records.pools import pools
from linepress.records.summary import headline, measured
from linepress.report.sections import overview
from linepress.report.view import RunView
from linepress.run.engine import Run
from linepress.run.options import RunOptions
from linepress.run.progress import Progress
from linepress.suite.model import load_suite
from linepress.tables import format as fmt
from linepress.tables.model import Table
from linepress.tracking.content import mirror_content

DATA = Path(linepress_suites.__file__).parent / "data"
SUITE = f"""
name: one-number
version: 1
sources:
  - uri: {DATA}/whisper-tiny-bf16.safetensors
  - uri: {DATA}/smollm2-135m-instruct-kv-handbook-512.safetensors
codecs: [huffman, {{codec: huffman, tables: 4}}, {{codec: zstd, level: 3, block: 64KiB}}]
packings: [stream]
claims: false
repeats: 2
"""
RATIOS = ("payload_ratio", "packed_ratio", "bound_ratio")
RATES = ("encode_GBps", "decode_GBps")


@pytest.fixture(scope="module")
def store(ray_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    folder = tmp_path_factory.mktemp("one")
    (folder / "suite.yaml").write_text(SUITE)
    options = RunOptions(out=folder / "run", mlflow=False)
    outcome = Run(load_suite(str(folder / "suite.yaml")), options, Progress(live=False)).execute()
    assert outcome.exit_code == 0
    return outcome.store


def shown(row: dict[str, object]) -> list[str]:
    """The figures of a line as people see them."""
    return [*(fmt.ratio(row[name]) for name in RATIOS), *(fmt.significant(row[name]) for name in RATES)]


def test_a_headline_figure_is_the_same_everywhere(store: RunStore) -> None:
    lines = {(row["label"], row["variant"]): row for row in headline(measured(store))}
    assert len(lines) == 6
    report = RunView.load(store, [])
    (table,) = [part for part in overview.headline(report).parts if isinstance(part, Table)]
    cells = {row.cells[0].text: [c.text for c in row.cells] for row in table.groups[0].rows}
    night = markdown(
        {
            **dict.fromkeys(("suite", "run_id", "created_at", "commit", "compare", "baseline", "compared", "dirty")),
            "suite": "one-number",
            "verdict": "PASS",
            **{name: [] for name in ("reasons", "gates", "steps")},
            **{name: {} for name in ("counts", "claims")},
            "headline": json.loads(json.dumps(list(lines.values()))),
        }
    )
    readme = ratio_table(report)
    points = {
        (name, point.key): point.value
        for name, child in mirror_content(store).children.items()
        for point in child.points
    }
    figures, _, _ = reduce_run(store)
    pooled = {(pool.data, pool.variant): pool for pool in pools(store)}
    for (label, variant), row in lines.items():
        told = shown(row)
        if label == table.groups[0].title.partition(" – ")[0]:
            at = [column.label for column in table.columns]
            order = [at.index(name) for name in ("payload ratio", "packed ratio", "bound", "encode", "decode")]
            assert [cells[variant][k].partition("\n")[0] for k in order] == told
        kind = f"| {row['data']} {row['format']} |"
        (in_night,) = [line for line in night.splitlines() if f"{kind} `{variant}` |" in line]
        assert all(text in in_night for text in told)
        (in_readme,) = [line for line in readme.splitlines() if kind in line and f" `{variant}` |" in line]
        assert all(text in in_readme for text in (*told[:3], told[4]))
        where = f"{row['data']}/bf16"
        (child,) = [
            name for name, key in points if key == f"{where}/payload_ratio" and name.endswith(f" × {variant}")
        ]
        in_mlflow = {name: points[child, f"{where}/{name}"] for name in (*RATIOS, *RATES)}
        assert shown(in_mlflow) == told, "rounded to what was measured, and so to the same digits"
        for name in ("payload_ratio", "packed_ratio", *RATES):
            assert figures[f"{row['data']} bf16|{variant}|{name}"] == row[name]
        pool = pooled[row["data"], variant]
        assert pool.payload_ratio == pytest.approx(row["payload_ratio"], rel=1e-12)
        if row["codec_kind"] == "line":
            assert pool.total.ratio(row["packing"]) == pytest.approx(row["packed_ratio"], rel=1e-12)
    best = verdict.leading(list(lines.values()))
    assert best is not None
    assert best in lines.values()


def test_no_line_codec_beats_its_own_bound(store: RunStore) -> None:
    for row in headline(measured(store)):
        if row["codec_kind"] == "line":
            assert row["payload_ratio"] <= row["bound_ratio"]
