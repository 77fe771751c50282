"""The conformance kit: what every codec must keep, as checks any package can run on its own codec.

    import pytest
    from linepress_codecs.testing import block_checks, line_checks

    @pytest.mark.parametrize("check", line_checks(), ids=lambda c: c.__name__)
    def test_my_codec(check):
        check(MyCodec())

Each check raises AssertionError with the codec's spec, the input and what went wrong. Inputs are made by seed;
nothing is read from outside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from linepress_codecs.contracts import LINE_BYTES, STATUSES, BlockCodec, Codec, LineCodec, Lines, Packed, Tables
from linepress_codecs.errors import CodecError, CorruptDataError, UnsupportedFormatError
from linepress_codecs.formats import FORMATS, Format
from linepress_codecs.packing import TAG_ONLY_BITS
from linepress_codecs.registry import make, parse_spec
from linepress_codecs.testing.inputs import SEED, sample_blocks_of, sample_lines
from linepress_codecs.testing.memory import check_ends, check_packed_memory

LineCheck = Callable[[LineCodec], None]
BlockCheck = Callable[[BlockCodec], None]


def formats_of(codec: LineCodec) -> list[Format]:
    """Formats the codec says it supports."""
    return [f for f in FORMATS.values() if codec.supports(f)]


def _led(codec: LineCodec) -> list[tuple[Format, bool]]:
    """`formats_of`, and whether a format is the first of its element width: those of one width share their loops."""
    formats = formats_of(codec)
    return [(fmt, fmt.bits not in {before.bits for before in formats[:i]}) for i, fmt in enumerate(formats)]


@lru_cache(maxsize=64)
def _drawn(fmt: Format, line_bytes: int) -> tuple[tuple[str, Lines], ...]:
    """`sample_lines`, drawn once; who hands them to a codec hands on a copy (`inputs`)."""
    return tuple(sample_lines(fmt, line_bytes))


def inputs(fmt: Format, line_bytes: int = LINE_BYTES) -> dict[str, Lines]:
    """`sample_lines` by name, the caller's own to keep or to spoil."""
    return {name: dataclasses.replace(lines, data=lines.data.copy()) for name, lines in _drawn(fmt, line_bytes)}


class Case(NamedTuple):
    """Lines, the tables fitted to them and their code, kept for the checks that follow on the same codec."""

    where: str
    lines: Lines
    tables: Tables
    packed: Packed


@lru_cache(maxsize=2)
def _cases(codec: LineCodec) -> dict[tuple[str, int, str], Case]:
    """Lines of every kind, by format, line size and name; of 32 B once an element width."""
    found = {}
    for fmt, leads in _led(codec):
        for line_bytes in (64, 32) if leads else (64,):
            for name, lines in inputs(fmt, line_bytes).items():
                where = f"{codec.spec} {fmt.name} {line_bytes} B {name}"
                before = lines.data.copy()
                try:
                    tables = codec.fit([lines])
                except UnsupportedFormatError:
                    if line_bytes == 64:
                        raise
                    continue
                packed = codec.encode(lines, tables)
                assert np.array_equal(lines.data, before), f"{where}: fit or encode changed its input"
                found[fmt.name, line_bytes, name] = Case(where, lines, tables, packed)
    return found


def _some(codec: LineCodec) -> list[Case]:
    """Of `_cases` every input once an element width and ``mixed`` of the other formats: for checks that fit anew."""
    led = {fmt.name for fmt, leads in _led(codec) if leads}
    return [case for (of, _, name), case in _cases(codec).items() if of in led or name == "mixed"]


@lru_cache(maxsize=2)
def _small(codec: LineCodec) -> tuple[Case, ...]:
    """A few inputs a format for the hostile checks.

    Lines with a geometry once an element width, whose formats share their loops; plain ones for every format.
    """
    found = []
    for fmt, leads in _led(codec):
        known = inputs(fmt)
        for name in ("mixed", "channels", "woven", "turning", "revised") if leads else ("mixed",):
            part = known[name][: 20 if name == "turning" else 12]
            tables = codec.fit([part])
            found.append(Case(f"{codec.spec} {fmt.name} {name}", part, tables, codec.encode(part, tables)))
    return tuple(found)


def changed(packed: Packed, **values: object) -> Packed:
    """A copy of ``packed`` with some attributes replaced."""
    return dataclasses.replace(packed, **values)  # type: ignore[arg-type]


