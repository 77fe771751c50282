"""ASTRA-sim's rows to the nanosecond, and by the packet simulation in its manner of forwarding."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric import network as nets
from linepress_hardware.fabric.conventions import astra_sim_all_reduce_ns
from linepress_hardware.fabric.schedules import all_reduce_program
from linepress_hardware.fabric.simulate import simulate

ROWS = list(
    csv.DictReader(
        (Path(__file__).parents[2] / "data" / "fabric" / "astrasim_allreduce.csv").open(encoding="utf-8", newline="")
    )
)


def _ours(row: dict[str, str]) -> int:
    return astra_sim_all_reduce_ns(
        row["topology"],
        row["algorithm"],
        int(row["n_accelerators"]),
        int(row["size_B"]),
        bandwidth_GiBps=float(row["bandwidth_GiBps"]),
        latency_ns=float(row["link_latency_ns"]),
        backend=row["backend"],
    )


@pytest.mark.parametrize(("backend", "count"), [("congestion_unaware", 237), ("congestion_aware", 45)])
def test_every_row_to_the_nanosecond(backend: str, count: int) -> None:
    rows = [row for row in ROWS if row["backend"] == backend]
    assert len(rows) == count
    wrong = [(row, _ours(row)) for row in rows if _ours(row) != int(row["time_ns"])]
    assert wrong == []


def test_congestion_aware_rows_by_simulation() -> None:
    """Whole messages stored and forwarded at each hop: equal but for the nanoseconds that the other tool rounds."""
    own = {"ring": "ring", "direct": "direct", "halvingDoubling": "halving-doubling"}
    for row in (row for row in ROWS if row["backend"] == "congestion_aware"):
        n, size, rate = int(row["n_accelerators"]), int(row["size_B"]), float(row["bandwidth_GiBps"]) * 2**30 / 1e9
        latency = float(row["link_latency_ns"])
        if row["topology"] == "Switch":
            net = nets.switch(n, link_GBps=rate, latency_ns=latency)
        else:
            net = nets.mesh(n, pair_GBps=rate, latency_ns=latency)
        net = net.with_options(cut_through=False, overhead_ns=1.0)
        program = all_reduce_program(own[row["algorithm"]], n, size)
        found = simulate(net, program, packet_bytes=size).finish_ns
        messages = {"ring": 2 * (n - 1), "direct": 2 * (n - 1), "halvingDoubling": 2 * (n.bit_length() - 1)}
        rounded = 2 * messages[row["algorithm"]] + 1  # two hops a message, a nanosecond lost at most on each
        assert abs(found - int(row["time_ns"])) <= rounded, row


def test_our_names_mean_the_same() -> None:
    ours = astra_sim_all_reduce_ns("mesh", "halving-doubling", 8, 4096, bandwidth_GiBps=12.5, latency_ns=250)
    theirs = astra_sim_all_reduce_ns(
        "FullyConnected", "halvingDoubling", 8, 4096, bandwidth_GiBps=12.5, latency_ns=250
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("star", "ring", 8, 4096), "topology 'star'"),
        (("switch", "gossip", 8, 4096), "algorithm 'gossip'"),
        (("switch", "halving-doubling", 6, 4096), "power of two"),
        (("ring", "direct", 8, 4096), "not modelled"),
        (("switch", "ring", 8, 4), "use 8 B or more"),
        (("switch", "halving-doubling", 64, 64), "use 128 B or more"),
        (("switch", "ring", 1, 4096), "2 accelerators"),
    ],
)
def test_mistakes_are_one_sentence(arguments: tuple[str, str, int, int], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        astra_sim_all_reduce_ns(*arguments, bandwidth_GiBps=900, latency_ns=250)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_rates_must_be_positive(rate: float) -> None:
    with pytest.raises(ConfigurationError, match="a rate above 0"):
        astra_sim_all_reduce_ns("switch", "ring", 8, 4096, bandwidth_GiBps=rate, latency_ns=250)


def test_unknown_back_end() -> None:
    with pytest.raises(ConfigurationError, match="congestion_aware"):
        astra_sim_all_reduce_ns("switch", "ring", 8, 64, bandwidth_GiBps=1, latency_ns=1, backend="ns3")
