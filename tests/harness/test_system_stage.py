"""The system stage and the verbs roofline, racks and serving, from the outside."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from linepress.cli.hardware import racks as racks_cli
from linepress.cli.hardware import roofline as roofline_cli
from linepress.cli.hardware import serving as serving_cli
from linepress.cli.hardware import system as system_cli
from linepress.errors import LinepressError
from linepress.records.schema import SYSTEM
from linepress.stages.system import Scenario, SystemCase, system_case
from linepress_hardware.errors import ConfigurationError, HardwareError

DATA = Path(__file__).parents[1] / "data" / "inference"
CASE = SystemCase(
    model="llama-3.1-8b",
    accelerator="h100",
    scenario=Scenario("chat", context_tokens=4096, batch=16),
    codec="huffman",
    weight_ratio=1.33,
    kv_ratio=1.4,
    weight_ratio_by_group={"embed": 1.5},
    channel_gain_sequential=1.28,
    decode_latency_ns=17.5,
    decompressor_GBps=6000.0,
    memory="hbm3",
    packing="stream",
)


def test_a_case_gives_one_row_with_both_sides_and_their_closed_forms() -> None:
    row = system_case(CASE)
    assert (row["model"], row["codec"], row["scenario"], row["batch"]) == ("llama-3.1-8b", "huffman", "chat", 16)
    assert row["time_s"] < row["plain_time_s"]
    assert row["speedup"] == pytest.approx(row["plain_time_s"] / row["time_s"])
    assert row["closed_form_time_s"] <= row["time_s"] * (1 + 1e-12)
    assert row["speedup"] == pytest.approx(row["closed_form_speedup"], rel=0.02)
    assert row["largest_batch"] > row["plain_largest_batch"]
    assert row["ttft_s"] > row["time_s"]
    assert json.loads(row["sources"])["cost_status"] == "unverified"


def test_the_row_fills_the_record() -> None:
    row = system_case(CASE)
    # Where the measured numbers came from is the run engine's to say.
    given_by_the_engine = {"cast", "format", "weight_sources", "kv_codec", "kv_format", "gain_measured"}
    assert {field.name for field in SYSTEM} - given_by_the_engine <= set(row)
    json.dumps(row)


def test_a_case_travels_to_a_worker() -> None:
    assert system_case(pickle.loads(pickle.dumps(CASE))) == system_case(CASE)


def test_a_model_by_its_own_configuration() -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
    }
    mine = system_case(SystemCase("mine", "h100", CASE.scenario, "huffman", 1.33, model_config=config))
    built_in = system_case(SystemCase("llama-3.1-8b", "h100", CASE.scenario, "huffman", 1.33))
    assert mine["model"] == "mine"
    assert mine["time_s"] == built_in["time_s"]


def test_bad_cases_raise_typed_errors() -> None:
    for case in (
        SystemCase("llama-9", "h100", Scenario(), "raw", 1.0),
        SystemCase("llama-3.1-8b", "h9", Scenario(), "raw", 1.0),
        SystemCase("llama-3.1-8b", "h100", Scenario(tp=3), "raw", 1.0),
        SystemCase("llama-3.1-8b", "h100", Scenario(), "raw", 0.0),
    ):
        with pytest.raises(HardwareError):
            system_case(case)


def _run(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def _json(command: Any, *arguments: str) -> Any:
    result = _run(command, *arguments, "--json")
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_roofline_prints_the_talks_24_rows() -> None:
    text = _run(roofline_cli.command, "llama-2-7b", "a6000", "--context", "2048").stdout
    lines = [" ".join(line.split()) for line in text.splitlines()]
    start = lines.index("Prefill")
    assert lines[start + 1] == "q_proj 69G 67M 1024 155T compute"
    assert lines[start + 8] == "qk_matmul 34G 302M 114 87T memory"
    assert lines[start + 12] == "add 8M 34M 0.25 192G memory"
    assert lines[start + 13] == "Decode"
    assert lines[start + 25] == "add 4K 16K 0.25 192G memory"
    assert "119 of 119 readable cells equal; damaged: prefill qk_matmul bound" in text
    assert "reference against corrected" in text


def test_roofline_json_has_both_modes_at_full_precision() -> None:
    found = _json(roofline_cli.command, "llama-2-7b", "a6000", "--context", "2048")
    assert found["mode"] == "corrected"
    assert len(found["table"]) == 24
    assert found["table"][0]["printed"]["ops"] == "69G"
    assert found["talk"]["equal"] == 119
    assert found["reference"]["stages"]["prefill"]["totals"]["time_s"] == pytest.approx(
        0.22687859086500456, rel=1e-12
    )
    assert (
        found["corrected"]["stages"]["decode"]["totals"]["ops"]
        > found["reference"]["stages"]["decode"]["totals"]["ops"]
    )
    assert any(line["layer"] == "lm_head" for line in found["differences"])


def test_roofline_of_one_mode() -> None:
    found = _json(
        roofline_cli.command,
        "llama-2-7b",
        "nvidia_A6000",
        "--context",
        "8192",
        "--batch",
        "64",
        "--mode",
        "reference",
    )
    assert "corrected" not in found
    assert found["totals"]["decode"]["time_s"] == pytest.approx(0.3814127873333332, rel=1e-9)
    assert found["warnings"]  # it does not fit, and reference mode only says so
    other = _json(roofline_cli.command, "deepseek-v3", "b200", "--tp", "8", "--ep", "8", "--precision", "w8a8kv16")
    assert "reference" not in other
    assert other["totals"]["decode"]["time_s"] > 0


def test_roofline_of_a_configuration_and_an_accelerator_in_files(tmp_path: Path) -> None:
    config = tmp_path / "tiny" / "config.json"
    config.parent.mkdir()
    fields = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config.write_text(json.dumps({"model_type": "llama", "vocab_size": 100, **fields}))
    part = tmp_path / "chip.toml"
    figure = '{{ value = 1, unit = "{}", source = "s", status = "seed" }}'
    part.write_text(
        f'name = "chip"\ntitle = "Chip"\n[[memory]]\ntier = "HBM"\ncapacity = {figure.format("GB")}\n'
        f"bandwidth = {figure.format('GB/s')}\n[peak]\nbits_16 = {figure.format('Top/s')}\n"
    )
    found = _json(roofline_cli.command, str(config.parent), str(part), "--context", "16")
    assert (found["model"], found["accelerator"]) == ("tiny", "chip")
    assert _json(roofline_cli.command, str(config), str(part), "--context", "16")["totals"] == found["totals"]


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is not JSON"), ("[]", "not a JSON object"), ('{"model_type": "llama"}', "no num_hidden_layers")],
)
def test_roofline_names_what_is_wrong_with_a_file(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises((LinepressError, HardwareError), match=words):
        _run(roofline_cli.command, str(path), "h100")
    with pytest.raises(LinepressError, match="does not exist"):
        _run(roofline_cli.command, str(tmp_path / "none.json"), "h100")
    with pytest.raises(LinepressError, match="does not exist"):
        _run(roofline_cli.command, "llama-2-7b", str(tmp_path / "none.toml"))


def test_roofline_refuses_what_does_not_fit_unless_told() -> None:
    big = ("llama-2-7b", "a6000", "--batch", "64", "--context", "8192")
    with pytest.raises(ConfigurationError, match=r"240\.35 GB more.*batch 8 at this context fits, or 7 devices"):
        _run(roofline_cli.command, *big)
    assert _json(roofline_cli.command, *big, "--no-fit-check")["warnings"]


def test_racks_prints_tables_findings_and_ratios() -> None:
    text = _run(racks_cli.command).stdout
    assert "43.9 kW [42.9 kW]" in text
    assert "3 × 14.3 = 42.9 kW" in text
    assert "racks at ratio 1 (uncompressed)" in text
    found = _json(racks_cli.command, "dgx-h100", "--ratio", "1.5")
    assert [row["rack"] for row in found["racks"]] == ["dgx-h100"]
    assert found["racks"][0]["effective_TB"] == pytest.approx(3.84)
    assert len(found["table_a"]["rows"]) == 9
    assert len(found["table_b"]["rows"]) == 18
    assert found["findings"]


def test_serving_of_a_trace_and_of_synthetic_requests() -> None:
    trace = str(DATA / "azure_conv_excerpt.csv")
    found = _json(serving_cli.command, "llama-3.1-8b", "h100", "--trace", trace, "--weight-ratio", "1.33")
    assert found["plain"]["requests"] == found["compressed"]["requests"] == 76
    assert found["compressed"]["tpot_p50_s"] < found["plain"]["tpot_p50_s"]
    assert "compressed" not in _json(serving_cli.command, "llama-3.1-8b", "h100", "--rate", "5", "--requests", "20")
    text = _run(
        serving_cli.command, "llama-3.1-8b", "h100", "--concurrency", "4", "--requests", "8", "--kv-ratio", "2"
    ).stdout
    assert "TPOT p99, ms" in text


def test_serving_needs_one_source_of_requests(tmp_path: Path) -> None:
    for arguments in ((), ("--rate", "1", "--concurrency", "2")):
        with pytest.raises(LinepressError, match="one of --trace, --rate and --concurrency"):
            _run(serving_cli.command, "llama-3.1-8b", "h100", *arguments)
    with pytest.raises(LinepressError, match="does not exist"):
        _run(serving_cli.command, "llama-3.1-8b", "h100", "--trace", str(tmp_path / "none.csv"))


def test_serving_calibrates_on_measured_rows(tmp_path: Path) -> None:
    whole = (DATA / "measured_serving_h100_8b.csv").read_text().splitlines()
    some = tmp_path / "some.csv"
    other_model = whole[1].replace("meta-llama/Llama-3.1-8B-Instruct", "acme/Other")
    some.write_text("\n".join([whole[0], *whole[1:60:6], other_model]) + "\n")
    found = _json(serving_cli.command, "llama-3.1-8b", "h100", "--measured", str(some))
    assert (found["rows"], found["used"]) == (11, 10)
    assert found["known"]["points"] == found["unseen"]["points"] == 5
    assert found["unseen"]["median_error"] < 0.15
    assert found["largest_roofline_ratio"] < 1
    with pytest.raises(LinepressError, match="0 of 11 rows about qwen"):
        _run(serving_cli.command, "qwen2.5-7b", "h100", "--measured", str(some))


def test_system_prints_both_sides_and_sweeps() -> None:
    arguments = ("llama-3.1-8b", "h100", "--weight-ratio", "1.5", "--kv-ratio", "2", "--context", "1024")
    text = _run(system_cli.command, *arguments).stdout
    assert "tokens/s" in text
    assert "closed form" in text
    rows = _json(system_cli.command, *arguments, "--sweep", "weight_ratio=1,1.25,1.5")["rows"]
    assert [row["value"] for row in rows] == [1.0, 1.25, 1.5]
    assert rows[0]["speedup"] < rows[2]["speedup"]
    assert "1.25" in _run(system_cli.command, *arguments, "--sweep", "weight_ratio=1,1.25").stdout
    with pytest.raises(LinepressError, match="NAME=V1,V2"):
        _run(system_cli.command, *arguments, "--sweep", "weight_ratio=much")
    with pytest.raises(HardwareError, match="'weight' is unknown"):
        _run(system_cli.command, *arguments, "--sweep", "weight=1")


RECORDED = ("--trace", str(DATA / "serving_requests.csv"), "--prefixes", str(DATA / "serving_prefixes.csv"))


def test_serving_is_held_against_a_recorded_run() -> None:
    kernels = ("--kernels", str(DATA / "operator_times.csv.gz"), "--kv-blocks", "2588")
    found = _json(serving_cli.command, "llama-3.1-8b", "rtx-4090", *RECORDED, *kernels)
    assert found["engine"] == "vllm-0.19"
    assert found["steps_from"].startswith("the kernels of")
    assert abs(found["errors"]["odd"]["tpot_mean"]) < 0.015
    assert found["errors"]["odd"]["tpot_request_mean"] < 0.03
    assert len(found["per_request"]["ttft_s"]) == 300
    by_shape = _run(serving_cli.command, "llama-3.1-8b", "rtx-4090", *RECORDED, "--kv-blocks", "2588").stdout
    assert "steps from the forms of rtx-4090" in by_shape
    assert "against the record, odd" in by_shape
    assert "linear layers ±" in by_shape


def test_serving_says_what_a_recorded_run_lacks(tmp_path: Path) -> None:
    with pytest.raises(LinepressError, match="no request of qwen3-8b on rtx-4090"):
        _run(serving_cli.command, "qwen3-8b", "rtx-4090", *RECORDED)
    with pytest.raises(LinepressError, match="no kernels of qwen3-8b on rtx-4090 at tp 1"):
        _run(
            serving_cli.command,
            *("qwen3-8b", "rtx-4090", "--rate", "1"),
            *("--kernels", str(DATA / "operator_times.csv.gz")),
        )
    with pytest.raises(LinepressError, match="no kernel forms"):
        _run(serving_cli.command, "llama-3.1-8b", "h100", "--rate", "1", "--kernels", "forms")
    with pytest.raises(LinepressError, match="leave it out or say --kernels roofline"):
        _run(serving_cli.command, "llama-3.1-8b", "rtx-4090", "--rate", "1", "--kernels", "forms", "--kv-ratio", "2")
    trace = ("--trace", str(DATA / "azure_conv_excerpt.csv"), *RECORDED[2:])
    with pytest.raises(LinepressError, match="--prefixes belongs to a recorded run"):
        _run(serving_cli.command, "llama-3.1-8b", "h100", *trace)
    with pytest.raises(LinepressError, match="give --link-GBps with it"):
        _run(serving_cli.command, "qwen3-8b", "rtx-pro-6000", "--tp", "2", "--rate", "1", "--link-us", "20")
    broken = tmp_path / "rows.csv.gz"
    broken.write_bytes(b"not gzip")
    with pytest.raises(LinepressError, match="cannot be read as text"):
        _run(serving_cli.command, "llama-3.1-8b", "rtx-4090", "--rate", "1", "--kernels", str(broken))


def test_measured_points_follow_the_engine_that_is_asked_for(tmp_path: Path) -> None:
    """`--measured` used to take whole prompts whatever --chunked said."""
    whole = (DATA / "measured_serving_h100_8b.csv").read_text().splitlines()
    some = tmp_path / "some.csv"
    some.write_text("\n".join([whole[0], *whole[1:60:15]]) + "\n")
    pieces, entire, plain = (
        _json(serving_cli.command, "llama-3.1-8b", "h100", "--measured", str(some), "--max-tokens", "8192", *how)
        for how in (("--chunked",), ("--whole",), ("--engine", "trtllm"))
    )
    assert (pieces["chunked_prefill"], entire["chunked_prefill"]) == (True, False)
    assert pieces["points"] != entire["points"]
    assert plain["engine"] == "trtllm-1.0"
    assert plain["chunked_prefill"] is False
    for found in (pieces, entire, plain):
        assert all(one["predicted_tpot_s"] >= one["roofline_step_s"] for one in found["points"])


def test_decoders_come_of_the_codecs_card() -> None:
    row = system_case(SystemCase(**{**CASE.__dict__, "engine_GBps": 64.0}))
    assert row["decoder_engines_needed"] == -(-row["decompressor_needed_GBps"] // 64.0)
    arguments = ("llama-3.1-8b", "h100", "--weight-ratio", "1.5", "--codec", "huffman")
    (found,) = _json(system_cli.command, *arguments)["rows"]
    assert found["decoder_engines_needed"] > 10
    assert found["bytes_in_flight_added"] > 0
    assert "decoders a device" in _run(system_cli.command, *arguments).stdout


def test_a_gain_that_was_refused_is_not_used() -> None:
    from linepress.run.later_stages import _gains

    class Store:
        def rows(self, table: str, columns: list[str]) -> list[dict[str, Any]]:
            base = {"status": "ok", "data": "weights", "format": "bf16", "cast": None, "packing": "stream"}
            found = [("huffman", 1.3), ("refused", float("nan")), ("missing", None)]
            return [{**base, "codec": codec, "memory": "hbm3", "gain_sequential": gain} for codec, gain in found]

    assert [key[0] for key in _gains(Store())] == ["huffman"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "compares"),
    [
        ((), False),
        (("--sweep", "batch=1,2"), False),
        (("--kv-ratio", "1.5"), True),
        (("--weight-ratio", "1"), True),
        (("--sweep", "weight_ratio=1,1.5"), True),
    ],
)
def test_the_verb_asks_for_a_ratio(options: tuple[str, ...], compares: bool) -> None:
    done = CliRunner().invoke(system_cli.command, ["llama-3.1-8b", "h100", *options, "--json"], standalone_mode=False)
    if compares:
        assert json.loads(done.stdout)["rows"]
    else:
        assert isinstance(done.exception, LinepressError)
        assert "--weight-ratio" in str(done.exception)
