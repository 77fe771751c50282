"""The table ``measure`` by column, as claims and reports read it: casts, origins and entropy bounds spelled out."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from linepress.records.frame import Frame
from linepress.sources.groups import KINDS

NO_CAST = ("", "none")
DEQUANTISED = "dequantised"
_DEQUANTISED = re.compile(r"dequanti[sz]ed", re.IGNORECASE)


def measure_frame(table: Any, manifest: Mapping[str, Any]) -> Frame:
    """The table ``measure`` by column, with what aggregates need besides.

    ``cast`` is empty for data as stored. ``origin`` says ``dequantised`` for weights whose source or cast calls them
    so: they overstate how far trained weights compress, and are never pooled with those. ``position`` is the row in
    ``table``.
    Every entropy bound has a column ``bound:<class>`` with its ratio (NaN where the class was not computed).
    """
    frame = Frame.from_arrow(table)
    columns = dict(frame.columns)
    if "cast" in columns:
        columns["cast"] = np.array(["" if c in NO_CAST else c for c in columns["cast"]], dtype=object)
    marked = dequantised_sources(manifest)
    told = zip(frame.text("kind"), frame.text("source"), frame.text("cast"), strict=True)
    columns["origin"] = np.array([origin_of(kind, source, cast, marked) for kind, source, cast in told], dtype=object)
    columns["position"] = np.arange(frame.n, dtype=np.float64)
    if "bounds" in table.column_names and frame.n:
        columns |= _bound_columns(table.column("bounds"))
    return Frame(columns, frame.n)


def origin_of(kind: str, source: str, cast: str, marked: Collection[str]) -> str:
    """``dequantised`` for weights of a source in ``marked`` or unpacked by a cast, else empty."""
    return DEQUANTISED if kind == "weight" and (source in marked or cast.startswith("dequant:")) else ""


def dequantised_sources(manifest: Mapping[str, Any]) -> set[str]:
    """URIs of sources that call themselves dequantised, in their label or in their own metadata."""
    marked = set()
    for source in manifest.get("sources") or []:
        if not isinstance(source, dict):
            continue
        said = [source.get("label"), *(source.get("metadata") or {}).values()]
        if any(_DEQUANTISED.search(text) for text in said if isinstance(text, str)):
            marked.add(str(source.get("uri")))
    return marked


def _bound_columns(column: Any) -> dict[str, Any]:
    import pyarrow.compute as pc

    owner = pc.list_parent_indices(column).to_numpy(zero_copy_only=False)
    flat = pc.list_flatten(column)
    names = np.array(pc.struct_field(flat, "name").to_pylist(), dtype=object)
    ratios = pc.struct_field(flat, "ratio").to_numpy(zero_copy_only=False)
    columns = {}
    for name in dict.fromkeys(names):
        own = names == name
        values = np.full(len(column), np.nan)
        values[owner[own]] = ratios[own]
        columns[f"bound:{name}"] = values
    return columns


DATA_OF_KIND = KINDS | dict.fromkeys(("key", "value"), "kv")


def data_of(kind: str, source: str, cast: str, marked: Collection[str]) -> str:
    """``weights``, ``dequantised weights``, ``kv`` or the plural of another kind; ``marked`` are the sources that
    call themselves dequantised (`linepress.records.measured.dequantised_sources`)."""
    return f"{origin_of(kind, source, cast, marked)} {DATA_OF_KIND.get(kind, 'weights')}".strip()
