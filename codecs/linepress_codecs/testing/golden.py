"""Golden streams: what a codec version writes, kept for ever.

A record is plain data (JSON-ready). `record_of` makes one, `check_record` raises AssertionError where a codec no
longer reads or writes it; reading and writing files is the caller's business.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from linepress_codecs.contracts import BlockCodec, Codec, Geometry, LineCodec, Lines, Packed
from linepress_codecs.formats import Format, format_named
from linepress_codecs.registry import make, parse_spec
from linepress_codecs.testing import gaussian_bits, sample_lines

GOLDEN_LINES = 20
GOLDEN_BLOCK = 1024


def record_of(codec: Codec, fmt: Format) -> dict[str, Any]:
    """The golden record of a codec on a fixed mixture of lines of one format."""
    head = {"spec": codec.spec, "format_version": codec.format_version, "format": fmt.name}
    if isinstance(codec, BlockCodec):
        block = gaussian_bits(fmt, GOLDEN_BLOCK // fmt.storage.itemsize, 0.02, 11).tobytes()
        return {**head, "block": block.hex(), "code": codec.encode(block).hex()}
    assert isinstance(codec, LineCodec)
    named = dict(sample_lines(fmt))
    mixed, channels = named["mixed"], named["channels"]
    data = np.concatenate([mixed.data[3 : 3 + GOLDEN_LINES // 2], channels.data[: GOLDEN_LINES // 2]])
    ids = np.arange(len(data), dtype=np.uint32) % 5
    lines = Lines(data, fmt, Geometry(ids, 5))
    tables = codec.fit([lines])
    packed = codec.encode(lines, tables)
    return {
        **head,
        "n_channels": 5,
        "lines": [row.tobytes().hex() for row in data],
        "tables": tables.to_bytes().hex(),
        "starts": packed.starts.tolist(),
        "bits": packed.bits.tolist(),
        "payload": packed.payload.tobytes().hex(),
    }


def check_record(record: dict[str, Any]) -> None:
    """Raise AssertionError unless the codec of the record, at its version, still reads (and writes) these bytes."""
    codec = make(*parse_spec(record["spec"]))
    where = f"{record['spec']} version {record['format_version']} {record['format']}"
    assert codec.format_version == record["format_version"], (
        f"{where}: the codec is at version {codec.format_version}; keep a reader of the old version, or retire the "
        "file in a commit that says so"
    )
    if isinstance(codec, BlockCodec):
        block = bytes.fromhex(record["block"])
        assert codec.decode(bytes.fromhex(record["code"]), len(block)) == block, f"{where}: decodes differently"
        return
    assert isinstance(codec, LineCodec)
    lines = lines_of(record)
    tables = codec.tables_from_bytes(bytes.fromhex(record["tables"]))
    packed = Packed.of(
        lines,
        np.frombuffer(bytes.fromhex(record["payload"]), np.uint8),
        np.array(record["starts"], np.uint64),
        np.array(record["bits"], np.uint16),
    )
    assert np.array_equal(codec.decode(packed, tables), lines.data), f"{where}: decodes differently"
    again = codec.encode(lines, tables)
    assert np.array_equal(again.payload, packed.payload), f"{where}: codes differently; raise format_version"
    assert np.array_equal(again.starts, packed.starts), f"{where}: lays lines out differently; raise format_version"
    assert np.array_equal(again.bits, packed.bits), f"{where}: sizes differ; raise format_version"
    if isinstance(record["lines"], list):  # the tables are those of these lines, not of more
        assert codec.fit([lines]).to_bytes() == tables.to_bytes(), f"{where}: fits other tables; raise format_version"


def lines_of(record: dict[str, Any]) -> Lines:
    """The lines of a record.

    ``lines`` is a list of one hexadecimal text a line, of channels taken in turn; or one text of lines cut from a
    larger tensor, whose place the record states.
    """
    fmt, text = format_named(record["format"]), record["lines"]
    if isinstance(text, list):
        data = np.frombuffer(bytes.fromhex("".join(text)), np.uint8).reshape(len(text), -1)
        ids = np.arange(len(data), dtype=np.uint32) % record["n_channels"]
        return Lines(data, fmt, Geometry(ids, record["n_channels"]))
    data = np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, record["line_bytes"])
    place = Geometry(
        None if record["channel"] is None else np.array(record["channel"], np.uint32),
        record["n_channels"],
        record.get("channel_run", 0),
        record.get("channel_span", 0),
        np.array(record["position"], np.uint32) if "position" in record else None,
        record.get("head_dim", 0),
        np.frombuffer(bytes.fromhex(record["base"]), np.uint8).reshape(data.shape) if "base" in record else None,
    )
    return Lines(data, fmt, place)
