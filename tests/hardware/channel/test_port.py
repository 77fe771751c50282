"""What the master sees: responses, poison, order, times; and what the error log keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from linepress_hardware.channel.axi import Op, Parity, Transactions
from linepress_hardware.channel.compaction import CompressedStore
from linepress_hardware.channel.config import ChannelConfig, default_config
from linepress_hardware.channel.memory import Memory
from linepress_hardware.channel.port import AxiPort, BadMemory
from linepress_hardware.channel.ras import ADDR, RasPolicy, Response, Severity
from linepress_hardware.channel.translation import StaticLayout, plain_layout
from linepress_hardware.errors import ConfigurationError

CONFIG = default_config()
MEMORY = Memory.load("hbm3")
LINES = 1 << 14
DETECTED, CORRECTED, MISCORRECTED = 1, 0, 2


def packed() -> StaticLayout:
    length = np.full(64, 43, np.int32)
    start = np.arange(64, dtype=np.int64) * 43
    return StaticLayout(start, length, 64 * 43, LINES, 50.0)


def store(
    pages: int = 16, size: int = 32, capacity: int | None = None, config: ChannelConfig = CONFIG
) -> CompressedStore:
    length = np.full(pages * 64, size, np.int32)
    return CompressedStore(length, (0, 32, 48, 64), capacity or pages * 4096, config, 32)


def port(backing: Any = None, config: ChannelConfig = CONFIG, **more: Any) -> AxiPort:
    return AxiPort(MEMORY, plain_layout(LINES) if backing is None else backing, config, **more)


def rows(*items: dict[str, Any], config: ChannelConfig = CONFIG) -> Transactions:
    return Transactions.of(list(items), config)


def damage(address: int, outcome: int = DETECTED, entries: tuple[int, ...] = ()) -> BadMemory:
    return BadMemory(
        np.array([address], np.int64), 8, np.array([outcome], np.int8), np.array([0x5A], np.uint32),
        np.array(entries, np.int64),
    )  # fmt: skip


@pytest.mark.parametrize("backing", [plain_layout(LINES), packed()])
def test_good_reads_are_okay_and_addresses_outside_decerr(backing: StaticLayout) -> None:
    p = port(backing)
    r = p.submit(rows({"address": 0}, {"address": LINES * 64 - 64}, {"address": LINES * 64, "id": 1}))
    assert r.resp.tolist() == [Response.OKAY, Response.OKAY, Response.DECERR]
    assert not r.poison.any()
    assert r.count(Response.OKAY) == 2
    assert not p.log.fault_interrupt
    assert (r.done_ns[:2] > 30).all()
    assert r.done_ns[2] < 10  # answered without the memory


def test_a_forbidden_burst_is_slverr_logged_and_touches_nothing() -> None:
    p = port()
    r = p.submit(rows({"address": 4096 - 64, "beats": 2}, {"address": 0}))
    assert r.resp.tolist() == [Response.SLVERR, Response.OKAY]
    assert r.run.memory.bus_bytes == 64
    assert p.log.read(ADDR) == (4096 - 64, Response.OKAY)


def test_lines_in_two_pieces_are_refused() -> None:
    two = replace(packed(), home_bytes=32, rest_bytes=packed().start_bytes)
    with pytest.raises(ConfigurationError, match="one piece"):
        port(two)


def test_writes_into_offline_memory_are_slverr() -> None:
    p = port(packed())
    r = p.submit(rows({"op": Op.WRITE, "address": 64}, {"address": 64}))
    assert r.resp.tolist() == [Response.SLVERR, Response.OKAY]
    assert p.log.by_severity[Severity.UNCORRECTED] == 1


def test_capacity_that_ends_is_slverr_and_logged() -> None:
    config = CONFIG.override({"inflation_lines": 0})
    p = port(store(4, 32, 4 * 2048, config), config, write_length=np.array([64], np.int32))
    r = p.submit(rows({"op": Op.WRITE, "address": 64}, {"address": 64}, config=config))
    assert r.resp.tolist() == [Response.SLVERR, Response.OKAY]
    assert p.log.by_severity[Severity.UNCORRECTED] == 1


def test_address_parity_is_refused_and_data_parity_poisons() -> None:
    p = port()
    r = p.submit(
        rows(
            {"address": 0, "parity": Parity.BAD_ADDRESS},
            {"op": Op.WRITE, "address": 64, "parity": Parity.BAD_DATA},
            {"address": 64},
            {"address": 128},
        )
    )
    assert r.resp.tolist() == [Response.SLVERR, Response.OKAY, Response.OKAY, Response.OKAY]
    assert r.poison.tolist() == [False, False, True, False]


def test_poison_covers_the_line_until_a_whole_clean_one_comes() -> None:
    p = port(store())
    reads = {"address": 64 + 8, "beats": 1, "beat_bytes": 8}
    r = p.submit(
        rows(
            {"op": Op.WRITE, "address": 64, "beats": 1, "beat_bytes": 8, "poison": True},
            {**reads, "address": 64 + 48},  # another granule of the same line
            {"op": Op.WRITE, "address": 64, "beats": 1, "beat_bytes": 8},  # clean, but only in part
            reads,
            {"op": Op.WRITE, "address": 64},
            reads,
            {"op": Op.WRITE, "address": 64, "poison": True},
            {"op": Op.WRITE_ZERO, "address": 64, "beats": 1},
            reads,
        )
    )
    assert r.poison.tolist() == [False, True, False, True, False, False, False, False, False]
    assert p.poisoned == set()


def test_poison_outlives_a_call_and_policy_may_ask_for_slverr() -> None:
    p = port(policy=RasPolicy(poison=False))
    p.submit(rows({"op": Op.WRITE, "address": 0, "poison": True}))
    r = p.submit(rows({"address": 0}, {"address": 64}))
    assert r.resp.tolist() == [Response.SLVERR, Response.OKAY]
    assert not r.poison.any()


def test_an_uncorrected_word_poisons_every_line_that_touches_it() -> None:
    p = port(packed())
    # Lines of 43 B: bytes 40..47 belong to lines 0 and 1.
    r = p.submit(rows({"address": 0}, {"address": 64}, {"address": 128}), damage(40))
    assert r.poison.tolist() == [True, True, False]
    assert r.resp.tolist() == [Response.OKAY] * 3
    assert p.log.records[0].count == 2
    assert p.log.records[0].syndrome == 0x5A
    plain = port()
    r = plain.submit(rows({"address": 0}, {"address": 64}), damage(40))
    assert r.poison.tolist() == [True, False]


def test_corrected_errors_are_okay_and_logged_and_wrong_ones_are_known_to_the_model() -> None:
    p = port(packed())
    r = p.submit(rows({"address": 0}), damage(0, CORRECTED))
    assert (r.resp[0], r.poison[0], r.wrong[0]) == (Response.OKAY, False, False)
    assert p.log.by_severity[Severity.CORRECTED] == 1
    r = p.submit(rows({"address": 0}), damage(0, MISCORRECTED))
    assert (r.resp[0], r.poison[0], r.wrong[0]) == (Response.OKAY, False, True)


def test_lost_metadata_is_slverr_for_the_page_and_critical() -> None:
    for backing in (packed(), store()):
        p = port(backing)
        r = p.submit(rows({"address": 0}, {"address": 63 * 64}, {"address": 4096}), damage(1 << 40, DETECTED, (0,)))
        assert r.resp.tolist() == [Response.SLVERR, Response.SLVERR, Response.OKAY]
        assert p.log.critical_interrupt


def test_damage_under_a_store_reaches_its_reads() -> None:
    p = port(store())
    r = p.submit(rows({"address": 0}, {"address": 2 * 64}))
    assert not r.poison.any()
    place = int(r.run.plan.address_bytes[r.run.plan.first[1] : r.run.plan.last[1]][-1])
    r = p.submit(rows({"address": 0}, {"address": 2 * 64}), damage(place))
    assert r.poison.tolist() == [False, True]


def test_write_zero_moves_no_data() -> None:
    p = port(store(), write_length=np.array([30], np.int32))
    r = p.submit(rows({"op": Op.WRITE_ZERO, "address": 64, "beats": 1}))
    assert r.run.plan.bytes_by_kind()["data_write"] == 0
    r = p.submit(rows({"address": 64, "arrival_ns": 0.0}))
    assert r.run.plan.length_bytes.tolist() == [32]  # the slot stays until the page is packed anew


def test_an_atomic_answers_with_old_data_and_writes_the_line() -> None:
    p = port(store(size=32), write_length=np.array([30], np.int32))
    r = p.submit(rows({"op": Op.ATOMIC_LOAD, "address": 8, "beats": 1, "beat_bytes": 8}))
    kinds = r.run.plan.bytes_by_kind()
    assert (kinds["data_read"], kinds["data_write"]) == (32, 32)
    assert r.resp[0] == Response.OKAY
    assert r.done_ns[0] >= r.first_ns[0]


def test_one_id_returns_in_order_and_bursts_are_whole() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    items = [
        {"address": int(a) * 64, "id": int(i), "arrival_ns": float(k)}
        for k, (a, i) in enumerate(zip(rng.integers(0, LINES, 400), rng.integers(0, 4, 400), strict=True))
    ]
    t = rows(*items)
    r = port(packed()).submit(t)
    for k in range(4):
        assert (np.diff(r.done_ns[t.id == k]) > 0).all()
    assert (np.diff(r.done_ns) < 0).any()  # different IDs overtake
    burst = port().submit(rows({"address": 0, "beats": 64}))
    assert burst.first_ns[0] < burst.done_ns[0]
    assert burst.run.memory.bus_bytes == 4096


def test_outstanding_limit_holds_back_later_bursts() -> None:
    few = CONFIG.override({"axi_outstanding": 1})
    items = [{"address": k * 4096, "id": k % 16} for k in range(32)]
    slow = port(config=few).submit(rows(*items, config=few))
    fast = port().submit(rows(*items))
    assert slow.done_ns.max() > 5 * fast.done_ns.max()


def test_damage_must_be_in_order() -> None:
    good = damage(0)
    with pytest.raises(ConfigurationError, match="outcome and a syndrome"):
        replace(good, outcome=np.empty(0, np.int8))
    with pytest.raises(ConfigurationError, match="ascending"):
        BadMemory(np.array([8, 0], np.int64), 8, np.zeros(2, np.int8), np.zeros(2, np.uint32))
