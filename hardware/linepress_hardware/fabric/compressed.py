"""Collectives whose payloads are compressed without loss: what a coder costs, and from which size on it pays.

A coder has a measured ratio, rates of raw bytes, a time a message, and a place. At the accelerators every hop that
adds must decode, add and encode again, and a switch that reduces cannot: entropy-coded numbers do not add. So a
compressed all-reduce gives up reduction in the switch, and the plain one it stands against keeps it. A coder in the
switch's ports (none is for sale) would not.

Raw bytes coded an accelerator, S its payload: an all-reduce by ring or in two shots encodes S ((N − 1)/N S to reduce,
S/N to gather) and decodes 2 (N − 1)/N S; one shot encodes S and decodes (N − 1) S; an all-gather encodes S/N and
decodes (N − 1)/N S; reduce-scatter and all-to-all do (N − 1)/N S of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from linepress_hardware.catalog.accelerators import Accelerator
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.fabric.collectives import NEEDS_SWITCH
from linepress_hardware.fabric.curves import Curve, collective_time, system_of

SMALLEST_BYTES, LARGEST_BYTES = 2.0**8, 2.0**36
_STEPS_AN_OCTAVE = 8


@dataclass(frozen=True)
class Coder:
    """What compresses messages.

    Attributes
    ----------
    ratio : float
        Raw over coded bytes, measured on data of the same kind (the payload ratio: messages need no slots).
    encode_GBps, decode_GBps : float
        Raw bytes a second of one accelerator's coder.
    message_us : float
        Encoding and decoding of a message before and after its bytes flow: a kernel's launch, nanoseconds in a port.
    overlapped : bool
        Whether coding goes on while other parts of the message are on the wire.
    in_switch : bool
        Whether switches decode and encode as well, so that they still reduce.
    """

    ratio: float
    encode_GBps: float = math.inf
    decode_GBps: float = math.inf
    message_us: float = 0.0
    overlapped: bool = True
    in_switch: bool = False

    def __post_init__(self) -> None:
        for name in ("ratio", "encode_GBps", "decode_GBps"):
            if not getattr(self, name) > 0 or math.isnan(getattr(self, name)):
                raise ConfigurationError(f"the coder's {name} is {getattr(self, name)!r}; give a number above 0")
        if math.isinf(self.ratio) or not 0 <= self.message_us < math.inf:
            raise ConfigurationError(
                f"the coder's ratio is {self.ratio!r}, its time a message {self.message_us!r} us; give finite numbers"
            )

    def coding_s(self, algorithm: str, operation: str, n: int, size_bytes: float) -> float:
        """Seconds one accelerator codes; the two directions share a coder unless they overlap with the wire."""
        raw_in, raw_out = coded_bytes(algorithm, operation, n, size_bytes)
        encode, decode = raw_in / self.encode_GBps / 1e9, raw_out / self.decode_GBps / 1e9
        return max(encode, decode) if self.overlapped else encode + decode


def coded_bytes(algorithm: str, operation: str, n: int, size_bytes: float) -> tuple[float, float]:
    """Raw bytes an accelerator encodes and decodes."""
    others = (n - 1) / n * size_bytes
    if operation == "all_gather":
        return size_bytes / n, others
    if operation in ("reduce_scatter", "all_to_all"):
        return others, others
    if algorithm == "one-shot":
        return size_bytes, (n - 1) * size_bytes
    if algorithm in NEEDS_SWITCH:
        both = (n + 1) / n * size_bytes
        return both, both
    if algorithm in ("ring", "direct"):
        return size_bytes, 2 * others
    raise ConfigurationError(
        f"{algorithm} has no count of coded bytes; use ring, direct, one-shot or in-network-nvls"
    )


def _compressed_s(curve: Curve, operation: str, n: int, size_bytes: float, coder: Coder) -> tuple[float, str]:
    """Seconds of a curve with coded payloads, and what binds: the wire, the coder, or latency."""
    wire = curve.transfer_s(operation, n, size_bytes / coder.ratio)
    coding = coder.coding_s(curve.algorithm, operation, n, size_bytes)
    fixed = curve.fixed_s(operation, n, size_bytes) + curve.messages(operation, n) * coder.message_us * 1e-6
    busy = max(wire, coding) if coder.overlapped else wire + coding
    binds = "latency" if fixed > busy else "coder" if coding > wire else "wire"
    return fixed + busy, binds


def compressed_collective(
    where: str | Accelerator, operation: str, n: int, size_bytes: float, coder: Coder, *, library: str = ""
) -> dict[str, Any]:
    """Compressed against plain, each at its best curve.

    Returns
    -------
    dict
        ``time_s``, ``plain_time_s``, ``speedup``, ``curve``, ``plain_curve``, ``bound_by`` (wire, coder or latency).

    Raises
    ------
    ConfigurationError
        No measured curve to compress on, as of `collective_time`.
    """
    system, _ = system_of(where)
    plain = collective_time(where, operation, n, size_bytes, library=library)
    if system is None or not plain.curve:
        raise ConfigurationError(
            f"no {operation} is measured on {where if isinstance(where, str) else where.name}; use point_to_point "
            f"for its link alone, or a system of `linepress fabric collective`"
        )
    usable = [
        one
        for one in system.curves
        if one.takes(operation, n, size_bytes)
        and (not library or one.library == library)
        and (coder.in_switch or one.algorithm not in NEEDS_SWITCH)
    ]
    if not usable:
        raise ConfigurationError(
            f"{system.name} has only reduction in the switch for {operation} over {n} accelerators of "
            f"{size_bytes:g} B, and coded numbers do not add; put the coder into the switch"
        )
    times = {one.name: _compressed_s(one, operation, n, size_bytes, coder) for one in usable}
    best = min(times, key=lambda name: times[name][0])
    time_s, binds = times[best]
    return {
        "operation": operation,
        "n": n,
        "size_bytes": size_bytes,
        "time_s": time_s,
        "plain_time_s": plain.time_s,
        "speedup": plain.time_s / time_s,
        "curve": best,
        "plain_curve": plain.curve,
        "bound_by": binds,
    }


def winning_sizes(
    where: str | Accelerator, operation: str, n: int, coder: Coder, *, library: str = ""
) -> list[tuple[float, float]]:
    """Ranges of payload from 256 B to 64 GiB in which compressing is faster, [first, last] each, to 0.1 %.

    Coarse steps (an eighth of an octave) find the ranges, bisection their ends; the last range is open where it ends
    at 64 GiB.
    """

    def wins(size_bytes: float) -> bool:
        return bool(compressed_collective(where, operation, n, size_bytes, coder, library=library)["speedup"] > 1)

    octaves = math.log2(LARGEST_BYTES / SMALLEST_BYTES)
    sizes = SMALLEST_BYTES * 2 ** np.linspace(0, octaves, int(octaves) * _STEPS_AN_OCTAVE + 1)
    won = [wins(float(size)) for size in sizes]
    found: list[tuple[float, float]] = []
    start = float(sizes[0]) if won[0] else None
    for i in range(1, len(sizes)):
        if won[i] == won[i - 1]:
            continue
        low, high = float(sizes[i - 1]), float(sizes[i])
        while high / low > 1.001:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if wins(middle) == won[i - 1] else (low, middle)
        if won[i]:
            start = high
        else:
            found.append((start if start is not None else low, low))
            start = None
    if start is not None:
        found.append((start, float(sizes[-1])))
    return found


def point_to_point(rate_GBps: float, overhead_us: float, coder: Coder) -> dict[str, Any]:
    """One message over one link, coded against plain, in closed form.

    Plain: o + S / B. Coded and overlapped: o + c + max(S / (r B), S / E, S / D); one after the other: the sum. Both
    are straight in S, so compressing pays from S* = c / (1 / B − coded seconds a byte) on, or never.

    Returns
    -------
    dict
        ``break_even_bytes`` (None: never), ``largest_speedup`` (of large messages), ``coder_GBps_to_gain`` and
        ``coder_GBps_for_ratio``: raw rate that encoder and decoder each need to gain at all, and not to bind.
    """
    if not 0 < rate_GBps < math.inf or not 0 <= overhead_us < math.inf:
        raise ConfigurationError(
            f"a link of {rate_GBps!r} GB/s and {overhead_us!r} us; give finite numbers, rate above 0"
        )
    plain = 1 / rate_GBps
    parts = (1 / (coder.ratio * rate_GBps), 1 / coder.encode_GBps, 1 / coder.decode_GBps)
    coded = max(parts) if coder.overlapped else sum(parts)
    saved = plain - coded
    wire = parts[0]
    gain = plain - (0.0 if coder.overlapped else wire)
    return {
        "rate_GBps": rate_GBps,
        "break_even_bytes": coder.message_us * 1e3 / saved if saved > 0 else None,
        "largest_speedup": plain / coded,
        "coder_GBps_to_gain": None if coder.ratio <= 1 else (1 if coder.overlapped else 2) / gain,
        "coder_GBps_for_ratio": 1 / wire if coder.overlapped else None,
        "overhead_us": overhead_us,
    }


def rate_for_speedup(speedup: float, ratio: float, rate_GBps: float, *, overlapped: bool) -> float | None:
    """Raw GB/s that encoder and decoder each need for `speedup` on large messages; None above the ratio."""
    if speedup > ratio or not speedup > 0:
        return None
    if overlapped:
        return speedup * rate_GBps
    left = 1 / speedup - 1 / ratio
    return 2 * rate_GBps / left if left > 0 else math.inf
