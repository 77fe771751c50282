"""What is counted of a content, once: its entropy bounds, remembered for the next variants, workers and nights; and
how often each item occurs, which spares this process' next variants a pass to learn their tables."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict

import numpy as np

from linepress.records.files import RecordWriteError, write_atomically
from linepress.records.remote import cache_folder
from linepress.sources import LineStream, TensorRef
from linepress.sources.memo import Memo
from linepress_codecs.bounds import BOUNDS_VERSION, BoundAccumulator
from linepress_codecs.contracts import Bound, ItemCounts, count_lines, spread_lines


class KnownBounds:
    """The bounds of one content in one layout, from the user's cache where they were counted before.

    The key is the hash of the bytes as stored, with what turns them into lines: format, cast, shape, layout and line
    size. A cache that cannot be read or written costs the time of counting, nothing else.
    """

    def __init__(self, content_sha256: str, tensor: TensorRef, layout: str, line_bytes: int) -> None:
        parts = [BOUNDS_VERSION, content_sha256, tensor.stored_format, tensor.cast, list(tensor.shape)]
        key = hashlib.sha256(json.dumps([*parts, layout, line_bytes]).encode()).hexdigest()
        self._key = key
        self._line_bytes = line_bytes
        self._file = cache_folder("bounds") / key[:2] / f"{key}.json"
        self._format = tensor.format
        self.bounds: dict[str, Bound] | None = None
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
            self.bounds = {bound["name"]: Bound(**bound) for bound in found}
        except (OSError, ValueError, TypeError, KeyError):
            self.bounds = None

    @property
    def item_counts(self) -> ItemCounts | None:
        """Items of the lines, where this process counted them and the format is counted whole."""
        return _ITEMS.find(self._key)

    def count(self, stream: LineStream) -> None:
        """Count the lines in a pass of their own, and remember."""
        accumulator = BoundAccumulator(self._format)
        n_lines, seen = count_lines(stream), 0
        sample = [np.empty((0, self._line_bytes), np.uint8)]
        for lines in stream:
            accumulator.add(lines)
            sample.append(spread_lines(lines, seen, n_lines))
            seen += len(lines)
        self.bounds = accumulator.bounds()
        _ITEMS.get(self._key, lambda: accumulator.item_counts(np.concatenate(sample)))
        with contextlib.suppress(RecordWriteError):
            write_atomically(self._file, json.dumps([asdict(bound) for bound in self.bounds.values()]).encode())


_ITEMS: Memo[ItemCounts | None] = Memo(16)
