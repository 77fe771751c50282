"""SRAM and HBF: closed forms, limits, the same interface as DRAM."""

from __future__ import annotations

import numpy as np
import pytest

from linepress_hardware.dram import load_simple, pattern, simulate
from linepress_hardware.errors import ConfigurationError


@pytest.mark.parametrize("name", ["sram", "hbf"])
def test_idle_read_equals_its_closed_form(name: str) -> None:
    assert simulate(name, [0]).latency_ns[0] == pytest.approx(load_simple(name).idle_read_ns)


def test_hbf_is_the_published_stack() -> None:
    part = load_simple("hbf")
    assert part.channels_per_device * part.peak_GBps == 1600
    assert part.channels_per_device * part.capacity_bytes == 512 * 2**30
    assert 10_000 <= part.values["bank_read"] <= 20_000


def test_hbf_streams_at_its_port_and_random_reads_waste_pages() -> None:
    part = load_simple("hbf")
    stream = simulate("hbf", pattern("seq", 400_000).address_bytes)
    assert stream.bandwidth_GBps > 0.9 * part.peak_GBps
    assert stream.row_hit_rate == pytest.approx(63 / 64, abs=1e-3)
    random = simulate("hbf", pattern("rand", 60_000).address_bytes)
    bound = part.values["banks"] * 64 / part.values["bank_read"]  # a page read for each 64 B on every plane
    assert random.bandwidth_GBps <= bound
    assert random.bandwidth_GBps > 0.7 * bound


def test_few_requests_in_flight_cannot_hide_a_page_read() -> None:
    part = load_simple("hbf")
    addresses = np.arange(500, dtype=np.uint64) * np.uint64(4096)
    result = simulate("hbf", addresses, window=4)
    assert result.bandwidth_GBps == pytest.approx(4 * 64 / part.idle_read_ns, rel=0.02)


def test_sram_bank_conflicts_serialise() -> None:
    part = load_simple("sram")
    stride = int(part.values["banks"] * part.values["interleave_bytes"])
    addresses = (np.arange(1000) * stride % part.capacity_bytes).astype(np.uint64)
    conflict = simulate("sram", addresses)
    assert conflict.bandwidth_GBps == pytest.approx(64 / part.values["bank_read"], rel=0.02)
    spread = simulate("sram", pattern("seq", 1000).address_bytes)
    assert spread.bandwidth_GBps > 10 * conflict.bandwidth_GBps


def test_writes_occupy_a_plane_for_a_program() -> None:
    part = load_simple("hbf")
    result = simulate("hbf", [0, 0], [True, False])
    program = part.values["bank_write"]
    assert result.finish_ns[0] == pytest.approx(program + part.values["latency"] + 64 / part.values["write_GBps"])


def test_dependents_and_bus_time() -> None:
    result = simulate("sram", [0, 64, 128], after=[-1, 0, 1], after_delay_ns=5.0)
    assert result.start_ns[1] == pytest.approx(result.finish_ns[0] + 5.0)
    assert result.arrival_ns[2] == pytest.approx(result.finish_ns[1] + 5.0)
    assert sum(result.bus_time_ns.values()) == pytest.approx(result.sim_time_ns)


def test_what_dram_has_and_these_do_not_is_refused() -> None:
    for extra in ({"mapping": "RoBaRaCoCh"}, {"policy": "open"}, {"log": True}):
        with pytest.raises(ConfigurationError, match="no address mapping, policy or command log"):
            simulate("sram", [0], **extra)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="lies outside part sram"):
        simulate("sram", [1 << 30])
