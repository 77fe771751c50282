"""How a column is declared: Arrow type, one sentence and a unit, kept in the field's metadata."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

STRING = pa.string()
BOOL = pa.bool_()
I32 = pa.int32()
I64 = pa.int64()
F64 = pa.float64()


def column(name: str, kind: pa.DataType, doc: str, unit: str = "") -> pa.Field:
    """A nullable field with its sentence (``doc``) and ``unit`` as metadata."""
    metadata = {"doc": doc}
    if unit:
        metadata["unit"] = unit
    return pa.field(name, kind, nullable=True, metadata=metadata)


def text(name: str, doc: str) -> pa.Field:
    """A string column."""
    return column(name, STRING, doc)


def flag(name: str, doc: str) -> pa.Field:
    """A boolean column."""
    return column(name, BOOL, doc)


def count(name: str, doc: str, unit: str = "") -> pa.Field:
    """An int64 column."""
    return column(name, I64, doc, unit)


def real(name: str, doc: str, unit: str = "") -> pa.Field:
    """A float64 column."""
    return column(name, F64, doc, unit)


def samples(name: str, doc: str, unit: str) -> pa.Field:
    """A list of float64: raw samples, one a round."""
    return column(name, pa.list_(F64), doc, unit)


def structs(name: str, members: Iterable[tuple[str, pa.DataType]], doc: str) -> pa.Field:
    """A list of structs."""
    return column(name, pa.list_(pa.struct(list(members))), doc)
