"""Ratios by layer and KV head, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from linepress.records.frame import Frame
from linepress.records.summary import classes, summaries
from linepress.report.model import Plot
from linepress.report.sections.heads import by_head, head_ratios
from linepress.tables.model import Note, Table

KEYS = {0: [[1024, 2048]], 1: [[512, 1024], [512, 3072]]}


def rows(head_bits: bool) -> pa.Table:
    made = []
    for kind in ("key", "value"):
        for layer, tensors in KEYS.items():
            for bits in tensors:
                made.append(
                    {
                        "status": "ok",
                        "kind": kind,
                        "format": "bf16",
                        "cast": "",
                        "origin": "",
                        "variant": "huffman",
                        "codec": "huffman",
                        "codec_kind": "line",
                        "layer": layer,
                        "raw_bytes": 512,
                        "elements": 256,
                        "payload_bits": sum(bits),
                        "packed_bytes": sum(bits) // 8,
                        "payload_ratio": 4096 / sum(bits),
                        "lossless": True,
                        **({"head_bits": bits if kind == "key" else None} if head_bits else {}),
                    }
                )
    return pa.Table.from_pylist(made)


def frame(table: pa.Table) -> Frame:
    found = Frame.from_arrow(table)
    return Frame({**found.columns, "position": np.arange(found.n, dtype=np.float64)}, found.n)


def test_a_heads_raw_bits_are_its_share_and_tensors_of_a_layer_are_pooled() -> None:
    table = rows(head_bits=True)
    keys = frame(table).equal(kind="key")
    # Each head of a tensor has 2048 raw bits; layer 1 has two tensors.
    assert head_ratios(keys, [0, 1], table) == pytest.approx(np.array([[2, 1], [4096 / 1024, 4096 / 4096]]))


def test_map_and_table_show_what_was_told_and_nothing_else() -> None:
    table = rows(head_bits=True)
    ((data, own),) = classes(frame(table))
    figure, shown = by_head(0, data, own, summaries(own), table)
    assert isinstance(figure, Plot)
    assert isinstance(shown, Table)
    assert figure.alt == "keys: 1.000 to 4.000"
    assert [group.title for group in shown.groups] == ["keys"]  # values have no heads in this record
    assert [[c.sort for c in row.cells[:3]] for row in shown.groups[0].rows] == [[0, 2, 1], [1, 4, 1]]


@pytest.mark.parametrize("head_bits", [False, None])
def test_a_record_without_heads_says_so_in_one_line(head_bits: bool | None) -> None:
    table = rows(head_bits=False)
    if head_bits is None:
        table = table.append_column("head_bits", pa.nulls(table.num_rows, pa.list_(pa.int64())))
    ((data, own),) = classes(frame(table))
    (note,) = by_head(0, data, own, summaries(own), table)
    assert isinstance(note, Note)
    assert "no ratio by head" in note.text
