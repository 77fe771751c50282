"""Which rows of two runs are the same case, and which of them may be compared.

Rows pair by what names them (`linepress.compare.data.Side.identity`), not by case key: a key changes with a codec's
format version or the data, and exactly that has to be said, field by field.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from linepress.compare.data import Side

Rows = NDArray[np.int64]

FIELDS: tuple[tuple[str, str], ...] = (
    ("content_sha256", "data"),
    ("format_version", "codec version"),
    ("options", "codec options"),
    ("layout", "layout"),
    ("line_bytes", "line size, B"),
    ("block_bytes", "block size, B"),
    ("format", "element format"),
    ("elements", "elements"),
    ("sampled", "sampling"),
)
"""Columns that must be equal for a pair to be compared, with their words; the first that differs is named."""


@dataclass(frozen=True, slots=True)
class Incomparable:
    """Cases of one variant that differ in one field: ``field base -> new``, over ``cases`` pairs."""

    variant: str
    field: str
    base: str
    new: str
    cases: int


@dataclass(frozen=True)
class Pairs:
    """Rows ``base[i]`` and ``new[i]`` are the same case; ``why[i]`` says why they cannot be compared, else empty."""

    base_side: Side
    new_side: Side
    base: Rows
    new: Rows
    why: NDArray[Any]
    only_base: Rows
    only_new: Rows

    @cached_property
    def both_ok(self) -> NDArray[np.bool_]:
        """Pairs that have results on both sides."""
        ok_base, ok_new = (side.text("status") == "ok" for side in (self.base_side, self.new_side))
        return np.asarray(ok_base[self.base] & ok_new[self.new], dtype=bool)

    @cached_property
    def comparable(self) -> NDArray[np.bool_]:
        """Pairs whose figures may be set side by side."""
        return np.asarray(self.both_ok & (self.why == ""), dtype=bool)

    def incomparable(self) -> list[Incomparable]:
        """What cannot be compared, grouped, the largest group of a variant first."""
        tally: Counter[tuple[str, str, str, str]] = Counter()
        chosen = np.flatnonzero(self.both_ok & (self.why != ""))
        variants = self.new_side.text("variant")
        for i in chosen:
            name = self.why[i]
            column = next(column for column, words in FIELDS if words == name)
            before, after = (
                _short(side.table[column][int(row)].as_py())
                for side, row in ((self.base_side, self.base[i]), (self.new_side, self.new[i]))
            )
            if column == "content_sha256":
                before, after = _revisions(self, int(i))
            tally[str(variants[self.new[i]]), str(name), before, after] += 1
        return [Incomparable(*key, cases) for key, cases in tally.most_common()]


def pair(base: Side, new: Side) -> Pairs:
    """Match the rows of two runs."""
    found = pc.index_in(new.identity, value_set=base.identity)
    matched = pc.is_valid(found).to_numpy(zero_copy_only=False)
    at_new = np.flatnonzero(matched)
    at_base = found.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
    unmatched = np.ones(len(base), dtype=bool)
    unmatched[at_base] = False
    return Pairs(
        base,
        new,
        at_base,
        at_new,
        _why(base, new, at_base, at_new),
        np.flatnonzero(unmatched),
        np.flatnonzero(~matched),
    )


def _why(base: Side, new: Side, at_base: Rows, at_new: Rows) -> NDArray[Any]:
    """For each pair the words of the first field that differs; empty where none does."""
    why = np.full(len(at_base), "", dtype=object)
    a, b = base.table.take(at_base), new.table.take(at_new)
    for column, words in reversed(FIELDS):
        why[_differ(a[column], b[column])] = words
    # The seed matters only where a sample was drawn with it.
    drawn = pc.fill_null(a["sampled"], False).to_numpy() & _differ(a["seed"], b["seed"]) & (why == "")
    why[drawn] = "sampling"
    return why


def _differ(a: Any, b: Any) -> NDArray[np.bool_]:
    """Where two columns differ; a null differs from any value, except that failed rows have nulls everywhere."""
    unequal = pc.fill_null(pc.not_equal(a, b), False)
    one_null = pc.xor(pc.is_null(a), pc.is_null(b))
    result: NDArray[np.bool_] = pc.or_(unequal, one_null).to_numpy(zero_copy_only=False)
    return result


def _revisions(pairs: Pairs, i: int) -> tuple[str, str]:
    """Revisions of the source of pair ``i``; content hashes where the revisions do not tell them apart."""
    rows = (pairs.base_side.table, int(pairs.base[i])), (pairs.new_side.table, int(pairs.new[i]))
    before, after = (str(table["revision"][row].as_py() or "") for table, row in rows)
    if before == after:
        before, after = (str(table["content_sha256"][row].as_py() or "") for table, row in rows)
    return _short(before), _short(after)


def _short(value: Any) -> str:
    text = "unknown" if value in (None, "") else str(value)
    hexadecimal = text.removeprefix("sha256:")
    if len(hexadecimal) >= 40 and all(c in "0123456789abcdef" for c in hexadecimal):
        return hexadecimal[:10]
    return text


def by_variant(side: Side, rows: Rows) -> dict[str, NDArray[np.int64]]:
    """Variant -> positions within ``rows``, in order of first appearance."""
    encoded = side.table["variant"].combine_chunks().take(rows).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(encoded.dictionary) + 1))
    return {str(name): order[edges[k] : edges[k + 1]] for k, name in enumerate(encoded.dictionary.to_pylist())}


def case_name(side: Side, row: int) -> str:
    """A case in words: variant, tensor and cast."""
    words = [side.table[name][int(row)].as_py() for name in ("variant", "tensor", "cast")]
    return "  ".join(str(word) for word in words if word not in (None, "", "none"))
