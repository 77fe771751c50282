"""What every line engine looks like from outside: ports, table writes, latency and interval."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Elaboratable, Fragment, Module, Signal, UnusedElaboratable

from linepress_hardware.rtl.blocks import Pipe

# An engine is also made to ask for its latency or ports, and then not built.
warnings.filterwarnings("ignore", category=UnusedElaboratable)

RAW_BITS = 512
"""Bits of a 64-byte line as stored."""
CONFIG_ADDRESS_BITS, CONFIG_DATA_BITS, SIZE_BITS = 13, 24, 10


@dataclass(frozen=True)
class Element:
    """An element of a line, low bits first: mantissa, exponent, sign (1 bit)."""

    name: str
    bits: int
    exponent_bits: int

    @property
    def mantissa_bits(self) -> int:
        return self.bits - 1 - self.exponent_bits

    @property
    def rest_bits(self) -> int:
        """Mantissa and sign."""
        return self.mantissa_bits + 1

    @property
    def count(self) -> int:
        """Elements in a line."""
        return RAW_BITS // self.bits


BF16 = Element("bf16", 16, 8)
E4M3 = Element("e4m3", 8, 4)


class TableRegisters(Elaboratable):
    """Registers that ``cfg_*`` writes, in a module of their own: constant while lines pass, so no timing path begins
    here, and their area is told apart."""

    def __init__(self, we: Signal, addr: Signal, data: Signal) -> None:
        self.we, self.addr, self.data = we, addr, data
        self.registers: list[tuple[int, Signal]] = []

    def add(self, address: int, width: int, name: str) -> Signal:
        held = Signal(width, name=name, reset_less=True)
        self.registers.append((address, held))
        return held

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for address, held in self.registers:
            with m.If(self.we & (self.addr == address)):
                m.d.sync += held.eq(self.data)
        return m


class LineEngine(Elaboratable):
    """A synchronous engine over 64-byte lines, clock ``clk``, synchronous reset ``rst``.

    A line goes in where ``valid`` and ``ready`` are high: its bits from bit 0 of ``line``, their number in ``size``;
    what lies behind them may be anything. It comes out ``cycles`` clocks later, ``out_valid`` high: ``data``, and
    ``error`` where no encoder wrote such a line (``data`` is then arbitrary). Lines leave in the order they came, one
    every ``interval`` clocks at best. Tables are written over ``cfg_*``, one entry a clock, while no line is inside.
    """

    line_bits: int
    """Width of ``line``: the longest code."""
    config_address_bits: int = CONFIG_ADDRESS_BITS
    data_bits: int = RAW_BITS
    interval: int = 1
    _cycles: int | None = None
    _tables: TableRegisters

    def __init__(self) -> None:
        self.cfg_we = Signal(name="cfg_we")
        self.cfg_addr = Signal(self.config_address_bits, name="cfg_addr")
        self.cfg_data = Signal(CONFIG_DATA_BITS, name="cfg_data")
        self.valid = Signal(name="valid")
        self.ready = Signal(name="ready")
        self.line = Signal(self.line_bits, name="line")
        self.size = Signal(SIZE_BITS, name="size")
        self.out_valid = Signal(name="out_valid")
        self.data = Signal(self.data_bits, name="data", reset_less=True)
        self.error = Signal(name="error", reset_less=True)

    def ports(self) -> list[Signal]:
        return [
            self.cfg_we, self.cfg_addr, self.cfg_data, self.valid, self.ready, self.line, self.size, self.out_valid,
            self.data, self.error,
        ]  # fmt: skip

    def build(self, m: Module) -> None:
        """Add the logic to ``m`` and end in `finish`."""
        raise NotImplementedError

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.config = self._tables = TableRegisters(self.cfg_we, self.cfg_addr, self.cfg_data)
        self.build(m)
        return m

    @property
    def cycles(self) -> int:
        """Clocks from the edge that takes a line to the one after which it can be read."""
        if self._cycles is None:
            Fragment.get(self, None)
        assert self._cycles is not None
        return self._cycles

    def config(self, address: int, width: int, name: str) -> Signal:
        """A register that ``cfg_*`` writes."""
        return self._tables.add(address, width, name)

    def finish(self, m: Module, pipe: Pipe, data: Any, error: Any, before: int = 0) -> None:
        """Output registers; ``before``: clocks that a line spends ahead of ``pipe``."""
        if self.interval == 1:
            m.d.comb += self.ready.eq(1)
        m.d.sync += [self.out_valid.eq(pipe.valid), self.data.eq(data), self.error.eq(error)]
        self._cycles = before + pipe.depth


class LineEncoder(LineEngine):
    """An engine the other way: ``line`` holds the 64 bytes, ``data`` the code and ``out_size`` its bits.

    Bits of ``data`` behind ``out_size`` are arbitrary.
    """

    line_bits = RAW_BITS

    def __init__(self) -> None:
        super().__init__()
        self.out_size = Signal(SIZE_BITS, name="out_size", reset_less=True)

    def ports(self) -> list[Signal]:
        return [*super().ports(), self.out_size]
