"""What a file is, by its bytes: an allow-list of three formats, and the names of what is refused (rules S02, S15)."""

from __future__ import annotations

import re

HEAD_BYTES = 512
TAIL_BYTES = 22 + 65535

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
_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "a NumPy file; save the tensors as safetensors"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file; save the tensors as safetensors"),
    (b"GGUF", "a GGUF file; save the tensors as safetensors"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ", "a program (PE)"),
    (b"\xcf\xfa\xed\xfe", "a program (Mach-O)"),
    (b"\xca\xfe\xba\xbe", "a program (Mach-O or Java)"),
    (b"#!", "a script"),
    (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer; fetch the file with git lfs pull"),
)
_TAR_MAGIC_AT = 257
_PYTHON = re.compile(
    r"^(?:import [\w.]+(?: as \w+)?(?:, *[\w.]+)*\s*(?:#.*)?$|from [\w.]+ import [\w*(]|(?:async )?def \w+\(.*|"
    r"class \w+(?:\(.*\))?:|if __name__ ==|(?:exec|eval|__import__)\()",
    re.MULTILINE,
)
_MARKUP = re.compile(r"\A\s*(?:<!doctype|<html|<\?xml|<\?php|<svg|<script)", re.IGNORECASE)


def archive_of(head: bytes, tail: bytes) -> str | None:
    """What archive the bytes are, at their beginning or (a ZIP may have anything before it) at their end."""
    for magic, meaning in _ARCHIVES:
        if head.startswith(magic):
            return meaning
    if head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return "a tar archive"
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        comment = int.from_bytes(tail[at + 20 : at + 22], "little")
        if at + 22 + comment == len(tail):
            return "also a ZIP archive (a central directory ends it)"
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return None


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


def text_problem(raw: bytes) -> str | None:
    """Why ``raw`` is not plain text that may be kept; None when it is."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"not UTF-8 text (byte {error.start})"
    if any(not c.isprintable() and c not in "\n\r\t\f\ufeff" and not c.isspace() for c in text):
        return "not plain text: it holds control characters"
    if _MARKUP.match(text):
        return "markup, which a browser could run"
    if _PYTHON.search(text):
        return "Python source"
    return None
