"""Building blocks of the line engines against plain integers, and counts of gates against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="the extra rtl is not installed")

from amaranth.hdl import Cat, Module, Signal
from amaranth.sim import Simulator

from linepress_hardware.errors import UnknownPartError
from linepress_hardware.rtl import blocks
from linepress_hardware.rtl.catalog import DESIGNS, designs_of
from linepress_hardware.rtl.emit import to_verilog
from linepress_hardware.rtl.line import LineEngine
from linepress_hardware.rtl.synthesis.generic import to_gates

RNG = np.random.Generator(np.random.PCG64(5))


def evaluate(width: int, build: Callable[[Module, Any], Any], inputs: list[int]) -> list[int]:
    """What a combinational block says of each input."""
    m = Module()
    given = Signal(width)
    out = Signal(1024)
    m.d.comb += out.eq(build(m, given))
    found = []

    async def bench(ctx: Any) -> None:
        for value in inputs:
            ctx.set(given, value)
            found.append(ctx.get(out))

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def bits(width: int) -> int:
    return int.from_bytes(RNG.bytes(width // 8 + 1), "little") & ((1 << width) - 1)


@pytest.mark.parametrize(("n", "cut"), [(1, 1), (5, 2), (8, 4), (13, 8), (32, 8)])
def test_prefix_sums_are_sums_also_when_taken_up_half_way(n: int, cut: int) -> None:
    def build(m: Module, given: Any) -> Any:
        values = [given[3 * i : 3 * i + 3] for i in range(n)]
        groups = blocks.prefix_sums(m, values, 7, "a", until=cut)
        return Cat(*[blocks.resized(s, 8) for s in blocks.prefix_sums(m, groups, 7, "b", done=cut)])

    inputs = [bits(3 * n) for _ in range(40)]
    for value, found in zip(inputs, evaluate(3 * n, build, inputs), strict=True):
        total = 0
        for i in range(n):
            total += value >> (3 * i) & 7
            assert found >> (8 * i) & 255 == total


@pytest.mark.parametrize("low_first", [False, True])
@pytest.mark.parametrize(
    ("length", "width", "most", "unit"), [(80, 10, 70, 1), (20, 5, 33, 1), (96, 2, 11, 8), (7, 7, 1, 1)]
)
def test_a_shifter_takes_its_window_from_any_place(
    length: int, width: int, most: int, unit: int, low_first: bool
) -> None:
    def build(m: Module, given: Any) -> Any:
        return blocks.shift_out(m, given[7:], given[:7], width, most, "s", unit=unit, low_first=low_first)

    inputs = [bits(length) << 7 | int(RNG.integers(0, most + 1)) for _ in range(60)]
    for value, found in zip(inputs, evaluate(length + 7, build, inputs), strict=True):
        at = unit * (value & 127)
        assert found == (value >> 7 >> at) & ((1 << unit * width) - 1)


@pytest.mark.parametrize(("length", "most", "width"), [(12, 12, 24), (48, 48, 80), (7, 5, 7), (3, 1, 9)])
def test_bits_move_up_and_are_cut(length: int, most: int, width: int) -> None:
    def build(m: Module, given: Any) -> Any:
        return blocks.shift_in(m, given[6:], given[:6], most, width, "s")

    inputs = [bits(length) << 6 | int(RNG.integers(0, most + 1)) for _ in range(60)]
    for value, found in zip(inputs, evaluate(length + 6, build, inputs), strict=True):
        assert found == ((value >> 6) << (value & 63)) & ((1 << width) - 1)


@pytest.mark.parametrize("n", [1, 2, 19, 64])
def test_selection_comparison_and_masks(n: int) -> None:
    def build(m: Module, given: Any) -> Any:
        items = [given[6 + 4 * i : 10 + 4 * i] for i in range(n)]
        a, b = given[6 : 6 + 12], given[18:30]
        return Cat(blocks.mux_tree(m, items, given[:6], "m"), blocks.less(m, a, b), blocks.thermometer(given[:4], 10))

    width = max(6 + 4 * n, 30)
    inputs = [bits(width) >> 6 << 6 | int(RNG.integers(0, n)) for _ in range(60)]
    for value, found in zip(inputs, evaluate(width, build, inputs), strict=True):
        k = value & 63
        assert found & 15 == value >> (6 + 4 * k) & 15
        assert found >> 4 & 1 == ((value >> 6 & 4095) < (value >> 18 & 4095))
        assert found >> 5 == (1 << min(value & 15, 10)) - 1


class Parity(LineEngine):
    """XOR of 64 bits: 63 gates and six levels in a tree, whoever builds it."""

    line_bits, data_bits = 64, 1

    def build(self, m: Module) -> None:
        pipe = blocks.Pipe(m, self.valid)
        line = pipe.cut(self.line)
        self.finish(m, pipe, line.xor(), 0)


def test_gates_and_levels_of_a_tree_are_those_of_its_closed_form() -> None:
    pytest.importorskip("pyosys", reason="the extra rtl is not installed")
    found = to_gates(Parity(), "parity")
    # Beside the tree: two registers of validity, each with an AND for reset.
    assert 63 <= found.gates <= 63 + 6
    assert found.levels == 6
    assert found.flip_flops == 64 + 1 + 2


def test_verilog_has_the_ports_of_the_engine() -> None:
    pytest.importorskip("pyosys", reason="the extra rtl is not installed")
    text = to_verilog(DESIGNS["window-decoder"].make(), "window-decoder")
    assert "module linepress_window_decoder(" in text
    for port in ("input clk", "input [513:0] line", "output [511:0] data", "output error", "output ready"):
        assert port in text
    assert text.count("endmodule") == 1


def test_a_codec_without_a_design_is_told_which_have_one() -> None:
    with pytest.raises(UnknownPartError, match=r"no decoder as RTL for bf16; there are .*tans:streams=8") as caught:
        designs_of("context", "bf16")
    assert "context" in str(caught.value)
