"""What a file is, told by its content and never by its suffix. Nothing here is ever unpickled or unpacked."""

from __future__ import annotations

import os
from pathlib import Path

from linepress.errors import SourceError
from linepress.sources.bytes import pread
from linepress.sources.text import shown

CONVERT = (
    'convert it first: python -c "import torch, safetensors.torch as s; s.save_file({k: v.contiguous() '
    "for k, v in torch.load('IN.bin', weights_only=True).items()}, 'OUT.safetensors')\""
)

_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", f"a PyTorch checkpoint (ZIP with a pickle inside), which is never loaded; {CONVERT}"),
    (b"PK\x05\x06", "an empty ZIP archive; give the safetensors file itself"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file; save the tensors as safetensors"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"\xfd7zXZ\x00", "an xz file; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file; unpack it first"),
    (b"\x7fELF", "a program (ELF); give a safetensors file"),
    (b"MZ", "a program (PE); give a safetensors file"),
    (b"#!", "a script; give a safetensors file"),
    (
        b"version https://git-lfs.github.com/spec/v1",
        "a Git LFS pointer and not the file it stands for; fetch it with git lfs pull",
    ),
)


def kind_of(path: Path) -> str:
    """``safetensors``, ``gguf`` or ``npy``; raises `SourceError` saying what else the file is and what to do."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise SourceError(f"no such file: {path}; check the path") from None
    except OSError as error:
        raise SourceError(f"cannot open {path}: {error.strerror}; check its permissions") from None
    try:
        size = os.fstat(descriptor).st_size
        if not path.is_file():
            raise SourceError(f"{path} is not a regular file; give a .safetensors, .gguf or .npy file or a folder")
        head = pread(descriptor, 0, min(size, 64), str(path)).tobytes()
    finally:
        os.close(descriptor)
    return kind_of_head(head, size, str(path))


def kind_of_head(head: bytes, size_bytes: int, what: str) -> str:
    """As `kind_of`, from the first bytes of a file and its size."""
    # A safetensors length may read as pickle opcodes (640 = 80 02), so what holds up as safetensors is asked first.
    if len(head) >= 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size_bytes - 8:
        return "safetensors"
    if head.startswith(b"GGUF"):
        return "gguf"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    for magic, meaning in _REFUSED:
        if head.startswith(magic):
            raise SourceError(f"{what} is {meaning}")
    if len(head) >= 2 and head[0] == 0x80 and head[1] <= 5:
        raise SourceError(f"{what} is a pickle, which is never loaded; {CONVERT}")
    if Path(what).suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl"):
        raise SourceError(f"{what} is not safetensors, GGUF or NumPy (it begins {shown(repr(head[:8]))}); {CONVERT}")
    return "safetensors"  # its strict reader says what is wrong
