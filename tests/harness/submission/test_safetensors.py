"""The streaming reader against real bytes: every rule of the format, what upstream lets through, and the library."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linepress.submission.check.header import HeaderError, HeaderLimitError, Tensors, read_tensors
from linepress.submission.check.ledger import Ledger
from linepress.submission.check.library import disagreements
from linepress.submission.check.limits import Limits
from linepress.submission.check.reading import FileFacts, read_file
from linepress.submission.fixtures import build, header_of
from linepress.submission.fixtures import safetensors_bytes as pack


def judge(data: bytes, tmp_path: Path, limits: Limits | None = None) -> tuple[dict[str, str], FileFacts]:
    """Verdicts of one file called model.safetensors; rules without a complaint are absent."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    ledger = Ledger()
    with path.open("rb") as file:
        facts = read_file(path.name, file.fileno(), len(data), limits or Limits(), ledger, 0)
    return {f.rule: f.verdict for f in ledger.findings() if f.reasons[0] != "the check did not get this far"}, facts


def entry(dtype: str = "U8", shape: list[Any] | None = None, offsets: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [4] if shape is None else shape, "data_offsets": offsets or [0, 4]}


def raw(text: str, body: bytes = b"abcd") -> bytes:
    return pack(text.encode(), body)


GOOD = build({"w": ("U8", [4], b"abcd")})
ONE = '{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'

TAKEN = {
    "plain": GOOD,
    "rank 0": build({"w": ("F32", [], b"abcd")}),
    "zero-size": build({"a": ("U8", [0, 3], b""), "w": ("U8", [4], b"abcd")}),
    "NaN and Inf": build({"w": ("F32", [2], b"\x00\x00\xc0\x7f\x00\x00\x80\x7f")}),
    "order of the header is not that of the bytes": pack(
        header_of({"b": entry(offsets=[4, 8]), "a": entry(offsets=[0, 4])}), b"abcdefgh"
    ),
    "metadata": build({"w": ("U8", [4], b"abcd")}, {"format": "pt"}),
    "no tensor": pack(b"{}"),
    "packed half bytes": build({"w": ("F4", [8], b"abcd")}),
    "BOOL of 0 and 1": build({"w": ("BOOL", [4], b"\0\1\1\0")}),
    "a length that reads as pickle opcodes": pack(ONE.encode() + b" " * (640 - len(ONE)), b"abcd"),
    "an escaped name": raw('{"\\u0077":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}'),
    "white space inside": raw('{ "w" : { "dtype" : "U8" ,\n "shape" : [ 4 ] , "data_offsets" : [ 0 , 4 ] } }'),
}

