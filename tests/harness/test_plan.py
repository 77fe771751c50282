"""Plans: keys that name what is computed, content that is hashed once, cases that are skipped for a reason."""

from __future__ import annotations

import hashlib
import os
import time
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from linepress.errors import SourceError, SuiteError
from linepress.run.keys import case_key, content_ids
from linepress.run.plan import Plan, make_plan
from linepress.sources import TensorRef, open_source
from linepress.sources.hashes import HashCache
from linepress.sources.staging import staged
from linepress.suite.model import load_suite

SUITE = """\
name: planned
version: 1
sources:
  - uri: {uri}
    label: data
codecs: [raw, tans, {{codec: tans, layout: channel, kinds: [weight]}}]
packings: [stream]
"""


def plan(folder: Path, uri: str = "data.safetensors", text: str = SUITE, cache: HashCache | None = None) -> Plan:
    path = folder / "suite.yaml"
    path.write_text(text.format(uri=uri), encoding="utf-8")
    return make_plan(load_suite(str(path)), cache or HashCache(folder / "cache.sqlite"))


def write(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "data.safetensors"
    save_file(arrays, path)
    return path


@pytest.fixture
def two(tmp_path: Path) -> Path:
    rng = np.random.Generator(np.random.PCG64(1))
    write(tmp_path, a=rng.random((64, 64), np.float32), b=rng.random(1000, np.float32))
    return tmp_path


def test_every_pair_is_a_case_and_what_cannot_be_is_skipped_with_reason(two: Path) -> None:
    found = plan(two)
    assert [(found.tensors[c.tensor].name, found.variants[c.variant].spec) for c in found.cases] == [
        (name, spec) for name in ("a", "b") for spec in ("raw", "tans", "tans:layout=channel")
    ]
    skipped = [case for case in found.cases if case.skip]
    assert [found.tensors[case.tensor].name for case in skipped] == ["b"]
    rows = list(found.skipped_rows({}))
    assert rows[0]["status"] == "skipped"
    assert rows[0]["error"]
    assert len(list(found.tasks({}))) == len(found.cases) - 1


def test_keys_are_stable_and_unique(two: Path) -> None:
    one, other = plan(two), plan(two)
    assert [case.key for case in one.cases] == [case.key for case in other.cases]
    assert len({case.key for case in one.cases}) == len(one.cases)


def test_content_decides_the_key(two: Path) -> None:
    before = {case.key for case in plan(two).cases}
    rng = np.random.Generator(np.random.PCG64(1))
    a, b = rng.random((64, 64), np.float32), rng.random(1000, np.float32)
    b[0] += 1
    write(two, a=a, b=b)
    after = {case.key for case in plan(two).cases}
    assert len(before & after) == 3  # those of `a`


def test_keys_do_not_depend_on_where_the_file_lies(two: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "data.safetensors").write_bytes((two / "data.safetensors").read_bytes())
    assert [c.key for c in plan(two).cases] == [c.key for c in plan(elsewhere).cases]


@pytest.mark.parametrize(
    "change", [("packings: [stream]", "packings: [classes]"), ("version: 1", "version: 1\nrepeats: 9")]
)
def test_settings_that_change_the_row_change_the_key(two: Path, change: tuple[str, str]) -> None:
    assert not {c.key for c in plan(two).cases} & {c.key for c in plan(two, text=SUITE.replace(*change)).cases}


def test_a_packing_is_part_of_the_key(two: Path) -> None:
    """A row states the packed ratio under its variant's packing; the default one, spelled out, is the same case."""
    plain, packed, spelled = (
        {case.key for case in plan(two, text=SUITE.replace("[raw, tans,", f"[raw, '{spec}',")).cases}
        for spec in ("tans", "tans:packing=slots", "tans:packing=stream")
    )
    assert plain == spelled
    assert len(plain & packed) == len(plain) - 2, "the case of tans differs for both tensors"


def test_equal_tensors_of_two_names_are_both_measured(tmp_path: Path) -> None:
    ones = np.ones(256, np.float32)
    write(tmp_path, first=ones, second=ones)
    found = plan(
        tmp_path, text=SUITE.replace("[raw, tans, {{codec: tans, layout: channel, kinds: [weight]}}]", "[raw]")
    )
    assert len(found.cases) == 2
    assert found.contents[0] == found.contents[1]


def test_the_same_file_twice_is_measured_once(two: Path) -> None:
    twice = SUITE.replace("    label: data\n", "  - uri: {uri}\n")
    found = plan(two, text=twice)
    assert (len(found.cases), found.duplicates) == (6, 6)


def test_done_cases_are_not_sent(two: Path) -> None:
    found = plan(two)
    done = {found.cases[0].key: "ok", found.cases[1].key: "failed", found.cases[2].key: "skipped"}
    sent = [task.key for task in found.tasks(done)]
    assert found.cases[0].key not in sent
    assert found.cases[1].key in sent
    assert found.cases[2].key not in sent


def test_hashes_are_remembered_until_the_file_changes(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = two / "data.safetensors"
    cache = HashCache(two / "cache.sqlite")
    read: list[int] = []
    tensors = open_source(str(path)).tensors()
    found = content_ids(tensors, cache, read.append)
    assert found[0] == "sha256:" + hashlib.sha256(tensors[0].read(0, tensors[0].n_bytes)).hexdigest()
    assert len(read) == 2
    assert content_ids(open_source(str(path)).tensors(), cache, read.append) == found
    assert len(read) == 2
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    content_ids(open_source(str(path)).tensors(), cache, read.append)
    assert len(read) == 4


def test_a_worker_takes_the_hash_that_planning_read(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(two / "cache"))
    path = two / "data.safetensors"
    tensor = open_source(str(path)).tensors()[0]
    [known] = content_ids([tensor])
    read = TensorRef.content_sha256
    monkeypatch.setattr(TensorRef, "content_sha256", lambda _: pytest.fail("read again"))
    assert f"sha256:{staged(tensor).content_sha256}" == known
    monkeypatch.setattr(TensorRef, "content_sha256", read)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    changed = staged(open_source(str(path)).tensors()[-1]).content_sha256
    assert changed == open_source(str(path)).tensors()[-1].content_sha256()


def test_a_cache_that_cannot_be_used_only_costs_time(two: Path) -> None:
    blocked = two / "file"
    blocked.write_bytes(b"not a database")
    for path in (blocked, blocked / "below" / "cache.sqlite"):
        assert content_ids(open_source(str(two / "data.safetensors")).tensors(), HashCache(path))[0].startswith(
            "sha256:"
        )


def test_synthetic_tensors_are_identified_without_being_drawn(tmp_path: Path) -> None:
    found = plan(tmp_path, "synthetic:gauss?shape=65536x65536&tensors=3")  # 26 GB that nobody reads
    assert all(content.startswith("id:") for content in found.contents)
    assert len(set(found.contents)) == 3


def test_planning_100_000_cases_takes_seconds(tmp_path: Path) -> None:
    start_s = time.perf_counter()
    found = plan(
        tmp_path,
        "synthetic:gauss?shape=64x64&tensors=50000",
        SUITE.replace(", {{codec: tans, layout: channel, kinds: [weight]}}", ""),
    )
    seconds = time.perf_counter() - start_s
    assert len(found.cases) == 100_000
    assert seconds < 20, f"planned 100,000 cases in {seconds:.1f} s"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("    label: data\n", "    tensors: {{groups: [q_proj]}}\n"),
            "suite.yaml:5: sources.0..tensors: none of the 2",
        ),
        (("    label: data\n", "    casts: ['e9m9']\n"), "suite.yaml:5: sources.0..casts.0.: "),
        (("[stream]", "[streem]"), "suite.yaml:7: packings.0.: unknown packing 'streem'"),
    ],
)
def test_what_means_nothing_has_file_and_line(two: Path, change: tuple[str, str], words: str) -> None:
    with pytest.raises(SuiteError, match=words):
        plan(two, text=SUITE.replace(*change))


