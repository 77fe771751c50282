"""What the engine promises from the outside: closed forms, limits, order, accounting, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_hardware.dram import LOSS_CAUSES, load_part, mapping_for, part_names, pattern, simulate
from linepress_hardware.dram.closed_forms import activate_bound_GBps, idle_read_ns, refresh_share
from linepress_hardware.errors import ConfigurationError

QUIET = "open:refresh=none"


def _address(part_name: str, **want: int) -> int:
    """A byte address with these field values in RoBaRaCoCh."""
    part = load_part(part_name)
    shift, address = part.atom_bytes.bit_length() - 1, 0
    for field, masks in mapping_for(part, "RoBaRaCoCh").masks.items():
        for i, mask in enumerate(masks):
            if (want.get(field, 0) >> i) & 1:
                address |= mask << shift
    return address


@pytest.mark.parametrize("name", part_names())
@pytest.mark.parametrize("row", ["open", "closed", "conflict"])
def test_idle_latencies_equal_their_closed_forms(name: str, row: str) -> None:
    part = load_part(name)
    first, again = _address(name, ro=1), _address(name, ro=1, co=1)
    addresses = {"closed": [first], "open": [first, again], "conflict": [first, _address(name, ro=2)]}[row]
    gap = 2000 * part.tick_ns  # an even tick, long after everything has settled
    result = simulate(
        part, addresses, None, [i * gap for i in range(len(addresses))],
        mapping="RoBaRaCoCh", policy=QUIET, request_bytes=part.atom_bytes,
    )  # fmt: skip
    assert result.latency_ns[-1] == pytest.approx(idle_read_ns(part, row), abs=1e-6)


@pytest.mark.parametrize("name", part_names())
def test_activates_bound_random_traffic(name: str) -> None:
    """Each atom alone in its row: never above the closed form, and close to it with a deep queue."""
    part = load_part(name)
    trace = pattern("rand", 20_000)
    result = simulate(
        part, trace.address_bytes, mapping="MOP4CLXOR", request_bytes=part.atom_bytes,
        policy="open:refresh=none:read_queue=512",
    )  # fmt: skip
    activated = result.commands["ACT"] * part.atom_bytes / result.sim_time_ns
    bound = activate_bound_GBps(part)
    assert activated <= bound * 1.0005
    assert activated >= 0.8 * bound


@pytest.mark.parametrize("name", part_names())
def test_refresh_takes_the_share_of_its_closed_form(name: str) -> None:
    part = load_part(name)
    trace = pattern("seq", 60_000)
    with_refresh = simulate(part, trace.address_bytes, policy="open:refresh=all_bank")
    without = simulate(part, trace.address_bytes, policy=QUIET)
    share = 1 - without.sim_time_ns / with_refresh.sim_time_ns
    assert share == pytest.approx(refresh_share(part), abs=0.015)
    assert with_refresh.commands["REFA"] == pytest.approx(
        part.scopes * with_refresh.sim_time_ns / part.ns("REFI"), abs=3
    )


@pytest.mark.parametrize("name", ["hbm2", "hbm3", "hbm4", "lpddr5", "gddr6", "gddr7", "ddr5"])
def test_per_bank_refresh_costs_less_than_all_bank(name: str) -> None:
    trace = pattern("rand", 12_000)
    runs = {
        r: simulate(name, trace.address_bytes, policy=f"open:refresh={r}") for r in ("none", "all_bank", "per_bank")
    }
    assert runs["all_bank"].bandwidth_GBps < runs["per_bank"].bandwidth_GBps < runs["none"].bandwidth_GBps
    part = load_part(name)
    scopes = part.pseudo_channels
    due = scopes * runs["per_bank"].sim_time_ns / (part.ck["REFIpb"] * part.tck_ns)
    assert runs["per_bank"].commands["REFB"] == pytest.approx(due, abs=2 * scopes + 1)


@pytest.mark.parametrize("name", ["ddr4"])
def test_per_bank_refresh_is_refused_where_there_is_none(name: str) -> None:
    with pytest.raises(ConfigurationError, match="no per-bank refresh here"):
        simulate(name, [0], policy="open:refresh=per_bank")


def test_a_row_times_out_between_open_and_adaptive() -> None:
    trace = pattern("rand", 4000)
    arrival = np.arange(4000) * 40.0

    def mean(page: str) -> float:
        return float(simulate("ddr5", trace.address_bytes, arrival_ns=arrival, policy=page).read_latency_ns.mean())

    soon, late, closed, never = (
        mean(p) for p in ("timeout:close_ns=0.0", "timeout:close_ns=900", "adaptive", "open")
    )
    assert closed <= soon < late < never
    # A stream within the timeout hits the open row as if it stayed open.
    rows = np.arange(64, dtype=np.uint64) * np.uint64(64)
    kept = simulate(
        "ddr5", rows, arrival_ns=np.arange(64) * 20.0, policy="timeout:close_ns=500", mapping="RoBaRaCoCh"
    )
    stays = simulate("ddr5", rows, arrival_ns=np.arange(64) * 20.0, policy="open", mapping="RoBaRaCoCh")
    assert np.array_equal(kept.finish_ns, stays.finish_ns)
    with pytest.raises(ConfigurationError, match="close_ns"):
        simulate("ddr5", [0], policy="timeout:close_ns=-1")


def test_closed_page_opens_a_row_for_each_access_and_adaptive_only_for_the_first() -> None:
    addresses = [_address("ddr5", ro=1, co=c) for c in range(16)]
    counts = {
        p: simulate("ddr5", addresses, mapping="RoBaRaCoCh", policy=f"{p}:refresh=none").commands
        for p in ("open", "closed", "adaptive")
    }
    assert counts["open"]["ACT"] == 1
    assert counts["closed"]["ACT"] == counts["closed"]["RDA"] == 16
    assert counts["adaptive"]["ACT"] == counts["adaptive"]["RDA"] == 1
    assert counts["adaptive"]["RD"] == 15


@pytest.mark.parametrize("name", part_names())
@pytest.mark.parametrize("kind", ["seq", "rw70", "streams8"])
def test_bus_time_adds_up_and_bytes_are_conserved(name: str, kind: str) -> None:
    part = load_part(name)
    trace = pattern(kind, 4000)
    result = simulate(part, trace.address_bytes, trace.is_write)
    assert set(result.bus_time_ns) == {"data", *LOSS_CAUSES}
    whole = sum(result.bus_time_ns.values()) / part.data_buses
    tail = (part.ck["CWL"] + part.ck["BL"]) * part.tck_ns
    assert result.sim_time_ns - 1e-3 <= whole <= result.sim_time_ns + tail + 1e-3
    assert all(v >= -1e-6 for k, v in result.bus_time_ns.items() if k != "turnaround")
    moved = sum(result.commands.get(c, 0) for c in ("RD", "WR", "RDA", "WRA"))
    assert moved * part.atom_bytes == result.bus_bytes
    assert moved + result.forwarded_atoms + result.coalesced_atoms == result.atoms
    assert result.bytes == 64 * len(trace)


def test_losses_name_their_cause() -> None:
    idle = simulate("hbm3", [0, 64], None, [0.0, 1000.0], policy=QUIET)
    assert idle.bus_time_pct()["idle"] > 95
    window = simulate("hbm3", pattern("rand", 8000).address_bytes, policy=QUIET).bus_time_pct()
    assert max((v, k) for k, v in window.items() if k != "data")[1] == "activation_window"
    same_bank = [_address("hbm3", ro=r) for r in range(500)]
    conflicts = simulate("hbm3", same_bank, mapping="RoBaRaCoCh", policy=QUIET, request_bytes=32).bus_time_pct()
    assert max((v, k) for k, v in conflicts.items() if k not in ("data", "idle"))[1] in (
        "row_activation",
        "queue_full",
    )
    mixed = pattern("rw50", 8000)
    assert simulate("ddr4", mixed.address_bytes, mixed.is_write, policy=QUIET).bus_time_pct()["turnaround"] > 2
    group = [_address("hbm3", ro=1, co=c % 32) for c in range(400)]
    stream = simulate("hbm3", group, mapping="RoBaRaCoCh", policy=QUIET, request_bytes=32).bus_time_pct()
    assert stream["bank_group"] > 15


def test_reads_of_queued_writes_are_forwarded_and_writes_coalesce() -> None:
    result = simulate("ddr5", [0, 0, 0], [True, False, True])
    assert (result.forwarded_atoms, result.coalesced_atoms) == (1, 1)
    assert result.latency_ns[1] == pytest.approx(load_part("ddr5").tick_ns)
    assert result.commands["WR"] == 1
    assert "RD" not in result.commands


def test_window_bounds_the_requests_in_flight() -> None:
    trace = pattern("rw70", 3000)
    for window in (1, 4, 16):
        result = simulate(
            "hbm3", trace.address_bytes, trace.is_write, window=window, window_counts="requests", policy=QUIET
        )
        events = sorted(
            [(t, 1) for t in result.start_ns] + [(t, -1) for t in result.finish_ns], key=lambda e: (e[0], e[1])
        )
        flying = np.cumsum([step for _, step in events])
        assert flying.max() <= window
    serial = simulate("hbm3", trace.address_bytes, window=1, policy=QUIET)
    assert serial.bandwidth_GBps == pytest.approx(64 / serial.latency_ns.mean(), rel=0.01)
    wide = simulate("hbm3", trace.address_bytes, window=4096, policy=QUIET)
    assert (wide.finish_ns == simulate("hbm3", trace.address_bytes, policy=QUIET).finish_ns).all()


def test_a_window_of_atoms_frees_each_atom_alone() -> None:
    trace = pattern("rand", 3000)

    def rate(part: str, counts: str, window: int = 4) -> float:
        return simulate(
            part, trace.address_bytes, trace.is_write, window=window, window_counts=counts, policy=QUIET
        ).bandwidth_GBps

    # One atom a request: the two definitions are one. Two atoms: a request may start on two halves freed by others.
    assert rate("ddr5", "atoms") == rate("ddr5", "requests")
    assert rate("gddr7", "requests") < rate("gddr7", "atoms")
    # A request wider than the window runs alone.
    lone = simulate("hbm3", np.array([0, 4096]), request_bytes=np.array([256, 64]), window=1, policy=QUIET)
    assert lone.start_ns[1] >= lone.finish_ns[0] - lone.latency_ns[1]
    with pytest.raises(ConfigurationError, match="window_counts 'lines'"):
        simulate("hbm3", [0], window=1, window_counts="lines")


def test_dependents_wait_and_hold_up_nobody() -> None:
    part = load_part("hbm3")
    n = 400
    addresses = (np.arange(2 * n, dtype=np.uint64) * np.uint64(7919 * 64)) % np.uint64(1 << 28)
    after = np.full(2 * n, -1, np.int64)
    after[1::2] = np.arange(0, 2 * n, 2)  # every odd request waits for the one before it
    arrival = np.repeat(np.arange(n) * 40.0, 2)
    result = simulate(part, addresses, None, arrival, after=after, after_delay_ns=25.0)
    waited = result.start_ns[1::2] - result.finish_ns[0::2]
    assert (waited >= 25.0 - 1e-9).all()
    assert np.median(waited) < 25.0 + 2 * part.tick_ns
    assert (result.arrival_ns[1::2] >= result.finish_ns[0::2] + 25.0 - 1e-9).all()
    alone = simulate(part, addresses[0::2], None, arrival[0::2])
    assert result.start_ns[0::2] == pytest.approx(alone.start_ns, abs=60)


def test_a_chain_is_as_long_as_its_latencies() -> None:
    n = 50
    addresses = [_address("ddr5", ro=r % 8, bg=r % 8) for r in range(n)]
    result = simulate(
        "ddr5", addresses, after=[-1, *range(n - 1)], after_delay_ns=10.0, policy=QUIET, mapping="RoBaRaCoCh"
    )
    assert result.sim_time_ns >= result.latency_ns.sum() + (n - 1) * 10.0 - 1e-6


def test_requests_of_any_size_and_offset_touch_each_atom_once() -> None:
    part = load_part("hbm3")
    sizes = np.array([1, 32, 33, 43, 64, 200])
    offsets = np.array([0, 31, 0, 27, 16, 5])
    result = simulate(
        part, offsets.astype(np.uint64) + np.uint64(4096) * np.arange(6, dtype=np.uint64), request_bytes=sizes
    )
    touched = (offsets + sizes - 1) // 32 - offsets // 32 + 1
    assert result.atoms == touched.sum()
    assert result.bytes == sizes.sum()


def test_open_loop_keeps_its_rate_below_saturation() -> None:
    trace = pattern("rand", 5000)
    interval = 64 / (0.1 * load_part("hbm3").peak_GBps)
    result = simulate("hbm3", trace.address_bytes, None, np.arange(5000) * interval)
    assert result.bandwidth_GBps == pytest.approx(5.12, rel=0.01)
    assert (result.start_ns >= result.arrival_ns - 1e-9).all()


def test_unsorted_arrivals_are_served_in_order_of_arrival() -> None:
    result = simulate("ddr5", [0, 1 << 20, 2 << 20], None, [2000.0, 0.0, 1000.0], policy=QUIET)
    assert (np.argsort(result.start_ns) == [1, 2, 0]).all()


def test_same_input_same_output() -> None:
    trace = pattern("rw70", 5000)
    a, b = (simulate("lpddr5", trace.address_bytes, trace.is_write, log=True) for _ in range(2))
    assert (a.finish_ns == b.finish_ns).all()
    assert a.log is not None
    assert b.log is not None
    assert (a.log.tick == b.log.tick).all()
    unlogged = simulate("lpddr5", trace.address_bytes, trace.is_write)
    assert (a.finish_ns == unlogged.finish_ns).all()


def test_channels_are_independent() -> None:
    """N channels fed with the same work each finish as one does: bandwidth scales linearly by construction."""
    trace = pattern("rand", 4000)
    one = simulate("hbm3", trace.address_bytes)
    many = [simulate("hbm3", trace.address_bytes) for _ in range(4)]
    total = sum(r.bytes for r in many) / max(r.sim_time_ns for r in many)
    assert total == pytest.approx(4 * one.bandwidth_GBps)


def test_energy_counts_commands() -> None:
    part = load_part("hbm3")
    result = simulate(part, pattern("rand", 2000).address_bytes)
    assert result.energy_pJ["activate"] == result.commands["ACT"] * part.energy["activate_pJ"]
    assert result.energy_pJ["read"] == result.commands["RD"] * 256 * part.energy["read_pJ_per_bit"]
    device = sum(v for k, v in result.energy_pJ.items() if k != "phy")
    assert result.total_energy_pJ == pytest.approx(device)
    assert result.phy_energy_pJ == result.commands["RD"] * 256 * part.energy["phy_pJ_per_bit"]
    assert np.isnan(simulate("ddr5", [0]).phy_energy_pJ)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_small_run_is_served_once_and_legally(data: st.DataObject) -> None:
    from linepress_hardware.dram import check_log, parse_policy

    name = data.draw(st.sampled_from(["hbm3", "ddr5", "lpddr5", "hbm2"]))
    part = load_part(name)
    n = data.draw(st.integers(1, 60))
    lines = data.draw(st.lists(st.integers(0, 4095), min_size=n, max_size=n))
    writes = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    after = [data.draw(st.integers(-1, i - 1)) for i in range(n)]
    policy = data.draw(
        st.sampled_from(["open", "closed", "adaptive", "open:read_queue=1:write_queue=1", "closed:write_queue=3"])
    )
    window = data.draw(st.sampled_from([None, 1, 3]))
    result = simulate(
        part,
        np.array(lines, np.uint64) * np.uint64(4160),
        writes,
        after=after,
        window=window,
        policy=policy,
        log=True,
    )
    assert (result.finish_ns >= result.start_ns).all()
    assert result.log is not None
    assert check_log(part, result.log, parse_policy(policy)) == []
    parents = np.array(after)
    waits = parents >= 0
    assert (result.start_ns[waits] >= result.finish_ns[parents[waits]] - 1e-9).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"address_bytes": []}, "at least one address"),
        ({"address_bytes": [[0]]}, "one-dimensional"),
        ({"address_bytes": [-64]}, "integers ≥ 0"),
        ({"address_bytes": [0.5]}, "integers ≥ 0"),
        ({"address_bytes": [1 << 40]}, "request 0 at byte 0x10000000000"),
        ({"address_bytes": [(1 << 30) - 32]}, "lies outside part hbm3"),
        ({"address_bytes": [0, 64], "is_write": [True]}, "is_write has shape"),
        ({"address_bytes": [0], "request_bytes": 0}, "at least 1 byte"),
        ({"address_bytes": [0], "request_bytes": 1.5}, "whole bytes"),
        ({"address_bytes": [0, 64], "arrival_ns": [0.0]}, "arrival_ns has shape"),
        ({"address_bytes": [0], "arrival_ns": [float("nan")]}, "finite times"),
        ({"address_bytes": [0], "after": [0]}, r"after\[0\] = 0"),
        ({"address_bytes": [0], "after": [-2]}, r"after\[0\] = -2"),
        ({"address_bytes": [0], "after_delay_ns": -1.0}, "finite and ≥ 0"),
        ({"address_bytes": [0], "window": 0}, "at least 1 request"),
        ({"address_bytes": [0], "policy": "nix"}, "page 'nix' is not one of"),
        ({"address_bytes": [0], "policy": "open:x=1"}, "is not key=value with a key of"),
        ({"address_bytes": [0], "policy": "open:read_queue=0"}, "must be 1 to 4096"),
        ({"address_bytes": [0], "policy": "open:read_queue=x"}, "is not a int"),
        ({"address_bytes": [0], "policy": "open:refresh=never"}, "refresh 'never' is not one of"),
        ({"address_bytes": [0], "policy": "open:drain_low=0.9"}, "0 ≤ low < high ≤ 1"),
    ],
)
def test_bad_input_is_one_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        simulate("hbm3", **arguments)
