"""From a model and texts to snapshot files."""

from __future__ import annotations

import hashlib
import re
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from linepress.capture.options import CacheFormat, CaptureOptions
from linepress.capture.runner import Bits, CaptureError, LayerCache, ModelFacts, Runner
from linepress.capture.sequences import Fed, feed, stretches
from linepress.sources.casts import cast_values, largest, to_float32
from linepress.sources.snapshot.contract import layout_named
from linepress.sources.snapshot.format import CONTIGUOUS
from linepress.sources.snapshot.lay import blocks_of, lay_out, plan_blocks, to_batch
from linepress.sources.snapshot.pages import Table
from linepress.sources.snapshot.write import write_snapshot, write_tensors

Cached = dict[str, tuple[str, Bits]]


@dataclass(frozen=True, slots=True)
class Text:
    """A text to capture on: its name, its content and the sha256 of its bytes."""

    name: str
    content: str
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Text:
        """Read a UTF-8 file; raises `CaptureError` if it is none."""
        try:
            raw = path.read_bytes()
            content = raw.decode("utf-8")
        except OSError as error:
            raise CaptureError(f"cannot read {path}: {error.strerror}; check the path") from None
        except UnicodeDecodeError as error:
            raise CaptureError(f"{path} is not UTF-8 text (byte {error.start}); convert it") from None
        return cls(path.stem, content, hashlib.sha256(raw).hexdigest())


@dataclass(frozen=True, slots=True)
class Captured:
    """One file written: what it holds, its size, and seconds and peak resident memory of the process by then."""

    path: Path
    text: str
    context: int
    phase: str
    cache: str
    what: str
    n_bytes: int
    seconds: float
    peak_bytes: int


def capture(
    load: Callable[[str], Runner], texts: Sequence[Text], out: Path, options: CaptureOptions
) -> Iterator[Captured]:
    """Run the model over every text, context and phase and write the snapshots, yielding each file as it is done.

    ``load`` gives the model in a compute format; it is loaded once for each format in turn. Raises `CaptureError`
    for texts that are too short and contexts beyond the model's.
    """
    options.check()
    out.mkdir(parents=True, exist_ok=True)
    for compute in dict.fromkeys(fmt.compute for fmt in options.formats):
        formats = [fmt for fmt in options.formats if fmt.compute == compute]
        runner = load(compute)
        _check_model(runner.facts, options)
        for text in texts:
            tokens = runner.tokens(text.content)
            for context in options.contexts:
                wanted = stretches(tokens, context, options, text.name)
                for phase in options.phases:
                    yield from _snapshots(runner, text, context, phase, wanted, formats, out, options)


def _check_model(facts: ModelFacts, options: CaptureOptions) -> None:
    most = max(options.contexts)
    if facts.max_tokens is not None and most > facts.max_tokens:
        raise CaptureError(f"{facts.name} takes {facts.max_tokens} tokens, not {most}; lower --context")
    if options.layers and max(options.layers) >= facts.layers:
        raise CaptureError(f"{facts.name} has {facts.layers} layers; --layers {max(options.layers)} is none of them")
    if facts.sliding_window is not None and options.arrangement not in (CONTIGUOUS,) and most > facts.sliding_window:
        raise CaptureError(
            f"layers of {facts.name} keep {facts.sliding_window} tokens and others all; use --layout {CONTIGUOUS}"
        )