def test_a_missing_source_stops_the_plan_unless_it_is_optional(two: Path) -> None:
    with pytest.raises(SourceError, match=r"none.safetensors"):
        plan(two, "none.safetensors")
    text = SUITE.replace("    label: data\n", "    label: data\n  - {{uri: none.safetensors, optional: true}}\n")
    found = plan(two, text=text)
    assert len(found.cases) == 6
    assert "none.safetensors" in found.unavailable[0]


def test_case_key_ignores_order_of_names() -> None:
    assert case_key("s", a=1, b=[2]) == case_key("s", b=[2], a=1)
    assert case_key("s", a=1) != case_key("t", a=1)
    assert case_key("s", a=1) != case_key("s", a="1")


def test_the_largest_tensors_go_first() -> None:
    stored = [task.arguments[0].stored() for task in make_plan(load_suite("smoke")).tasks({})]
    sizes = [tensor.n_bytes for tensor in stored]
    assert sizes == sorted(sizes, reverse=True)
    runs = [identity for identity, _ in groupby(tensor.identity for tensor in stored)]
    assert len(runs) == len(set(runs)), "all casts and variants of a tensor in a row"


def test_a_source_names_its_base_and_the_keys_follow_both(two: Path) -> None:
    """Each tensor goes with its namesake; another base is another case, and a base of another model a sentence."""
    rng = np.random.Generator(np.random.PCG64(2))
    text = SUITE.replace("    label: data\n", "    base: {base}\n    label: data\n")
    keys = []
    for name in ("one", "two"):
        arrays = {"a": rng.random((64, 64), np.float32), "b": rng.random(1000, np.float32)}
        save_file(arrays, two / f"{name}.safetensors")
        found = plan(two, text=text.replace("{base}", f"{name}.safetensors"))
        assert [t.base.name if t.base else "" for t in found.tensors] == ["a", "b"]
        line = next(found.tensors[0].lines(1 << 20))
        assert line.geometry.base is not None
        assert line.geometry.base.tobytes() == arrays["a"].tobytes()
        assert found.provenance[0]["base"]["uri"].endswith(f"{name}.safetensors")
        keys.append({case.key for case in found.cases})
    keys.append({case.key for case in plan(two).cases})
    assert all(not one & other for i, one in enumerate(keys) for other in keys[i + 1 :])
    save_file({"a": np.zeros((64, 64), np.float32)}, two / "three.safetensors")
    with pytest.raises(SuiteError, match="has no tensor 'b'"):
        plan(two, text=text.replace("{base}", "three.safetensors"))
