"""The classic codecs against a plain reading of their definitions, bit for bit, on lines of all kinds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress_codecs.contracts import LineCodec, Lines
from linepress_codecs.formats import FORMATS
from linepress_codecs.registry import make, parse_spec
from linepress_codecs.testing import gaussian_bits, sample_lines

Words = list[int]


def low(value: int, width: int) -> str:
    """A field as the stream holds it: low bit first."""
    return "".join(str(value >> i & 1) for i in range(width))


def fits(word: int, width: int, of: int = 32) -> bool:
    """Whether an unsigned word is a sign extension of ``width`` bits."""
    signed = word - (1 << of) if word >> (of - 1) else word
    return -(1 << (width - 1)) <= signed < 1 << (width - 1)


def text_of(words: Words) -> str:
    return "".join(low(word, 32) for word in words)


# --- one function a codec: the code of a line, its header included ----------------------------------


def zero(words: Words) -> str:
    return "0" + text_of(words) if any(words) else "1"


def repeat(words: Words) -> str:
    pairs = set(zip(words[::2], words[1::2], strict=True))
    return "1" + text_of(words[:2]) if len(pairs) == 1 else "0" + text_of(words)


def bdi(words: Words, gem5: bool) -> str:
    line = b"".join(word.to_bytes(4, "little") for word in words)
    if not any(line):
        return low(0, 4) + ("" if gem5 else low(0, 8))
    if repeat(words)[0] == "1":
        return low(1, 4) + text_of(words[:2])
    best = low(15, 4) + text_of(words)
    for tag, k, d in ((2, 8, 1), (3, 8, 2), (4, 8, 4), (5, 4, 1), (6, 4, 2), (7, 2, 1)):
        items = [int.from_bytes(line[i : i + k], "little") for i in range(0, len(line), k)]
        top = 2 ** (8 * d - 1)

        def signed(x: int, k: int = k) -> int:
            return (x + 2 ** (8 * k - 1)) % 2 ** (8 * k) - 2 ** (8 * k - 1)

        def near(x: int, top: int = top) -> bool:
            return -top + gem5 <= signed(x) < top

        base = next((x for x in items if not near(x)), 0)
        if not all(near(x) or near(x - base) for x in items):
            continue
        one_base = all(near(x - base) for x in items)
        masked = gem5 or not one_base
        code = low(tag + (0 if gem5 or one_base else 6), 4)
        if masked:
            code += "".join("0" if near(x) else "1" for x in items)
        code += low(base, 8 * k)
        for x in items:
            code += low(signed(x if masked and near(x) else x - base) % 2 ** (8 * d), 8 * d)
        if len(code) < len(best):
            best = code
    return best


def keep(code: str, words: Words) -> str:
    """The code behind its header bit, or the line raw."""
    return "1" + code if len(code) < 32 * len(words) else "0" + text_of(words)


def fpc(words: Words) -> str:
    code, k = "", 0
    while k < len(words):
        x = words[k]
        run = 0
        while run < 8 and k + run < len(words) and words[k + run] == 0:
            run += 1
        if run:
            code += low(0, 3) + low(run - 1, 3)
            k += run
            continue
        b = x.to_bytes(4, "little")
        if fits(x, 4):
            code += low(1, 3) + low(x & 15, 4)
        elif fits(x, 8):
            code += low(2, 3) + low(x & 255, 8)
        elif fits(x, 16):
            code += low(3, 3) + low(x & 65535, 16)
        elif x & 65535 == 0:
            code += low(4, 3) + low(x >> 16, 16)
        elif fits(x & 65535, 8, 16) and fits(x >> 16, 8, 16):
            code += low(5, 3) + low(b[0], 8) + low(b[2], 8)
        elif len(set(b)) == 1:
            code += low(6, 3) + low(b[0], 8)
        else:
            code += low(7, 3) + low(x, 32)
        k += 1
    return keep(code, words)


FPCD_PATTERNS = [
    "ZZZZ", "FFFF", "MMMMP", "MMMMQ", "ZZZX", "XZZZ", "RRRR", "MMMXP", "MMMXQ", "ZZXX", "ZXZX", "FFXX", "XXZZ",
    "MMXXP", "MMXXQ", "XXXX",
]  # fmt: skip


def fpcd(words: Words) -> str:
    prefixes, stored = "", ""
    slots: dict[str, int] = {}
    for k, x in enumerate(words):
        mine = x.to_bytes(4, "big")

        def matches(pattern: str, mine: bytes = mine) -> bool:
            if pattern[4:] and pattern[4] not in slots:
                return False
            past = slots[pattern[4]].to_bytes(4, "big") if pattern[4:] else b"...."
            wanted = {"Z": 0, "F": 255, "R": mine[0]}
            return all(
                c == "X" or byte == (past[i] if c == "M" else wanted[c])
                for i, (c, byte) in enumerate(zip(pattern[:4], mine, strict=True))
            )

        # Fewest stored bytes (R stores one); of equals without history, then Q, then P.
        best = min(
            (p for p in FPCD_PATTERNS if matches(p)),
            key=lambda p: (p.count("X") + ("R" in p), " QP".index(p[4:] or " "), FPCD_PATTERNS.index(p)),
        )
        prefixes += low(FPCD_PATTERNS.index(best), 4)
        kept = mine[:1] if best == "RRRR" else bytes(v for c, v in zip(best[:4], mine, strict=True) if c == "X")
        stored += "".join(low(byte, 8) for byte in reversed(kept))
        if k == 0:
            slots["Q"] = x
        else:
            if k > 1:
                slots["Q"] = slots["P"]
            slots["P"] = x
    return keep(prefixes + stored, words)


def cpack(words: Words) -> str:
    code = ""
    fifo: list[int] = []
    for x in words:
        options = []
        if x == 0:
            options.append(("00", True))
        for i, entry in enumerate(fifo):
            if entry == x:
                options.append(("10" + low(i, 4), True))
            if entry >> 8 == x >> 8:
                options.append(("1110" + low(i, 4) + low(x & 255, 8), False))
            if entry >> 16 == x >> 16:
                options.append(("1100" + low(i, 4) + low(x & 65535, 16), False))
        if x >> 8 == 0:
            options.append(("1101" + low(x, 8), True))
        options.append(("01" + low(x, 32), False))
        best, known = min(options, key=lambda option: len(option[0]))
        code += best
        if not known:
            fifo = [*fifo, x][-16:]
    return keep(code, words)


def bpc(words: Words, delta_bits: int) -> str:
    m = len(words)
    base = words[0]
    if base == 0:
        code = "000"
    elif fits(base, 4):
        code = "001" + low(base & 15, 4)
    elif fits(base, 8):
        code = "010" + low(base & 255, 8)
    elif fits(base, 16):
        code = "011" + low(base & 65535, 16)
    else:
        code = "1" + low(base, 32)
    differences = [(words[i] - words[i - 1]) % (1 << delta_bits) for i in range(1, m)]
    planes = ["".join(str(d >> j & 1) for d in differences) for j in range(delta_bits - 1, -1, -1)]
    above = "0" * (m - 1)
    tokens: list[tuple[str, str]] = []
    for plane in planes:
        dbx = "".join("01"[a != b] for a, b in zip(plane, above, strict=True))
        tokens.append((dbx, plane))
        above = plane
    k = 0
    position_bits = (m - 1).bit_length()
    while k < len(tokens):
        dbx, dbp = tokens[k]
        if "1" not in dbx:
            run = 1
            while k + run < len(tokens) and "1" not in tokens[k + run][0]:
                run += 1
            code += "001" if run == 1 else "01" + low(run - 2, 5)
            k += run
            continue
        if "0" not in dbx:
            code += "00000"
        elif "1" not in dbp:
            code += "00001"
        elif dbx.count("1") == 2 and "11" in dbx:
            code += "00010" + low(dbx.index("1"), position_bits)
        elif dbx.count("1") == 1:
            code += "00011" + low(dbx.index("1"), position_bits)
        else:
            code += "1" + dbx
        k += 1
    return keep(code, words)


def sc2_reader(codec: LineCodec, lines: Lines) -> Callable[[Words], str]:
    """Codes rebuilt from the serialised tables: canonical by (length, value), the escape first of its length."""
    data = codec.fit([lines]).to_bytes()
    escape, counts = data[1], np.frombuffer(data, "<u2", count=15, offset=2)
    values = np.frombuffer(data, "<u4", offset=32).tolist()
    lengths = np.repeat(np.arange(1, 16), counts).tolist()
    alphabet = sorted([(escape, -1), *zip(lengths, values, strict=True)])
    codes: dict[int, str] = {}
    code = previous = 0
    for i, (length, value) in enumerate(alphabet):
        code = (code + 1) << (length - previous) if i else 0
        codes[value] = f"{code:0{length}b}"
        previous = length

    def read(words: Words) -> str:
        return keep("".join(codes.get(x) or codes[-1] + low(x, 32) for x in words), words)

    return read


REFERENCES: dict[str, Callable[[Words], str]] = {
    "zero": zero,
    "repeat": repeat,
    "bdi": lambda words: bdi(words, gem5=False),
    "bdi:accounting=gem5": lambda words: bdi(words, gem5=True),
    "fpc": fpc,
    "fpcd": fpcd,
    "cpack": cpack,
    "bpc": lambda words: bpc(words, 33),
    "bpc:delta=32": lambda words: bpc(words, 32),
}


def compare(codec: LineCodec, reference: Callable[[Words], str], lines: Lines) -> None:
    tables = codec.fit([lines])
    packed = codec.encode(lines, tables)
    stream = "".join(map(str, np.unpackbits(packed.payload, bitorder="little")))
    for i, line in enumerate(lines.data):
        expected = reference(np.ascontiguousarray(line).view("<u4").tolist())
        start = int(packed.starts[i])
        assert int(packed.bits[i]) == len(expected)
        assert stream[start : start + len(expected)] == expected
    assert np.array_equal(codec.measure(lines, tables), packed.bits)
    assert np.array_equal(codec.decode(packed, tables), lines.data)


@pytest.mark.parametrize("line_bytes", [64, 32])
@pytest.mark.parametrize("spec", [*REFERENCES, "sc2", "sc2:capacity=16"])
def test_streams_read_as_defined(spec: str, line_bytes: int) -> None:
    codec = make(*parse_spec(spec))
    assert isinstance(codec, LineCodec)
    for name in ("bf16", "fp32", "int8", "int32"):
        for _, lines in sample_lines(FORMATS[name], line_bytes):
            part = lines[:20]
            reference = REFERENCES.get(spec) or sc2_reader(codec, part)
            compare(codec, reference, part)


BYTES = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
WORDS = (
    st.sampled_from([0, 1, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 1])
    | st.integers(0, 2**32 - 1)
    | st.integers(-300, 300).map(lambda x: x % 2**32)
    | BYTES.map(lambda b: b * 0x01010101)
    | st.tuples(BYTES, BYTES).map(lambda t: t[0] | t[1] << 16)
    | st.tuples(BYTES, BYTES).map(lambda t: ((t[0] ^ 128) - 128) % 65536 | ((t[1] ^ 128) - 128) % 65536 << 16)
    | st.integers(0, 65535).map(lambda x: x << 16)
)


@st.composite
def one_line(draw: st.DrawFn) -> Lines:
    """A line whose words are of a kind, near each other, or repeated: what the codecs look for, and its edges."""
    n = draw(st.sampled_from([16, 8]))
    words: Words = []
    while len(words) < n:
        step = draw(st.integers(0, 4))
        if words and step == 0:
            words.append(draw(st.sampled_from(words)))
        elif words and step == 1:
            words.append(words[-1] ^ draw(st.sampled_from([1, 0xFF, 0x100, 0xFFFF, 0x10000])))
        elif words and step == 2:
            words.append((words[-1] + draw(st.integers(-200, 200))) % 2**32)
        else:
            words.append(draw(WORDS))
    return Lines(np.array(words, "<u4").view(np.uint8).reshape(1, -1), FORMATS["uint8"])


@pytest.mark.parametrize("spec", list(REFERENCES))
@given(lines=one_line())
@settings(max_examples=150, deadline=None)
def test_any_line(spec: str, lines: Lines) -> None:
    codec = make(*parse_spec(spec))
    assert isinstance(codec, LineCodec)
    compare(codec, REFERENCES[spec], lines)


def test_gaussian_bf16_does_not_compress() -> None:
    """iid weights: a float is no small integer. BDI, FPC and C-Pack keep their header; BPC finds the signs and high
    exponent bits that neighbours share, 1.20 of the code alone."""
    lines = Lines(gaussian_bits(FORMATS["bf16"], 1 << 18, 0.02, 3).view(np.uint8).reshape(-1, 64), FORMATS["bf16"])
    for spec, header in (("bdi", 4), ("fpc", 1), ("fpcd", 1), ("cpack", 1)):
        codec = make(*parse_spec(spec))
        assert isinstance(codec, LineCodec)
        bits = codec.measure(lines, codec.fit([]))
        assert 512 / (bits.mean() - header) == pytest.approx(1.0, abs=2e-4)
        assert (bits < 512).mean() < 1e-3
    codec = make("bpc", {})
    assert isinstance(codec, LineCodec)
    bits = codec.measure(lines, codec.fit([]))
    assert 512 / (bits.mean() - 1) == pytest.approx(1.2005, abs=0.002)
    reference = [len(bpc(line.view("<u4").tolist(), 33)) for line in lines.data[:500]]
    assert bits[:500].tolist() == reference
