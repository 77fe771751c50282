"""Entropy bounds: what no codec of a stated class can beat on one tensor, in bits a value and as a ratio.

Classes
-------
``field_*``
    Sign and exponent coded (the whole byte of 8-bit formats), mantissa raw.
``joint_*``
    Mantissa coded too, given the value's own sign and exponent and, for its top two bits, the context. For 16-bit
    formats every mantissa bit is coded; for 32-bit ones the top 16 bits of the value are, the rest raw.
``*_order0``
    One static distribution a tensor.
``*_channel``
    One static distribution a channel (layouts with channels only).
``*_previous``
    One static distribution for each sign-and-exponent of the previous value *in the same line*. In a channel-major
    line that is the previous token of the channel. The first value of a line has the context "none", since a line
    decodes alone. Where lines have no channels the previous value is the neighbour in memory.

Reading them
------------
``bits_per_value`` is the plug-in entropy: the fewest bits any static code of the class can spend on *this* tensor if
its tables cost nothing. That makes it a true bound for the tensor, but an optimistic one where contexts are many
and samples few: the plug-in estimate of a conditional entropy is biased low. Two figures stand beside it:

``miller_madow_bits_per_value``
    Plug-in + sum over contexts of (used symbols - 1) / (2 N ln 2): first-order estimate of the source's entropy
    (Miller 1955). Still low under heavy undersampling (samples per context comparable to used symbols).
``with_tables_bits_per_value``
    Plug-in + the cost of telling the tables: sum over contexts of (used symbols - 1) / 2 * log2(samples) / N
    (Rissanen's two-part code, stochastic complexity to first order). What a codec that must ship its tables, or
    learn them as it goes, can hope for.

The ratio is item bits / bits_per_value. Histograms add: accumulate chunks of a tensor, merge accumulators of one
tensor's parts, or `pool` those of several tensors for the pooled order-0 bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numba import njit
from numpy.typing import NDArray

from linepress_codecs.bitio import frozen
from linepress_codecs.contracts import Bound, ItemCounts, Lines
from linepress_codecs.errors import CodecError
from linepress_codecs.fields import bound_field
from linepress_codecs.formats import Format

BOUNDS_VERSION = 1
"""Raised when a bound of the same lines may come out differently: results are remembered by it."""

MAX_CONTEXT_CELLS = 1 << 26
"""Largest channels × symbols table kept (256 MiB of uint32); with more channels their bounds are left out."""

PAD_CELLS = 80
"""Cells after each row of the previous-value contexts, never used: rows of a power of two would fall on the same few
places of a core's cache (16-bit formats: 3.4 to 1.8 ns a value)."""

CONTEXT_MANTISSA_BITS = 2
"""Mantissa bits coded in the context of the class; the lower ones are coded given the value's own upper bits."""


BOUND_TOLERANCE = 1e-9
"""Relative: a bound is a sum of logarithms, a coded size a count."""