def decoded_or_none(codec: LineCodec, packed: Packed, tables: Tables, where: str) -> NDArray[np.uint8] | None:
    """Decode hostile input: None for a typed error, lines of the right shape, or the check fails."""
    try:
        out = codec.decode(packed, tables)
    except (CorruptDataError, UnsupportedFormatError):
        return None
    assert out.shape == (len(packed), packed.line_bytes), f"{where}: shape {out.shape}"
    assert out.dtype == np.uint8, f"{where}: dtype {out.dtype}"
    return out


def decode_or_refuse(codec: LineCodec, packed: Packed, tables: Tables, where: str) -> str:
    """``refused`` or ``decoded``, see `decoded_or_none`."""
    return "refused" if decoded_or_none(codec, packed, tables, where) is None else "decoded"


# --- checks of line codecs ------------------------------------------------------------------------------------------


def check_lossless(codec: LineCodec) -> None:
    """decode(encode(lines)) is bit for bit the input, for every format, special values included."""
    for where, lines, tables, packed in _cases(codec).values():
        out = codec.decode(packed, tables)
        assert out.dtype == np.uint8, f"{where}: decode gives {out.dtype}"
        assert out.shape == lines.data.shape, f"{where}: decode gives shape {out.shape}"
        if not np.array_equal(out, lines.data):
            line, byte = np.argwhere(out != lines.data)[0]
            raise AssertionError(f"{where}: line {line} byte {byte} differs after decode")


def check_measure(codec: LineCodec) -> None:
    """measure gives exactly the sizes that encode writes; none grows beyond raw and a 16-bit header."""
    for where, lines, tables, packed in _cases(codec).values():
        bits = codec.measure(lines, tables)
        assert bits.dtype == np.uint16, f"{where}: measure gives {bits.dtype}"
        assert bits.shape == (len(lines),), f"{where}: measure gives shape {bits.shape}"
        assert np.array_equal(bits, packed.bits), f"{where}: measure and encode differ"
        limit = 8 * lines.line_bytes + 16
        assert not len(bits) or int(bits.max()) <= limit, f"{where}: a line grew to {bits.max()} bits"
        ends = packed.starts.astype(np.int64) + packed.bits
        assert not len(ends) or int(ends.max()) <= 8 * len(packed.payload), f"{where}: code past the payload"
        order = np.argsort(packed.starts, kind="stable")
        gaps = packed.starts[order][1:].astype(np.int64) - ends[order][:-1]
        assert not (gaps < 0).any(), f"{where}: two lines share coded bits"
        tag_only = bits <= TAG_ONLY_BITS
        base = lines.geometry.base
        meant = lines.data[tag_only] if base is None else lines.data[tag_only] ^ base[tag_only]
        zero = not lines.data[tag_only].any() or not meant.any()
        assert zero, f"{where}: a line neither zero nor its base is coded in at most {TAG_ONLY_BITS} bits"


