"""How a column is declared: Arrow type, one sentence and a unit, kept in the field's metadata."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

STRING = pa.string()
BOOL = pa.bool_()
I32 = pa.int32()
I64 = pa.int64()
F64 = pa.float64()


_UNITS = {
    "_bits": "bit",
    "_bytes": "B",
    "_ns": "ns",
    "_us": "us",
    "_s": "s",
    "_GBps": "GB/s",
    "_pct": "%",
    "_pJ": "pJ",
    "_J": "J",
    "_W": "W",
    "_usd": "USD",
    "_tokens": "tokens",
    "_tokens_per_s": "1/s",
    "_pJ_per_useful_byte": "pJ/B",
}
_DECLARED = {
    "string": STRING,
    "bool": BOOL,
    "int32": I32,
    "int64": I64,
    "double": F64,
    "list<double>": pa.list_(F64),
    "list<int64>": pa.list_(I64),
    "list<string>": pa.list_(STRING),
    "map<string,double>": pa.map_(STRING, F64),
}


def unit_of(name: str) -> str:
    """Unit that the end of a column's name states; empty for bare numbers."""
    ends = [end for end in _UNITS if f"_{name}".endswith(end)]
    return _UNITS[max(ends, key=len)] if ends else ""


def declared(name: str, kind: str, doc: str) -> pa.Field:
    """A column that a stage declares by the name of its Arrow type."""
    return column(name, _DECLARED[kind], doc, unit_of(name))


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
