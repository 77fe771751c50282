"""Kernel forms and tables against measured kernels, closed forms, and the roofline bound below them."""

from __future__ import annotations

import csv
import gzip
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from linepress_hardware.catalog.accelerators import accelerator
from linepress_hardware.errors import ConfigurationError, UnknownPartError
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.kernels import bound
from linepress_hardware.inference.kernels.forms import DeviceForms, all_forms, forms_of, parse_forms
from linepress_hardware.inference.kernels.layers import (
    LINEAR,
    Heads,
    Matrix,
    attention_bytes,
    attention_ops,
    expected_experts,
    heads,
    matrix,
)
from linepress_hardware.inference.kernels.tables import COLUMNS, KernelTable, Rows, read_rows
from linepress_hardware.inference.kernels.times import KernelTimes

DATA = Path(__file__).parents[2] / "data" / "inference"
LLAMA = model("llama-3.1-8b")


@cache
def tables() -> tuple[Rows, ...]:
    with gzip.open(DATA / "operator_times.csv.gz", "rt", encoding="utf-8") as lines:
        return tuple(read_rows(csv.DictReader(lines)))


def _error(predicted: np.ndarray, measured: np.ndarray) -> float:
    return float(np.abs(predicted / measured - 1).mean())


def _attention(forms: DeviceForms, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    at, mine = heads(LLAMA, rows.tp), rows.of("attention")
    c, p, n, k, t = (v[mine] for v in (rows.chunk, rows.prior, rows.sequences, rows.keys, rows.seconds))
    sms = forms.multiprocessors
    predicted = np.where(
        c == 0,
        forms.decode.seconds(at, n, k, sms, forms.cache_bytes),
        np.where(
            n == 0,
            forms.prefill.seconds(at, np.maximum(c, 1), p, sms),
            forms.mixed.seconds(at, np.maximum(c, 1), p, n, k, sms, forms.cache_bytes),
        ),
    )
    return predicted, t


@pytest.mark.parametrize("i", [0, 1, 2])
def test_forms_predict_every_measured_kernel_within_their_targets(i: int) -> None:
    """Linear layers 5 %, attention 7 % on average, prompts beside answers included (31 % as their sum)."""
    rows = tables()[i]
    forms = forms_of(rows.hardware)
    predicted, measured = [], []
    for name in LINEAR:
        mine, of = rows.of(name), matrix(LLAMA, rows.tp, name)
        assert of is not None
        predicted.append(forms.linear.seconds(of, rows.tokens[mine], forms.multiprocessors))
        measured.append(rows.seconds[mine])
    assert _error(np.concatenate(predicted), np.concatenate(measured)) < 0.05
    assert _error(*_attention(forms, rows)) < 0.07


def test_no_kernel_is_faster_than_the_bound() -> None:
    for rows in tables():
        found = bound.above(rows, LLAMA, accelerator(rows.hardware))
        assert found.rows > 10_000
        assert found.rows_above == 0
        assert 0.9 < found.largest < 1.0  # a bound that nothing comes near would prove little
    assert sum(bound.above(rows, LLAMA, accelerator(rows.hardware)).rows for rows in tables()) == 10_091 + 41_624


def test_without_the_cache_the_bound_would_be_wrong() -> None:
    rows = tables()[0]
    part = accelerator("rtx-4090")
    at, mine = heads(LLAMA, 1), rows.of("attention")
    moved = attention_bytes(at, *(v[mine] for v in (rows.chunk, rows.prior, rows.sequences, rows.keys)))
    assert (moved / part.bandwidth_Bps > rows.seconds[mine]).any()


def test_counts_by_hand() -> None:
    of = matrix(LLAMA, 2, "gate_up_proj")
    assert of == Matrix(4096, 14336)
    assert of.ops(3) == 2 * 3 * 4096 * 14336
    assert of.bytes(3) == 2 * (4096 * 14336 + 3 * (4096 + 14336))
    at = heads(LLAMA, 2)
    assert at == Heads(16, 4, 128)
    assert heads(LLAMA, 16).kv == 1  # eight KV heads on sixteen devices: each holds one
    pairs = 10 * 100 + 10 * 11 / 2 + 4 * 50
    assert attention_ops(at, 10, 100, 4, 50) == 4 * pairs * 16 * 128
    assert attention_bytes(at, 10, 100, 4, 50) == 2 * 128 * (2 * 14 * 16 + 2 * (110 + 200) * 4)
    assert float(expected_experts(128, 8, 128, 1)) == pytest.approx(8)
    assert float(expected_experts(8, 8, 8, 5)) == 8


def test_forms_have_the_limits_of_their_closed_forms() -> None:
    forms = forms_of("rtx-pro-6000")
    f, at = forms.linear, heads(LLAMA, 1)
    large = Matrix(65536, 65536)
    assert float(f.seconds(large, 1, 188)) == pytest.approx(
        f.launch_us * 1e-6 + large.bytes(1) / f.bandwidth_GBps / 1e9, rel=2e-2
    )
    rate = large.ops(65536) / float(f.seconds(large, 65536, 188))
    assert 0.9 * f.peak_Tops * 1e12 < rate <= f.peak_Tops * 1e12
    d = forms.decode
    held = forms.cache_bytes
    slope = float(d.seconds(at, 256, 20480, 188, held) - d.seconds(at, 256, 10240, 188, held))
    assert slope == pytest.approx(256 * 10240 * 4096 / d.bandwidth_GBps / 1e9, rel=1e-9)
    p = forms.prefill
    one_wave = [float(p.seconds(at, c, 8192, 188)) for c in (64, 256)]
    assert one_wave[1] - one_wave[0] == pytest.approx(192 * p.key_us * 1e-9, rel=1e-6)
    smaller = forms_of("rtx-4090")
    m = smaller.mixed
    alone = float(m.seconds(at, 16, 0, 1, 1024, 128, smaller.cache_bytes))
    crowd = float(m.seconds(at, 16, 0, 128, 16384, 128, smaller.cache_bytes))
    again = 128 * 16384 * 4096 * 4  # four query heads of a group read the same keys when a cache cannot hold them
    assert crowd == pytest.approx(again / m.bandwidth_GBps / 1e9, rel=0.1)
    assert alone < 1e-4
    for name, one in forms.elementwise.items():
        small, big = float(one.seconds(1e3, forms.cache_bytes)), float(one.seconds(1e10, forms.cache_bytes))
        assert one.launch_us * 1e-6 <= small < big, name


def test_a_table_gives_back_what_was_measured() -> None:
    rows = tables()[1]
    table = KernelTable.of(rows)
    mine = rows.of("down_proj")
    for tokens, seconds in list(zip(rows.tokens[mine], rows.seconds[mine], strict=True))[::20]:
        assert float(table.seconds("down_proj", tokens)) == pytest.approx(seconds, rel=1e-12)
    sizes, times = table.dense["down_proj"]
    assert float(table.seconds("down_proj", 2 * sizes[-1])) == pytest.approx(2 * times[-1])
    grid = table.attention
    i, j = list(grid.sequences).index(16), list(grid.keys).index(1024)
    at = (
        rows.of("attention") & (rows.chunk == 64) & (rows.prior == 512) & (rows.sequences == 16) & (rows.keys == 1024)
    )
    c, p = list(grid.chunk).index(64), list(grid.prior).index(512)
    assert grid.mixed_s[c, p, i, j] in rows.seconds[at]
    assert not np.isnan(grid.mixed_s).any()
    assert not np.isnan(grid.prefill_s).any()
    assert not np.isnan(grid.decode_s).any()
    with pytest.raises(ConfigurationError, match="has no qk_norm; it has"):
        table.seconds("qk_norm", 1)


def _row(**changed: str) -> dict[str, str]:
    base = dict.fromkeys(COLUMNS, "") | {"hardware": "RTX4090", "model": "m", "tp": "1", "kind": "dense"}
    return base | {"layer": "o_proj", "tokens_or_sequences": "1", "time_us": "5"} | changed


def test_experts_are_read_by_tokens_and_activated_ones() -> None:
    four = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode")
    points = [("0", "0", n, k) for n in "12" for k in ("16", "32")]
    points += [(c, p, "0", "0") for c in ("16", "32") for p in ("0", "16")]
    rows = [
        *(_row(kind="attention", layer="attention", **dict(zip(four, point, strict=True))) for point in points),
        *(
            _row(layer=f"tokens={t}|activated={a}", tokens_or_sequences="", time_us=str(10 + a + t / 10))
            for t, a in ((1, 8), (8, 8), (8, 32), (64, 64), (64, 128))
        ),
    ]
    found = read_rows(rows)[0]
    experts = KernelTable.of(found)
    assert float(experts.experts_s(8, 32)) == pytest.approx(42.8e-6)
    assert float(experts.experts_s(64, 96)) == pytest.approx((10 + 96 + 6.4) * 1e-6)
    shape = model("qwen3-30b-a3b")
    with_table = KernelTimes(shape, 1, None, experts)
    assert float(with_table.seconds("experts", 1)) > 0
    by_form = KernelTimes(shape, 1, forms_of("rtx-pro-6000"))
    few, many = (float(by_form.seconds("experts", t)) for t in (1, 64))
    weights = 3 * 2048 * 768 * 2
    assert few == pytest.approx(15e-6 + 8 * weights / forms_of("rtx-pro-6000").linear.bandwidth_GBps / 1e9, rel=0.05)
    assert many > 10 * weights * 8 / 1.6e12
    spread = KernelTimes(shape, 2, forms_of("rtx-pro-6000"), ep=2)
    assert float(spread.seconds("experts", 1)) < few


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "has no row"),
        ([{"hardware": "x"}], "row 1 has no column"),
        ([_row(time_us="0")], "row 1: time_us is 0"),
        ([_row(time_us="fast")], "row 1: could not convert"),
        ([_row(layer="tokens=1")], "not of the form tokens=64"),
    ],
)
def test_a_broken_table_is_named_by_row(rows: list[dict[str, str]], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_rows(rows)


def test_a_table_without_attention_cannot_serve() -> None:
    alone = _row(layer="attention", prefill_chunk="0", kv_prefill="0", n_decode="1", kv_decode="16")
    with pytest.raises(ConfigurationError, match="prompts alone"):
        KernelTable.of(read_rows([alone])[0])
    with pytest.raises(ConfigurationError, match="no attention rows"):
        KernelTable.of(read_rows([_row()])[0])


def test_forms_are_checked_data() -> None:
    assert set(all_forms()) == {"rtx-4090", "rtx-pro-6000"}
    for forms in all_forms().values():
        assert forms.source
        assert forms.bands["linear"].mean < 0.08
        assert forms.bands["mixed"].mean < 0.10
    with pytest.raises(UnknownPartError, match="kernel forms of"):
        forms_of("h100")
    with pytest.raises(ConfigurationError, match=r"x\.toml"):
        parse_forms('name = "x"', "x.toml")
    with pytest.raises(ConfigurationError, match=r"latent attention\) for which no kernel"):
        heads(model("deepseek-v3"), 8)
