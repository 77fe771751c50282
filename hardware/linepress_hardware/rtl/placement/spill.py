"""``spill`` address unit: a group's rests placed from their sizes, until the one asked for has its place."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal

from linepress_hardware.rtl.blocks import Pipe, less, mux_tree, named, prefix_sums, resized, shift_in, thermometer
from linepress_hardware.rtl.placement.metadata import BASE, POINTER_BITS, WIDTH, AddressUnit, metadata_bits

LINES, ROOM, GROUP = 128, 32, 16
"""Lines whose rests share atoms; bytes of an atom; atoms among which the search finds the best in its first clock."""
COUNT_BITS = 8
WAY = 2
"""Configuration address of the way: 0 best fit, 1 atom by atom."""


def spill_config(base: int, width: int, way: int) -> list[tuple[int, int]]:
    """Table writes of a size code and a way."""
    return [(BASE, base), (WIDTH, width), (WAY, way)]


class SpillAddress(AddressUnit):
    """``spill:lines=128`` of 64-byte lines, one line at a time.

    Sizes are counted, one a clock, and the rank of the line among those of its size; equals are placed in line order,
    so counts are all that placing needs. *Best fit*: two clocks a rest, search and place. *Atom by atom*: which sums
    the sizes can make, a copy of a size a clock; then back through them for the largest sizes that make the fullest.
    `cycles` is what a line without a rest takes; a rest waits for all that are placed before it.

    ``line``: the entry at its widest and, behind it (bits 800 to 807), how many lines its group has, for the last
    group of a tensor may have fewer. ``data``: the rest's bytes (8 bits; 0 where there is none, its address then
    arbitrary), its address (32 bits).
    """

    line_bits = metadata_bits(LINES, ROOM) + COUNT_BITS
    data_bits = 8 + POINTER_BITS
    full = ROOM
    interval = 5

    def build(self, m: Module) -> None:
        base, width = self.size_code()
        way = self.config(WAY, 1, "way")

        def held(name: str, width: int) -> Signal:
            return Signal(width, name=name, reset_less=True)

        entry, at = held("entry", self.line_bits), held("at", 7)
        sizes = [held(f"size{j}", 6) for j in range(LINES)]
        own, rank, before = held("own", 6), held("rank", 7), held("before", LINES)
        pointer, there = entry[:POINTER_BITS], thermometer(entry[-COUNT_BITS:], LINES)
        m.d.sync += [
            size.eq(Mux(there[j], self.length(m, code, base, width, f"length{j}"), 0))
            for j, (size, code) in enumerate(zip(sizes, self.codes(m, entry, width, LINES), strict=True))
        ]
        m.d.sync += [own.eq(mux_tree(m, sizes, at, "own_size")), before.eq(thermometer(at, LINES))]

        # How many lines of a size there are, and how many before this one: compared, summed by eights, summed.
        size, step = held("size_now", 6), held("step", 6)
        counts = [held(f"count{s}", 8) for s in range(ROOM + 1)]
        equal = held("equal", LINES)
        m.d.sync += equal.eq(Cat(*[each == step for each in sizes]))
        totals = []
        for name, flags in (("all", equal), ("earlier", equal & before)):
            eights = prefix_sums(m, list(flags), 1, f"{name}_eights", until=8)[7::8]
            kept = [held(f"{name}_sum{i}", 4) for i in range(len(eights))]
            m.d.sync += [k.eq(e) for k, e in zip(kept, eights, strict=True)]
            totals.append(prefix_sums(m, kept, 8, f"{name}_total")[-1])
        here = mux_tree(m, counts, size, "here")

        atom, offset, done = held("atom", 7), held("offset", 6), held("done", 8)
        found = Signal(name="found")
        m.d.sync += found.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.ready.eq(1)
                m.d.sync += [entry.eq(self.line), at.eq(self.size)]
                with m.If(self.valid):
                    m.next = "SIZES"
            with m.State("SIZES"):
                m.next = "OWN"
            with m.State("OWN"):
                m.next = "ANY"
            with m.State("ANY"):
                m.d.sync += [step.eq(1), size.eq(0)]
                m.next = "COUNT"
                with m.If(own == 0):
                    m.d.sync += found.eq(1)
                    m.next = "IDLE"
            with m.State("COUNT"):
                # `size` runs two clocks behind `step`, as the sums do.
                m.d.sync += [step.eq(step + 1), size.eq(step - 1)]
                with m.Switch(size):
                    for s in range(1, ROOM + 1):
                        with m.Case(s):
                            m.d.sync += counts[s].eq(totals[0])
                with m.If(size == own):
                    m.d.sync += rank.eq(totals[1])
                with m.If(size == ROOM):
                    m.d.sync += [size.eq(ROOM), atom.eq(0), done.eq(0)]
                    m.next = "NEXT"
                    with m.If(way):
                        m.next = "START"
            self._best_fit(m, counts, here, size, own, rank, atom, offset, done, found)
            self._fill(m, counts, here, size, own, rank, atom, offset, done, found)

        pipe = Pipe(m, found)
        address = named(m, pointer + (Cat(Const(0, 5), atom) + offset), "address")
        self.finish(m, pipe, Cat(resized(own, 8), address[:POINTER_BITS]), 0)
        self._cycles = 4

    def _best_fit(
        self, m: Module, counts: list[Any], here: Any, size: Any, own: Any, rank: Any, atom: Any, offset: Any,
        done: Any, found: Any,
    ) -> None:  # fmt: skip
        """Way 0: a rest goes where least room is left for it; atoms not yet begun have all their room."""
        left = [Signal(6, name=f"left{a}", reset_less=True) for a in range(LINES)]
        winners = [Signal(14, name=f"winner{g}", reset_less=True) for g in range(LINES // GROUP)]
        fits = [~less(m, room, size) for room in left]
        keys = [Cat(room, ~fit, Const(a, 7)) for a, (room, fit) in enumerate(zip(left, fits, strict=True))]
        m.d.sync += [w.eq(_least(m, keys[GROUP * g : GROUP * (g + 1)], f"group{g}")) for g, w in enumerate(winners)]
        best = _least(m, winners, "best")
        room, where = best[:6], best[7:]
        with m.State("NEXT"):
            # The first time through, `size` is `ROOM`: rests that fill an atom.
            m.d.sync += done.eq(0)
            m.next = "SEARCH"
            with m.If(here == 0):
                m.d.sync += size.eq(size - 1)
                m.next = "NEXT"
            with m.If(size == ROOM):
                m.d.sync += [each.eq(ROOM) for each in left]
        with m.State("SEARCH"):
            m.next = "PLACE"
        with m.State("PLACE"):
            with m.Switch(where):
                for a in range(LINES):
                    with m.Case(a):
                        m.d.sync += left[a].eq(room - size)
            m.d.sync += [done.eq(done + 1), atom.eq(where), offset.eq(ROOM - room)]
            m.next = "SEARCH"
            with m.If(done + 1 == here):
                m.d.sync += size.eq(size - 1)
                m.next = "NEXT"
            with m.If((size == own) & (done == rank)):
                m.d.sync += found.eq(1)
                m.next = "IDLE"

    def _fill(
        self, m: Module, counts: list[Any], here: Any, size: Any, own: Any, rank: Any, atom: Any, offset: Any,
        done: Any, found: Any,
    ) -> None:  # fmt: skip
        """Way 1: an atom takes the longest rest left and those that fill it best, the longest of these first."""
        # `start`, `rest`: the sum from which a size is traced, and that behind the most copies of it.
        longest, least, target, copies, sum_now, inside, most, start, rest = (
            Signal(6, name=name, reset_less=True)
            for name in ("longest", "least", "target", "copies", "sum", "inside", "most", "start", "rest")
        )
        reach = Signal(ROOM + 1, name="reach", reset_less=True)
        rows = [Signal(ROOM + 1, name=f"row{s}", reset_less=True) for s in range(ROOM + 1)]
        row = mux_tree(m, rows, size, "row")
        grown = shift_in(m, reach, size, ROOM, ROOM + 1, "grown")
        some = [count.any() for count in counts]
        high = named(m, _first(m, [(some[s], s) for s in range(ROOM, 0, -1)]), "high")
        low = named(m, _first(m, [(some[s], s) for s in range(1, ROOM + 1)]), "low")
        with m.State("START"):
            m.d.sync += [
                longest.eq(high), least.eq(low), size.eq(low), target.eq(ROOM - high), reach.eq(1), copies.eq(0),
                sum_now.eq(0),
            ]  # fmt: skip
            with m.Switch(high):
                for s in range(1, ROOM + 1):
                    with m.Case(s):
                        m.d.sync += counts[s].eq(counts[s] - 1)
            m.next = "GROW"
        with m.State("GROW"):
            with m.If(copies == 0), m.Switch(size):
                for s in range(1, ROOM + 1):
                    with m.Case(s):
                        m.d.sync += rows[s].eq(reach)
            with m.If((copies != here) & (sum_now + size <= target)):
                m.d.sync += [reach.eq(reach | grown), copies.eq(copies + 1), sum_now.eq(sum_now + size)]
            with m.Else():
                m.d.sync += [copies.eq(0), sum_now.eq(0), size.eq(size + 1)]
                with m.If(size == longest):
                    m.d.sync += size.eq(size)
                    m.next = "FIT"
        reached = [reach[c] & (target >= c) for c in range(ROOM + 1)]
        fit = named(m, _first(m, [(reached[c], c) for c in range(ROOM, -1, -1)]), "fit")
        with m.State("FIT"):
            m.d.sync += [sum_now.eq(fit), start.eq(fit), rest.eq(fit), most.eq(0), inside.eq(0)]
            m.next = "TRACE"
        with m.State("TRACE"):
            with m.If(mux_tree(m, list(row), sum_now, "reached")):
                m.d.sync += [most.eq(copies), rest.eq(sum_now)]
            with m.If((copies != here) & (sum_now >= size)):
                m.d.sync += [copies.eq(copies + 1), sum_now.eq(sum_now - size)]
            with m.Else():
                m.next = "TAKE"
        is_longest = named(m, size == longest, "is_longest")
        taken = named(m, (most + is_longest)[:6], "taken")
        nth = named(m, (rank - done)[:8], "nth")
        with m.State("TAKE"):
            with m.Switch(size):
                for s in range(1, ROOM + 1):
                    with m.Case(s):
                        m.d.sync += counts[s].eq(counts[s] - most)
            m.d.sync += [
                inside.eq(inside + (start - rest) + Mux(is_longest, size, 0)), start.eq(rest), sum_now.eq(rest),
                copies.eq(0), most.eq(0), size.eq(size - 1),
            ]  # fmt: skip
            m.next = "TRACE"
            with m.If(size == least):
                m.d.sync += atom.eq(atom + 1)
                m.next = "START"
            with m.If(size == own):
                m.d.sync += done.eq(done + taken)
                with m.If(nth < taken):
                    m.d.sync += [found.eq(1), atom.eq(atom), offset.eq(inside + nth[:5] * size)]
                    m.next = "IDLE"


def _least(m: Module, keys: list[Any], name: str) -> Any:
    """The key whose low seven bits (room, and that it does not fit) are least, of equals the first."""
    level = 0
    while len(keys) > 1:
        keys = [
            named(m, Mux(less(m, b[:7], a[:7]), b, a), f"{name}_{level}_{i}")
            for i, (a, b) in enumerate(zip(keys[::2], keys[1::2], strict=True))
        ]
        level += 1
    return keys[0]


def _first(m: Module, choices: list[tuple[Any, int]]) -> Any:
    """The number of the first flag that is set; the last number where none is."""
    pairs: list[tuple[Any, Any]] = [(flag, Const(number, 6)) for flag, number in choices]
    while len(pairs) > 1:
        after = [
            (named(m, a | b, ""), named(m, Mux(a, x, y), ""))
            for (a, x), (b, y) in zip(pairs[::2], pairs[1::2], strict=False)
        ]
        pairs = after + (pairs[-1:] if len(pairs) % 2 else [])
    return pairs[0][1]
