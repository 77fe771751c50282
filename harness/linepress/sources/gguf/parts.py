"""Split GGUF models (llama.cpp's ``gguf-split``): all parts of one, from any of them or from their folder."""

from __future__ import annotations

import re
from pathlib import Path

from linepress.errors import SourceError
from linepress.sources.gguf.header import GgufHeader, read_gguf_header
from linepress.sources.gguf.reader import GgufSource
from linepress.sources.text import shown

_PART = re.compile(r"^(?P<stem>.+)-(?P<i>\d{5,})-of-(?P<n>\d{5,})\.gguf$", re.IGNORECASE)
MAX_PARTS = 10_000


def open_gguf(uri: str, path: Path, split: bool = False) -> GgufSource:
    """One file, joined with the other parts of its model where it is one of several.

    Raises `SourceError` naming the parts that are missing, or where parts contradict each other.
    """
    found = _PART.match(path.name)
    header = read_gguf_header(path)
    count = header.number("split.count") or 1
    if count == 1 and found is None:
        return GgufSource(uri, [path], split)
    if found is None:
        number = header.number("split.no")
        which = "one" if number is None else f"part {number + 1}"
        raise SourceError(
            f"{path} is {which} of the {count} parts of a split model, and its name does not say which: call the "
            f"parts NAME-00001-of-{count:05d}.gguf and so on, in one folder"
        )
    paths = parts_of(path.parent, [other.name for other in path.parent.iterdir()], found["stem"], found["n"])
    source = GgufSource(uri, paths, split)
    _check(source.headers, paths)
    return source


def open_gguf_folder(uri: str, folder: Path, split: bool = False) -> GgufSource:
    """Every model of a folder: sets of parts joined, single files by themselves."""
    names = sorted(
        entry.name for entry in folder.iterdir() if entry.suffix.lower() == ".gguf" and entry.name[0] != "."
    )
    sets: dict[tuple[str, str], list[Path]] = {}
    for name in names:
        found = _PART.match(name)
        key = (found["stem"], found["n"]) if found else (name.rpartition(".")[0], "")
        if key not in sets:
            sets[key] = parts_of(folder, names, *key) if found else [folder / name]
    several = len(sets) > 1
    prefixes = [f"{stem}/" if several else "" for (stem, _), paths in sets.items() for _ in paths]
    source = GgufSource(uri, [path for paths in sets.values() for path in paths], split, prefixes)
    headers = iter(source.headers)
    for (_, n), paths in sets.items():
        own = [next(headers) for _ in paths]
        if n:
            _check(own, paths)
        elif (own[0].number("split.count") or 1) > 1:
            open_gguf(uri, paths[0], split)  # says what its name lacks
    return source


def parts_of(folder: Path, names: list[str], stem: str, n: str) -> list[Path]:
    """The files ``stem-i-of-n`` of a folder in order; raises `SourceError` naming the missing ones."""
    total = int(n)
    if not 1 <= total <= MAX_PARTS:
        raise SourceError(f"{folder}: {shown(stem)} claims {total} parts; a split model has 1 to {MAX_PARTS}")
    have = {
        int(found["i"]): name
        for name in names
        if (found := _PART.match(name)) and (found["stem"], found["n"]) == (stem, n)
    }
    missing = [i for i in range(1, total + 1) if i not in have]
    if missing:
        shown_ones = ", ".join(f"{stem}-{i:0{len(n)}d}-of-{n}.gguf" for i in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise SourceError(
            f"{folder}: {len(missing)} of the {total} parts of {shown(stem)} are missing ({shown_ones}{more}); "
            f"fetch them"
        )
    return [folder / have[i] for i in range(1, total + 1)]


def _check(headers: list[GgufHeader], paths: list[Path]) -> None:
    """Parts say of themselves what their names say, and hold as many tensors as the model has."""
    for i, (header, path) in enumerate(zip(headers, paths, strict=True)):
        number, count = header.number("split.no"), header.number("split.count")
        if count is not None and (count or 1) != len(paths):
            raise SourceError(f"{path} says that its model has {count} parts, its name says {len(paths)}; rename it")
        if number is not None and number != i:
            raise SourceError(f"{path} says that it is part {number + 1}, its name says {i + 1}; rename it")
    total = headers[0].number("split.tensors.count")
    held = sum(len(header.tensors) for header in headers)
    if total is not None and total != held:
        raise SourceError(f"{paths[0]}: the model has {total} tensors, its parts hold {held}; fetch them again")
