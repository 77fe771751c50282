"""The Python door: what notebooks call gives what the verbs give."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import linepress as lp
import linepress_suites
from linepress.cli.measure import command
from linepress_codecs.errors import CorruptDataError, SpecError

DATA = Path(linepress_suites.__file__).parent / "data"
KV = DATA / "smollm2-135m-instruct-kv-handbook-512.safetensors"


def weights(n: int = 4096) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(3))
    return (rng.standard_normal((n // 64, 64)) * 0.02).astype(ml_dtypes.bfloat16)


def test_importing_is_quick_and_loads_nothing_heavy() -> None:
    code = "import sys, linepress; print([m for m in ('numpy', 'ray', 'mlflow', 'pyarrow') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    (line,) = [one for one in done.stderr.splitlines() if one.endswith("| linepress")]
    assert int(line.split("|")[1]) < 200_000, "µs, with what it imports"


def test_every_public_name_is_there_and_nothing_else() -> None:
    assert all(getattr(lp, name) is not None for name in lp.__all__)
    assert len(lp.__all__) <= 14
    with pytest.raises(AttributeError, match="no attribute 'plan'"):
        _ = lp.plan


def test_measure_gives_the_rows_of_the_verb() -> None:
    found = lp.measure(KV, "huffman", "raw", tensor="key_*", repeats=0)
    done = CliRunner().invoke(
        command, [str(KV), "-c", "huffman", "-c", "raw", "--tensor", "key_*", "--repeats", "0", "--json"]
    )
    verb = json.loads(done.stdout)
    assert [row["payload_bits"] for row in found] == [case["payload_bits"] for case in verb["cases"]]
    assert found.headline() == verb["totals"]
    assert not found.failed
    assert not found.skipped


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32, ml_dtypes.float8_e4m3fn, np.int8])
def test_an_array_is_measured_as_it_lies(dtype: type) -> None:
    array = (weights().astype(np.float32) * 100).astype(dtype)
    (row,) = lp.measure(array, "huffman", repeats=0).rows
    assert row["lossless"] is True
    assert row["raw_bytes"] == array.nbytes
    assert row["elements"] == array.size


def test_big_endian_and_strided_arrays_are_values_not_bytes() -> None:
    plain = weights().astype(np.float32)
    (one,) = lp.measure(plain, "huffman", repeats=0).rows
    (other,) = lp.measure(plain.astype(">f4"), "huffman", repeats=0).rows
    (strided,) = lp.measure(np.repeat(plain, 2, axis=1)[:, ::2], "huffman", repeats=0).rows
    assert one["payload_bits"] == other["payload_bits"] == strided["payload_bits"]


def test_rows_become_frames_and_a_table() -> None:
    found = lp.measure(weights(), "huffman", "zstd:level=1:block=4KiB", repeats=1)
    assert found.arrow()["payload_bits"].to_pylist() == [row["payload_bits"] for row in found]
    assert list(found.pandas()["variant"]) == list(found.polars()["variant"]) == [row["variant"] for row in found]
    assert "huffman" in repr(found)
    page = found._repr_html_()
    HTMLParser().feed(page)
    assert page.count("<tr>") == 3


def test_a_name_cannot_become_markup() -> None:
    found = lp.measure(weights(), "huffman", repeats=0)
    found.cases[0]["variant"] = "<script>alert(1)</script>"
    assert "<script>" not in found._repr_html_()


@pytest.mark.parametrize("bad", [[1, 2], 3.0, np.zeros(3, complex), np.array(["a"]), np.zeros(3)])
def test_what_is_no_tensor_is_one_sentence(bad: object) -> None:
    with pytest.raises(lp.LinepressError, match=r"tensor|dtype"):
        lp.measure(bad, "huffman")


def test_codec_on_arrays_line_by_line() -> None:
    codec, array = lp.codec("huffman:tables=4"), weights()
    tables = codec.fit(array)
    packed = codec.encode(array, tables)
    again = codec.decode(packed, tables, like=array)
    assert again.dtype == array.dtype
    assert again.tobytes() == array.tobytes()
    assert codec.decode_line(packed, 5, tables).tobytes() == array.tobytes()[5 * 64 : 6 * 64]
    assert codec.measure(array, tables).tolist() == packed.bits.tolist()
    packed.payload[:] ^= 0xFF
    with pytest.raises(CorruptDataError):
        codec.decode(packed, tables, like=array)
    for spec in ("zstd", "nonsense"):
        with pytest.raises(SpecError):
            lp.codec(spec)


def test_open_run_reads_tables_sql_and_headline(tmp_path: Path) -> None:
    from linepress_kit.synthetic_run import make_run

    run = lp.open_run(make_run(tmp_path / "run").path)
    assert run.table("measure").num_rows == run.sql("select count(*) n from measure")["n"][0].as_py()
    assert {"variant", "payload_ratio"} <= set(run.headline()[0])
    assert run.manifest["run_id"] in repr(run)
    with pytest.raises(lp.LinepressError):
        lp.open_run(tmp_path / "nothing")


def _verb(*arguments: str) -> dict:
    from linepress.cli.app import app

    done = CliRunner().invoke(app, [*arguments, "--json"], standalone_mode=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_hardware_models_give_the_numbers_of_the_verbs() -> None:
    memory = lp.dram("hbm3", "rand", requests=2000, window=16)
    verb = _verb("dram", "hbm3", "--pattern", "rand", "--requests", "2000", "--window", "16")
    assert {key: verb[key] for key in memory} == memory
    layers = lp.roofline("llama-2-7b", "h100", batch=4, tp=2)
    verb = _verb("roofline", "llama-2-7b", "h100", "--batch", "4", "--tp", "2")
    assert verb["corrected"]["stages"]["decode"] == layers
    step = lp.fabric("nvl72", "1MiB", algorithm="ring", ratio=1.5, run=False)
    verb = _verb("fabric", "allreduce", "--topology", "nvl72", "--size", "1MiB", "--ratio", "1.5", "--no-simulate")
    assert {key: verb[key] for key in step} == step


def test_a_channel_takes_the_sizes_a_codec_gives(tmp_path: Path) -> None:
    sizes = np.repeat(np.array([100, 344, 520], np.uint16), [20, 300, 5])
    found = lp.channel(sizes, memory="lpddr5", n_requests=500, within_pct=50.0)
    histogram = tmp_path / "sizes.json"
    histogram.write_text(json.dumps({"100": 20, "344": 300, "520": 5}))
    verb = _verb(
        "channel", str(histogram), "--memory", "lpddr5", "--packing", "stream", "--requests", "500", "--within", "50"
    )
    (row,) = verb["rows"]
    numbers = {key: value for key, value in found.items() if isinstance(value, float) and np.isfinite(value)}
    assert numbers == {key: row[key] for key in numbers}
    assert {"gain_sequential", "effective_capacity_ratio", "latency_mean_ns"} <= set(numbers)
    for wrong in ([], [[344]], [-1], [3.5]):
        with pytest.raises(lp.LinepressError, match="coded bits"):
            lp.channel(wrong)
