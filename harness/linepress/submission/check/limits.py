"""Limits that hold before anything is allocated (rule S06) and that the sandbox enforces (rule S19)."""

from __future__ import annotations

from dataclasses import dataclass

MANIFEST_NAME = "manifest.yaml"
PARTS_FOLDER = ".linepress-fetch"
"""Folder of a submission where `fetch` keeps what it has of a file; its leading dot is refused by S05."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a submission may cost.

    Attributes
    ----------
    manifest_bytes, json_bytes, text_bytes : int
        Largest manifest, JSON file (configurations of quantised experts take megabytes) and text file, in bytes.
    header_bytes : int
        Largest safetensors header: the cap of the format itself.
    file_bytes, total_bytes : int
        Largest file and largest sum of files, in bytes.
    files, folders, depth, tensors : int
        Most files, folders, levels of folders, and tensors over all files.
    json_depth, rank, expected : int
        Deepest nesting of JSON, most axes of a tensor, most expected results.
    rerun_bytes : int
        Most raw bytes, summed over expected results, that a re-run codes.
    memory_bytes : int
        Private memory of the checking process, in bytes.
    base_s, floor_bytes_per_s
        Time allowed: ``base_s`` seconds, plus the submission's bytes at ``floor_bytes_per_s``.
    """

    manifest_bytes: int = 64 << 10
    json_bytes: int = 16 << 20
    text_bytes: int = 1 << 20
    header_bytes: int = 100_000_000
    file_bytes: int = 256 << 30
    total_bytes: int = 4 << 40
    files: int = 4096
    folders: int = 64
    depth: int = 4
    tensors: int = 200_000
    json_depth: int = 32
    rank: int = 8
    expected: int = 256
    rerun_bytes: int = 1 << 30
    memory_bytes: int = 768 << 20
    base_s: float = 60.0
    floor_bytes_per_s: float = 100e6

    def allowed_s(self, n_bytes: int) -> float:
        """Seconds that checking ``n_bytes`` may take."""
        return self.base_s + min(n_bytes, self.total_bytes) / self.floor_bytes_per_s
