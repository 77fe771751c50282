"""A folder of safetensors: an index and its shards, sets of numbered shards, separate files; duplicates told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from linepress.errors import SourceError
from linepress.sources.base import TensorRef
from linepress.sources.safetensors.reader import (
    INDEX_NAME,
    MAX_INDEX_BYTES,
    SafetensorsSource,
    check_index,
    parse_index,
)
from linepress.sources.sniff import kind_of
from linepress.sources.text import shown

_SHARD = re.compile(r"^(?P<stem>.*)-(?P<i>\d+)-of-(?P<n>\d+)\.safetensors$")
MAX_SHARDS = 100_000
COMPARED_TENSORS = 8
COMPARED_BYTES = 4096
_WEIGHTS = (".gguf", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".npz", ".npy")


@dataclass(frozen=True, slots=True)
class Part:
    """One model of a folder: a set of shards in order, or a file by itself."""

    stem: str
    files: tuple[str, ...]


def parts_of(names: Iterable[str], what: str) -> list[Part]:
    """The models among a folder's names, in order of their names.

    Files ``x-00001-of-00003.safetensors`` (any number of digits, from 0 or 1) are shards, and each stem must be
    complete, whatever else lies beside it; other files stand by themselves.

    Raises `SourceError` naming the shards that are missing.
    """
    files = sorted(name for name in names if name.endswith(".safetensors") and not name.startswith("."))
    out: dict[tuple[str, int], dict[int, str]] = {}
    for name in files:
        found = _SHARD.match(name)
        if found is None or len(found["n"]) > 9 or len(found["i"]) > 9:
            out[(name.removesuffix(".safetensors"), 0)] = {0: name}
            continue
        shards = out.setdefault((found["stem"], int(found["n"])), {})
        if int(found["i"]) in shards:
            raise SourceError(f"{what}: {shards[int(found['i'])]} and {name} are the same shard; keep one of them")
        shards[int(found["i"])] = name
    return [_complete(stem, n, shards, what) for (stem, n), shards in out.items()]


def _complete(stem: str, n: int, shards: Mapping[int, str], what: str) -> Part:
    if n == 0 and len(shards) == 1 and 0 in shards:
        return Part(stem, (shards[0],))
    first = 0 if 0 in shards else 1
    if not 0 < n <= MAX_SHARDS or max(shards) >= first + n:
        raise SourceError(f"{what}: {next(iter(shards.values()))} is no shard of {n}; rename it")
    missing = [i for i in range(first, first + n) if i not in shards]
    if missing:
        some = ", ".join(map(str, missing[:5])) + (" …" if len(missing) > 5 else "")
        plural = "is" if len(missing) == 1 else "are"
        raise SourceError(
            f"{what}: shard {some} of {n} of {shown(stem)} {plural} missing "
            f"({len(shards)} of {n} are there); fetch {'it' if len(missing) == 1 else 'them'}"
        )
    return Part(stem, tuple(shards[i] for i in sorted(shards)))


def open_folder(uri: str, folder: Path) -> SafetensorsSource:
    """A folder of shards (with or without an index) or of separate files.

    What is not read (files that the index does not name, copies of the same weights, other formats) is in the
    source's `left_out`.
    """
    present = [path.name for path in folder.iterdir()]
    others = {name: "not safetensors; give it alone" for name in sorted(present) if name.lower().endswith(_WEIGHTS)}
    index = folder / INDEX_NAME
    if index.exists():
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise SourceError(f"{index} is over {MAX_INDEX_BYTES} B; it is not a shard index")
        weight_map = parse_index(index.read_bytes(), str(index))
        names = sorted(set(weight_map.values()))
        for name in names:
            if not (folder / name).is_file():
                raise SourceError(f"{folder}: shard {name}, which the index names, is missing; fetch it")
        extra = dict.fromkeys(beside_index(present, names), f"{INDEX_NAME} does not name it")
        source = SafetensorsSource(uri, [folder / name for name in names], left_out={**extra, **others})
        check_index(weight_map, source.owner, str(index))
        return source
    parts = parts_of(present, str(folder))
    if not parts:
        other = next((n for n in sorted(present) if n.endswith((".bin", ".pt", ".pth", ".ckpt"))), None)
        if other:
            kind_of(folder / other)
        raise SourceError(f"{folder} holds no .safetensors file; give a file or a folder of safetensors shards")
    if len(parts) == 1:
        return SafetensorsSource(uri, [folder / name for name in parts[0].files], left_out=others)
    opened = [SafetensorsSource(uri, [folder / name for name in part.files]).tensors() for part in parts]
    copies = duplicates(parts, opened)
    kept = [part for i, part in enumerate(parts) if i not in copies]
    said = {name: f"the same weights as {parts[of].files[0]}" for i, of in copies.items() for name in parts[i].files}
    names = [name for part in kept for name in part.files]
    return SafetensorsSource(
        uri, [folder / name for name in names], qualified=len(kept) > 1, left_out={**said, **others}
    )


def beside_index(present: Iterable[str], named: Collection[str]) -> list[str]:
    """Safetensors files that an index does not name."""
    return sorted(n for n in present if n.endswith(".safetensors") and n not in named and not n.startswith("."))


def duplicates(parts: Sequence[Part], tensors: Sequence[Sequence[TensorRef]]) -> dict[int, int]:
    """Parts that hold the same weights as another, whatever the names: index of the copy → index of the original.

    Same types and shapes throughout, and the same bytes at beginning, middle and end of the largest tensors (a
    conversion may have permuted some: at least half of those looked at agree). Of two, the one called ``model`` is
    the original, else the first.
    """
    order = sorted(range(len(parts)), key=lambda i: (not parts[i].stem.startswith("model"), len(parts[i].stem), i))
    out: dict[int, int] = {}
    for at, i in enumerate(order):
        shapes = _shapes(tensors[i])
        for j in order[:at]:
            if j not in out and shapes == _shapes(tensors[j]) and _same_bytes(tensors[i], tensors[j]):
                out[i] = j
                break
    return out


def _shapes(tensors: Sequence[TensorRef]) -> Counter[tuple[str, tuple[int, ...]]]:
    return Counter((tensor.stored_format, tensor.shape) for tensor in tensors)


def _same_bytes(ones: Sequence[TensorRef], others: Sequence[TensorRef]) -> bool:
    """Whether at least half of the largest tensors of `ones` are among `others`, by samples of their bytes."""
    looked = sorted(ones, key=lambda t: -t.n_bytes)[:COMPARED_TENSORS]
    wanted = {(t.stored_format, t.shape) for t in looked}
    known = {_sample(t) for t in others if (t.stored_format, t.shape) in wanted}
    samples = [_sample(t) for t in looked]
    # a few bytes, or bytes that are all the same, may be equal by chance
    telling = [
        sample
        for sample, tensor in zip(samples, looked, strict=True)
        if tensor.n_bytes >= COMPARED_BYTES and any(len(set(piece)) > 1 for piece in sample)
    ]
    return bool(telling) and 2 * sum(sample in known for sample in telling) >= len(telling)


def _sample(tensor: TensorRef) -> tuple[bytes, ...]:
    n = tensor.n_bytes
    starts = sorted({0, max(0, n // 2 - COMPARED_BYTES // 2), max(0, n - COMPARED_BYTES)})
    return tuple(tensor.read(start, min(n, start + COMPARED_BYTES)).tobytes() for start in starts)
