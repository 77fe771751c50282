"""Where the channel command finds line sizes: a histogram file, a run folder, or tensors coded on the spot."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from linepress.errors import LinepressError, SourceError

if TYPE_CHECKING:
    from linepress.records.place import RunPlace
    from linepress.stages.channel.case import ChannelCase

MAX_BITS = 4096
"""Largest coded size of a line that a histogram file may name."""


@dataclass(frozen=True)
class LineSizes:
    """Lines by coded bits, with what the channel needs of the codec.

    Attributes
    ----------
    codec, data : str
        Variant, and ``weights``, ``dequantised weights`` or ``kv``.
    format, cast : str
        Element format and cast of the values; empty where a histogram does not tell.
    histogram : tuple[int, ...]
        Item b counts lines of b bits.
    line_bytes, table_bytes : int
    decode_latency_ns, encode_latency_ns, decode_interval_ns : float | None
        From the hardware card; None where nothing is known and the model's own figures hold.
    """

    codec: str
    data: str
    histogram: tuple[int, ...]
    format: str = ""
    cast: str = ""
    line_bytes: int = 64
    table_bytes: int = 0
    decode_latency_ns: float | None = None
    encode_latency_ns: float | None = None
    decode_interval_ns: float | None = None

    @property
    def lines(self) -> int:
        return sum(self.histogram)


def case_of(base: ChannelCase, sizes: LineSizes, decode_ns: float | None = None) -> ChannelCase:
    """The case for these line sizes; where no hardware card is known, the model's own figures hold."""
    from linepress_hardware.channel.config import default_config

    config = default_config()
    decode = sizes.decode_latency_ns if decode_ns is None else decode_ns
    return replace(
        base,
        codec=sizes.codec,
        data=sizes.data,
        bits_histogram=sizes.histogram,
        line_bytes=sizes.line_bytes,
        table_bytes=sizes.table_bytes,
        decode_latency_ns=config.decode_latency_ns if decode is None else decode,
        encode_latency_ns=config.encode_latency_ns if sizes.encode_latency_ns is None else sizes.encode_latency_ns,
        decode_interval_ns=config.decode_interval_ns
        if sizes.decode_interval_ns is None
        else sizes.decode_interval_ns,
    )


def from_histogram(path: Path, data: str = "weights") -> LineSizes:
    """A histogram file: JSON (a list of counts, ``{"bits": count}``, or either under ``bits_histogram``), or CSV with
    the columns bits and lines. Raises `SourceError` in one sentence for anything else."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except UnicodeDecodeError:
        raise SourceError(
            f"{path}: not text; give a JSON or CSV histogram, or add --codec for a tensor file"
        ) from None
    sizes = _from_csv(path, text) if path.suffix.lower() == ".csv" else _from_json(path, text)
    if sum(sizes) <= 0:
        raise SourceError(f"{path}: the histogram counts no line; give counts by coded bits")
    return LineSizes("histogram", data, sizes)


def _from_json(path: Path, text: str) -> tuple[int, ...]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SourceError(f"{path}: not JSON ({error}); give a list of counts by coded bits") from None
    if isinstance(document, dict) and "bits_histogram" in document:
        document = document["bits_histogram"]
    if isinstance(document, dict):
        return _dense(path, document.items())
    if isinstance(document, list):
        return _dense(path, enumerate(document))
    raise SourceError(f'{path}: holds {type(document).__name__}; give a list of counts or {{"bits": count}}')


def _from_csv(path: Path, text: str) -> tuple[int, ...]:
    reader = csv.DictReader(io.StringIO(text))
    names = reader.fieldnames or []
    count = next((n for n in ("lines", "count") if n in names), None)
    if "bits" not in names or count is None:
        raise SourceError(
            f"{path}: a CSV histogram needs the columns bits and lines, this one has {', '.join(names)}"
        )
    return _dense(path, ((row["bits"], row[count]) for row in reader))


def _dense(path: Path, pairs: Iterable[tuple[Any, Any]]) -> tuple[int, ...]:
    counts: dict[int, int] = {}
    for bits, lines in pairs:
        try:
            b, n = int(bits), int(lines)
        except (TypeError, ValueError):
            raise SourceError(
                f"{path}: {bits!r}: {lines!r} is not a coded size and a count; both are whole numbers"
            ) from None
        if not 0 <= b <= MAX_BITS or n < 0 or n != float(lines):
            raise SourceError(
                f"{path}: {n} lines of {b} bits is out of range; sizes are 0 … {MAX_BITS}, counts 0 or more"
            )
        counts[b] = counts.get(b, 0) + n
    top = max(counts, default=-1)
    return tuple(counts.get(b, 0) for b in range(top + 1))


def from_run(path: RunPlace) -> list[LineSizes]:
    """Every pool of a run's measured lines: one per variant, kind of data, format and cast."""
    from linepress.records.pools import pools
    from linepress.records.store import RunStore

    found = []
    for pool in pools(RunStore.open(path)):
        if pool.codec_kind != "line" or pool.lines == 0:
            continue
        found.append(
            LineSizes(
                pool.variant,
                pool.data,
                tuple(int(n) for n in pool.histogram),
                pool.format,
                pool.cast,
                pool.line_bytes,
                pool.table_bytes,
                pool.decode_latency_ns,
                pool.encode_latency_ns,
                pool.interval_ns,
            )
        )
    if not found:
        raise LinepressError(
            f"{path}: the run holds no lines of a cache-line codec; measure one, for instance huffman"
        )
    return found


