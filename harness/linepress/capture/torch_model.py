"""The real runner: a Hugging Face Transformers model on CPU or CUDA. Needs the extra ``capture``.

Caches are read out of the model's own cache object after the last token, so a sliding-window layer has what the
library keeps of it and multi-head latent attention has its latent. Keys before RoPE are those that the model hands to
its ``apply_rotary_pos_emb``, taken on the way.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from linepress.capture.runner import Bits, CaptureError, LayerCache, ModelFacts
from linepress.environment import expanded
from linepress.sources.sniff import kind_of

PREFILL_TOKENS = 2048
"""Tokens of one forward pass; bounds the memory of activations whatever the context."""

ROPE_FUNCTION = "apply_rotary_pos_emb"
SCALING = ("rope_type", "type", "factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
"""What a snapshot keeps of a configuration's scaling of its rotary embedding."""
INSTALL = "install the extra: pip install 'linepress[capture]'"


class TorchRunner:
    """A causal language model and its tokenizer, in evaluation mode, in one compute format."""

    def __init__(self, model: str, compute: str, *, device: str = "cpu", pre_rope: bool, hidden: bool) -> None:
        torch, transformers = _libraries()
        transformers.logging.disable_progress_bar()  # progress is this program's own, on stderr
        arguments, notes, name = _where(model)
        extra: dict[str, Any] = {}
        if "gguf_file" in arguments and hasattr(transformers, "GgufConfig"):
            # packed weights would be multiplied in binary32 and the result rounded: not what the header says
            extra["quantization_config"] = transformers.GgufConfig(dequantize=True)
        notes |= {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        }
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(**arguments)
            self._model = transformers.AutoModelForCausalLM.from_pretrained(
                **arguments,
                dtype={"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[compute],
                use_safetensors=True,
                **extra,
            )
        except (OSError, ValueError, ImportError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise CaptureError(
                f"{model} cannot be loaded: {reason}; give a folder, a .gguf file or a hub name"
            ) from None
        self._model = self._model.to(device).eval()
        config = self._model.config.get_text_config()
        if "GGUF" in notes.get("weights", ""):
            notes["weights"] = f"GGUF dequantised, cast to {compute}"
        rope = getattr(config, "rope_parameters", None) or {}
        theta = rope.get("rope_theta", getattr(config, "rope_theta", None))
        if theta is not None:
            notes["rope_theta"] = str(theta)
            notes["rope_layout"] = "half-split: channel d pairs with d+head_dim/2 (HF rotate_half)"
            notes |= _rope_notes(config, rope)
        notes["tokenizer"] = f"{type(self._tokenizer).__name__}, {len(self._tokenizer)} tokens"
        commit = getattr(config, "_commit_hash", None)
        if commit:
            notes["revision"] = str(commit)
        notes["attention"] = str(getattr(config, "_attn_implementation", ""))
        sliding = getattr(config, "sliding_window", None) if _slides(config) else None
        self._facts = ModelFacts(
            name=name,
            layers=int(config.num_hidden_layers),
            compute=compute,
            max_tokens=getattr(config, "max_position_embeddings", None),
            sliding_window=sliding,
            latent_rank=getattr(config, "kv_lora_rank", None),
            notes=notes,
        )
        self.pre_rope, self.hidden, self.device = pre_rope, hidden, device

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    def tokens(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, verbose=False)["input_ids"]
        return ids

    def start(self) -> TorchSession:
        _, transformers = _libraries()
        return TorchSession(self, self._model, transformers.DynamicCache(config=self._model.config))


class TorchSession:
    """One sequence in one `DynamicCache`."""

    def __init__(self, runner: TorchRunner, model: Any, cache: Any) -> None:
        self._runner, self._model, self._cache = runner, model, cache
        n = runner.facts.layers
        self._pre_rope: list[list[Any]] = [[] for _ in range(n)]
        self._hidden: list[list[Any]] = [[] for _ in range(n)]
        self._logits: Any = None

    def prefill(self, tokens: Sequence[int]) -> None:
        for start in range(0, len(tokens), PREFILL_TOKENS):
            self._step(list(tokens[start : start + PREFILL_TOKENS]))

    def decode(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            self._step([token])

    def generate(self, n: int) -> list[int]:
        if self._logits is None:
            raise CaptureError("the model cannot decode before it has read a prompt; give a longer context")
        made: list[int] = []
        for _ in range(n):
            made.append(int(self._logits[0, -1].argmax()))
            self._step(made[-1:])
        return made

    def fork(self) -> TorchSession:
        other = TorchSession(self._runner, self._model, copy.deepcopy(self._cache))
        other._pre_rope = [list(parts) for parts in self._pre_rope]
        other._hidden = [list(parts) for parts in self._hidden]
        other._logits = self._logits
        return other

    def layers(self) -> list[LayerCache]:
        torch, _ = _libraries()
        out: list[LayerCache] = []
        rank = self._runner.facts.latent_rank
        for i in range(self._runner.facts.layers):
            layer = self._cache.layers[i] if i < len(self._cache.layers) else None
            keys = getattr(layer, "keys", None)
            if layer is None or keys is None or keys.ndim != 4:
                raise CaptureError(
                    f"layer {i} keeps no keys and values (not an attention cache); name others: --layers"
                )
            k, v = _bits(keys[0]), _bits(layer.values[0])
            pre = hidden = latent = None
            if rank is not None and k.shape[0] == 1 and k.shape[2] == rank:
                latent = np.concatenate([k, v], axis=2)
            elif self._pre_rope[i]:
                whole = torch.cat(self._pre_rope[i], dim=2)[0]
                pre = _bits(whole[:, -k.shape[1] :]) if whole.shape[::2] == keys[0].shape[::2] else None
            if self._hidden[i]:
                hidden = _bits(torch.cat(self._hidden[i], dim=1)[0])
            out.append(LayerCache(k, v, pre, latent, hidden))
        return out

    def _step(self, tokens: list[int]) -> None:
        torch, _ = _libraries()
        ids = torch.tensor([tokens], device=self._runner.device)
        seen: list[Any] = []
        with torch.inference_mode(), _watch_rope(self._model, seen if self._runner.pre_rope else None):
            out = self._model(
                input_ids=ids,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
                output_hidden_states=self._runner.hidden,
            )
        self._logits = out.logits
        if self._runner.pre_rope and len(seen) == len(self._pre_rope):
            for parts, keys in zip(self._pre_rope, seen, strict=True):
                parts.append(keys)
        if self._runner.hidden:
            for parts, states in zip(self._hidden, out.hidden_states, strict=False):
                parts.append(states)


@contextmanager
def _watch_rope(model: Any, seen: list[Any] | None) -> Iterator[None]:
    """Append the keys that go into the model's RoPE, in order of layers, while the context lasts."""
    module = importlib.import_module(type(model).__module__)
    inner = getattr(module, ROPE_FUNCTION, None)
    if seen is None or inner is None:
        yield
        return

    def watching(q: Any, k: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(k.clone())
        return inner(q, k, *args, **kwargs)

    setattr(module, ROPE_FUNCTION, watching)
    try:
        yield
    finally:
        setattr(module, ROPE_FUNCTION, inner)


def _bits(tensor: Any) -> Bits:
    """A tensor's stored bits as unsigned integers, on the CPU, contiguous."""
    torch, _ = _libraries()
    width = tensor.element_size()
    signed = {2: torch.int16, 4: torch.int32}[width]
    array: Bits = tensor.detach().cpu().contiguous().view(signed).numpy().view(f"<u{width}").copy()
    return array


def _rope_notes(config: Any, rope: dict[str, Any]) -> dict[str, str]:
    """Which part of a head turns and how its rates are scaled, where the configuration says so."""
    notes: dict[str, str] = {}
    latent = getattr(config, "qk_rope_head_dim", None)
    share = rope.get("partial_rotary_factor", getattr(config, "partial_rotary_factor", None))
    dim = getattr(config, "head_dim", None) or int(config.hidden_size) // int(config.num_attention_heads)
    if latent:
        notes["rope_dim"] = str(latent)
    elif share is not None and float(share) != 1.0:
        notes["rope_dim"] = str(int(int(dim) * float(share)))
    scaling = rope or getattr(config, "rope_scaling", None) or {}
    kept = {key: scaling[key] for key in SCALING if isinstance(scaling.get(key), int | float | str)}
    if kept.get("rope_type", kept.get("type", "default")) != "default":
        notes["rope_scaling"] = json.dumps(kept, separators=(",", ":"))
    return notes


def _slides(config: Any) -> bool:
    """Whether any layer attends within a window only."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return "sliding_attention" in kinds
    return bool(getattr(config, "use_sliding_window", True)) and getattr(config, "sliding_window", None) is not None


def _where(model: str) -> tuple[dict[str, Any], dict[str, str], str]:
    """(arguments of from_pretrained, header notes, name) of a .gguf file, a folder or ``org/name[@revision]``."""
    path = expanded(model)
    if path.is_file():
        if kind_of(path) != "gguf":
            raise CaptureError(f"{model} is a file but not GGUF; give its folder, with config.json and the tokenizer")
        place = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
        notes = {"source": path.name, "weights": "GGUF", "source_sha256": _sha256(path)}
        return place, notes, path.stem
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise CaptureError(f"{model} has no config.json; give a model's folder or a .gguf file")
        return {"pretrained_model_name_or_path": str(path)}, {"source": path.name}, path.name
    name, _, revision = model.removeprefix("hf://").partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise CaptureError(f"no file, folder or hub name {model!r}; for example org/name@revision or model.gguf")
    arguments = {"pretrained_model_name_or_path": name, "revision": revision or "main"}
    return arguments, {"source": f"hf://{name}@{revision or 'main'}"}, name.split("/")[1]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _libraries() -> tuple[Any, Any]:
    os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        return importlib.import_module("torch"), importlib.import_module("transformers")
    except ImportError as error:
        raise CaptureError(f"capturing needs PyTorch and Transformers ({error}); {INSTALL}") from None
