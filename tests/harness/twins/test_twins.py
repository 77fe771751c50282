"""Twins: line sizes within 1 % of the real ones, the same bytes from the same seed, none of the original's values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from click.testing import CliRunner

import linepress_suites
from linepress.cli.fit import command
from linepress.errors import SourceError
from linepress.sources import open_source
from linepress.sources.safetensors.reader import read_header
from linepress.sources.snapshot.write import write_tensors
from linepress.twins.distance import distances
from linepress.twins.draw import along, draw
from linepress.twins.fit import fit_tensor
from linepress.twins.model import TensorModel
from linepress.twins.twin import read_parameters

SEED = 20


def cache_values(rng: np.random.Generator, tokens: int = 256, heads: int = 2, dim: int = 64) -> np.ndarray:
    """A cache as caches are: channels of their own mean and deviation, tokens correlated, heavy tails, a sink."""
    z = rng.standard_t(5, (tokens, heads, dim))
    along(z, np.full((heads, dim), 0.6))
    z *= np.exp(0.2 * rng.standard_normal((tokens, heads, 1)))
    z[0] *= 4
    x = rng.normal(0, 0.5, (heads, dim)) + np.exp(rng.normal(0, 0.8, (heads, dim))) * z
    return x.transpose(1, 0, 2)


def source_of(path: Path, arrays: dict[str, tuple[str, np.ndarray]], said: dict[str, str] | None = None) -> Path:
    write_tensors(path, arrays, said or {})
    return path


def bf16(values: np.ndarray) -> tuple[str, np.ndarray]:
    return "bf16", np.ascontiguousarray(values.astype(ml_dtypes.bfloat16)).view(np.uint16)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.Generator(np.random.PCG64(SEED))
    arrays = {f"{k}_cache_tensor_{i}": bf16(cache_values(rng)) for k in ("key", "value") for i in range(2)}
    said = {"model": "m", "tokens": "256", "text": "secret-name", "text_sha256": "f" * 64, "keys": "post-RoPE"}
    return source_of(tmp_path_factory.mktemp("cache") / "cache.safetensors", arrays, said)


def invoke(*arguments: str) -> tuple[int, dict[str, Any], str]:
    found = CliRunner().invoke(command, [*arguments, "--json"], standalone_mode=False)
    if found.exception is not None:
        raise found.exception
    return found.return_value, json.loads(found.stdout), found.stderr


def test_line_sizes_of_a_cache_match_within_one_percent(cache: Path, tmp_path: Path) -> None:
    code, document, _ = invoke(str(cache), "--out", str(tmp_path / "twin.safetensors"))
    assert code == 0
    assert {(g["group"], g["codec"]) for g in document["groups"]} == {
        (f"{k}_cache", c) for k in ("key", "value")
        for c in ("huffman", "huffman:layout=channel", "context:layout=channel")
    }  # fmt: skip
    for group in document["groups"]:
        assert abs(group["mean_pct"]) < 1.0, group
        assert abs(group["mean_pct"]) <= group["distance_pct"] + 1e-9, "no distance is shorter than that of the means"
        assert group["lines"] == 2 * 2 * 256 * 64 * 2 // 64


def test_line_sizes_of_the_bundled_sample_match_within_one_percent(tmp_path: Path) -> None:
    """Real weights and real caches."""
    for i, path in enumerate(sorted((Path(linepress_suites.__file__).parent / "data").glob("*.safetensors"))):
        code, document, said = invoke(str(path), "--out", str(tmp_path / f"{i}.safetensors"), "-c", "huffman")
        assert code == 0, (path.name, said)
        assert document["within_limit"] is True


def test_a_twin_keeps_the_form_and_none_of_the_content(cache: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin.safetensors"
    invoke(str(cache), "--out", str(twin))
    real, drawn = open_source(str(cache)).tensors(), open_source(str(twin)).tensors()
    assert [(t.name, t.shape, t.stored_format) for t in real] == [(t.name, t.shape, t.stored_format) for t in drawn]
    for a, b in zip(real, drawn, strict=True):
        x, y = (t.read(0, t.n_bytes).view(np.uint16) for t in (a, b))
        assert (x == y).mean() < 0.05
    said = read_header(twin).metadata
    assert said["model"] == "m"
    assert "synthetic twin" in said["twin"]
    assert "secret-name" not in json.dumps(said)
    assert "text_sha256" not in said


def test_parameters_alone_draw_the_same_twin(cache: Path, tmp_path: Path) -> None:
    first, again, other = (tmp_path / f"{n}.safetensors" for n in "abc")
    invoke(str(cache), "--out", str(first), "--params", str(tmp_path / "p.json"), "--seed", "4")
    code, document, _ = invoke(str(tmp_path / "p.json"), "--out", str(again), "--seed", "4")
    assert (code, document["groups"]) == (0, [])
    assert first.read_bytes() == again.read_bytes()
    invoke(str(tmp_path / "p.json"), "--out", str(other), "--seed", "5")
    assert other.read_bytes() != first.read_bytes()


def test_a_twin_that_is_not_one_is_told(cache: Path, tmp_path: Path) -> None:
    """The gate fails where sizes differ: here a limit that no sample can keep."""
    code, document, said = invoke(str(cache), "--out", str(tmp_path / "t.safetensors"), "--limit-pct", "0")
    assert code == 1
    assert document["within_limit"] is False
    assert "do not let this twin stand" in said


def test_distance_sees_what_the_mean_does_not(tmp_path: Path) -> None:
    """Half the lines large and half small against all of middling size: means near, distributions apart."""
    rng = np.random.Generator(np.random.PCG64(1))
    spread = np.exp2(rng.integers(-60, 60, (64, 32)).astype(np.float64))
    mixed = np.where(np.arange(64)[:, None] % 2, spread, np.ones((64, 32)))
    same = rng.permutation(mixed.reshape(-1)).reshape(64, 32)
    a = source_of(tmp_path / "a.safetensors", {"w": bf16(mixed)})
    b = source_of(tmp_path / "b.safetensors", {"w": bf16(same)})
    (found,) = distances([(open_source(str(a)).tensor("w"), open_source(str(b)).tensor("w"))], ["huffman"])
    assert abs(found.mean_pct) < 1
    assert found.distance_pct > 10
    (none,) = distances([(open_source(str(a)).tensor("w"),) * 2], ["huffman"])
    assert (none.mean_pct, none.distance_pct) == (0, 0)


def test_fit_finds_what_was_drawn(tmp_path: Path) -> None:
    """Parameters come back: mean, deviation, correlation, row scale and sink of a known cache."""
    rng = np.random.Generator(np.random.PCG64(7))
    tokens, heads, dim = 2000, 2, 64
    z = rng.standard_normal((tokens, heads, dim))
    along(z, np.full((heads, dim), 0.5))
    z *= np.exp(0.3 * rng.standard_normal((tokens, heads, 1)))
    z[0] *= 8
    x = (3 + 2 * z).transpose(1, 0, 2)
    path = source_of(tmp_path / "c.safetensors", {k: bf16(x) for k in ("key_cache_tensor_0", "value_cache_tensor_0")})
    model = fit_tensor(open_source(str(path)).tensor("key_cache_tensor_0"))
    power = float(np.exp(0.3**2))  # mean square of the token factor
    assert np.mean(model.mean) == pytest.approx(3, abs=0.05)
    assert np.mean(model.deviation) == pytest.approx(2 * power, rel=0.05)
    assert np.mean(model.correlation) == pytest.approx(0.5, abs=0.05)
    assert np.hypot(model.row_scale, model.block_scale) == pytest.approx(0.3, rel=0.1)
    assert model.row_scale > 3 * model.block_scale
    assert 4 < model.first_scale < 12


def test_exponents_are_as_frequent_as_in_the_original(tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.PCG64(8))
    x = np.where(rng.random((256, 64)) < 0.1, 0.0, rng.laplace(0, 1, (256, 64)))
    path = source_of(tmp_path / "w.safetensors", {"w": bf16(x)})
    tensor = open_source(str(path)).tensor("w")
    real = tensor.read(0, tensor.n_bytes).view(np.uint16)
    twin = draw(fit_tensor(tensor), 1, 0).reshape(-1)
    counts = [np.bincount((bits >> 7) & 0xFF, minlength=256) / len(real) for bits in (real, twin)]
    assert np.abs(counts[0] - counts[1]).max() < 0.01
    assert (twin & 0x7FFF == 0).mean() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("fmt", ["fp16", "e4m3", "e5m2", "e4m3fnuz", "e5m2fnuz", "fp32"])
def test_every_float_format_has_twins(tmp_path: Path, fmt: str) -> None:
    types = {
        "fp16": np.float16, "fp32": np.float32, "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2,
        "e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    }  # fmt: skip
    x = cache_values(np.random.Generator(np.random.PCG64(3)))[0].astype(types[fmt])
    path = source_of(tmp_path / "x.safetensors", {"w": (fmt, x.view(f"u{x.dtype.itemsize}"))})
    code, document, _ = invoke(str(path), "--out", str(tmp_path / "t.safetensors"), "-c", "huffman")
    assert code == 0, document["groups"]


@pytest.mark.parametrize("values", [np.zeros((64, 64)), np.full((64, 64), 1.5), np.eye(64), np.ones(7)])
def test_degenerate_tensors(tmp_path: Path, values: np.ndarray) -> None:
    path = source_of(tmp_path / "x.safetensors", {"w": bf16(values)})
    tensor = open_source(str(path)).tensor("w")
    twin = draw(fit_tensor(tensor), 0, 0)
    numbers = twin.view(ml_dtypes.bfloat16).astype(np.float64)
    assert np.isfinite(numbers).all()
    assert np.abs(numbers).max() <= np.abs(values).max() * 1.01
    if not values.any():
        assert not twin.any()


def test_runs_of_zeros_stay_runs(tmp_path: Path) -> None:
    x = np.random.Generator(np.random.PCG64(2)).normal(0, 1, 3 * 1024)
    x[1024:2048] = 0
    path = source_of(tmp_path / "x.safetensors", {"layers.0.q.bias": bf16(x)})
    code, document, _ = invoke(str(path), "--out", str(tmp_path / "t.safetensors"), "-c", "huffman")
    assert code == 0, document["groups"]


def test_integers_are_drawn_byte_by_byte(tmp_path: Path) -> None:
    x = np.random.Generator(np.random.PCG64(2)).normal(0, 9, (64, 64)).astype(np.int8)
    path = source_of(tmp_path / "x.safetensors", {"w": ("int8", x.view(np.uint8))})
    code, document, _ = invoke(str(path), "--out", str(tmp_path / "t.safetensors"), "-c", "huffman")
    assert code == 0, document["groups"]


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = source_of(tmp_path / "x.safetensors", {"w": bf16(np.array([1.0, np.nan]))})
    with pytest.raises(SourceError, match="not finite; see linepress validate"):
        invoke(str(path), "--out", str(tmp_path / "t.safetensors"))


def test_nothing_selected(cache: Path, tmp_path: Path) -> None:
    found = CliRunner().invoke(
        command, [str(cache), "--out", str(tmp_path / "t"), "--layers", "99"], standalone_mode=False
    )
    assert found.return_value == 3


def good() -> dict[str, Any]:
    return TensorModel("w", "int8", (4,), 1, 4, 1, 1, histogram=(1.0,) * 256).to_json()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("[", "not valid JSON"),
        ("{}", "not the parameters of a twin"),
        ('{"linepress_twin": 1, "header": {}, "tensors": []}', "no tensors"),
        ({"header": {"a": 1}}, "map text to text"),
        ({"tensors": [{**good(), "extra": 1}]}, "not those of version 1"),
        ({"tensors": [{**good(), "format": "bf17"}]}, "unknown format"),
        ({"tensors": [{**good(), "shape": [5]}]}, "is not 1×4×1"),
        ({"tensors": [{**good(), "shape": [-4]}]}, "not positive"),
        ({"tensors": [{**good(), "histogram": [1.0]}]}, "not 256 frequencies"),
        ({"tensors": [{**good(), "histogram": []}]}, "vectors do not fit"),
        ({"tensors": [{**good(), "knots": [[1, 2], [0, 3]]}]}, "rising"),
        ({"tensors": [{**good(), "mean": ["x"]}]}, "finite numbers"),
        ({"tensors": [good(), good()]}, "twice"),
    ],
)
def test_parameters_that_no_fit_wrote(tmp_path: Path, document: Any, says: str) -> None:
    if isinstance(document, dict):
        document = json.dumps({"linepress_twin": 1, "header": {}, "tensors": [good()], **document}, default=list)
    path = tmp_path / "p.json"
    path.write_text(document)
    with pytest.raises(SourceError, match=says):
        read_parameters(path)
