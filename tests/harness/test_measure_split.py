"""A tensor in parts gives the row of the same tensor in one piece: in a loop, on workers, when one of them dies."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import ray
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from linepress.cli.run import command
from linepress.cluster.fanout import MAX_TRIES, _afresh, fan_out, groups
from linepress.cluster.join import Cluster
from linepress.cluster.split import FIT, MERGE, PART, SplitCase, Step, StepEnd
from linepress.cluster.tasks import Row, Split, Task
from linepress.errors import SourceError
from linepress.records import RunStore
from linepress.records.schema import MEASURE
from linepress.run.plan import MEASURE_TARGET, make_plan
from linepress.sources import TensorRef, open_source
from linepress.stages.measure import split
from linepress.stages.measure.case import measure_case
from linepress.stages.measure.coded import MeasureError
from linepress.stages.measure.split import CONTENT, measure_in_parts, parts_of
from linepress.submission.fixtures import build
from linepress.suite.model import load_suite
from linepress_codecs.codecs.raw import Raw
from linepress_codecs.contracts import LineCodec
from linepress_codecs.errors import CodecError
from linepress_codecs.formats import FORMATS
from linepress_codecs.registry import codecs
from linepress_codecs.variant import Variant
from linepress_kit import split_faults
from linepress_kit.faults import suite_text

TIMED = {f"{work}_{unit}" for work in ("encode", "decode", "measure") for unit in ("s", "GBps")}
EXACT = [field.name for field in MEASURE if field.name not in TIMED]
LINE_CODECS = sorted(
    name for name, cls in codecs().items() if issubclass(cls, LineCodec) and cls().supports(FORMATS["bf16"])
)
LAYOUTS = {
    "row": (64, 96),
    "output": (50, 40),
    "channel": (2, 320, 24),
    "paged-vllm": (2, 160, 32),
    "paged-vllm-k": (2, 160, 32),
    "paged-vllm-v": (2, 160, 32),
    "paged-hf": (2, 160, 32),
}


def exact(row: Row) -> Row:
    """Every column that does not depend on a clock; NaN equal to itself."""
    return {name: repr(row.get(name)) for name in EXACT if name in row}


def tensor(folder: Path, array: NDArray[np.uint16], name: str = "w") -> TensorRef:
    path = folder / f"{name}.safetensors"
    path.write_bytes(build({name: ("BF16", list(array.shape), array.tobytes())}))
    return open_source(str(path)).tensors()[0]


def gauss(shape: tuple[int, ...], seed: int) -> NDArray[np.uint16]:
    rng = np.random.Generator(np.random.PCG64(seed))
    scale = 2.0 ** rng.integers(-6, 6, shape[-1])
    return (rng.standard_normal(shape) * scale).astype(ml_dtypes.bfloat16).view(np.uint16)


def test_every_line_codec_and_layout_is_there() -> None:
    from linepress_codecs.layout import LAYOUTS as KNOWN

    assert set(LAYOUTS) == set(KNOWN)
    assert {"huffman", "adaptive", "context"} <= set(LINE_CODECS)


@pytest.mark.parametrize("codec", LINE_CODECS)
@settings(max_examples=6, deadline=None)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    seed=st.integers(0, 2**32),
    chunk_bytes=st.sampled_from([4096, 6000, 9984]),
    split_bytes=st.integers(1, 24_000),
)
def test_parts_give_the_row_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, codec: str, layout: str, seed: int, chunk_bytes: int, split_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    ref = tensor(folder, gauss(LAYOUTS[layout], seed))
    variant = Variant.parse(f"{codec}:layout={layout}")
    options: dict[str, Any] = {
        "chunk_bytes": chunk_bytes,
        "repeats": 1,
        "seed": seed,
        "packings": ("stream", "classes", "groups:lines=48:size=33"),
    }
    parts = parts_of(ref, variant, chunk_bytes, split_bytes)
    assert parts[:1] in ((), (CONTENT,))
    whole = measure_case(ref, variant, **options)
    if not parts:
        assert split_bytes >= ref.n_bytes or len(list(ref.lines(chunk_bytes, layout))) == 1
        return
    assert whole["lossless"] is True
    assert exact(measure_in_parts(ref, variant, parts, **options)) == exact(whole)


def test_parts_cover_every_chunk_once_and_are_even(tmp_path: Path) -> None:
    ref = tensor(tmp_path, gauss((640, 64), 1))  # 81,920 B: 20 chunks of 4 KiB
    variant = Variant.parse("raw")
    assert parts_of(ref, variant, 4096, 40_960) == (
        CONTENT,
        (0, 2),
        (2, 5),
        (5, 7),
        (7, 10),
        (10, 12),
        (12, 15),
        (15, 17),
        (17, 20),
    )
    assert parts_of(ref, variant, 4096, 81_920) == ()
    assert parts_of(ref, variant, 4096, 0) == ()
    assert parts_of(ref, variant, 1 << 20, 4096) == (), "one chunk"
    assert parts_of(ref, Variant.parse("zstd:level=1"), 4096, 4096) == (), "blocks"
    assert parts_of(ref.with_cast("e4m3:scale=tensor"), variant, 4096, 4096) == (), "staged"
    drawn = open_source("synthetic:gauss?shape=640x64").tensors()[0]
    assert parts_of(drawn, variant, 4096, 4096) == (), "staged"


def losing(line: int) -> Any:
    """`Raw.decode_line` that gets one line of the tensor wrong, told by its first two bytes."""
    true = Raw.decode_line

    def decode_line(self: Raw, packed: Any, i: int, tables: Any) -> NDArray[np.uint8]:
        out = np.array(true(self, packed, i, tables))
        if int(out[:4].view(np.uint32)[0]) == line:
            out[-1] ^= 1
        return out

    return decode_line


@pytest.mark.parametrize("line", [0, 64, 777, 1279])
def test_the_first_mismatch_and_the_lines_drawn_do_not_depend_on_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: int
) -> None:
    """`decode_line` is tried on drawn lines only: with 16 of 64 lines a chunk, line 777 is drawn by some seeds."""
    numbered = np.zeros((1280, 32), np.uint16)
    numbered[:, 0] = np.arange(1280)
    ref = tensor(tmp_path, numbered)
    monkeypatch.setattr(Raw, "decode_line", losing(line))
    found: Counter[int | None] = Counter()
    for seed in range(8 if line == 777 else 1):
        options: dict[str, Any] = {"chunk_bytes": 4096, "repeats": 0, "seed": seed}
        whole = measure_case(ref, Variant.parse("raw"), **options)
        found[whole["mismatch_line"]] += 1
        for split_bytes in (33_000, 60_000):
            parts = parts_of(ref, Variant.parse("raw"), 4096, split_bytes)
            assert len(parts) > 2
            assert exact(measure_in_parts(ref, Variant.parse("raw"), parts, **options)) == exact(whole)
    wanted = {None, line} if line == 777 else {line}  # first and last line of a chunk are always tried
    assert set(found) == wanted


def test_a_file_touched_between_the_steps_is_refused(tmp_path: Path) -> None:
    ref = tensor(tmp_path, gauss((640, 64), 1))
    variant = Variant.parse("huffman")
    parts = parts_of(ref, variant, 4096, 40_960)
    start = split.fit(ref, variant, chunk_bytes=4096)
    path = tmp_path / "w.safetensors"
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as size and date have it, nothing happened
    for where in parts[:2]:
        with pytest.raises(SourceError, match="was written to while it was measured"):
            split.part(ref, variant, start, where, chunk_bytes=4096)


def test_parts_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    ref = tensor(tmp_path, gauss((640, 64), 1))
    variant = Variant.parse("huffman")
    parts = parts_of(ref, variant, 4096, 40_960)
    with pytest.raises(MeasureError, match="the tensor gave"):
        measure_in_parts(ref, variant, parts[:-1], chunk_bytes=4096, repeats=0)
    with pytest.raises(MeasureError, match="0 of its parts hashed"):
        measure_in_parts(ref, variant, parts[1:], chunk_bytes=4096, repeats=0)


def test_counts_of_other_tables_do_not_merge(tmp_path: Path) -> None:
    codec, bf16 = Variant.parse("adaptive").line_codec, FORMATS["bf16"]
    ref = tensor(tmp_path, gauss((640, 64), 1))
    fitted, empty = (codec.class_bound(bf16, codec.fit(lines)) for lines in (list(ref.lines(4096)), []))
    assert fitted is not None
    assert empty is not None
    with pytest.raises(CodecError, match="can only be merged with those of the same tables"):
        fitted.merge(empty)


def test_rounds_are_summed_over_the_parts(tmp_path: Path) -> None:
    ref = tensor(tmp_path, gauss((640, 64), 1))
    variant = Variant.parse("huffman")
    row = measure_in_parts(ref, variant, parts_of(ref, variant, 4096, 40_960), chunk_bytes=4096, repeats=4)
    for work in ("encode", "decode", "measure"):
        assert len(row[f"{work}_s"]) == 4
        assert all(s > 0 for s in row[f"{work}_s"])
        assert row[f"{work}_GBps"] == pytest.approx(ref.n_bytes / np.median(row[f"{work}_s"]) / 1e9)


# On workers


def split_task(
    ref: TensorRef, spec: str, folder: Path, fault: str = "", key: str = "large", split_bytes: int = 40_960
) -> Task:
    variant = Variant.parse(spec)
    return Task(
        key=key,
        stage="measure",
        target=MEASURE_TARGET,
        arguments=(ref, variant),
        options={"chunk_bytes": 4096, "repeats": 1, "seed": 3, "folder": str(folder), "fault": fault},
        identity={"tensor": ref.name, "variant": spec},
        n_bytes=ref.n_bytes,
        content_sha256=ref.content_sha256(),
        split=Split(
            split_faults.__name__,
            parts_of(ref, variant, 4096, split_bytes),
            256 << 20,
        ),
    )


def small(number: int) -> Task:
    return Task(f"{number:04d}", "measure", "linepress_kit.faults:fine", (number,))


def run(tasks: list[Task], cluster: Cluster) -> tuple[dict[str, list[Row]], list[str]]:
    events: list[str] = []
    pairs = list(fan_out(tasks, cluster, 60.0, note=lambda event, **_: events.append(event)))
    assert Counter(task.key for task, _ in pairs) == Counter(task.key for task in tasks)
    return {task.key: rows for task, rows in pairs}, events


@pytest.fixture
def large(tmp_path: Path) -> TensorRef:
    return tensor(tmp_path, gauss((640, 64), 1), "large")


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "traces"
    folder.mkdir()
    return folder


def whole_row(ref: TensorRef, spec: str) -> Row:
    return exact(measure_case(ref, Variant.parse(spec), chunk_bytes=4096, repeats=1, seed=3))


@pytest.mark.parametrize("spec", ["huffman", "context:layout=row"])
def test_two_workers_share_the_parts_of_one_tensor(
    ray_cluster: Cluster, large: TensorRef, traces: Path, spec: str
) -> None:
    found, events = run([small(0), split_task(large, spec, traces), small(1)], ray_cluster)
    row = found["large"][0]
    assert (row["status"], row["attempts"], row["row"], row["extra"]) == ("ok", 1, 0, {"parts": 9})
    assert exact(row) == whole_row(large, spec)
    assert row["seconds"] >= 9 * split_faults.PAUSE_S, "of all workers together"
    assert row["started_at"].tzinfo is not None
    done = [trace.name.split("-") for trace in traces.glob("*-*")]
    assert len({pid for _, pid in done}) >= 2
    assert len(done) >= 8  # CONTENT and the first part both begin at chunk 0
    assert events == []
    assert found["0000"][0]["status"] == found["0001"][0]["status"] == "ok"


def test_a_part_whose_worker_is_killed_is_measured_again(
    ray_cluster: Cluster, large: TensorRef, traces: Path
) -> None:
    found, events = run([split_task(large, "huffman", traces, "kill once"), small(0)], ray_cluster)
    row = found["large"][0]
    assert (row["status"], row["attempts"]) == ("ok", 2)
    assert exact(row) == whole_row(large, "huffman")
    assert (traces / f"{split_faults.VICTIM}-killed").exists()
    assert events == ["worker lost"]


def test_a_part_that_kills_its_workers_fails_its_case_alone(
    ray_cluster: Cluster, large: TensorRef, traces: Path
) -> None:
    tasks = [split_task(large, "huffman", traces, "kill always"), *(small(i) for i in range(10))]
    found, events = run(tasks, ray_cluster)
    row = found["large"][0]
    assert (row["status"], row["error_type"], row["attempts"]) == ("failed", "WorkerCrashedError", MAX_TRIES)
    assert row["tensor"] == "large"
    assert events == ["worker lost"] * MAX_TRIES
    assert all(found[f"{i:04d}"][0]["status"] == "ok" for i in range(10))


def test_a_part_that_raises_fails_its_case_at_once(ray_cluster: Cluster, large: TensorRef, traces: Path) -> None:
    found, events = run([split_task(large, "huffman", traces, "raise"), small(0)], ray_cluster)
    row = found["large"][0]
    assert (row["status"], row["error_type"], row["error"]) == ("failed", "ValueError", "this part is no good")
    assert (row["tensor"], row["attempts"]) == ("large", 1)
    assert row["extra"]["raised_at"].startswith("split_faults.py:")
    assert events == []
    assert found["0000"][0]["status"] == "ok"


def test_other_bytes_than_planned_are_a_failed_row(ray_cluster: Cluster, large: TensorRef, traces: Path) -> None:
    task = dataclasses.replace(split_task(large, "raw", traces, split_bytes=60_000), content_sha256="0" * 64)
    assert run([task], ray_cluster)[0]["large"][0]["error_type"] == "ContentChangedError"


def test_a_split_case_goes_alone(large: TensorRef, traces: Path) -> None:
    task = split_task(large, "raw", traces)
    assert [len(group) for group in groups([small(0), small(1), task, small(2), task, task])] == [2, 1, 1, 1, 1]


@pytest.mark.slow
def test_a_run_on_one_core_splits_and_says_so(tmp_path: Path) -> None:
    """Over 5 s: a Ray of its own, of one core, where nothing may wait for a core that it holds itself."""
    tensor(tmp_path, gauss((640, 64), 1))
    text = suite_text("split", "w.safetensors", "[raw, huffman, context]", "chunk_bytes: 4096\n")
    (tmp_path / "suite.yaml").write_text(text, encoding="utf-8")
    linepress = [sys.executable, "-c", "from linepress.cli.app import main; main()", "run", "suite.yaml", "--json"]
    done = subprocess.run(
        [*linepress, "--out", "run", "--workers", "1", "--no-mlflow", "--no-report", "--split-bytes", "40kB"],
        cwd=tmp_path,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    resume = json.loads(done.stdout)["resume"]
    assert "--split-bytes 40000" in resume
    assert resume.endswith("--no-mlflow --no-report")
    assert not (tmp_path / "run" / "report").exists()
    store = RunStore.open(tmp_path / "run")
    assert store.manifest["arguments"]["resolved"]["split_bytes"] == 40_000
    found = {row["case_key"]: row for row in store.rows("measure")}
    plan = make_plan(load_suite(str(tmp_path / "suite.yaml")))
    whole = {task.key: task for task in plan.tasks({})}
    assert set(found) == set(whole), "the same keys as in one piece"
    for key, row in found.items():
        assert json.loads(row["extra"]) == {"parts": 10}
        assert whole[key].split is None
        one_piece = measure_case(*whole[key].arguments, **whole[key].options)
        for name in (
            "payload_bits",
            "packings",
            "bits_histogram",
            "bounds",
            "lossless",
            "content_sha256",
            "table_bytes",
        ):
            assert row[name] == one_piece[name], name


def test_a_size_that_is_none_is_a_usage_error() -> None:
    done = CliRunner().invoke(command, ["smoke", "--split-bytes", "much", "--dry-run"])
    assert done.exit_code == 2
    assert "'much' is not a size" in done.output


# The order of steps, without workers


def end(rows: list[Row] | None = None) -> StepEnd:
    from datetime import UTC, datetime

    return StepEnd(rows or [], datetime.now(UTC), 1.0)


def case_of(n_parts: int) -> SplitCase:
    return SplitCase(Task("k", "measure", "m:f", split=Split("m", tuple(range(n_parts)))))


def test_steps_follow_each_other_and_parts_may_end_in_any_order() -> None:
    case = case_of(3)
    rows, parts = case.begin().ended(end())
    assert rows == []
    assert [(step.name, step.number) for step in parts] == [(PART, 0), (PART, 1), (PART, 2)]
    assert parts[2].ended(end()) == ([], [])
    assert parts[0].ended(end()) == ([], [])
    rows, last = parts[1].ended(end())
    assert [step.name for step in last] == [MERGE]
    last[0].value = "what it hands on"
    rows, following = last[0].ended(end([{"status": "ok"}]))
    assert following == []
    assert (rows[0]["seconds"], rows[0]["attempts"]) == (5.0, 1)
    assert case.over


def test_what_a_lost_node_held_is_measured_again_and_old_steps_do_not_count() -> None:
    case = case_of(2)
    _, old = case.begin().ended(end())
    old[0].ended(end())
    _, merges = old[1].ended(end())
    gone = ray.exceptions.ObjectLostError("00", None, "")
    begun = merges[0].lost(gone, MAX_TRIES)
    assert [step.name for step in begun] == [FIT]
    assert old[1].stale
    assert old[1].ended(end([{"status": "failed"}])) == ([], [])
    _, parts = begun[0].ended(end())
    assert len(parts) == 2
    assert case.values == {}
    begun = parts[0].lost(gone, MAX_TRIES)
    assert parts[1].stale
    assert begun[0].lost(gone, MAX_TRIES) == [], "as often as a case is tried"
    assert case.over


def test_a_lost_head_begins_every_split_case_once() -> None:
    case, over = case_of(3), case_of(1)
    _, parts = case.begin().ended(end())
    first = over.begin()
    over.over = True
    fresh = list(_afresh([*parts, first]))
    assert [(step.name, step.case) for step in fresh if isinstance(step, Step)] == [(FIT, case)]
    assert len(fresh) == 1
    assert all(step.stale for step in parts)


def test_variants_of_a_tensor_side_by_side_give_their_own_rows(
    ray_cluster: Cluster, large: TensorRef, traces: Path
) -> None:
    specs = ("huffman", "raw", "huffman:tables=2", "zero")
    found, _ = run([split_task(large, spec, traces, key=spec) for spec in specs], ray_cluster)
    for spec in specs:
        assert exact(found[spec][0]) == whole_row(large, spec)