def from_tensors(uri: str, specs: Sequence[str], *, layout: str | None, max_bytes: int | None) -> list[LineSizes]:
    """Code a source with each codec: line sizes pooled by kind of data, format and cast."""
    from linepress.records.measured import data_of, dequantised_sources
    from linepress.sources import Selection, open_source
    from linepress.stages.measure.case import measure_case
    from linepress_codecs.contracts import LineCodec
    from linepress_codecs.errors import UnsupportedFormatError
    from linepress_codecs.registry import parse_spec
    from linepress_codecs.variant import Variant

    source = open_source(uri)
    told = source.provenance()
    marked = dequantised_sources({"sources": [told]})
    tensors = Selection(max_bytes=max_bytes).of(source.tensors())
    if not tensors:
        raise SourceError(f"{uri}: no tensor is selected; raise --max-bytes")
    found = []
    for spec in specs:
        name, options = parse_spec(spec)
        if layout is not None:
            options.setdefault("layout", layout)
        variant = Variant.of(name, options)
        if not isinstance(variant.codec, LineCodec):
            raise LinepressError(
                f"codec {name} codes blocks, not lines; the channel takes a line codec such as huffman"
            )
        rows: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        for tensor in tensors:
            try:
                row = measure_case(tensor, variant, repeats=0, verify=False)
            except UnsupportedFormatError:
                continue
            data = data_of(str(row["kind"]), str(told["uri"]), str(row["cast"] or ""), marked)
            rows.setdefault((data, row["format"], row["cast"] or ""), []).append(row)
        found += [_pooled(variant.spec, *what, mine) for what, mine in rows.items()]
    if not found:
        raise SourceError(f"{uri}: none of its tensors has a format these codecs take")
    return found


def _pooled(codec: str, data: str, format: str, cast: str, rows: list[dict[str, Any]]) -> LineSizes:
    width = max(len(row["bits_histogram"]) for row in rows)
    total: NDArray[np.int64] = np.zeros(width, np.int64)
    for row in rows:
        total[: len(row["bits_histogram"])] += np.asarray(row["bits_histogram"], np.int64)
    first = rows[0]
    return LineSizes(
        codec,
        data,
        tuple(int(n) for n in total),
        format,
        cast,
        int(first["line_bytes"]),
        sum(int(row["table_bytes"] or 0) for row in rows),
        first.get("decode_latency_ns"),
        first.get("encode_latency_ns"),
        first.get("initiation_interval_ns"),
    )
