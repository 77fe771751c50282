"""Protocol rules, each with a burst that keeps it and one that breaks it; bursts cut into lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linepress_hardware.channel.axi import PROBLEMS, AxiProtocolError, Burst, Op, Transactions, check, split
from linepress_hardware.channel.config import default_config
from linepress_hardware.errors import ConfigurationError

CONFIG = default_config()


def one(config: Any = CONFIG, **row: Any) -> Transactions:
    return Transactions.of([row], config)


LEGAL = [
    {"address": 4096 - 64},
    {"address": 0, "beats": 64},
    {"address": 32, "beats": 1, "beat_bytes": 32},
    {"address": 0, "beats": 16, "burst": Burst.FIXED},
    {"address": 128, "beats": 4, "burst": Burst.WRAP},
    {"address": 13, "beats": 1},  # unaligned INCR: its first beat is partial
    {"op": Op.ATOMIC_LOAD, "address": 8, "beats": 1, "beat_bytes": 8},
    {"op": Op.ATOMIC_COMPARE, "address": 32, "beats": 1, "beat_bytes": 32},
    {"op": Op.WRITE_ZERO, "address": 64, "beats": 2},
    {"id": 15},
]
ILLEGAL = [
    ({"address": 4096 - 64, "beats": 2}, "crosses a 4 KiB"),
    ({"address": 0, "beats": 65}, "crosses a 4 KiB"),
    ({"address": 0, "beat_bytes": 48, "beats": 1}, "power of two"),
    ({"address": 0, "beat_bytes": 128, "beats": 1}, "power of two"),
    ({"address": 0, "beats": 257, "beat_bytes": 1}, "number of beats"),
    ({"address": 0, "beats": 0}, "number of beats"),
    ({"address": 0, "beats": 17, "burst": Burst.FIXED}, "number of beats"),
    ({"address": 0, "beats": 3, "burst": Burst.WRAP}, "number of beats"),
    ({"address": 8, "beats": 4, "burst": Burst.WRAP}, "not aligned"),
    ({"op": Op.ATOMIC_LOAD, "address": 4, "beats": 1, "beat_bytes": 8}, "atomic of a size"),
    ({"op": Op.ATOMIC_SWAP, "address": 0, "beats": 1, "beat_bytes": 16}, "atomic of a size"),
    ({"op": Op.ATOMIC_COMPARE, "address": 0, "beats": 1, "beat_bytes": 1}, "atomic of a size"),
    ({"op": Op.WRITE_ZERO, "address": 32, "beats": 1, "beat_bytes": 32}, "WriteZero"),
    ({"id": 16}, "ID outside"),
    ({"id": -1}, "ID outside"),
]


@pytest.mark.parametrize("row", LEGAL)
def test_legal(row: dict[str, Any]) -> None:
    assert check(one(**row), CONFIG, strict=True).tolist() == [0]


@pytest.mark.parametrize(("row", "says"), ILLEGAL)
def test_illegal(row: dict[str, Any], says: str) -> None:
    problem = check(one(**row), CONFIG)
    assert says in PROBLEMS[int(problem[0])]
    with pytest.raises(AxiProtocolError, match=says):
        check(one(**row), CONFIG, strict=True)


def test_a_256_bit_port_takes_narrower_beats() -> None:
    narrow = CONFIG.override({"axi_data_bits": 256})
    t = one(narrow, address=0)
    assert (int(t.beats[0]), int(t.beat_bytes[0])) == (2, 32)
    assert check(t, narrow).tolist() == [0]
    assert check(one(address=0, beat_bytes=64, beats=1), narrow).tolist() == [2]


@given(
    address=st.integers(0, 1 << 20),
    beats=st.integers(1, 256),
    size=st.sampled_from([1, 2, 4, 8, 16, 32, 64]),
    burst=st.sampled_from(list(Burst)),
)
def test_legal_bursts_stay_in_their_4_kib(address: int, beats: int, size: int, burst: Burst) -> None:
    t = one(address=address, beats=beats, beat_bytes=size, burst=burst)
    if check(t, CONFIG)[0]:
        return
    lines = split(t, np.ones(1, np.bool_), 64).line
    assert np.unique(lines // 64).size == 1
    assert np.unique(lines).size == lines.size


def lines(**row: Any) -> list[int]:
    return split(one(**row), np.ones(1, np.bool_), 64).line.tolist()


def test_bursts_become_lines() -> None:
    assert lines(address=64, beats=3) == [1, 2, 3]
    assert lines(address=96, beats=2, beat_bytes=32) == [1, 2]
    assert lines(address=96, beats=1, beat_bytes=32) == [1]
    assert lines(address=0, beats=16, burst=Burst.FIXED) == [0]
    assert lines(address=192, beats=4, burst=Burst.WRAP) == [3, 0, 1, 2]
    assert lines(address=64 * 5, beats=4, burst=Burst.WRAP) == [5, 6, 7, 4]


def test_beats_of_a_line() -> None:
    a = split(one(address=96, beats=4, beat_bytes=16), np.ones(1, np.bool_), 64)
    assert (a.line.tolist(), a.beats.tolist()) == ([1, 2], [2, 2])
    assert split(one(address=0, beats=16, burst=Burst.FIXED), np.ones(1, np.bool_), 64).beats.tolist() == [16]


def test_what_is_partial() -> None:
    def partial(**row: Any) -> list[bool]:
        return split(one(op=Op.WRITE, **row), np.ones(1, np.bool_), 64).partial.tolist()

    assert partial(address=0) == [False]
    assert partial(address=0, full_strobe=False) == [True]
    assert partial(address=32, beats=3, beat_bytes=32) == [True, False]
    assert partial(address=32, beats=2, beat_bytes=32) == [True, True]
    assert split(one(op=Op.READ, address=32, beats=1, beat_bytes=32), np.ones(1, np.bool_), 64).partial.tolist() == [
        False
    ]


def test_an_atomic_reads_and_writes_its_line() -> None:
    a = split(one(op=Op.ATOMIC_SWAP, address=72, beats=1, beat_bytes=8), np.ones(1, np.bool_), 64)
    assert a.line.tolist() == [1, 1]
    assert a.is_write.tolist() == [False, True]
    assert a.partial.tolist() == [False, False]


def test_illegal_ones_touch_nothing() -> None:
    t = Transactions.of([{"address": 0}, {"address": 64}], CONFIG)
    a = split(t, np.array([False, True]), 64)
    assert (a.owner.tolist(), a.line.tolist()) == ([1], [1])


def test_streams_that_are_not_streams() -> None:
    with pytest.raises(ConfigurationError, match="no field 'adress'"):
        one(adress=3)
    with pytest.raises(ConfigurationError, match="order of their arrival"):
        Transactions.of([{"arrival_ns": 5.0}, {"arrival_ns": 1.0}], CONFIG)
