"""The threat model's table comes of markers on tests: it fails here when a bad input loses its last test."""

from __future__ import annotations

from pathlib import Path

from benchmarks.tools.threats import threats

KNOWN = {
    "a rule broken, each of S01–S21 with one submission that passes and one that fails",
    "an archive bomb",
    "a bomb in place of a certificate",
    "a header of 100 MB",
    "10^6 tiny tensors",
    "names of files with `../`, NUL, newline, over 255 bytes",
    "names of tensors with `../`, NUL, newline, over 512 characters",
    "names that are HTML",
    "names that are one name elsewhere, or no text",
    "symbolic links",
    "hard links",
    "devices, pipes, sockets",
    "a file that changes between check and use",
    "other bytes than were declared",
    "two partners with one name",
    "a token of another partner",
    "an upload cut at every stage",
    "a service killed during an upload",
    "uploads out of order, twice, by two writers at once",
    "a licence that forbids redistribution",
    "a submission that never ends",
    "a suite other than the manifest asks for",
    "a length that lies: none, 7 bytes, over the file, over 100 MB, 2^64 − 1",
    "a header that is no text, no JSON, a list, too deep",
    "metadata that is no text",
    "unknown dtypes, fields, numbers that are none",
    "a hole, an overlap, an end before its beginning, three offsets",
    "sizes that overflow, half a byte, shape and bytes that differ, a zero that hides a product",
    "a file cut anywhere, a byte too many",
    "white space where parsers differ",
    "two tensors with one name, also by escapes",
    "rank 100,000, an empty name, BOOL of 2",
    "offsets out of order, which are legal",
    "a length that reads as pickle opcodes",
    "readers that disagree",
    "pickles, archives, programs, scripts, pointers under another name",
    "YAML with tags, aliases, a key twice, a bomb",
    "configurations that load code, or are too deep",
    "an attack on the checking process: network, files, memory, a lie in its answer",
    "a certificate that was altered, or signed by an impostor",
    "code that joins a run from this machine or another",
    "a run that reaches for the key, other partners or the network",
    "a run that takes all memory",
    "native code in the checking process",
    "results about files that were never handed in",
    "a ZIP with bytes behind it, text that runs, names that are something else elsewhere, numbers of 5,000 digits",
    "two framings, bodies of strangers, half-open heads, drips",
    "a PATCH after complete, more declared than there is room for, a token revoked meanwhile",
    "a hub that drips, a delete meanwhile, two runners",
    "one name with two contents, a deletion that is not complete, an audit log that was edited",
    "an envelope written otherwise, 200,000 signatures",
    "formulas in CSV",
}
"""Bad input that a partner or a stranger is known to try; each is held by a test that is marked with it."""


def test_each_bad_input_has_a_test() -> None:
    found = threats()
    assert set(found) == KNOWN
    for what, tests in found.items():
        for held in tests:
            assert not held.absent, f"{what}: {held.file} has no case {held.absent}; write it or mend the marker"


def test_a_case_that_went_away_is_noticed(tmp_path: Path) -> None:
    marked = '@pytest.mark.threat("a bomb", "large")\ndef test_bombs(kind):\n    pass\n'
    (tmp_path / "test_a.py").write_text('KINDS = ["large"]\n' + marked, encoding="utf-8")
    (tmp_path / "test_b.py").write_text('KINDS = ["small"]\n' + marked, encoding="utf-8")
    kept, gone = threats(tmp_path)["a bomb"]
    assert (kept.absent, gone.absent) == ((), ("large",))
    assert str(kept) == "`test_a.py`: `test_bombs[large]`"
