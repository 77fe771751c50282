"""Entropy bounds of a content, counted once and remembered: for the next variants, workers and nights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from linepress.records.files import RecordWriteError, write_atomically
from linepress.records.remote import cache_folder
from linepress.sources import LineStream, TensorRef
from linepress_codecs.bounds import BOUNDS_VERSION, BoundAccumulator
from linepress_codecs.contracts import Bound


class KnownBounds:
    """The bounds of one content in one layout, from the user's cache where they were counted before.

    The key is the hash of the bytes as stored, with what turns them into lines: format, cast, shape, layout and line
    size. A cache that cannot be read or written costs the time of counting, nothing else.
    """

    def __init__(self, content_sha256: str, tensor: TensorRef, layout: str, line_bytes: int) -> None:
        parts = [BOUNDS_VERSION, content_sha256, tensor.stored_format, tensor.cast, list(tensor.shape)]
        key = hashlib.sha256(json.dumps([*parts, layout, line_bytes]).encode()).hexdigest()
        self._file = cache_folder("bounds") / key[:2] / f"{key}.json"
        self._format = tensor.format
        self.bounds: dict[str, Bound] | None = None
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            self.bounds = {bound["name"]: Bound(**bound) for bound in found}
        except (OSError, ValueError, TypeError, KeyError):
            self.bounds = None

    def keep(self, bounds: dict[str, Bound]) -> None:
        """Remember what was counted."""
        self.bounds = bounds
        try:
            write_atomically(self._file, json.dumps([asdict(bound) for bound in bounds.values()]).encode())
        except RecordWriteError:
            return

    def count(self, stream: LineStream) -> dict[str, Bound]:
        """Count them in a pass of their own."""
        accumulator = BoundAccumulator(self._format)
        for lines in stream:
            accumulator.add(lines)
        self.keep(accumulator.bounds())
        assert self.bounds is not None
        return self.bounds
