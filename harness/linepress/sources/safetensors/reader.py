"""Safetensors files and folders as sources: headers are read and checked, bodies only by range."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from linepress.errors import SourceError
from linepress.sources.base import Source, TensorRef, notes_of
from linepress.sources.bytes import FileBytes, Location, pread
from linepress.sources.groups import place_of
from linepress.sources.safetensors.header import Entry, Header, header_length, parse_header
from linepress.sources.snapshot.format import check_snapshot, is_snapshot
from linepress.sources.snapshot.view import viewed
from linepress.sources.sniff import kind_of
from linepress.sources.text import StrictJsonError, shown, strict_json

INDEX_NAME = "model.safetensors.index.json"
MAX_INDEX_BYTES = 100_000_000
_SHARD = re.compile(r"^(?P<stem>.*)-(?P<i>\d{5})-of-(?P<n>\d{5})\.safetensors$")

# safetensors dtype -> element format; the others (64-bit types, BOOL, six-bit floats) are listed as skipped
FORMAT_OF_DTYPE = {
    "BF16": "bf16", "F16": "fp16", "F32": "fp32", "F8_E4M3": "e4m3", "F8_E5M2": "e5m2", "F8_E4M3FNUZ": "e4m3fnuz",
    "F8_E5M2FNUZ": "e5m2fnuz", "F8_E8M0": "e8m0", "I8": "int8", "U8": "uint8", "F4": "e2m1", "I16": "int16",
    "U16": "int16", "I32": "int32", "U32": "int32",
}  # fmt: skip


def read_header(path: Path) -> Header:
    """The checked header of one file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise SourceError(f"no such file: {path}; check the path") from None
    except OSError as error:
        raise SourceError(f"cannot open {path}: {error.strerror}; check its permissions") from None
    try:
        size = os.fstat(descriptor).st_size
        first = pread(descriptor, 0, min(size, 8), str(path)).tobytes()
        n = header_length(first, size, str(path))
        return parse_header(pread(descriptor, 8, n, str(path)).tobytes(), size, str(path))
    finally:
        os.close(descriptor)


