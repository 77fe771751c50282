"""``linepress measure`` from the outside: JSON, table, exit codes and the bad input of a careless user."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linepress.cli import measure as verb
from linepress.cli.app import main
from linepress.errors import (
    EXIT_CASES_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOTHING_MEASURED,
    EXIT_OK,
    EXIT_USAGE,
)
from linepress.submission.fixtures import build, header_of
from linepress.submission.fixtures import safetensors_bytes as pack

SAMPLE = Path(__file__).parents[2] / "suites" / "linepress_suites" / "data"
KV = SAMPLE / "smollm2-135m-instruct-kv-handbook-512.safetensors"
WHISPER = SAMPLE / "whisper-tiny-bf16.safetensors"
PROMISED = {
    "tensor", "dtype", "codec", "raw_bytes", "payload_bytes", "packed_bytes", "payload_ratio", "packed_ratio",
    "bound_ratio", "lossless", "encode_GBps", "decode_GBps", "measure_GBps",
}  # fmt: skip


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *argv: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["linepress", "measure", *map(str, argv)])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda *argv: run(capsys, monkeypatch, *argv)


def test_json_has_one_object_a_case_and_a_total_a_codec(cli: Any) -> None:
    code, out, err = cli(KV, "-c", "zstd:level=3:block=64KiB", "-c", "huffman", "--repeats", 1, "--json")
    assert code == EXIT_OK
    document = json.loads(out)
    assert len(document["cases"]) == 4 * 2
    for case in document["cases"]:
        assert set(case) >= PROMISED
        assert case["lossless"] is True
        assert case["dtype"] == "bf16"
    assert {case["codec_id"] for case in document["cases"]} == {"zstd", "huffman"}
    for total in document["totals"]:
        mine = [c for c in document["cases"] if c["codec"] == total["variant"]]
        assert total["payload_ratio"] == pytest.approx(
            sum(c["raw_bytes"] for c in mine) * 8 / sum(c["payload_bits"] for c in mine)
        )
        assert (total["ok"], total["failed"], total["skipped"]) == (4, 0, 0)
    assert document["sources"][0]["revision"].startswith("sha256:")
    assert err == ""


def test_table_for_people_is_on_stdout_and_nothing_else(cli: Any) -> None:
    code, out, err = cli(KV, "-c", "huffman", "--repeats", 1, "--tensor", "key_*")
    assert code == EXIT_OK
    assert "payload ratio ↑" in out
    assert "key_cache_tensor_4 (bf16)" in out
    assert "2/2" in out
    assert "\x1b" not in out, "no colour without a terminal"
    assert err == ""


def test_selection_cast_layout_and_packing(cli: Any) -> None:
    code, out, _ = cli(
        KV, "-c", "raw", "--group", "value_cache", "--layers", "20", "--cast", "none", "--cast", "e5m2:scale=channel",
        "--layout", "row", "--layout", "channel", "--packing", "classes", "--packing", "slots", "--repeats", 0,
        "--json",
    )  # fmt: skip
    assert code == EXIT_OK
    cases = json.loads(out)["cases"]
    assert [(c["tensor"], c["cast"], c["layout"], c["packing"]) for c in cases] == [
        ("value_cache_tensor_20", cast, layout, "classes")
        for cast in ("", "e5m2:scale=channel")
        for layout in ("row", "channel")
    ]
    assert [p["packing"] for p in cases[0]["packings"]] == ["classes", "slots"]


def test_max_bytes_takes_whole_tensors_up_to_the_budget(cli: Any) -> None:
    _, out, _ = cli(KV, "-c", "raw", "--repeats", 0, "--max-bytes", "400KiB", "--json")
    cases = json.loads(out)["cases"]
    assert [c["raw_bytes"] for c in cases] == [196608, 196608]
    code, _, err = cli(KV, "-c", "raw", "--max-bytes", "1KiB")
    assert code == EXIT_NOTHING_MEASURED
    assert "widen --tensor, --group, --layers or --max-bytes" in err


def test_two_runs_agree_on_everything_but_time(cli: Any) -> None:
    def exact() -> list[dict[str, Any]]:
        _, out, _ = cli(WHISPER, "-c", "huffman", "-c", "lz4:block=64B", "--repeats", 1, "--json", "--histogram")
        return [{k: v for k, v in c.items() if not k.endswith(("_s", "GBps"))} for c in json.loads(out)["cases"]]

    assert exact() == exact()


def weights_file(path: Path, names: tuple[str, ...], change: float = 0.0, rows: int = 64) -> Path:
    """Float16 weights, the same at every call but for noise of ``change`` times their size."""
    tensors = {}
    for seed, name in enumerate(names):
        rng = np.random.Generator(np.random.PCG64(seed))
        values = rng.normal(0, 0.02, (rows, 64)) + change * 0.02 * rng.normal(0, 1, (rows, 64))
        tensors[name] = ("F16", [rows, 64], values.astype("<f2").tobytes())
    path.write_bytes(safetensors_of(tensors))
    return path


def safetensors_of(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors.values())


def test_a_base_is_what_delta_codes_against(cli: Any, tmp_path: Path) -> None:
    new = weights_file(tmp_path / "new.safetensors", ("a.weight", "b.weight"), 1e-2)
    old = weights_file(tmp_path / "old.safetensors", ("a.weight", "b.weight", "c.weight"))
    ratios = {}
    for extra in ((), ("--base", old)):
        code, out, err = cli(new, *extra, "-c", "delta", "-c", "huffman", "--repeats", 0, "--json")
        assert code == EXIT_OK
        assert err == ""
        document = json.loads(out)
        assert all(case["lossless"] for case in document["cases"])
        assert ("base" in document) == bool(extra)
        ratios[bool(extra)] = {t["codec"]: t["payload_ratio"] for t in document["totals"]}
    assert ratios[True]["delta"] > 1.8 * ratios[False]["delta"]
    assert ratios[True]["huffman"] == ratios[False]["huffman"]
    assert document["base"]["uri"] == str(old)
    _, _, err = cli(new, "--base", old, "-c", "huffman", "--repeats", 0, "--json")
    assert "--base changes nothing" in err


def test_a_base_of_another_model_is_refused_in_one_sentence(cli: Any, tmp_path: Path) -> None:
    new = weights_file(tmp_path / "new.safetensors", ("a.weight",))
    for old, sentence in (
        (weights_file(tmp_path / "other.safetensors", ("z.weight",)), "has no tensor 'a.weight'"),
        (weights_file(tmp_path / "wide.safetensors", ("a.weight",), rows=32), "that of the base is fp16 [32, 64]"),
        (tmp_path / "none.safetensors", "none.safetensors"),
    ):
        code, out, err = cli(new, "--base", old, "-c", "delta")
        assert code == EXIT_NOTHING_MEASURED
        assert out == ""
        assert sentence in err
        assert err.count("\n") == 1


def test_layout_that_a_tensor_cannot_take_is_skipped_and_said(cli: Any) -> None:
    code, out, err = cli(WHISPER, "-c", "raw", "--layout", "channel", "--repeats", 0, "--json")
    assert code == EXIT_OK
    document = json.loads(out)
    assert [s["tensor"] for s in document["skipped"]] == ["encoder.layer_0.ffn.layer_norm.gamma"]
    assert document["totals"][0]["planned"] == 5
    assert "skipped 1 × raw:layout=channel: layout channel needs" in err


# ------------------------------------------------------------------------------------------------ bad input

ENTRY = {"dtype": "BF16", "shape": [4, 4], "data_offsets": [0, 32]}
BAD_FILES = {
    "truncated": (build({"w": ("BF16", [4, 4], bytes(32))})[:-5], "truncated; copy, download or write it again"),
    "empty": (b"", "is empty"),
    "overlapping": (
        pack(header_of({"a": ENTRY, "b": {**ENTRY, "data_offsets": [16, 48]}}), bytes(48)),
        "overlaps the tensor before it",
    ),
    "past_the_end": (
        pack(header_of({"a": {**ENTRY, "data_offsets": [32, 64]}}), bytes(32)),
        "ends 64 B behind the header, where 32 B are",
    ),
    "wrong_size": (
        pack(header_of({"a": {**ENTRY, "shape": [5, 4]}}), bytes(32)),
        "is 40 B but its offsets span 32",
    ),
    "huge_header": (pack(header_of({"a": ENTRY}), bytes(32), length=100_000_001), "over the limit of 100000000 B"),
    "unknown_dtype": (
        pack(header_of({"a": {**ENTRY, "dtype": "BF15"}}), bytes(32)),
        "unknown dtype 'BF15': known",
    ),
    "pickle": (b"\x80\x04\x95" + bytes(64), "is a pickle, which is never loaded; convert it first"),
}


@pytest.mark.parametrize("case", sorted(BAD_FILES))
def test_bad_file_is_one_sentence_and_nothing_measured(cli: Any, tmp_path: Path, case: str) -> None:
    data, sentence = BAD_FILES[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    code, out, err = cli(path, "-c", "huffman")
    assert code == EXIT_NOTHING_MEASURED
    assert out == ""
    assert err.startswith("linepress: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_missing_file(cli: Any, tmp_path: Path) -> None:
    code, _, err = cli(tmp_path / "none.safetensors")
    assert code == EXIT_NOTHING_MEASURED
    assert err == f"linepress: no such file: {tmp_path}/none.safetensors; check the path\n"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (("-c", "hufman"), "unknown codec 'hufman': known are"),
        (("-c", "huffman:tabels=4"), "codec huffman has no option 'tabels'"),
        (("-c", "huffman:tables=x"), "codec huffman: tables=x is not"),
        (("-c", "huffman:tables"), "'tables' is not key=value; for example"),
        (("-c", "zstd:level=3:level=4"), "gives level twice"),
        (("-c", "huffman", "--layout", "diagonal"), "unknown layout 'diagonal': use one of row"),
        (("-c", "huffman", "--packing", "bags"), "unknown packing 'bags': known are stream"),
        (("-c", "huffman", "--cast", "e4m4"), "unknown cast 'e4m4': use e4m3, e5m2"),
        (("--max-bytes", "12 parsec"), "is not a size: write bytes, or for instance 64KiB"),
        (("--layers", "one"), "not a list of layers such as 0,15,31"),
        (("--repeats", "-1"), "--repeats"),
    ],
)
def test_unknown_option_answers_with_a_valid_example(cli: Any, argv: tuple[str, ...], sentence: str) -> None:
    code, out, err = cli(KV, *argv)
    assert code == EXIT_USAGE
    assert out == ""
    assert sentence in err
    assert "Traceback" not in err


def test_no_path_is_usage(cli: Any) -> None:
    code, _, err = cli()
    assert code == EXIT_USAGE
    assert "PATH" in err


def test_failed_case_does_not_stop_the_others(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    body = rng.integers(0, 255, 8192, dtype=np.uint8).tobytes()
    for name in ("one", "two"):
        (tmp_path / f"{name}.safetensors").write_bytes(build({name: ("BF16", [64, 64], body)}))
    real = verb._run

    def cut_first(tensors: Any, *args: Any, **options: Any) -> Any:
        (tmp_path / "one.safetensors").write_bytes(b"changed behind our back")
        return real(tensors, *args, **options)

    monkeypatch.setattr(verb, "_run", cut_first)
    code, out, err = cli(tmp_path / "one.safetensors", tmp_path / "two.safetensors", "-c", "raw", "--json")
    assert code == EXIT_CASES_FAILED
    document = json.loads(out)
    assert [c["tensor"] for c in document["cases"]] == ["two"]
    assert document["failed"][0]["tensor"] == "one"
    assert "changed while it was being read" in err
    assert (document["totals"][0]["ok"], document["totals"][0]["failed"]) == (1, 1)


def test_not_lossless_is_said_and_exits_2(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from linepress_codecs.codecs.raw import Raw

    real = Raw.decode

    def wrong(self: Any, packed: Any, tables: Any) -> Any:
        lines = real(self, packed, tables).copy()
        lines[7, 0] ^= 1
        return lines

    monkeypatch.setattr(Raw, "decode", wrong)
    code, out, err = cli(KV, "-c", "raw", "--tensor", "key_cache_tensor_4", "--repeats", 0)
    assert code == EXIT_CASES_FAILED
    assert "NO" in out
    assert "NOT LOSSLESS: raw on key_cache_tensor_4, line 7" in err


def test_interruption_exits_130(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(verb, "_run", interrupted)
    code, out, _ = cli(KV, "-c", "raw")
    assert code == EXIT_INTERRUPTED
    assert out == ""


def test_help_shows_examples_and_exit_codes(cli: Any) -> None:
    code, out, _ = cli("--help")
    assert code == EXIT_OK
    assert "linepress measure kv.safetensors -c huffman --layout row --layout channel" in out
    assert "Exit codes: 0 ok" in out


def test_installed_command_runs_in_a_process_of_its_own() -> None:
    command = [str(Path(sys.executable).parent / "linepress"), "measure", str(KV), "-c", "raw", "--repeats", "0"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_OK, done.stderr
    assert len(json.loads(done.stdout)["cases"]) == 4
