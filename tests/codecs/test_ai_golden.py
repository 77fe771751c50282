"""Golden streams of the AI codecs: written once under a format version, never rewritten."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linepress_codecs.contracts import Geometry, LineCodec, Lines
from linepress_codecs.formats import FORMATS
from linepress_codecs.registry import make, parse_spec

GOLDEN = sorted((Path(__file__).parent / "golden").glob("ai-*.json"))


def lines_of(record: dict[str, Any]) -> Lines:
    """The lines of a record, from their hexadecimal bytes."""
    data = np.frombuffer(bytes.fromhex(record["lines"]), np.uint8).reshape(-1, record["line_bytes"])
    channel = None if record["channel"] is None else np.array(record["channel"], np.uint32)
    run, span = record.get("channel_run", 0), record.get("channel_span", 0)
    position = np.array(record["position"], np.uint32) if "position" in record else None
    base = np.frombuffer(bytes.fromhex(record["base"]), np.uint8).reshape(data.shape) if "base" in record else None
    form, dim = FORMATS[record["format"]], record.get("head_dim", 0)
    return Lines(data, form, Geometry(channel, record["n_channels"], run, span, position, dim, base))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_golden(path: Path) -> None:
    record = json.loads(path.read_text())
    codec = make(*parse_spec(record["spec"]))
    assert isinstance(codec, LineCodec)
    assert codec.format_version == record["format_version"], "a new version adds golden files, it does not reuse them"
    lines = lines_of(record)
    tables = codec.tables_from_bytes(bytes.fromhex(record["tables"]))
    packed = codec.encode(lines, tables)
    assert packed.payload.tobytes().hex() == record["payload"]
    assert packed.bits.tolist() == record["bits"]
    assert packed.starts.tolist() == record["starts"]
    assert np.array_equal(codec.decode(packed, tables), lines.data)


def test_every_ai_codec_has_a_golden_stream() -> None:
    specs = {json.loads(p.read_text())["spec"].split(":")[0] for p in GOLDEN}
    assert specs == {"tans", "adaptive", "context", "window", "delta"}
    assert len({hashlib.sha256(p.read_bytes()).digest() for p in GOLDEN}) == len(GOLDEN)