@njit(cache=True)
def _count(items, per, field_shift, upper_shift, stride, none, joint, previous):  # type: ignore[no-untyped-def]
    """Add each item to joint[item] and to previous[field of the item before it in the line, or none][upper bits];
    returns the lines whose items are all zero. Four items a step (``per`` is a multiple of four)."""
    one = np.uint32(1)
    zero_lines = 0
    for line in range(items.shape[0] // per):
        start = line * per
        row = none * stride
        for i in range(start, start + per, 4):
            a, b = np.uint64(items[i]), np.uint64(items[i + 1])
            c, d = np.uint64(items[i + 2]), np.uint64(items[i + 3])
            joint[a] += one
            joint[b] += one
            joint[c] += one
            joint[d] += one
            previous[row + (a >> upper_shift)] += one
            previous[(a >> field_shift) * stride + (b >> upper_shift)] += one
            previous[(b >> field_shift) * stride + (c >> upper_shift)] += one
            previous[(c >> field_shift) * stride + (d >> upper_shift)] += one
            row = (d >> field_shift) * stride
        if items[start] == 0 and not items[start : start + per].any():
            zero_lines += 1
    return zero_lines


@njit(cache=True)
def _count_channels(items, per, upper_shift, upper_bits, ids, channel):  # type: ignore[no-untyped-def]
    """Add each item to channel[id of its line][upper bits]."""
    for line in range(items.shape[0] // per):
        row = np.uint64(ids[line]) << upper_bits
        for i in range(line * per, line * per + per):
            channel[row | (np.uint64(items[i]) >> upper_shift)] += np.uint32(1)


@njit(cache=True)
def _row_terms(rows):  # type: ignore[no-untyped-def]
    bits = 0.0
    tables = 0.0
    freedom = 0
    for r in range(rows.shape[0]):
        total = 0.0
        used = 0
        inner = 0.0
        for s in range(rows.shape[1]):
            c = rows[r, s]
            if c > 0:
                x = float(c)
                total += x
                used += 1
                inner += x * math.log2(x)
        if used > 0:
            bits += total * math.log2(total) - inner
            freedom += used - 1
            tables += (used - 1) / 2 * math.log2(total)
    return bits, freedom, tables


def entropy_terms(counts: NDArray[np.unsignedinteger]) -> tuple[float, int, float]:
    """(sum of -c log2(c / row total), degrees of freedom, sum of degrees / 2 * log2(row total)) over rows."""
    rows = counts.reshape(1, -1) if counts.ndim == 1 else counts
    bits, freedom, tables = _row_terms(np.ascontiguousarray(rows, dtype=np.uint64))
    return float(bits), int(freedom), float(tables)


class BoundAccumulator:
    """Streaming histograms of one tensor and the bounds they give.

    Memory: 2^16 counters, plus (field values + 1) × upper symbols for the previous-value contexts, plus channels ×
    upper symbols where lines have channels (uint32 each; upper symbols = 2^(field + 2), at most 2,048).
    """

    def __init__(self, fmt: Format) -> None:
        self.format = fmt
        field = bound_field(fmt)
        self.item_bits = field.item_bits
        # Items are reduced to their top 16 bits (8 for 8-bit formats) before counting.
        self.kept_bits = min(field.item_bits, 16)
        self.field_bits = field.bits
        self.upper_bits = min(field.bits + CONTEXT_MANTISSA_BITS, self.kept_bits)
        self.joint = np.zeros(1 << self.kept_bits, np.uint64)
        self.previous = np.zeros(((1 << self.field_bits) + 1, (1 << self.upper_bits) + PAD_CELLS), np.uint32)
        self.channel: NDArray[np.uint32] | None = None
        self.values = 0
        self.zero_lines = 0

    def _items(self, lines: Lines) -> NDArray[np.unsignedinteger]:
        items = lines.data.reshape(-1).view(self.format.storage)
        return frozen(items if self.item_bits <= 16 else (items >> (self.item_bits - 16)).astype(np.uint16))

    def add(self, lines: Lines) -> BoundAccumulator:
        """Count one chunk of lines; returns self."""
        if lines.format != self.format:
            raise CodecError(f"bounds of {self.format.name} cannot take {lines.format.name} lines")
        if len(lines) == 0:
            return self
        items = self._items(lines)
        per = len(items) // len(lines)
        upper_shift = np.uint64(self.kept_bits - self.upper_bits)
        counts = np.zeros(len(self.joint), np.uint32)
        self.zero_lines += _count(
            items,
            per,
            np.uint64(self.kept_bits - self.field_bits),
            upper_shift,
            np.uint64(self.previous.shape[1]),
            np.uint64(1 << self.field_bits),
            counts,
            self.previous.reshape(-1),
        )
        self.joint += counts
        self.values += len(items)
        channel, n_channels = lines.geometry.channel, lines.geometry.n_channels
        whole = lines.geometry.channel_run in (0, per)
        if channel is not None and whole and n_channels << self.upper_bits <= MAX_CONTEXT_CELLS:
            if self.channel is None:
                self.channel = np.zeros((n_channels, 1 << self.upper_bits), np.uint32)
            if len(self.channel) != n_channels or int(channel.max(initial=0)) >= n_channels:
                raise CodecError(f"chunks of one tensor disagree on channels: {len(self.channel)} and {n_channels}")
            _count_channels(
                items, per, upper_shift, np.uint64(self.upper_bits), frozen(channel), self.channel.reshape(-1)
            )
        return self

    def merge(self, other: BoundAccumulator) -> BoundAccumulator:
        """Add the counts of another part of the same tensor; returns self."""
        if other.format != self.format:
            raise CodecError(f"bounds of {self.format.name} and {other.format.name} cannot be merged")
        self.joint += other.joint
        self.previous += other.previous
        self.values += other.values
        self.zero_lines += other.zero_lines
        if other.channel is not None:
            if self.channel is None:
                self.channel = np.zeros_like(other.channel)
            if self.channel.shape != other.channel.shape:
                raise CodecError("parts of one tensor disagree on the number of channels")
            self.channel += other.channel
        return self

    def item_counts(self, sample: NDArray[np.uint8]) -> ItemCounts | None:
        """What `LineCodec.fit` may be told, with a ``sample``; None where items are not counted whole."""
        if self.format.bits not in (8, 16):
            return None
        items = self.joint.copy()
        line_bytes = sample.shape[1]
        items[0] -= np.uint64(self.zero_lines * self.format.elements_in(line_bytes))
        return ItemCounts(self.format, line_bytes, items, self.zero_lines, sample)

    def bounds(self) -> dict[str, Bound]:
        """Every bound of this tensor by name; the channel ones only where lines had channels."""
        n = self.values
        field_counts = self.joint.reshape(1 << self.field_bits, -1).sum(axis=1)
        upper_counts = self.joint.reshape(1 << self.upper_bits, -1)
        low = entropy_terms(upper_counts)  # low mantissa bits given the value's own upper bits
        raw_field = n * (self.item_bits - self.field_bits)
        raw_joint = n * (self.item_bits - self.kept_bits)
        found = [
            self._bound("field_order0", [entropy_terms(field_counts)], raw_field, 1),
            self._bound("joint_order0", [entropy_terms(self.joint)], raw_joint, 1),
        ]
        contexts = [("previous", self.previous[:, : 1 << self.upper_bits])]
        if self.channel is not None:
            contexts.insert(0, ("channel", self.channel))
        for name, every in contexts:
            table = every[every.any(axis=1)]  # of hundreds of contexts a tensor has a few dozen
            used = len(table)
            by_field = table.reshape(len(table), 1 << self.field_bits, table.shape[1] >> self.field_bits).sum(
                axis=2, dtype=np.uint64
            )
            found.append(self._bound(f"field_{name}", [entropy_terms(by_field)], raw_field, used))
            found.append(self._bound(f"joint_{name}", [entropy_terms(table), low], raw_joint, used))
        return {bound.name: bound for bound in found}

    def _bound(self, name: str, terms: list[tuple[float, int, float]], raw_bits: int, contexts: int) -> Bound:
        n = self.values
        if n == 0:
            nan = float("nan")
            return Bound(name, nan, nan, nan, nan, contexts, 0)
        scale = self.item_bits / self.format.bits  # 4-bit formats: two values to an item
        bits = sum(t[0] for t in terms) + raw_bits
        plain = bits / n / scale
        corrected = (bits + sum(t[1] for t in terms) / (2 * math.log(2))) / n / scale
        tables = (bits + sum(t[2] for t in terms)) / n / scale
        ratio = self.format.bits / plain if plain else float("inf")
        return Bound(name, plain, ratio, corrected, tables, contexts, round(n * scale))


def held_against(own: str, own_ratio: float, ratios: Mapping[str, float], payload_ratio: float) -> tuple[str, float]:
    """The bound to hold a codec against: its own class, or, where it uses more context, the next class above it.

    A codec that beats its own class is not better than entropy: it belongs to a class with more context (lines of
    zeros told by a flag, matches of a dictionary). One that beats every class has none to be held against: ("", NaN).
    """
    if not math.isfinite(own_ratio) or not payload_ratio > own_ratio * (1 + BOUND_TOLERANCE):
        return own, own_ratio
    above = {name: ratio for name, ratio in ratios.items() if ratio >= payload_ratio}
    return min(above.items(), key=lambda item: item[1], default=("", float("nan")))


def pool(accumulators: Iterable[BoundAccumulator]) -> Bound | None:
    """The pooled order-0 field bound: one distribution for all these tensors of one format; None without any."""
    total: BoundAccumulator | None = None
    for accumulator in accumulators:
        if total is None:
            total = BoundAccumulator(accumulator.format)
        if accumulator.format != total.format:
            raise CodecError(f"bounds of {total.format.name} and {accumulator.format.name} cannot be pooled")
        total.joint += accumulator.joint
        total.values += accumulator.values
    return None if total is None else total.bounds()["field_order0"]
