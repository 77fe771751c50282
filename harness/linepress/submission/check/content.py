"""What a file is, by its bytes: an allow-list of three formats, and the names of what is refused (rules S02, S15).

Text has no bytes to be told by, so it is taken under the names of licences and notices only; pickles of protocol 0,
scripts and path files are text too.
"""

from __future__ import annotations

import pickletools
import re
import tarfile
from collections.abc import Callable

HEAD_BYTES = 512
END_BYTES = 22
"""Size of the record that ends a ZIP, without its comment (APPNOTE 4.3.16)."""
TAIL_BYTES = END_BYTES + (1 << 16)
"""How far from the end `zipfile` looks for that record."""
REACH_BYTES = 1 << 23
"""How far into any file 7-Zip looks for an archive (``kMaxCheckStartPosition`` of its OpenArchive.cpp)."""
TEXT_NAME = re.compile(r"(?:LICEN[CS]E|COPYING|NOTICE|README)[A-Za-z0-9_-]*(?:\.(?:txt|md|rst))?\Z", re.IGNORECASE)
JSON_SUFFIX = ".json"

_ARCHIVES: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive (or a PyTorch checkpoint, which is one with a pickle inside)"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"PK\x07\x08", "a split ZIP archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"BZh", "a bzip2 file"),
    (b"Rar!", "a RAR archive"),
)
_ANYWHERE: tuple[tuple[bytes, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "also a 7z archive (7-Zip finds it behind other bytes)"),
    (b"Rar!\x1a\x07", "also a RAR archive (its programs find it behind other bytes)"),
)
_VOLUME_AT = 16 * 2048 + 1
"""Where the first descriptor of a file system for discs names itself; what stands before is anybody's (ECMA-119)."""
_VOLUMES = (b"CD001", b"BEA01", b"NSR02", b"NSR03")
_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "a NumPy file; save the tensors as safetensors"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file; save the tensors as safetensors"),
    (b"GGUF", "a GGUF file; save the tensors as safetensors"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ", "a program (PE)"),
    (b"\xcf\xfa\xed\xfe", "a program (Mach-O)"),
    (b"\xca\xfe\xba\xbe", "a program (Mach-O or Java)"),
    (b"#!", "a script"),
    (b"%PDF-", "a PDF"),
    (b"%!PS", "a PostScript program"),
    (b"{\\rtf", "a rich text document"),
    (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer; fetch the file with git lfs pull"),
)
_PYTHON = re.compile(
    r"^(?:import [\w.]+(?: as \w+)?(?:, *[\w.]+)*\s*(?:#.*)?$|from [\w.]+ import [\w*(]|(?:async )?def \w+\(.*|"
    r"class \w+(?:\(.*\))?:|if __name__ ==|(?:exec|eval|__import__)\()",
    re.MULTILINE,
)
_MARKUP = re.compile(
    r"\A\s*(?:<!doctype|<html|<\?xml|<svg)|<(?:script|iframe|object|embed|\?php)\b|\bon(?:error|load)\s*=|javascript:",
    re.IGNORECASE,
)
_CALLS = {"GLOBAL", "INST", "OBJ", "REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "STACK_GLOBAL", "PERSID"}
"""Opcodes of pickles that name or call something."""


def archive_of(head: bytes, tail: bytes, size_bytes: int, at: Callable[[int, int], bytes]) -> str | None:
    """What archive a file is: at its beginning, at its end (a ZIP may have anything before and behind it), or where
    programs look that search for one.

    Parameters
    ----------
    head, tail : bytes
        The first `HEAD_BYTES` and the last `TAIL_BYTES` of the file.
    size_bytes : int
    at : callable
        ``at(offset, n)`` gives bytes of the file.
    """
    for magic, meaning in _ARCHIVES:
        if head.startswith(magic):
            return meaning
    if _is_tar(head):
        return "a tar archive"
    if _ends_as_zip(tail, size_bytes, at):
        return "also a ZIP archive (a central directory ends it)"
    return _behind(at)


def _behind(at: Callable[[int, int], bytes]) -> str | None:
    """What a program that looks past the beginning takes the file for."""
    if at(_VOLUME_AT, 5) in _VOLUMES:
        return "also an image of a disc"
    reach = at(0, REACH_BYTES)
    return next((meaning for magic, meaning in _ANYWHERE if magic in reach), None)


def _is_tar(head: bytes) -> bool:
    """Whether `tarfile` reads a header here: its checksum holds, with or without the magic of later formats."""
    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return head[257:262] == b"ustar"
    except (ValueError, IndexError):
        return True  # the checksum held and a field after it did not
    return True


def _ends_as_zip(tail: bytes, size_bytes: int, at: Callable[[int, int], bytes]) -> bool:
    """Whether `zipfile` finds a directory: by the record 22 bytes before the end or else the last one, whatever
    follows it. Four bytes alone may stand in any tensor, so the directory that one points to is looked
    for as well; and any of them counts, for other programs choose otherwise."""
    found = len(tail)
    while (found := tail.rfind(b"PK\x05\x06", 0, found + 3)) >= 0:
        if len(tail) - found < END_BYTES:
            continue
        if tail[max(found - 20, 0) : found].startswith(b"PK\x06\x07"):
            return True  # ZIP64
        n = int.from_bytes(tail[found + 12 : found + 16], "little")
        begin = size_bytes - len(tail) + found - n
        if n == 0 or (begin >= 0 and at(begin, 4) == b"PK\x01\x02"):
            return True
    return False


def refused_of(head: bytes, size_bytes: int) -> str | None:
    """What other known kind the bytes are that is not taken; None when nothing is recognised."""
    if looks_safetensors(head, size_bytes):
        # A header length may read as pickle opcodes (640 is 80 02): what holds up as safetensors is not a pickle.
        return None
    for magic, meaning in _REFUSED:
        if head.startswith(magic):
            return meaning
    if len(head) >= 2 and head[0] == 0x80 and head[1] <= 5:
        return "a pickle, which is never loaded"
    return None


def looks_safetensors(head: bytes, size_bytes: int) -> bool:
    """Whether a length that fits and an opening brace (after white space) begin the file."""
    n = int.from_bytes(head[:8], "little")
    return len(head) > 8 and head[8:].lstrip(b" \t\r\n")[:1] == b"{" and n <= size_bytes - 8


def text_problem(name: str, raw: bytes) -> str | None:
    """Why ``raw``, in a file called ``name``, is not plain text that may be kept; None when it is."""
    if not TEXT_NAME.match(name):
        return "neither safetensors nor JSON; text is taken as LICENSE, COPYING, NOTICE or README (.txt, .md, .rst)"
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8 text (byte {error.start})"
    if any(not c.isprintable() and c not in "\n\r\t\f\ufeff" and not c.isspace() for c in text):
        return "not plain text: it holds control characters"
    if _is_pickle(raw):
        return "a pickle, which is never loaded"
    if _MARKUP.search(text):
        return "markup, which a browser could run"
    if _PYTHON.search(text) and not name.lower().endswith(".md"):
        return "Python source"
    return None


def _is_pickle(raw: bytes) -> bool:
    """Whether the bytes are opcodes of a pickle up to its end, and one of them names or calls something."""
    calls = False
    try:
        for opcode, _, _ in pickletools.genops(raw):
            calls = calls or opcode.name in _CALLS
    except (ValueError, IndexError, OverflowError):
        return False
    return calls