def _snapshots(
    runner: Runner,
    text: Text,
    context: int,
    phase: str,
    wanted: Sequence[Sequence[int]],
    formats: Sequence[CacheFormat],
    out: Path,
    options: CaptureOptions,
) -> Iterator[Captured]:
    began = time.perf_counter()
    fed: list[Fed] = []
    caches: list[list[LayerCache]] = []
    for sequence in feed(runner, wanted, phase, options):
        caches.append(sequence.session.layers())
        fed.append(sequence)
    seconds = time.perf_counter() - began
    facts = runner.facts
    stem = "-".join(_slug(part) for part in (facts.name, text.name, str(context), phase))
    said = _said(facts, text, context, phase, fed, options)
    for fmt in formats:
        for what, tensors in _kinds(facts, caches, fmt, options):
            suffix = "" if what == "keys and values" else f"-{what.replace(' ', '-')}"
            path = out / f"{stem}-{_slug(fmt.label)}{suffix}.safetensors"
            if what == "activations":
                write_tensors(path, tensors[0], {**said, "kind": "activations", "dtype": fmt.name})
            else:
                _write(path, tensors, facts, said, fmt, what, options)
            size = path.stat().st_size
            yield Captured(path, text.name, context, phase, fmt.label, what, size, seconds, peak_bytes())


def _kinds(
    facts: ModelFacts, caches: Sequence[Sequence[LayerCache]], fmt: CacheFormat, options: CaptureOptions
) -> Iterator[tuple[str, list[Cached]]]:
    """(what a file holds, its tensors by name for each sequence), before casts and layouts."""
    chosen = options.layers or tuple(range(facts.layers))
    compute = facts.compute
    if "post-rope" in options.keys:
        yield (
            "keys and values",
            [
                {
                    f"{kind}_cache_tensor_{i}": (compute, bits)
                    for i in chosen
                    for kind, bits in (("key", layers[i].keys), ("value", layers[i].values))
                }
                for layers in caches
            ],
        )
        if all(layers[i].latent is not None for layers in caches for i in chosen):
            yield "latent", [_named(layers, chosen, compute, "latent") for layers in caches]
    if "pre-rope" in options.keys:
        yield "pre-rope keys", [_named(layers, chosen, compute, "pre_rope_keys") for layers in caches]
    if options.activations and fmt.name == compute:
        yield (
            "activations",
            [
                {
                    f"sequence.{row}.layers.{i}.hidden_states": (compute, _present(layers[i].hidden, "hidden states"))
                    for row, layers in enumerate(caches)
                    for i in chosen
                }
            ],
        )


def _named(layers: Sequence[LayerCache], chosen: Sequence[int], compute: str, field: str) -> Cached:
    return {f"key_cache_tensor_{i}": (compute, _present(getattr(layers[i], field), field)) for i in chosen}


def _present(bits: Bits | None, what: str) -> Bits:
    if bits is None:
        raise CaptureError(f"this model's {what.replace('_', ' ')} cannot be captured; leave them out")
    return bits


