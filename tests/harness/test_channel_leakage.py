"""``linepress channel --leakage`` and ``--capacity``'s contract, as rows."""

from __future__ import annotations

from dataclasses import replace

from linepress.stages.channel.case import ChannelCase
from linepress.stages.channel.extras import contract_rows, leakage_row

SIZES = tuple(int(300 <= b < 400) * 100 for b in range(401))
CASE = ChannelCase("hbm3", "stream", "random", "huffman", "weights", SIZES, n_requests=1000)


def test_leakage_by_packing() -> None:
    stream = leakage_row(CASE)
    assert 6 < stream["coded_bits"] < 7
    assert 3 < stream["stored_bits"] < 4  # bytes of 300 … 399 bits
    off = leakage_row(replace(CASE, packing="off"))
    assert off["stored_bits"] == off["atoms_bits"] == 0.0
    assert off["time_bits"] < 0.005 < stream["time_bits"] < stream["stored_bits"]
    one = leakage_row(replace(CASE, packing="classes:set=auto", mode="inline"))
    assert 0 <= one["atoms_bits"] <= one["stored_bits"] < stream["stored_bits"]
    assert stream["padded_to_0_bit"].startswith("slot 50 B: 0.000 bit")


def test_contract_has_one_row_an_attack_and_threshold() -> None:
    rows = contract_rows(CASE)
    assert [(r["attack"], r["threshold_ratio"]) for r in rows] == [
        (a, t) for t in (0.9, 0.97) for a in ("sparse", "grow", "fresh")
    ]
    for row in rows:
        if not row.get("note"):
            assert row["accepted_bytes"] == row["closed_form_bytes"]
