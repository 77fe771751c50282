"""Capture with a stand-in model: what is fed, what is written, what the header says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from linepress.capture.capture import Text, capture
from linepress.capture.options import CacheFormat, CaptureOptions
from linepress.capture.runner import CaptureError
from linepress.sources import open_source
from linepress.sources.casts import cast_values, to_float32
from linepress.sources.safetensors.reader import read_header
from linepress.sources.snapshot.validate import validate
from linepress_kit.tiny_model import DIM, HEADS, LAYERS, TinyRunner, cache_bits

WORDS = " ".join("w" * (1 + i * i % 7) for i in range(400))
TEXT = Text("words", WORDS, hashlib.sha256(WORDS.encode()).hexdigest())
TOKENS = [len(word) for word in WORDS.split()]


def run(tmp_path: Path, runner: TinyRunner | None = None, **options: object) -> list[Path]:
    used = runner or TinyRunner()

    def load(compute: str) -> TinyRunner:
        used.compute = compute
        return used

    wanted = CaptureOptions(**options)  # type: ignore[arg-type]
    return [done.path for done in capture(load, [TEXT], tmp_path, wanted)]


def bits_of(path: Path, name: str, uri: str = "") -> np.ndarray:
    tensor = open_source(uri or str(path)).tensor(name)
    return tensor.read(0, tensor.n_bytes).view(tensor.format.storage).reshape(tensor.shape)


def test_prefill_and_decode_hold_the_same_tokens(tmp_path: Path) -> None:
    runner = TinyRunner()
    paths = run(tmp_path, runner, contexts=(32, 100), decode_tokens=8)
    assert [p.name for p in paths] == [
        f"tiny-words-{n}-{phase}-bf16.safetensors" for n in (32, 100) for phase in ("prefill", "decode")
    ]
    assert runner.fed == [
        ("prefill", 32), ("prefill", 24), ("decode", 8), ("prefill", 100), ("prefill", 92), ("decode", 8)
    ]  # fmt: skip
    for path, n in zip(paths, (32, 32, 100, 100), strict=True):
        for layer in range(LAYERS):
            assert np.array_equal(bits_of(path, f"key_cache_tensor_{layer}"), cache_bits(TOKENS[:n], layer, 0))
            assert np.array_equal(bits_of(path, f"value_cache_tensor_{layer}"), cache_bits(TOKENS[:n], layer, 1))
        findings, facts = validate(str(path))
        assert [f.text for f in findings if f.outcome != "PASS"] == []
        assert facts["snapshot"] is True


def test_header_says_what_was_run(tmp_path: Path) -> None:
    (_, decode) = run(tmp_path, contexts=(64,), decode_tokens=4)
    said = read_header(decode).metadata
    ids = np.array(TOKENS[:64], "<u4").tobytes()
    assert said == {
        "snapshot_version": "1", "model": "tiny", "tokenizer": "words", "layers": str(LAYERS), "kv_heads": str(HEADS),
        "head_dim": str(DIM), "tokens": "64", "context": "64", "sequences": "1", "keys": "post-RoPE", "dtype": "bf16",
        "computed_in": "bf16", "arrangement": "contiguous", "phase": "decode", "decoded_tokens": "4",
        "decode_from": "text", "text": "words", "text_sha256": TEXT.sha256,
        "token_ids_sha256": hashlib.sha256(ids).hexdigest(),
    }  # fmt: skip


def test_the_models_own_tokens_are_hashed(tmp_path: Path) -> None:
    (path,) = run(tmp_path, contexts=(20,), phases=("decode",), decode_tokens=3, decode_from="model")
    tokens = [*TOKENS[:17], 1000, 1001, 1002]
    assert np.array_equal(bits_of(path, "key_cache_tensor_1"), cache_bits(tokens, 1, 0))
    assert (
        read_header(path).metadata["token_ids_sha256"]
        == hashlib.sha256(np.array(tokens, "<u4").tobytes()).hexdigest()
    )


def test_same_command_same_bytes(tmp_path: Path) -> None:
    first = run(tmp_path / "a", contexts=(40,), phases=("prefill",))
    again = run(tmp_path / "b", contexts=(40,), phases=("prefill",))
    assert first[0].read_bytes() == again[0].read_bytes()


def test_pre_rope_keys_and_activations(tmp_path: Path) -> None:
    paths = run(tmp_path, contexts=(32,), phases=("prefill",), keys=("post-rope", "pre-rope"), activations=True)
    post, pre, hidden = paths
    assert np.array_equal(bits_of(pre, "key_cache_tensor_2"), cache_bits(TOKENS[:32], 2, 2))
    assert read_header(pre).metadata["keys"] == "pre-RoPE"
    assert read_header(pre).metadata["holds"] == "keys"
    assert read_header(post).metadata["keys"] == "post-RoPE"
    tensor = open_source(str(hidden)).tensor("sequence.0.layers.1.hidden_states")
    assert (tensor.kind, tensor.group, tensor.layer, tensor.shape) == ("activation", "activation", 1, (32, DIM))
    assert all(f.outcome == "PASS" for f in validate(str(pre))[0])


def test_fp8_caches_are_cast_from_bf16_and_fp16_ones_computed(tmp_path: Path) -> None:
    formats = tuple(CacheFormat.parse(text) for text in ("bf16", "fp8", "e5m2:scale=tensor", "fp16"))
    paths = run(tmp_path, contexts=(32,), phases=("prefill",), formats=formats)
    bf16 = to_float32(cache_bits(TOKENS[:32], 0, 0).reshape(-1).view(np.uint8), "bf16")
    plain = bits_of(paths[1], "key_cache_tensor_0")
    assert np.array_equal(plain.reshape(-1), cast_values(bf16, np.float32(1), "e4m3"))
    said = read_header(paths[2]).metadata
    scale = np.float32(np.abs(bf16).max() / 57344.0)
    assert said["scale"] == "tensor"
    assert np.float32(said["key_scales"].split(",")[0]) == scale
    assert np.array_equal(bits_of(paths[2], "key_cache_tensor_0").reshape(-1), cast_values(bf16, scale, "e5m2"))
    assert np.array_equal(bits_of(paths[3], "key_cache_tensor_0"), cache_bits(TOKENS[:32], 0, 0, "fp16"))


@pytest.mark.parametrize("arrangement", ["paged-vllm", "paged-vllm-hnd", "paged-vllm-classic"])
def test_a_shared_prefix_is_computed_and_stored_once(tmp_path: Path, arrangement: str) -> None:
    runner = TinyRunner()
    (path,) = run(
        tmp_path, runner, contexts=(50,), phases=("prefill",), sequences=3, shared_tokens=20, free_blocks=5,
        arrangement=arrangement,
    )  # fmt: skip
    assert runner.fed == [("prefill", 20), *[("fork", 20), ("prefill", 30)] * 3]
    # 16 of the 20 common tokens fill a block that all share
    want = [TOKENS[:50], TOKENS[:20] + TOKENS[50:80], TOKENS[:20] + TOKENS[80:110]]
    whole = [cache_bits(tokens, 1, 1) for tokens in want]
    seen = bits_of(path, "value_cache_tensor_1")
    assert np.array_equal(seen, np.concatenate([whole[0], whole[1][:, 16:], whole[2][:, 16:]], axis=1))
    memory = open_source(f"memory:{path}").tensor("value_cache_tensor_1")
    blocks = 1 + 3 * 3 + 5
    assert memory.n_bytes == blocks * 16 * HEADS * DIM * 2
    assert all(f.outcome == "PASS" for f in validate(str(path))[0])


def test_sequences_of_different_lengths_are_padded(tmp_path: Path) -> None:
    (path,) = run(
        tmp_path, contexts=(40,), phases=("prefill",), sequences=3, lengths=(40, 17, 5), arrangement="batch"
    )
    parts = [TOKENS[:40], TOKENS[40:57], TOKENS[57:62]]
    want = np.concatenate([cache_bits(tokens, 2, 0) for tokens in parts], axis=1)
    assert np.array_equal(bits_of(path, "key_cache_tensor_2"), want)
    assert open_source(f"memory:{path}").tensor("key_cache_tensor_2").shape == (3, HEADS, 40, DIM)
    assert read_header(path).metadata["padding"] == "left"


def test_turns_alternate_prompt_and_decode(tmp_path: Path) -> None:
    runner = TinyRunner()
    (path,) = run(tmp_path, runner, contexts=(90,), phases=("prefill",), turns=3, decode_tokens=10)
    assert runner.fed == [("prefill", 20), ("decode", 10)] * 3
    assert read_header(path).metadata["turn_ends"] == "30,60,90"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"contexts": (0,)}, "0 tokens"),
        ({"contexts": (500,), "phases": ("prefill",)}, "has 400 tokens but this capture takes 500"),
        ({"contexts": (9999,), "phases": ("prefill",)}, "takes 4096 tokens, not 9999"),
        ({"layers": (7,)}, "has 3 layers"),
        ({"sequences": 2}, "a contiguous cache holds one"),
        ({"contexts": (64,), "decode_tokens": 64}, "leaves no prompt"),
        ({"contexts": (64,), "arrangement": "batch", "sequences": 2, "shared_tokens": 64}, "lower --decode-tokens"),
        ({"shared_tokens": 8}, "needs --sequences 2"),
        ({"phases": ("warmup",)}, "'warmup' is not one of prefill, decode"),
        ({"arrangement": "ring"}, "'ring' is not one of contiguous"),
        ({"lengths": (4, 5), "arrangement": "batch"}, "leave out --context"),
    ],
)
def test_what_cannot_be_captured_is_one_sentence(tmp_path: Path, options: dict[str, object], says: str) -> None:
    with pytest.raises(CaptureError, match=says):
        run(tmp_path, **{"contexts": (200,), **options})


@pytest.mark.parametrize("text", ["fp7", "bf16:scale=tensor", "e4m3:scale=row", ""])
def test_unknown_cache_formats_are_answered_with_an_example(text: str) -> None:
    with pytest.raises(CaptureError, match="e4m3:scale=tensor"):
        CacheFormat.parse(text)


def test_a_text_must_be_utf8(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(CaptureError, match="byte 3"):
        Text.of(tmp_path / "latin.txt")
    with pytest.raises(CaptureError, match="No such file"):
        Text.of(tmp_path / "none.txt")
