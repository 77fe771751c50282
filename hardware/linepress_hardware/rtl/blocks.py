"""Combinational building blocks of the line engines, and the pipeline that cuts them.

Shifters and prefix sums are written as trees with named nodes: yosys turns a plain ``>>`` or a chain of ``+`` into
structures that its technology mapper does not balance again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value


def named(m: Module, value: Any, name: str) -> Signal:
    """``value`` as a signal of its own: one node of the netlist, found by name in a timing report (none: ``""``)."""
    signal = Signal(Value.cast(value).shape(), name=name)
    m.d.comb += signal.eq(value)
    return signal


def resized(value: Any, width: int) -> Value:
    """``value`` cut or extended by zeros to ``width`` bits."""
    value = Value.cast(value)
    return Cat(value, Const(0, width - len(value))) if len(value) < width else value[:width]


class Pipe:
    """Registers between stages: ``a, b = pipe.cut(a, b)`` gives the values as the next stage sees them."""

    def __init__(self, m: Module, valid: Any) -> None:
        self.m, self.valid, self.depth = m, valid, 0

    def register(self, value: Any, name: str) -> Any:
        """A register of ``value``, or a list of them for a list; no reset, for validity travels beside."""
        if isinstance(value, list | tuple):
            return [self.register(each, f"{name}_{i}") for i, each in enumerate(value)]
        value = Value.cast(value)
        held = Signal(value.shape(), name=f"s{self.depth}_{name}", reset_less=True)
        self.m.d.sync += held.eq(value)
        return held

    def cut(self, *values: Any) -> Any:
        self.depth += 1
        valid = Signal(name=f"s{self.depth}_valid")
        self.m.d.sync += valid.eq(self.valid)
        self.valid = valid
        out = [self.register(value, str(i)) for i, value in enumerate(values)]
        return out[0] if len(out) == 1 else out


def prefix_sums(
    m: Module, values: Sequence[Any], each: int, name: str, *, done: int = 1, until: int | None = None
) -> list[Any]:
    """Inclusive prefix sums in a Sklansky tree, every sum as wide as it can get; ``each`` bounds one summand.

    ``done`` takes up a tree whose groups of so many values are already summed, ``until`` stops at groups of so many:
    a pipeline register may lie between the two.
    """
    sums, step = list(values), done
    while step < (until or len(sums)):
        after = list(sums)
        for i in range(len(sums)):
            if i & step:
                before = sums[(i & ~(2 * step - 1)) + step - 1]
                width = (each * (i % (2 * step) + 1)).bit_length()
                after[i] = named(m, (sums[i] + before)[:width], f"{name}{step}_{i}")
        sums, step = after, 2 * step
    return sums


def shift_out(
    m: Module, bits: Any, amount: Any, width: int, most: int, name: str, *, unit: int = 1, low_first: bool = False
) -> Value:
    """``width`` units of ``bits`` from unit ``amount`` on (at most ``most``), a unit being ``unit`` bits.

    Large shifts first cut the width at every level, which is smallest. ``low_first`` begins with the low bits of
    ``amount``, which an adder gives first: larger, and faster behind a sum.
    """
    levels = list(range(most.bit_length()))
    value = resized(bits, unit * (most + width))
    for k in levels if low_first else reversed(levels):
        left = most >> (k + 1) << (k + 1) if low_first else min(most, (1 << k) - 1)
        keep = unit * (width + left)
        value = named(m, Mux(amount[k], resized(value[unit << k :], keep), resized(value, keep)), f"{name}_{k}")
    return value[: unit * width]


def shift_in(m: Module, bits: Any, amount: Any, most: int, width: int, name: str, *, unit: int = 1) -> Value:
    """``bits`` moved up by ``amount`` units of ``unit`` places (at most ``most``), zeros below, ``width`` bits of it.

    Small shifts first let the width grow as late as it can.
    """
    value = Value.cast(bits)
    own = len(value)
    for k in range(most.bit_length()):
        keep = min(width, own + unit * min(most, (2 << k) - 1))
        moved = Cat(Const(0, unit << k), value)
        value = named(m, Mux(amount[k], resized(moved, keep), resized(value, keep)), f"{name}_{k}")
    return value


def mux_tree(m: Module, items: Sequence[Any], select: Any, name: str) -> Any:
    """``items[select]``, all of one width, as a tree of two-way multiplexers, high bit of ``select`` first."""
    width = len(Value.cast(items[0]))
    value: Any = Cat(*items)
    for k in reversed(range((len(items) - 1).bit_length())):
        half = width << k
        value = named(m, Mux(select[k], resized(value[half:], half), resized(value, half)), f"{name}_{k}")
    return value


def one_hot(flags: Sequence[Any], values: Sequence[Any], width: int) -> Any:
    """OR of the ``values`` whose flag is set, ``width`` bits."""
    terms = [Mux(flag, value, 0)[:width] for flag, value in zip(flags, values, strict=True)]
    while len(terms) > 1:
        terms = [terms[i] | terms[i + 1] if i + 1 < len(terms) else terms[i] for i in range(0, len(terms), 2)]
    return terms[0]


def less(m: Module, a: Any, b: Any) -> Any:
    """``a < b`` of equal widths as a tree of (less, equal) pairs; yosys' own comparison is a carry chain."""
    under, same = named(m, ~a & b, ""), named(m, ~(a ^ b), "")
    pairs = [(under[i], same[i]) for i in range(len(a))]
    while len(pairs) > 1:
        after = []
        for i in range(0, len(pairs), 2):
            if i + 1 == len(pairs):
                after.append(pairs[i])
                continue
            (low_less, low_same), (high_less, high_same) = pairs[i], pairs[i + 1]
            after.append((named(m, high_less | (high_same & low_less), ""), named(m, high_same & low_same, "")))
        pairs = after
    return pairs[0][0]


def thermometer(value: Any, width: int) -> Value:
    """The low ``value`` of ``width`` bits set."""
    return Cat(*[value > i for i in range(width)])
