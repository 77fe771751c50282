"""``tans:streams=8`` decoder: a ring of two clocks, two lines in it, then a pipeline that places the raw bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.memory import Memory
from numpy.typing import NDArray

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.rtl.blocks import Pipe, named, prefix_sums, shift_out, thermometer
from linepress_hardware.rtl.line import BF16, RAW_BITS, LineEngine

STREAMS, PRECISION, STEPS = 8, 10, BF16.count // 8
STATES = 1 << PRECISION
RAW, ZERO_LINE, CODED = 0, 1, 2
"""Modes of a line; CODED is the first table."""
ESCAPE, ZERO, FIRST = 0, 1, 2
"""Symbols: the whole element is raw, the element is zero, the first exponent of the table."""
PARAMETER = 4096
"""Configuration address of the smallest exponent; the entries of the mode row lie at 0, of the table at STATES."""


def tans_config(decode: NDArray[np.uint32], first: int, tables: int) -> list[tuple[int, int]]:
    """Table writes of a machine with ``tables`` tables (0 or 1).

    decode : uint32[(1 + tables) * 1024]
        Next state in bits 0..11, bits to read in 12..15, symbol in 16..23; the mode row first.
    first : int
        Smallest exponent with a symbol of its own.
    """
    if tables > 1 or len(decode) != (1 + tables) * STATES:
        raise ConfigurationError(
            f"the engine holds a mode row and one table of {STATES} states, and these are {len(decode)} entries for "
            f"{tables} tables: fit tans:streams=8 (precision 10)"
        )
    return [*((i, int(entry)) for i, entry in enumerate(decode)), (PARAMETER, first)]


class TansCore(LineEngine):
    """``tans:streams=8`` of bf16 without its memories; `AdaptiveCore` is the same ring over several tables.

    A step takes two clocks. *Read*: the memories answer, and the body of the line moves by the bits of the step
    before. *Step*: where the bits of each stream lie follows from the states alone, so a prefix sum over the eight
    entries and a shifter a stream give all next states at once. A line is in one of the two stages; two lines fill
    the ring, so that two leave every ten clocks. ``rd_addr`` (row, state) is sampled at the clock's edge, ``rd_data``
    (next state, bits, symbol) must stand ahead of the edge after.
    """

    line_bits = RAW_BITS + PRECISION
    interval = 5
    precision, tables = PRECISION, 1

    def __init__(self) -> None:
        super().__init__()
        self.row_bits = self.tables.bit_length()
        self.entry_bits = self.precision + 4 + 8
        self.rd_addr = [Signal(self.precision + self.row_bits, name=f"rd_addr{c}") for c in range(STREAMS)]
        self.rd_data = [Signal(self.entry_bits, name=f"rd_data{c}") for c in range(STREAMS)]

    def ports(self) -> list[Signal]:
        return [*super().ports(), *self.rd_addr, *self.rd_data]

    def build(self, m: Module) -> None:
        r, flushed = self.precision, STREAMS * self.precision
        known_bits = 20 + 2 + (self.row_bits if self.tables > 1 else 0)  # size, used, raw, zero, the table's row

        def held(name: str, width: int = 1, count: int = 0, reset_less: bool = True) -> Any:
            if count:
                return [held(f"{name}{i}", width) for i in range(count)]
            return Signal(width, name=name, reset_less=reset_less)

        # Read stage: the body not yet moved, its move, and what is known of the line.
        a_valid, a_phase = held("a_valid", reset_less=False), held("a_phase", STEPS + 1)
        a_body, a_move = held("a_body", self.line_bits), held("a_move", 7)
        a_known = held("a_known", known_bits)
        a_symbols = held("a_symbol", 8, STREAMS * (STEPS - 1))
        # Step stage.
        b_valid, b_phase = held("b_valid", reset_less=False), held("b_phase", STEPS + 1)
        b_body, b_known = held("b_body", self.line_bits), held("b_known", known_bits)
        b_symbols = held("b_symbol", 8, STREAMS * (STEPS - 1))
        entry, masks, pairs = (
            held("entry", self.entry_bits, STREAMS),
            held("mask", r, STREAMS),
            held("pair", 5, STREAMS),
        )

        moved = shift_out(m, a_body, a_move, self.line_bits, flushed, "move")
        read_nb = [d[r : r + 4] for d in self.rd_data]
        m.d.sync += [b_valid.eq(a_valid), b_phase.eq(a_phase), b_body.eq(moved), b_known.eq(a_known)]
        m.d.sync += [b.eq(a) for b, a in zip(b_symbols, a_symbols, strict=True)]
        m.d.sync += [e.eq(d) for e, d in zip(entry, self.rd_data, strict=True)]
        m.d.sync += [k.eq(thermometer(n, r)) for k, n in zip(masks, read_nb, strict=True)]
        m.d.sync += [p.eq(s) for p, s in zip(pairs, prefix_sums(m, read_nb, r, "pair", until=2), strict=True)]

        last = named(m, b_valid & b_phase[STEPS], "last")
        m.d.comb += self.ready.eq(~b_valid | b_phase[STEPS])
        take = named(m, self.valid & self.ready, "take")

        # The mode step: the body holds the line from bit 0, stream 0 its state.
        nb0 = entry[0][r : r + 4]
        x0 = named(m, entry[0][:r] | (b_body[r : 2 * r] & masks[0]), "x0")
        after = shift_out(m, b_body[r:], nb0, RAW_BITS - r, r, "mode_shift")
        starts = [x0] + [after[r * c : r * (c + 1)] for c in range(STREAMS - 1)]
        mode = entry[0][r + 4 :]
        # The other steps: where each stream's bits lie.
        ends = prefix_sums(m, pairs, r, "nbs", done=2)
        nexts = []
        for c in range(STREAMS):
            bits = (
                b_body[:r]
                if c == 0
                else shift_out(m, b_body[:flushed], ends[c - 1], r, r * c, f"next{c}", low_first=True)
            )
            nexts.append(named(m, entry[c][:r] | (bits & masks[c]), f"x{c}_next"))
        total = ends[STREAMS - 1]

        size, used, raw, zero, row = b_known[:10], b_known[10:20], b_known[20], b_known[21], b_known[22:]
        mode_raw, mode_zero = named(m, mode == RAW, "mode_raw"), named(m, b_body[:4] == 15, "mode_zero")
        m.d.sync += [
            a_valid.eq(take | (b_valid & ~b_phase[STEPS])),
            a_phase.eq(Mux(take, 1, Cat(0, b_phase[:STEPS]))),
            a_move.eq(Mux(take | b_phase[0] | raw, 0, total)),
        ]
        m.d.sync += [
            each.eq(Mux(b_phase[1 + i // STREAMS], entry[i % STREAMS][r + 4 :], b_symbols[i]))
            for i, each in enumerate(a_symbols)
        ]
        used_after = Mux(
            b_phase[0],
            named(m, r + nb0 + Mux(mode_raw, RAW_BITS - r, r * (STREAMS - 1)), "head_used"),
            named(m, used + Mux(raw, 0, total), "used_after"),
        )[:10]
        # The tables' rows lie behind that of the modes, which is read by a line as it comes in.
        if self.tables == 1:
            row_after, first_row = Const(1, 1), ~take
        else:
            row_after = Mux(b_phase[0], named(m, (mode - CODED + 1)[: self.row_bits], "row"), row)
            first_row = Mux(take, 0, row_after)
        kept = [] if self.tables == 1 else [row_after]
        with m.If(take):
            m.d.sync += [a_body.eq(self.line), a_known.eq(self.size)]
        with m.Elif(b_phase[0]):
            m.d.sync += [
                a_body.eq(Mux(mode_raw, Cat(x0, after), after[r * (STREAMS - 1) :])),
                a_known.eq(Cat(size, used_after, mode_raw & ~mode_zero, mode_zero, *kept)),
            ]
        with m.Else():
            m.d.sync += [a_body.eq(b_body), a_known.eq(Cat(size, used_after, raw, zero, *kept))]
        for c in range(STREAMS):
            state = Mux(b_phase[0], starts[c], nexts[c])
            if c == 0:
                state = Mux(take, self.line[:r], state)
            m.d.comb += self.rd_addr[c].eq(Cat(state, row_after if c else first_row))

        # Raw bytes: the end states first, then what is left of the line.
        pipe = Pipe(m, last)
        body, move, known, states, steps = pipe.cut(
            b_body, Mux(raw, 0, total), Cat(size, used_after, raw, zero), nexts,
            [*b_symbols, *(e[r + 4 :] for e in entry)],
        )  # fmt: skip
        self._place(m, pipe, body, move, known, states, steps)

    def _place(
        self, m: Module, pipe: Pipe, body: Any, move: Any, known: Any, states: list[Any], steps: list[Any]
    ) -> None:
        """Raw fields to the elements, and the line out: ``body`` is yet to be moved, ``steps`` are the symbols."""
        first = self.config(PARAMETER, 8, "first")
        size, used, is_raw, is_zero = known[:10], known[10:20], known[20], known[21]
        rest = shift_out(m, body, move, RAW_BITS, 80, "last_move")
        raw = named(m, Mux(is_raw, rest, Cat(*states, rest)[:RAW_BITS]), "raw")
        escape = [named(m, s == ESCAPE, f"escape{j}") for j, s in enumerate(steps)]
        zero = [named(m, s == ZERO, f"zero{j}") for j, s in enumerate(steps)]
        length = [named(m, Cat(~e & ~z, e), f"length{j}") for j, (e, z) in enumerate(zip(escape, zero, strict=True))]
        exponent = [named(m, (s + first - FIRST)[:8], f"exponent{j}") for j, s in enumerate(steps)]
        eights: list[Any] = []
        for t in range(STEPS):
            eights += prefix_sums(m, length[8 * t : 8 * t + 8], 2, f"eights{t}_")
        raw, eights, escape, zero, exponent, size, used, is_raw, is_zero = pipe.cut(
            raw, eights, escape, zero, exponent, size, used, is_raw, is_zero
        )
        sums = prefix_sums(m, eights, 2, "at", done=8)
        flushed = STREAMS * PRECISION // 8  # bytes that the end states hold
        some = [named(m, raw[8 * i : 8 * i + 8].any(), f"some{i}") for i in range(flushed)]
        raw, sums, escape, zero, exponent, size, used, is_raw, is_zero, some = pipe.cut(
            raw, sums, escape, zero, exponent, size, used, is_raw, is_zero, some
        )
        fill = sums[-1]
        short = named(m, fill < flushed, "short")
        padding = named(m, Cat(*[(fill <= i) & each for i, each in enumerate(some)]).any(), "check_padding")
        unmet_short = named(m, size != used, "check_size")
        unmet_full = named(m, (used + (fill << 3)) != (size + 8 * flushed), "check_full_size")
        too_long = named(m, size >= RAW_BITS, "check_longest")
        coded_bad = named(m, Mux(short, unmet_short | padding, unmet_full) | too_long, "coded_bad")
        zero_bad = named(m, size != 4, "check_zero_size")
        fault = named(m, Mux(is_zero, zero_bad, Mux(is_raw, unmet_short, coded_bad)), "fault")
        field = [raw[:16]] + [
            shift_out(m, raw, sums[j - 1], 2, min(2 * j, 62), f"field{j}", unit=8) for j in range(1, BF16.count)
        ]
        raw, field, escape, zero, exponent, is_raw, is_zero, fault = pipe.cut(
            raw, field, escape, zero, exponent, is_raw, is_zero, fault
        )
        out = []
        for j in range(BF16.count):
            coded = Cat(field[j][:7], exponent[j], field[j][7])
            coded = Mux(zero[j], 0, Mux(escape[j], field[j], coded))
            out.append(Mux(is_raw, raw[16 * j : 16 * j + 16], Mux(is_zero, 0, coded)))
        self.finish(m, pipe, Cat(*out), fault, before=2 * (STEPS + 1))


class TansDecoder(LineEngine):
    """`TansCore` with a memory a stream; table writes go to all of them."""

    core: type[TansCore] = TansCore
    line_bits = core.line_bits
    interval = core.interval

    def build(self, m: Module) -> None:
        m.submodules.core = core = self.core()
        r, depth = core.precision, (1 + core.tables) << core.precision
        for name in ("cfg_we", "cfg_addr", "cfg_data", "valid", "line", "size"):
            m.d.comb += getattr(core, name).eq(getattr(self, name))
        for name in ("ready", "out_valid", "data", "error"):
            m.d.comb += getattr(self, name).eq(getattr(core, name))
        m.submodules.memory = memory = Memory(shape=core.entry_bits, depth=depth, init=[])
        write = memory.write_port()
        m.d.comb += [
            write.addr.eq(self.cfg_addr),
            write.data.eq(Cat(self.cfg_data[:r], self.cfg_data[12:16], self.cfg_data[16:24])),
            write.en.eq(self.cfg_we & (self.cfg_addr < depth)),
        ]
        for c in range(STREAMS):
            read = memory.read_port(domain="sync")
            m.d.comb += [read.addr.eq(core.rd_addr[c]), core.rd_data[c].eq(read.data)]
        self._cycles = core.cycles
