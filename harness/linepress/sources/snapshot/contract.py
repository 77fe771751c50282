"""Page contracts: how serving engines lay a KV cache in memory, read from one data file an engine and version range.

A file of ``engines/`` holds layouts. A layout names the axes of its tensors in memory order, outermost first:
``L`` layers, ``B`` blocks (pages), ``S`` sequences, ``N`` slots of a block, ``T`` tokens of a sequence, ``H`` KV
heads, ``2`` keys then values, ``D`` head width; ``D/x … x`` is an axis cut in runs of x = 16 B of elements. A row of
``D`` may be bytes: blocks of values, a record, values with their scales behind; ``parts`` says that a page holds the
first part of every row, then the second. A page without ``N`` holds the state of a sequence. ``kv`` tensors hold keys
and values, ``key`` and ``value`` tensors one of them. A snapshot names its layout by
``arrangement``: ``vllm-0.26`` (the file's default) or ``vllm-0.26:hnd``.
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from linepress.errors import SourceError

Bits = NDArray[np.unsignedinteger]
RUN_BYTES = 16
NAMES = {
    "L": "layers", "2": "sides", "B": "blocks", "S": "sequences", "H": "kv_heads", "N": "block_tokens", "T": "tokens",
    "D": "head_dim",
}  # fmt: skip
PLAIN = "snapshot"
"""File whose layouts go by their own names: those of the snapshot format."""
CANONICAL = (("L",), ("2",), ("B", "S"), ("H",), ("N", "T"), ("D",))
"""Axes of an unfolded tensor: layers, sides, pages, heads, slots, width."""
KEYS = {
    "what", "source", "block_tokens", "page", "elements", "block_values", "block_bytes", "record_bytes",
    "scale_bytes", "parts",
}  # fmt: skip
KINDS = ("kv", "key", "value")


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout of an engine's cache.

    Attributes
    ----------
    name, engine, versions, what, source : str
    axes : mapping
        Axes in memory order of each kind of tensor (``kv``, ``key``, ``value``).
    block_tokens : int | None
        The engine's own slots of a page; None where a sequence is one page.
    whole_pages : bool
        Whether a page holds a block of every layer, or of one.
    elements : str
        ``fp16``, ``q8_0``, ``q4_0`` where the engine stores that whatever the model has; else empty.
    block_values, block_bytes : int
        Values along ``D`` that are stored together, and their bytes; 1 and 0 where each value stands alone.
    record_bytes : int
        Bytes of a row that is a record of mixed types; 0 where it is not.
    scale_bytes : int
        Bytes of scales behind the one-byte values of each row; 0 where there are none.
    parts : tuple of int
        Shares of a row whose bytes lie apart: in a page (of a side) the first part of every row, then the next.
    state : bool
        Whether a page is a state of a sequence: a row of bytes, without slots of tokens.
    """

    name: str
    engine: str
    versions: str
    what: str
    source: str
    axes: Mapping[str, tuple[str, ...]]
    block_tokens: int | None
    whole_pages: bool
    elements: str
    block_values: int
    block_bytes: int
    record_bytes: int
    scale_bytes: int
    parts: tuple[int, ...]
    state: bool

    @property
    def paged(self) -> bool:
        """Whether pages are found by a block table."""
        return any("B" in axes for axes in self.axes.values())

    @property
    def padded(self) -> bool:
        """Whether each sequence is a page of its own, filled in part."""
        return any("S" in axes for axes in self.axes.values())

    @property
    def joined(self) -> bool:
        """Whether keys and values share tensors."""
        return "kv" in self.axes

    @property
    def all_layers(self) -> bool:
        """Whether one tensor holds every layer."""
        return any("L" in axes for axes in self.axes.values())

    @property
    def packed(self) -> bool:
        """Whether bytes hold several values or types, so that elements have no format of their own."""
        return bool(self.block_bytes or self.record_bytes or self.scale_bytes or self.state)

    @property
    def takes_any(self) -> bool:
        """Whether caches of any element type lie in it as they are."""
        return not (self.packed or self.elements)

    def shape_text(self, kind: str) -> str:
        """``[blocks, block_tokens, …]`` as errors and docs show it."""
        said = [NAMES.get(axis, axis).replace("sides", "2") for axis in self.axes[kind]]
        return "[" + ", ".join(f"head_dim/{s[2:]}" if s == "D/x" else s for s in said) + "]"

    def sizes(self, shape: tuple[int, ...], kind: str, itemsize: int | None = None) -> dict[str, int] | None:
        """Named sizes of a tensor's shape, ``head_dim`` in values; None where the shape is not this layout's.

        With ``itemsize`` the runs of an axis that is cut must be of `RUN_BYTES`.
        """
        axes = self.axes.get(kind)
        if axes is None or len(shape) != len(axes):
            return None
        sizes: dict[str, int] = {}
        for axis, side in zip(axes, shape, strict=True):
            letter = next(a[0] for a in axes if a.endswith("/x")) if axis == "x" else axis[0]
            sizes[letter] = sizes.get(letter, 1) * side
            if axis == "x" and itemsize is not None and side * itemsize != RUN_BYTES:
                return None
        if sizes.get("2", 2) != 2 or (self.record_bytes and sizes["D"] != self.record_bytes):
            return None
        sizes["D"] -= self.scale_bytes
        if self.block_bytes:
            if sizes["D"] % self.block_bytes:
                return None
            sizes["D"] = sizes["D"] // self.block_bytes * self.block_values
        if sizes["D"] <= 0:
            return None
        return {NAMES[letter]: side for letter, side in sizes.items()}

    def unfold(self, array: Bits, kind: str) -> Bits:
        """``[layers, sides, pages, heads, slots, width]`` of a tensor, 1 where it has no such axis."""
        return unfold(array, self.axes[kind], self.parts)

    def fold(self, canonical: Bits, kind: str, item_bytes: int = 0) -> Bits:
        """Inverse of `unfold`: the tensor as the engine holds it, contiguous.

        ``item_bytes`` is the width of the elements where the array holds something else for each of them.
        Raises `SourceError` where an axis does not divide into runs of 16 B or has no place in the layout.
        """
        axes = self.axes[kind]
        split: list[int] = []
        order: list[str] = []
        x = RUN_BYTES // (item_bytes or canonical.dtype.itemsize)
        for letters, side in zip(CANONICAL, canonical.shape, strict=True):
            letter = next((a[0] for a in axes if a != "x" and a[0] in letters), None)
            if letter is None:
                if side != 1:
                    what = NAMES[letters[0]]
                    raise SourceError(f"{self.name} has no axis for {side} {what}; use a layout that has one")
                continue
            if f"{letter}/x" in axes:
                if side % x:
                    raise SourceError(
                        f"{NAMES[letter]} {side} is not a multiple of {x}, which {self.name} needs; "
                        "use a layout without runs of 16 B"
                    )
                split += [side // x, x]
                order += [f"{letter}/x", "x"]
            else:
                split.append(side)
                order.append(letter)
        tensor = np.ascontiguousarray(canonical.reshape(split).transpose([order.index(axis) for axis in axes]))
        if not self.parts:
            return tensor
        flat = tensor.reshape(-1, _rows_a_page(tensor, axes), tensor.shape[-1])
        cut = np.split(flat, _ends(self.parts, tensor.shape[-1]), axis=2)
        return np.concatenate([part.reshape(len(flat), -1) for part in cut], axis=1).reshape(tensor.shape)


def _rows_a_page(array: Bits, axes: tuple[str, ...]) -> int:
    """Rows of a page, or of a side of it: what lies inside its pages, sides and layers."""
    return math.prod(side for side, axis in zip(array.shape, axes, strict=True) if axis in "NH")


def _ends(parts: tuple[int, ...], width: int) -> list[int]:
    """Where each part of a row of ``width`` items ends, but for the last."""
    return [width * sum(parts[: i + 1]) // sum(parts) for i in range(len(parts) - 1)]


def unfold(array: Bits, axes: tuple[str, ...], parts: tuple[int, ...] = ()) -> Bits:
    """An array of these axes, in whole pages, as ``[layers, sides, pages, heads, slots, width]``."""
    if parts:
        rows, width = _rows_a_page(array, axes), array.shape[-1]
        cut = np.split(array.reshape(-1, rows * width), [rows * end for end in _ends(parts, width)], axis=1)
        whole = np.concatenate([part.reshape(len(part), rows, -1) for part in cut], axis=2)
        array = whole.reshape(array.shape)
    order: list[int] = []
    shape: list[int] = []
    for letters in CANONICAL:
        at = [i for i, axis in enumerate(axes) if axis != "x" and axis[0] in letters]
        if at and axes[at[0]].endswith("/x"):
            at.append(axes.index("x"))
        order += at
        shape.append(math.prod(array.shape[i] for i in at))
    return array.transpose(order).reshape(shape)


@functools.cache
def layouts() -> Mapping[str, Layout]:
    """Every layout of every engine by name; a file's default also goes by the file's name alone."""
    found: dict[str, Layout] = {}
    files = {f.name.removesuffix(".toml"): f for f in resources.files(__package__).joinpath("engines").iterdir()}
    for stem in sorted(files, key=lambda stem: (stem != PLAIN, stem)):
        found |= read_layouts(stem, files[stem].read_text("utf-8"))
    return found


def read_layouts(stem: str, text: str) -> dict[str, Layout]:
    """The layouts of one data file; raises `SourceError` for a key or axis that it cannot have."""
    data = tomllib.loads(text)
    known = {"engine", "versions", "source", "block_tokens", "default", "layouts"}
    if set(data) - known or not {"engine", "versions", "source", "layouts"} <= set(data):
        raise SourceError(f"contract {stem}: it must have engine, versions, source and layouts, and may have {known}")
    found: dict[str, Layout] = {}
    for short, said in data["layouts"].items():
        name = short if stem == PLAIN else stem if short == data.get("default") else f"{stem}:{short}"
        axes = {kind: tuple(said[kind].split()) for kind in KINDS if kind in said}
        state, parts = said.get("page") == "state", tuple(said.get("parts", ()))
        sound = axes and all(_sound(kind, a, state, bool(parts)) for kind, a in axes.items())
        if (
            set(said) - KEYS - set(KINDS)
            or not sound
            or (parts and sum(parts) not in (said.get("block_bytes"), said.get("record_bytes")))
        ):
            raise SourceError(f"contract {stem}: layout {short} has a key or axes that no layout has")
        found[name] = Layout(
            name=name,
            engine=data["engine"],
            versions=data["versions"],
            what=said.get("what", ""),
            source=said.get("source", data["source"]),
            axes=axes,
            block_tokens=1 if state else said.get("block_tokens", data.get("block_tokens")),
            whole_pages=said.get("page") == "model" or any(_layer_in_page(a) for a in axes.values()),
            elements=said.get("elements", ""),
            block_values=said.get("block_values", 1),
            block_bytes=said.get("block_bytes", 0),
            record_bytes=said.get("record_bytes", 0),
            scale_bytes=said.get("scale_bytes", 0),
            parts=parts,
            state=state,
        )
    return found


def _layer_in_page(axes: tuple[str, ...]) -> bool:
    """Whether the axis of layers lies inside the pages."""
    return "L" in axes and any(axis in axes[: axes.index("L")] for axis in "BS")


def _sound(kind: str, axes: tuple[str, ...], state: bool, parts: bool) -> bool:
    """Whether axes are of the grammar, each once, with what every cache has; parts need whole rows inside a page."""
    whole = [axis for axis in axes if axis != "x"]
    letters = [axis[0] for axis in whole]
    cut = [axis for axis in whole if axis.endswith("/x")]
    rows = {"N", "H"} & set(letters)
    return (
        all(axis in NAMES or (axis[1:] == "/x" and axis[0] in "DN") for axis in whole)
        and len(set(letters)) == len(letters)
        and len(cut) == axes.count("x") <= 1
        and ("2" in letters) == (kind == "kv")
        and "D" in letters
        and sum(letter in "NT" for letter in letters) == (0 if state else 1)
        and sum(letter in "BS" for letter in letters) <= 1
        and (not state or "B" in letters)
        and (
            not parts
            or (not cut and letters[-1] == "D" and set(letters[-1 - len(rows) : -1]) == rows and "B" in letters)
        )
    )


def layout_named(name: str, what: str) -> Layout:
    """The layout of this name; raises `SourceError` naming the known ones."""
    try:
        return layouts()[name]
    except KeyError:
        from linepress.sources.text import shown

        raise SourceError(f"{what} {shown(name)} is not one of {', '.join(layouts())}") from None
