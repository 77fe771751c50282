"""Well-formed lines at the limits of a format: about the longest that is coded, and with states that end wrongly.

A decoder that only follows the code takes them, so nothing but such lines shows that its limit is checked.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import LineCodec, Tables
from linepress_codecs.formats import Format
from linepress_codecs.tans.static import StaticTables

Code = tuple[int, int]
"""Bits of a line as a number, low bit first, and how many they are."""


def near_limit(codec: LineCodec, tables: Tables, fmt: Format, rng: np.random.Generator) -> list[Code]:
    """Coded lines from a little below 512 bits to above, with any codes that the format has."""
    if codec.codec_id == "window":
        return _window(codec, fmt, rng)
    if codec.codec_id == "huffman":
        return _huffman(codec, tables, rng)
    if codec.codec_id == "bdi":
        return _bdi(rng)
    return _tans(codec, tables, rng)


DELTAS = ((8, 8), (8, 16), (8, 32), (4, 8), (4, 16), (2, 8))
"""Bytes of an element and bits of a delta, the encodings of ``bdi`` in the order of their tags."""


def delta_lines(n: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Lines uint8[n, 64] that ``bdi`` codes with deltas, or just not: near a base, near zero, both, at limits."""
    out = np.zeros((n, 64), np.uint8)
    for i in range(n):
        element, delta = DELTAS[i % 6]
        count, whole = 64 // element, 1 << (8 * element)
        half = 1 << (delta - 1)
        edges = [-half, half - 1, 0, *((-half - 1, half) if i % 5 == 0 else ())]
        near = [int(rng.choice(edges)) if i % 2 else int(rng.integers(-half, half)) for _ in range(count)]
        base = _random(8 * element, rng) if i % 7 else half
        share = (0.0, 0.5, 1.0, 0.05)[i // 6 % 4]
        values = [(x + (base if rng.random() >= share else 0)) % whole for x in near]
        if i % 11 == 0:
            values = [values[0]] * count
        out[i] = np.frombuffer(b"".join(v.to_bytes(element, "little") for v in values), np.uint8)
    return out


def _bdi(rng: np.random.Generator) -> list[Code]:
    """Lines whose size is that of their tag, and whose tag, base or mask is seldom the encoder's."""
    out: list[Code] = [(_random(8, rng) << 4, 12) for _ in range(8)]
    out += [(1 | (_random(64, rng) if i % 2 else 0) << 4, 68) for i in range(8)]
    out += [(15 | int.from_bytes(line.tobytes(), "little") << 4, 516) for line in delta_lines(120, rng)]
    for i in range(720):
        encoding, masked = i % 6, i // 6 % 2
        element, delta = DELTAS[encoding]
        count = 64 // element
        deltas = [_random((delta, delta // 2, delta - 1)[i // 12 % 3], rng) for _ in range(count)]
        mask = _random(count, rng) | 1 << int(rng.integers(count))
        if i % 5 < 3:
            # As an encoder has it, the first element that is not near zero being the base; or one off.
            deltas[(mask & -mask).bit_length() - 1 if masked else 0] = i % 5 % 2
        base = _random(8 * element, rng)
        if masked and i % 7 == 0:
            # The right base, but elements near it and near zero too, of which the mask should say zero.
            half = 1 << (delta - 1)
            above = int(rng.integers(half))
            base = half + above
            deltas = [2 * half - 1 - above if mask >> j & 1 else half for j in range(count)]
            deltas[(mask & -mask).bit_length() - 1] = 0
        fields = [(mask, count)] if masked else []
        fields += [(base, 8 * element), *((each, delta) for each in deltas)]
        value, at = 2 + encoding + 6 * masked, 4
        for part, bits in fields:
            value |= part << at
            at += bits
        out.append((value, at))
    return out


def _random(bits: int, rng: np.random.Generator) -> int:
    return int.from_bytes(rng.bytes(bits // 8 + 1), "little") & ((1 << bits) - 1)


def _window(codec: LineCodec, fmt: Format, rng: np.random.Generator) -> list[Code]:
    w, count = int(codec.options()["bits"]), fmt.elements_in(64)
    rest_at = 1 + count * w
    fixed = rest_at + count * (fmt.mantissa_bits + 1)
    allowed = (511 - fixed) // fmt.exponent_bits
    out = []
    for escapes in range(allowed - 6, min(count, allowed + 14) + 1):
        chosen = set(rng.choice(count, escapes, replace=False).tolist())
        value = _random(fixed - rest_at, rng) << rest_at
        for j in range(count):
            value |= (0 if j in chosen else int(rng.integers(1, 1 << w))) << (1 + w * j)
        bits = fixed + fmt.exponent_bits * escapes
        value |= _random(bits - fixed, rng) << fixed
        out.append((value, bits))
    return out


def _huffman(codec: LineCodec, tables: Tables, rng: np.random.Generator) -> list[Code]:
    lengths: NDArray[np.uint8] = tables.lengths[0]  # type: ignore[attr-defined]
    order = sorted(np.flatnonzero(lengths).tolist(), key=lambda s: (int(lengths[s]), s))
    codes, code, before = {}, 0, 0
    for symbol in order:
        code <<= int(lengths[symbol]) - before
        before = int(lengths[symbol])
        codes[symbol] = int(f"{code:0{before}b}"[::-1], 2)
        code += 1
    lanes, count = int(codec.options()["substreams"]), 32
    fixed = 1 + (lanes - 1) * 6 + count * 8
    out = []
    if len(order) == 1:
        # The one code is a single zero, so a one is no code; its sub-stream is as long as the others' codes.
        for i in range(64):
            step, wrong = i % 4, 7 if i % 4 == 3 else i % 7
            value = 1 | sum((3 if lane == wrong else 4) << (1 + 6 * lane) for lane in range(lanes - 1))
            # The fourth code of the last sub-stream lies behind the line's end, where bits are random anyway.
            value |= 1 << (fixed + 4 * wrong + step) if step < 3 else 0
            out.append((value, fixed + count - 1))
        return out
    for target in range(508, 520):
        # Grow the line symbol by symbol from the shortest codes to the longest, until the size is met.
        chosen = [order[0]] * count
        for j in range(count):
            left = target - fixed - sum(int(lengths[s]) for s in chosen)
            options = [s for s in order if 0 <= int(lengths[s]) - int(lengths[chosen[j]]) <= max(left, 0)]
            chosen[j] = options[-1]
        value, at = 0, fixed
        for symbol in chosen:
            value |= codes[symbol] << at
            at += int(lengths[symbol])
        if at != target:
            continue
        per = count // lanes
        for lane in range(lanes - 1):
            value |= sum(int(lengths[s]) for s in chosen[per * lane : per * (lane + 1)]) << (1 + 6 * lane)
        rest_at = fixed - count * 8
        out.append((value | 1 | _random(count * 8, rng) << rest_at, target))
    return out


def _tans(codec: LineCodec, tables: Tables, rng: np.random.Generator) -> list[Code]:
    static = cast(StaticTables, tables)
    machine, element = static.machine, static.field.raw_bits
    streams, r, size = int(codec.options()["streams"]), machine.precision, 1 << machine.precision
    if len(machine.frequency) < 2:
        return []
    count = 32
    out: list[Code] = []

    def coded(row: int, symbols: list[int], raw: int, fill: int) -> Code:
        """The line of these symbols by table ``row`` whose states end in the low bits of ``raw``."""
        state = [size + (raw >> (r * c) & (size - 1)) for c in range(streams)]

        def back(c: int, row: int, symbol: int) -> Code:
            place = row * 256 + symbol
            bits = (state[c] + int(machine.encode_bits[place])) >> 16
            written = (state[c] & ((1 << bits) - 1), bits)
            state[c] = int(machine.encode_state[row * size + (state[c] >> bits) + int(machine.encode_find[place])])
            return written

        parts = [back(j % streams, row, symbols[j]) for j in reversed(range(count))]
        head = back(0, 0, row + 1)
        fields = [(state[0] - size, r), head, *((x - size, r) for x in state[1:]), *reversed(parts)]
        fields.append((raw >> (streams * r), max(fill - streams * r, 0)))
        value = at = 0
        for part, bits in fields:
            value |= part << at
            at += bits
        return value, at

    for i in range(400):
        row = 1 + i % (len(machine.frequency) - 1)
        frequency, used = _used(machine.frequency[row])
        # About a dozen escapes and frequent symbols fill a line; how many it takes differs with the tables.
        n_escapes = int(rng.integers(4, 24))
        others = count - n_escapes if len(used) else 0
        shares = frequency[used] / max(int(frequency[used].sum()), 1)
        symbols = [0] * (count - others) + [int(s) for s in (rng.choice(used, others, p=shares) if others else ())]
        rng.shuffle(symbols)
        fill = sum(16 if s == 0 else element for s in symbols)
        line = coded(row, symbols, _random(fill, rng), fill)
        if 505 <= line[1] <= 522:
            out.append(line)
    for row in range(1, len(machine.frequency)):
        frequency, used = _used(machine.frequency[row])
        # Fewer raw bits than the states have: what is left of them must be zero, and is not in every second line.
        for filled in range(streams * r // element - 1 if frequency[1] and len(used) else 0):
            symbols = [int(rng.choice(used))] * filled + [1] * (count - filled)
            rng.shuffle(symbols)
            fill = element * filled
            out.append(coded(row, symbols, _random(streams * r if filled % 2 else fill, rng), fill))
    return out


def _used(frequency: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Frequencies of a row, and its symbols of field values."""
    symbols = np.flatnonzero(frequency)
    return frequency, symbols[symbols > 1]