def check_random_access(codec: LineCodec) -> None:
    """decode_line gives what decode gives, reading only its own bits (all others are overwritten)."""
    for where, lines, tables, packed in _cases(codec).values():
        for i in sorted({0, 1, len(lines) // 2, len(lines) - 2, len(lines) - 1} & set(range(len(lines)))):
            alone = codec.decode_line(packed, i, tables)
            assert np.array_equal(alone, lines.data[i]), f"{where}: line {i} alone differs"
            kept = np.zeros(8 * len(packed.payload), bool)
            start = int(packed.starts[i])
            kept[start : start + int(packed.bits[i])] = True
            stream = np.unpackbits(packed.payload, bitorder="little")
            noise = np.where(kept, stream, 1 - stream).astype(np.uint8)
            other = changed(packed, payload=np.packbits(noise, bitorder="little"))
            alone = codec.decode_line(other, i, tables)
            assert np.array_equal(alone, lines.data[i]), f"{where}: line {i} depends on bits outside its code"
        if len(lines):
            for outside in (-1, len(lines)):
                try:
                    codec.decode_line(packed, outside, tables)
                except (IndexError, CorruptDataError):
                    continue
                raise AssertionError(f"{where}: decode_line({outside}) of {len(lines)} lines did not refuse")


def check_tables(codec: LineCodec) -> None:
    """Tables survive to_bytes and tables_from_bytes and give the same code; damaged tables are refused or valid."""
    for where, lines, tables, packed in _cases(codec).values():
        data = tables.to_bytes()
        again = codec.tables_from_bytes(data)
        assert again.to_bytes() == data, f"{where}: tables change in a round trip"
        repacked = codec.encode(lines, again)
        assert np.array_equal(packed.payload, repacked.payload), f"{where}: restored tables code differently"
        assert np.array_equal(codec.decode(packed, again), lines.data), f"{where}: restored tables decode differently"
    for where, _, tables, packed in _small(codec):
        data = tables.to_bytes()
        rng = np.random.Generator(np.random.PCG64(SEED))
        damaged = [data[:n] for n in range(min(len(data), 64))] + [data + b"\0"]
        for _ in range(40 if data else 0):
            bent = bytearray(data)
            bent[int(rng.integers(len(bent)))] ^= 1 << int(rng.integers(8))
            damaged.append(bytes(bent))
        for bad in damaged:
            try:
                other = codec.tables_from_bytes(bad)
            except CorruptDataError:
                continue
            decode_or_refuse(codec, packed, other, f"{where} with damaged tables")


def check_chunks(codec: LineCodec) -> None:
    """Fitting in chunks, empty ones among them, gives the tables of fitting at once; so does coding by chunks."""
    for where, lines, tables, packed in _some(codec):
        step = max(len(lines) // 3, 1)
        parts = [lines[i : i + step] for i in range(0, len(lines), step)]
        chunked = codec.fit([lines[:0], *parts, lines[:0]])
        assert chunked.to_bytes() == tables.to_bytes(), f"{where}: fit depends on the chunks"
        if parts:
            bits = np.concatenate([codec.measure(p, tables) for p in parts])
            assert np.array_equal(bits, packed.bits), f"{where}: sizes depend on the chunks"
            back = np.concatenate([codec.decode(codec.encode(p, tables), tables) for p in parts])
            assert np.array_equal(back, lines.data), f"{where}: chunks do not decode"
    codec.tables_from_bytes(codec.fit([]).to_bytes())


def check_other_tables(codec: LineCodec) -> None:
    """Lines the tables never saw still code losslessly (raw if need be); foreign tables decode or are refused."""
    for fmt in formats_of(codec):
        left_out = ("channels", "woven", "turning", "revised", "empty")
        cases = {name: case for (of, size, name), case in _cases(codec).items() if of == fmt.name and size == 64}
        fitted = {name: cases[name].tables for name in ("gaussian", "zeros", "random bytes")}
        for fitted_on, tables in fitted.items():
            for name, (_, lines, _, _) in cases.items():
                if name in left_out:
                    continue
                where = f"{codec.spec} {fmt.name} {name} with tables of {fitted_on}"
                packed = codec.encode(lines, tables)
                assert np.array_equal(codec.decode(packed, tables), lines.data), f"{where}: not lossless"
                assert np.array_equal(codec.measure(lines, tables), packed.bits), f"{where}: measure differs"
                for other in fitted.values():
                    decode_or_refuse(codec, packed, other, where)


def check_deterministic(codec: LineCodec) -> None:
    """The same input gives the same tables and the same bytes."""
    for where, lines, tables, packed in _some(codec):
        again = codec.fit([dataclasses.replace(lines, data=lines.data.copy())])
        assert again.to_bytes() == tables.to_bytes(), f"{where}: fit is not deterministic"
        two = codec.encode(lines, again)
        assert packed.payload.tobytes() == two.payload.tobytes(), f"{where}: encode is not deterministic"
        assert np.array_equal(packed.starts, two.starts), f"{where}: starts are not deterministic"


def check_truncated(codec: LineCodec) -> None:
    """A payload cut at every byte is refused or gives lines of the right shape."""
    for where, _, tables, packed in _small(codec):
        for n in range(len(packed.payload)):
            short = changed(packed, payload=packed.payload[:n].copy())
            decode_or_refuse(codec, short, tables, f"{where} cut at {n}")
        last = int((packed.starts + packed.bits.astype(np.uint64)).max()) if len(packed) else 0
        if last > 8:
            short = changed(packed, payload=packed.payload[: last // 8 - 1].copy())
            got = decode_or_refuse(codec, short, tables, f"{where} cut inside the last line")
            assert got == "refused", f"{where}: a payload that ends inside a line was decoded"


def check_flipped(codec: LineCodec) -> None:
    """Any bit flipped: refused or lines of the right shape, and lines that were not hit stay right."""
    for where, lines, tables, packed in _small(codec):
        ends = packed.starts + packed.bits.astype(np.uint64)
        rng = np.random.Generator(np.random.PCG64(SEED))
        for bit in rng.permutation(8 * len(packed.payload))[:300]:
            bent = packed.payload.copy()
            bent[bit // 8] ^= 1 << (bit % 8)
            hostile = changed(packed, payload=bent)
            out = decoded_or_none(codec, hostile, tables, f"{where} bit {bit}")
            if out is not None:
                hit = (packed.starts <= np.uint64(bit)) & (np.uint64(bit) < ends)
                same = (out == lines.data).all(axis=1)
                assert same[~hit].all(), f"{where}: flipping bit {bit} changed a line that does not hold it"


def check_hostile_geometry(codec: LineCodec) -> None:
    """Starts past the end, sizes that lie, arrays that do not match: refused, or lines of the right shape."""
    for where, _, tables, packed in _small(codec):
        n = len(packed)
        far = packed.starts.copy()
        far[n // 2] = np.uint64(8 * len(packed.payload) + 8)
        huge = packed.starts.copy()
        huge[0] = np.uint64(0xFFFFFFFFFFFFFF00)
        assert decode_or_refuse(codec, changed(packed, starts=far), tables, where) == "refused", f"{where}: far start"
        assert decode_or_refuse(codec, changed(packed, starts=huge), tables, where) == "refused", f"{where}: wrap"
        short = changed(packed, starts=packed.starts[:-1])
        assert decode_or_refuse(codec, short, tables, where) == "refused", f"{where}: fewer starts than sizes"
        none = changed(packed, payload=packed.payload[:0])
        if int(packed.bits.max()):
            assert decode_or_refuse(codec, none, tables, where) == "refused", f"{where}: no payload"
        for lie in (0, 1, 7, 255, 511, 512, 513, 600, 65535):
            bits = np.full(n, lie, np.uint16)
            decode_or_refuse(codec, changed(packed, bits=bits), tables, f"{where} all sizes {lie}")
        rng = np.random.Generator(np.random.PCG64(SEED))
        for _ in range(50):
            bits = (packed.bits.astype(np.int64) + rng.integers(-3, 4, n)).clip(0, 65535).astype(np.uint16)
            decode_or_refuse(codec, changed(packed, bits=bits), tables, f"{where} sizes off by a little")
            starts = packed.starts + (rng.integers(0, 3, n) * 8).astype(np.uint64)
            decode_or_refuse(codec, changed(packed, starts=starts), tables, f"{where} starts off by a little")


def check_longest(codec: LineCodec) -> None:
    """No line longer than a raw one decodes, whatever bits follow and whatever size in reach it claims.

    Escapes and rare symbols can make a well-formed code longer than the line; no encoder writes it, it writes the
    line raw. Codes that need more craft than runs of zeros, ones and random bits are the business of a codec's tests.
    A byte is allowed to codecs made of codecs, whose parts differ in the few bits before a raw line.
    """
    rng = np.random.Generator(np.random.PCG64(SEED))
    for where, lines, tables, _ in _small(codec):
        if lines.format.name not in ("bf16", "fp32", "e4m3") or "mixed" not in where:
            continue
        noise = Lines(rng.integers(0, 256, (256, lines.line_bytes), dtype=np.uint8), lines.format)
        longest = int(codec.measure(noise, tables).max()) + 8
        for fill in (np.zeros(256, np.uint8), np.full(256, 255, np.uint8), rng.integers(0, 256, 256, dtype=np.uint8)):
            for head in (0, 1):
                payload = fill.copy()
                payload[0] = payload[0] & 0xFE | head
                for size in range(longest + 1, longest + 8 * lines.line_bytes // 3):
                    alone = Packed(
                        payload, np.zeros(1, np.uint64), np.array([size], np.uint16), lines.format, lines.line_bytes
                    )
                    got = decode_or_refuse(codec, alone, tables, f"{where} of {size} bits")
                    assert got == "refused", f"{where}: a line of {size} bits decoded, a raw one at most {longest}"


def check_formats(codec: LineCodec) -> None:
    """An unsupported format is refused with the typed error by measure and encode."""
    for fmt in FORMATS.values():
        if not codec.supports(fmt):
            lines = inputs(fmt)["empty"]
            for action in (codec.measure, codec.encode):
                try:
                    action(lines, codec.fit([]))
                except UnsupportedFormatError:
                    continue
                raise AssertionError(f"{codec.spec} took {fmt.name} lines it says it does not support")


def check_identity(codec: Codec) -> None:
    """The spec gives back an equal codec through the registry; equal codecs are equal, hashable, and described."""
    again = make(*parse_spec(codec.spec))
    assert again == codec, f"{codec.spec} parses to {again.spec}"
    assert hash(again) == hash(codec), f"{codec.spec} is not hashable by value"
    assert again.spec == codec.spec, f"{codec.spec} prints as {again.spec} after a round trip"
    for attribute in ("codec_id", "summary", "source"):
        assert getattr(codec, attribute), f"{codec.spec} has no {attribute}"
    assert codec.format_version >= 1, f"{codec.spec} has no format version"
    assert codec.kind in ("line", "block"), f"{codec.spec} has kind {codec.kind}"


def check_card(codec: LineCodec) -> None:
    """The hardware card exists for every supported format, its figures are finite and say where they come from."""
    for fmt in formats_of(codec):
        card = codec.card(fmt)
        for f in dataclasses.fields(card):
            value = getattr(card, f.name)
            for figure in value if isinstance(value, tuple) else (value,) if value is not None else ():
                where = f"{codec.spec} {fmt.name} {f.name}"
                assert 0 <= figure.value < float("inf"), f"{where} is {figure.value}"
                assert figure.status in STATUSES, f"{where} has status {figure.status}"
                assert figure.source, f"{where} has no source"
                assert figure.unit, f"{where} has no unit"
        assert card.clock_GHz.value > 0, f"{codec.spec}: clock of {card.clock_GHz.value} GHz"


def check_long_lines(codec: LineCodec) -> None:
    """Lines of 128 B come back, one alone too, at the sizes that measure gives; or the typed error refuses them."""
    for fmt in formats_of(codec):
        for name, lines in inputs(fmt, 128).items():
            if name not in ("mixed", "turning", "revised"):
                continue
            where = f"{codec.spec} {fmt.name} 128 B {name}"
            try:
                tables = codec.fit([lines])
            except UnsupportedFormatError:
                return
            packed = codec.encode(lines, tables)
            assert np.array_equal(codec.decode(packed, tables), lines.data), f"{where}: not lossless"
            assert np.array_equal(codec.measure(lines, tables), packed.bits), f"{where}: measure and encode differ"
            last = len(lines) - 1
            assert np.array_equal(codec.decode_line(packed, last, tables), lines.data[last]), f"{where}: not alone"


def check_packings(codec: LineCodec) -> None:
    """Lines say themselves where they end, and come back from the memory of every packing; see `testing.memory`."""
    fmt = formats_of(codec)[0]
    for name in ("mixed", "sparse", "turning", "revised"):
        where, lines, tables, packed = _cases(codec)[fmt.name, 64, name]
        check_ends(codec, lines[:24], where)
        check_packed_memory(codec, lines, tables, packed, where)


def line_checks() -> list[LineCheck]:
    """Every check a line codec must pass."""
    return [
        check_identity,
        check_lossless,
        check_measure,
        check_random_access,
        check_tables,
        check_chunks,
        check_other_tables,
        check_deterministic,
        check_truncated,
        check_flipped,
        check_hostile_geometry,
        check_longest,
        check_formats,
        check_card,
        check_packings,
        check_long_lines,
    ]


# --- checks of block codecs -----------------------------------------------------------------------------------------


def check_block_lossless(codec: BlockCodec) -> None:
    """decode(encode(block)) is the block, also from a memoryview, and encoding is deterministic."""
    for name, block in sample_blocks_of(codec.block):
        code = codec.encode(block)
        assert isinstance(code, bytes), f"{codec.spec} {name}: code is {type(code).__name__}"
        assert codec.decode(code, len(block)) == block, f"{codec.spec} {name}: not lossless"
        assert codec.encode(memoryview(block)) == code, f"{codec.spec} {name}: not deterministic"
        assert codec.decode(memoryview(code), len(block)) == block, f"{codec.spec} {name}: not from a view"


def check_block_hostile(codec: BlockCodec) -> None:
    """Truncated, extended, bent code and a wrong length: the typed error, or a block of the length asked for."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    for name, block in sample_blocks_of(min(codec.block, 4096)):
        code = codec.encode(block)
        hostile = [(code[:n], len(block)) for n in range(min(len(code), 200))]
        hostile += [(code + b"\0", len(block)), (code, len(block) + 1), (code, max(len(block) - 1, 0)), (b"", 64)]
        for _ in range(200 if code else 0):
            bent = bytearray(code)
            bent[int(rng.integers(len(bent)))] ^= 1 << int(rng.integers(8))
            hostile.append((bytes(bent), len(block)))
        for bad, n in hostile:
            try:
                out = codec.decode(bad, n)
            except CodecError:
                continue
            assert len(out) == n, f"{codec.spec} {name}: {len(out)} B came back where {n} B were due"
        if block:
            for n in (len(block) + 1, len(block) - 1):
                try:
                    codec.decode(code, n)
                except CorruptDataError:
                    continue
                raise AssertionError(f"{codec.spec} {name}: decoded a {len(block)} B block as {n} B")


def block_checks() -> list[BlockCheck]:
    """Every check a block codec must pass."""
    return [check_identity, check_block_lossless, check_block_hostile]