def _write(
    path: Path,
    sequences: list[Cached],
    facts: ModelFacts,
    said: dict[str, str],
    fmt: CacheFormat,
    what: str,
    options: CaptureOptions,
) -> None:
    """One snapshot: cast, laid out, header stated from the arrays themselves."""
    lengths = [next(iter(s.values()))[1].shape[1] for s in sequences]
    tables: dict[str, Table] = {}
    metadata = {**said, "dtype": fmt.name, "arrangement": options.arrangement}
    if what == "pre-rope keys":
        metadata |= {"holds": "keys", "keys": "pre-RoPE"}
    elif what == "latent":
        metadata |= {"holds": "latent", "latent_rank": str(facts.latent_rank)}
    if fmt.name != facts.compute:
        metadata["scale"] = fmt.scale
        sequences, scales = _cast(sequences, facts.compute, fmt)
        metadata |= {name: ",".join(repr(float(s)) for s in column) for name, column in scales.items()}
    first = sequences[0]
    for key, kind in (("head_dim", "key"), ("value_head_dim", "value")):
        shape = next((bits.shape for name, (_, bits) in first.items() if name.startswith(kind)), None)
        if shape is not None:
            metadata |= {"kv_heads": str(shape[0]), key: str(shape[2])}
    if metadata.get("value_head_dim") == metadata["head_dim"]:
        del metadata["value_head_dim"]
    out: Cached = {}
    if options.arrangement == CONTIGUOUS:
        per_layer = {int(name.rsplit("_", 1)[1]): bits.shape[1] for name, (_, bits) in first.items()}
        if len(set(per_layer.values())) > 1:
            metadata["layer_tokens"] = ",".join(str(per_layer.get(i, 0)) for i in range(facts.layers))
        metadata["tokens"] = str(max(per_layer.values()))
        out = first
    else:
        layout = layout_named(options.arrangement, "--layout")
        if layout.padded:
            metadata |= {"tokens": str(max(lengths)), "padding": "left"}
            tables = {"sequence_tokens": np.array(lengths, np.int32)}
        else:
            plan = plan_blocks(
                lengths,
                block_tokens=options.block_tokens,
                shared_tokens=options.shared_tokens,
                free_blocks=options.free_blocks,
                seed=options.seed,
            )
            shared = plan.shared_tokens * (len(lengths) - 1)
            metadata |= {"tokens": str(sum(lengths) - shared), "block_tokens": str(options.block_tokens)}
            tables = plan.tables
        pages = {}
        for name in first:
            parts = [s[name][1] for s in sequences]
            kind, layer = name.split("_")[0], int(name.rsplit("_", 1)[1])
            pages[kind, layer] = to_batch(parts) if layout.padded else blocks_of(parts, plan)
        stored = next(iter(first.values()))[0]
        out = {name: (stored, bits) for name, bits in lay_out(pages, layout).items()}
    write_snapshot(path, out, metadata, tables)


def _cast(
    sequences: list[Cached], compute: str, fmt: CacheFormat
) -> tuple[list[Cached], dict[str, list[np.float32]]]:
    """The caches as OFP8, and the scales used by kind, one a layer in the order of the tensors."""
    scales: dict[str, list[np.float32]] = {}
    out: list[Cached] = [{} for _ in sequences]
    for name in sequences[0]:
        values = [to_float32(np.ascontiguousarray(s[name][1]).reshape(-1).view(np.uint8), compute) for s in sequences]
        scale = np.float32(1)
        if fmt.scale == "tensor":
            top = max(float(np.abs(v[np.isfinite(v)]).max(initial=0)) for v in values)
            scale = np.float32(top / largest(fmt.name)) or np.float32(1)
            scales.setdefault(f"{name.split('_')[0]}_scales", []).append(scale)
        for row, sequence in enumerate(sequences):
            bits = cast_values(values[row], scale, fmt.name).reshape(sequence[name][1].shape)
            out[row][name] = (fmt.name, bits)
    return out, scales


def _said(
    facts: ModelFacts, text: Text, context: int, phase: str, fed: Sequence[Fed], options: CaptureOptions
) -> dict[str, str]:
    """Header entries that do not depend on format and layout."""
    said = {
        "model": facts.name,
        "layers": str(facts.layers),
        "keys": "post-RoPE",
        "text": text.name,
        "text_sha256": text.sha256,
        "token_ids_sha256": hashlib.sha256(
            b"".join(struct.pack(f"<{len(f.tokens)}I", *f.tokens) for f in fed)
        ).hexdigest(),
        "context": str(context),
        "phase": phase,
        "computed_in": facts.compute,
        "sequences": str(len(fed)),
    }
    if facts.sliding_window is not None:
        said["sliding_window"] = str(facts.sliding_window)
    if fed[0].decoded:
        said |= {"decoded_tokens": str(fed[0].decoded), "decode_from": options.decode_from}
    if options.turns > 1:
        said["turn_ends"] = ";".join(",".join(map(str, f.turn_ends)) for f in fed)
    if options.shared_tokens:
        said["shared_prefix_tokens"] = str(options.shared_tokens)
    return {**facts.notes, **said}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-.") or "x"


def peak_bytes() -> int:
    """Peak resident memory of this process so far, in bytes (kibibytes to the kernel, bytes on macOS)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