REFUSED = {
    "empty": (b"", "S07"),
    "7 bytes": (b"\x01" * 7, "S07"),
    "length over 100 MB": ((100_000_001).to_bytes(8, "little") + b"{" + bytes(20), "S07"),
    "length over the file": (pack(ONE.encode(), b"abcd", length=4000), "S07"),
    "length 2^64 - 1": (b"\xff" * 8 + b"{}", "S07"),
    "not UTF-8": (pack(b'{"\xff":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', b"abcd"), "S07"),
    "not JSON": (raw('{"w":}'), "S07"),
    "a list": (raw("[]", b""), "S07"),
    "cut inside a string": (raw('{"w', b""), "S07"),
    "trailing comma": (raw(ONE[:-1] + ",}"), "S07"),
    "NaN": (raw('{"w":{"dtype":"U8","shape":[NaN],"data_offsets":[0,4]}}'), "S07"),
    "deep nesting": (raw('{"w":' + "[" * 3000 + "]" * 3000 + "}", b""), "S07"),
    "metadata of numbers": (raw('{"__metadata__":{"a":1},' + ONE[1:]), "S07"),
    "metadata a list": (raw('{"__metadata__":[],' + ONE[1:]), "S07"),
    "unknown dtype": (pack(header_of({"w": entry("u8")}), b"abcd"), "S07"),
    "negative side": (pack(header_of({"w": entry(shape=[-4])}), b"abcd"), "S07"),
    "minus zero as offset": (raw(ONE.replace("[0,4]", "[-0,4]")), "S07"),
    "minus zero as side": (raw('{"w":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}', b""), "S07"),
    "fractional side": (pack(header_of({"w": entry(shape=[4.0])}), b"abcd"), "S07"),
    "true as side": (pack(header_of({"w": entry("U8", [True], [0, 1])}), b"a"), "S07"),
    "three offsets": (pack(header_of({"w": entry(offsets=[0, 2, 4])}), b"abcd"), "S07"),
    "no shape": (raw('{"w":{"dtype":"U8","data_offsets":[0,4]}}'), "S07"),
    "a hole": (pack(header_of({"w": entry(offsets=[2, 6])}), b"abcdef"), "S07"),
    "an overlap": (pack(header_of({"a": entry(), "b": entry(offsets=[2, 6])}), b"abcdef"), "S07"),
    "end before begin": (pack(header_of({"w": entry(offsets=[4, 0])}), b"abcd"), "S07"),
    "overflow": (pack(header_of({"w": entry(shape=[2**40, 2**40])}), b"abcd"), "S07"),
    "half a byte": (pack(header_of({"w": entry("F4", [3], [0, 2])}), b"ab"), "S07"),
    "shape and offsets differ": (pack(header_of({"w": entry(shape=[5])}), b"abcd"), "S07"),
    "truncated": (GOOD[:-1], "S07"),
    "trailing byte": (GOOD + b"!", "S07"),
    "leading white space": (raw(" " + ONE), "S08"),
    "padding of newlines": (raw(ONE + "\n\n"), "S08"),
    "one name twice": (raw(ONE[:-1] + "," + ONE[1:]), "S08"),
    "one name twice by escapes": (raw(ONE[:-1] + ',"\\u0077"' + ONE[4:]), "S08"),
    "an unknown field": (raw('{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}}'), "S08"),
    "metadata null": (raw('{"__metadata__":null,' + ONE[1:]), "S08"),
    "metadata twice the same key": (raw('{"__metadata__":{"a":"1","a":"2"},' + ONE[1:]), "S08"),
    "zero hides a product": (pack(header_of({"w": entry(shape=[0, 2**63, 2**63], offsets=[0, 0])})), "S08"),
    "nine axes": (pack(header_of({"w": entry(shape=[1] * 8 + [4])}), b"abcd"), "S08"),
    "rank 1,000": (pack(header_of({"w": entry(shape=[1] * 999 + [4])}), b"abcd"), "S08"),
    "empty name": (pack(header_of({"": entry()}), b"abcd"), "S08"),
    "name of 513": (pack(header_of({"n" * 513: entry()}), b"abcd"), "S08"),
    "BOOL of 2": (build({"w": ("BOOL", [4], b"\0\1\2\0")}), "S08"),
    **{
        f"name {name!r}": (pack(header_of({name: entry()}), b"abcd"), "S08")
        for name in ("../w", "a/../b", "a\\..\\b", "a\0b", "a\nb", "\x1b[2J", "\u202ew", "\x7f", "a\u2028b")
    },
}


@pytest.mark.threat("offsets out of order, which are legal", "order of the header is not that of the bytes")
@pytest.mark.threat("a length that reads as pickle opcodes", "a length that reads as pickle opcodes")
@pytest.mark.parametrize("name", TAKEN)
def test_what_holds_up_is_taken(name: str, tmp_path: Path) -> None:
    verdicts, facts = judge(TAKEN[name], tmp_path)
    assert verdicts == {}
    assert facts.kind == "safetensors"
    assert len(facts.sha256) == 64


@pytest.mark.threat("names of tensors with `../`, NUL, newline, over 512 characters", "name of 513")
@pytest.mark.threat(
    "a length that lies: none, 7 bytes, over the file, over 100 MB, 2^64 − 1",
    "7 bytes",
    "length over the file",
    "length over 100 MB",
    "length 2^64 - 1",
)
@pytest.mark.threat(
    "a header that is no text, no JSON, a list, too deep",
    "not UTF-8",
    "not JSON",
    "a list",
    "deep nesting",
)
@pytest.mark.threat("metadata that is no text", "metadata of numbers", "metadata null")
@pytest.mark.threat(
    "unknown dtypes, fields, numbers that are none",
    "unknown dtype",
    "an unknown field",
    "minus zero as offset",
    "true as side",
)
@pytest.mark.threat(
    "a hole, an overlap, an end before its beginning, three offsets",
    "a hole",
    "an overlap",
    "end before begin",
    "three offsets",
)
@pytest.mark.threat(
    "sizes that overflow, half a byte, shape and bytes that differ, a zero that hides a product",
    "overflow",
    "half a byte",
    "shape and offsets differ",
    "zero hides a product",
)
@pytest.mark.threat("a file cut anywhere, a byte too many", "trailing byte")
@pytest.mark.threat("white space where parsers differ", "leading white space", "padding of newlines")
@pytest.mark.threat("two tensors with one name, also by escapes", "one name twice", "one name twice by escapes")
@pytest.mark.threat("rank 100,000, an empty name, BOOL of 2", "empty name", "BOOL of 2")
@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_is_refused_by_its_rule(name: str, tmp_path: Path) -> None:
    data, rule = REFUSED[name]
    verdicts, _ = judge(data, tmp_path)
    assert verdicts[rule] == "FAIL", verdicts