def storage_of(entry: Entry, metadata: dict[str, str], siblings: Mapping[str, Entry]) -> tuple[str, tuple[int, ...]]:
    """Element format and shape in stored units; packed payloads are told by their names and neighbours.

    GPTQ and AWQ keep eight 4-bit or four 8-bit integers in each I32 of ``qweight`` and ``qzeros`` (`packed_bits`);
    MXFP4 keeps two E2M1 values in each U8 of ``…_blocks`` beside E8M0 ``…_scales``; NVFP4 keeps two in each U8
    ``weight`` beside an E4M3 ``weight_scale`` and an F32 ``weight_scale_2`` (ModelOpt), or in ``weight_packed``
    beside ``weight_scale`` and ``weight_global_scale`` (compressed-tensors).
    """
    name, shape = entry.name, entry.shape
    stem, _, leaf = name.rpartition(".")
    stem = stem + "." if stem else ""
    if entry.dtype == "I32" and leaf in ("qweight", "qzeros") and shape:
        bits = packed_bits(stem, metadata, siblings)
        return (f"int{bits}", (*shape[:-1], shape[-1] * 4)) if bits in (4, 8) else ("int32", shape)
    if entry.dtype == "F4":
        return "e2m1", (*shape[:-1], shape[-1] // 2) if shape and shape[-1] % 2 == 0 else ((entry.end - entry.start),)
    if entry.dtype == "U8" and leaf.endswith("_blocks") and f"{name[:-7]}_scales" in siblings:
        return "e2m1", shape
    if entry.dtype == "U8" and leaf.endswith("_scales") and f"{name[:-7]}_blocks" in siblings:
        return "e8m0", shape
    if entry.dtype == "U8" and leaf == "weight" and {f"{name}_scale", f"{name}_scale_2"} <= siblings.keys():
        return "e2m1", shape
    packed_scales = {f"{stem}weight_scale", f"{stem}weight_global_scale"}
    if entry.dtype == "U8" and leaf == "weight_packed" and packed_scales <= siblings.keys():
        return "e2m1", shape
    return FORMAT_OF_DTYPE[entry.dtype], shape


def packed_bits(stem: str, metadata: dict[str, str], siblings: Mapping[str, Entry]) -> int:
    """Width of the integers that GPTQ or AWQ packed into the I32 of a layer, 4 where nothing tells.

    ``qzeros`` packs one zero point for each entry of ``scales`` (AutoGPTQ ``qlinear``, AutoAWQ ``WQLinear_GEMM``), so
    their shapes give the width; the header's metadata may state ``bits``. Widths that do not fill bytes (2, 3) are
    measured as the I32 that hold them.
    """
    zeros, scales = siblings.get(f"{stem}qzeros"), siblings.get(f"{stem}scales")
    if zeros is not None and scales is not None and zeros.shape and scales.shape and scales.shape[-1]:
        return 32 * zeros.shape[-1] // scales.shape[-1]
    stated = metadata.get("bits", "4")
    return int(stated) if stated in ("2", "3", "4", "8") else 32


class Locate(Protocol):
    """Makes the location of bytes ``start … end`` of one file."""

    def __call__(self, start: int, end: int) -> Location: ...


def refs_of(
    header: Header,
    *,
    uri: str,
    revision: str,
    locate: Locate,
    prefix: str = "",
    notes: dict[str, str] | None = None,
    view: str = "tokens",
) -> tuple[list[TensorRef], dict[str, str]]:
    """Tensors of a header, and those that cannot be measured with the reason; ``locate(start, end)`` places bytes.

    The caches of a paged or padded snapshot come in ``view``, see `linepress.sources.snapshot.view`.
    """
    tensors: list[TensorRef] = []
    skipped: dict[str, str] = {}
    siblings = {entry.name: entry for entry in header.entries}
    said = notes_of({**header.metadata, **(notes or {})})
    for entry in header.entries:
        if entry.dtype not in FORMAT_OF_DTYPE:
            skipped[prefix + entry.name] = f"dtype {entry.dtype} has no element format"
            continue
        if entry.start == entry.end:
            skipped[prefix + entry.name] = f"empty (shape {list(entry.shape)})"
            continue
        fmt, shape = storage_of(entry, header.metadata, siblings)
        place = place_of(entry.name)
        tensors.append(
            TensorRef(
                uri=uri,
                revision=revision,
                name=prefix + entry.name,
                stored_format=fmt,
                shape=shape,
                location=locate(entry.start, entry.end),
                group=place.group,
                layer=place.layer,
                kind=place.kind,
                notes=said,
            )
        )
    if is_snapshot(header):
        tensors, tables = viewed(tensors, header.metadata, view, uri)
        skipped |= tables
    return tensors, skipped


def shards_of(names: Iterable[str], what: str) -> tuple[list[str], bool]:
    """The safetensors files of a folder without an index, in order, and whether their tensors need the file's name.

    Files named ``x-00001-of-00003.safetensors`` are shards and must be complete; other files stand on their own, and
    where there are several (snapshots of several prompts) a tensor is called ``file/name``.
    """
    files = sorted(name for name in names if name.endswith(".safetensors") and not name.startswith("."))
    shards = [found for name in files if (found := _SHARD.match(name))]
    if len(shards) == len(files) and shards:
        have = {(s["stem"], int(s["i"])) for s in shards}
        for shard in shards:
            for i in range(1, int(shard["n"]) + 1):
                if (shard["stem"], i) not in have:
                    raise SourceError(
                        f"{what}: shard {i} of {int(shard['n'])} of {shown(shard['stem'])} is missing; fetch it"
                    )
        return files, len({s["stem"] for s in shards}) > 1
    return files, len(files) > 1


def parse_index(raw: bytes, what: str) -> dict[str, str]:
    """Tensor name → shard of an index file; shard names are bare file names ending in ``.safetensors``."""
    try:
        document = strict_json(raw)
    except StrictJsonError as error:
        raise SourceError(f"{what}: {error}; fetch or write the index again") from None
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise SourceError(f"{what} has no weight_map from tensor names to shard files; write the index again")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not shard.endswith(".safetensors") or "/" in shard:
            raise SourceError(
                f"{what}: {shown(name)} is mapped to {shown(str(shard))}; a shard is a bare .safetensors name"
            )
        if "\\" in shard or not shard.isprintable() or shard.startswith("."):
            raise SourceError(f"{what}: shard {shown(shard)} is not a plain file name; rename it")
    return weight_map


def check_index(weight_map: dict[str, str], owner: dict[str, str], what: str) -> None:
    """Raise `SourceError` unless index and shards name the same tensors in the same places."""
    for name, shard in weight_map.items():
        if owner.get(name) != shard:
            raise SourceError(f"{what} puts {shown(name)} in {shard}, where it is not; write the index again")
    extra = sorted(set(owner) - set(weight_map))
    if extra:
        raise SourceError(f"{what} does not name {shown(extra[0])}, which {owner[extra[0]]} holds; write it again")


def open_folder(uri: str, folder: Path) -> SafetensorsSource:
    """A folder of shards (with or without an index) or of separate files."""
    index = folder / INDEX_NAME
    if index.exists():
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise SourceError(f"{index} is over {MAX_INDEX_BYTES} B; it is not a shard index")
        weight_map = parse_index(index.read_bytes(), str(index))
        names = sorted(set(weight_map.values()))
        for name in names:
            if not (folder / name).is_file():
                raise SourceError(f"{folder}: shard {name}, which the index names, is missing; fetch it")
        source = SafetensorsSource(uri, [folder / name for name in names])
        check_index(weight_map, source.owner, str(index))
        return source
    present = [path.name for path in folder.iterdir()]
    names, qualified = shards_of(present, str(folder))
    if not names:
        other = next((n for n in sorted(present) if n.endswith((".bin", ".pt", ".pth", ".ckpt"))), None)
        if other:
            kind_of(folder / other)
        raise SourceError(f"{folder} holds no .safetensors file; give a file or a folder of safetensors shards")
    return SafetensorsSource(uri, [folder / name for name in names], qualified=qualified)


class SafetensorsSource(Source):
    """One file, or the shards of a folder."""

    def __init__(self, uri: str, paths: Iterable[Path], *, qualified: bool = False, view: str = "tokens") -> None:
        self.uri = uri
        self._tensors: list[TensorRef] = []
        self._skipped: dict[str, str] = {}
        self._files: list[dict[str, object]] = []
        self._metadata: dict[str, str] = {}
        owner: dict[str, Path] = {}
        shas: list[str] = []
        for path in paths:
            kind = kind_of(path)
            if kind != "safetensors":
                raise SourceError(f"{path} is called .safetensors but is a {kind} file; rename it and give it alone")
            header = read_header(path)
            if is_snapshot(header):
                check_snapshot(header, str(path))
            prefix = f"{path.stem}/" if qualified else ""
            for entry in header.entries:
                name = prefix + entry.name
                if name in owner:
                    raise SourceError(
                        f"tensor {shown(name)} is in {owner[name].name} and in {path.name}; keep one of them"
                    )
                owner[name] = path
            stat = path.stat()
            if stat.st_size != header.file_bytes:
                raise SourceError(f"{path} changed while its header was being read; keep the file still")
            revision = f"sha256:{header.sha256}"

            def locate(start: int, end: int, path: Path = path, stat: os.stat_result = stat) -> FileBytes:
                return FileBytes(str(path.absolute()), start, end, stat.st_size, stat.st_mtime_ns)

            tensors, skipped = refs_of(header, uri=uri, revision=revision, locate=locate, prefix=prefix, view=view)
            self._tensors += tensors
            self._skipped |= skipped
            self._metadata |= header.metadata
            shas.append(revision)
            self._files.append({"file": path.name, "size_bytes": header.file_bytes, "header_sha256": header.sha256})
        digest = hashlib.sha256("\n".join(shas).encode()).hexdigest()
        self.revision = shas[0] if len(shas) == 1 else f"sha256:{digest}"
        self.owner = {name: path.name for name, path in owner.items()}

    def at_revision(self, revision: str) -> SafetensorsSource:
        """The same source known to be of a commit (a hub snapshot on disk)."""
        self.revision = revision
        self._tensors = [replace(tensor, revision=revision) for tensor in self._tensors]
        return self

    def tensors(self) -> list[TensorRef]:
        return list(self._tensors)

    def skipped(self) -> dict[str, str]:
        return dict(self._skipped)

    def provenance(self) -> dict[str, object]:
        return {
            "uri": self.uri,
            "kind": "safetensors",
            "revision": self.revision,
            "files": self._files,
            "metadata": self._metadata,
        }