@pytest.mark.threat("rank 100,000, an empty name, BOOL of 2")
def test_rank_100000_is_refused_without_being_read_whole(tmp_path: Path) -> None:
    verdicts, _ = judge(pack(header_of({"w": entry(shape=[1] * 99_999 + [4])}), b"abcd"), tmp_path)
    assert "FAIL" in verdicts.values()


@pytest.mark.threat("a file cut anywhere, a byte too many")
def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = build({"a": ("U8", [2], b"ab"), "w": ("BF16", [4], b"abcdefgh")}, {"format": "pt"})
    for end in range(len(data)):
        verdicts, _ = judge(data[:end], tmp_path)
        assert "FAIL" in verdicts.values(), f"cut at byte {end}"


@pytest.mark.threat("names that are HTML")
def test_names_of_html_are_names(tmp_path: Path) -> None:
    verdicts, facts = judge(build({"<script>alert(1)</script>": ("U8", [4], b"abcd")}), tmp_path)
    assert verdicts == {}
    assert facts.tensors is not None
    assert facts.tensors.names == ["<script>alert(1)</script>"]


def test_tensors_are_counted_while_reading(tmp_path: Path) -> None:
    names = {f"t{i}": ("U8", [1], b"x") for i in range(11)}
    assert judge(build(names), tmp_path, Limits(tensors=11))[0] == {}
    verdicts, _ = judge(build(names), tmp_path, Limits(tensors=10))
    assert verdicts == {"S06": "FAIL", "S07": "UNDECIDED", "S08": "UNDECIDED"}


def test_metadata_without_end_is_a_limit() -> None:
    text = ("{" + '"__metadata__":{' + ",".join(f'"{i}":""' for i in range(5000)) + "}}").encode()
    with pytest.raises(HeaderLimitError):
        read_tensors(feeding(text, 1 << 16), 0, Limits())


def feeding(header: bytes, step: int) -> Callable[[], bytes]:
    at = 0

    def pieces() -> bytes:
        nonlocal at
        at += step
        return header[at - step : at]

    return pieces


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64])
def test_the_size_of_the_pieces_does_not_matter(step: int) -> None:
    header = header_of({"ä\U0001f600": entry(), "b": entry(offsets=[4, 8])}, {"k": 'a "quoted" \\ value'})
    whole = read_tensors(feeding(header, len(header)), 8, Limits())
    assert read_tensors(feeding(header, step), 8, Limits()) == whole
    assert whole.names == ["ä\U0001f600", "b"]


def second_opinion(own: Tensors | None, header: bytes, data_bytes: int) -> list[str]:
    """What the library says to ``header`` before ``data_bytes`` zeros."""
    raw = len(header).to_bytes(8, "little") + header
    descriptor = os.memfd_create("file")
    try:
        os.write(descriptor, raw)
        os.ftruncate(descriptor, len(raw) + data_bytes)
        return disagreements(descriptor, own, len(raw), hashlib.sha256(raw).hexdigest())
    finally:
        os.close(descriptor)


def both(header: bytes, data_bytes: int) -> tuple[Tensors | None, list[str]]:
    try:
        own = read_tensors(feeding(header, 64), data_bytes, Limits())
    except HeaderError:
        own = None
    return own, second_opinion(own, header, data_bytes)


SEEDS = [bytes(data[8 : 8 + int.from_bytes(data[:8], "little")]) for data in TAKEN.values()]
SCRAPS = [
    b"",
    b" ",
    b"0",
    b"-0",
    b"1e0",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"null",
    b"\\u0077",
    b"\xc3",
    b"18446744073709551616",
]


@pytest.mark.threat("readers that disagree")
@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    header=st.sampled_from(SEEDS),
    at=st.floats(0, 1),
    cut=st.integers(0, 4),
    scrap=st.one_of(st.sampled_from(SCRAPS), st.binary(max_size=3)),
)
def test_what_the_own_reader_takes_the_library_takes_alike(header: bytes, at: float, cut: int, scrap: bytes) -> None:
    place = int(at * len(header))
    own, notes = both(header[:place] + scrap + header[place + cut :], 4)
    if own is not None and not own.strict:
        assert notes == []


@pytest.mark.threat("readers that disagree")
def test_the_library_is_asked_about_the_header_that_was_hashed() -> None:
    header = json.dumps({"w": entry()}).encode()
    own, notes = both(header, 4)
    assert own is not None
    assert notes == []
    own.shapes[0] = (2, 2)
    assert second_opinion(own, header, 4) == ["the readers disagree on tensor 'w'"]
    with tempfile.TemporaryFile() as file:
        file.write(len(header).to_bytes(8, "little") + header + bytes(4))
        file.flush()
        own.shapes[0] = (4,)
        shown = disagreements(file.fileno(), own, 8 + len(header), "0" * 64)
    assert shown[-1] == "the header changed while it was read"
