"""The measure stage: one tensor under one codec variant becomes one row of the ``measure`` table.

A pure function of tensor and variant (temporary copies aside, see `linepress.sources.staging`): the same code runs in
a test, in ``linepress measure`` and on a worker. Memory is bounded by the chunk, plus two bytes a line for its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.sources import LineStream, TensorRef
from linepress.sources.packed import SAMPLE_BYTES, narrower
from linepress.sources.staging import staged
from linepress.stages.measure.bounds import KnownBounds
from linepress.stages.measure.coded import Coded, MeasureError
from linepress.stages.measure.heads import head_bits
from linepress_codecs.bounds import held_against
from linepress_codecs.contracts import BlockCodec, Bound, Codec
from linepress_codecs.formats import Format
from linepress_codecs.layout import extent
from linepress_codecs.packing import Packing, parse_packing
from linepress_codecs.packing.base import size_counts
from linepress_codecs.variant import Variant

DEFAULT_CHUNK_BYTES = 16 << 20
DEFAULT_REPEATS = 3
COST_LINES = 64 * 48 * 13 * 52
"""Lines packed at a time (133 MB raw; whole pages and whole groups of 13 and 48 lines): packings work on int64 arrays
of all their lines, which for tensors of gigabytes would be more than the tensor. A larger tensor is so many packed
segments, each with its own parameters, all counted."""
PAGE_BYTES = 4096
POINTER_BYTES = 4


def measure_case(
    tensor: TensorRef,
    variant: Variant,
    *,
    packings: Sequence[str] = (),
    repeats: int = DEFAULT_REPEATS,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    seed: int = 0,
    verify: bool = True,
) -> dict[str, Any]:
    """Code one tensor and say how far it went.

    Parameters
    ----------
    tensor : TensorRef
        What to code; a remote, drawn or cast tensor is first written to a temporary file.
    variant : Variant
        Codec, layout, line size and packing.
    packings : sequence of str
        Further packings (``classes:set=0/22/44/64``) whose cost the row lists.
    repeats : int
        Timed rounds; 0 times nothing.
    chunk_bytes : int
        Bytes held in raw form at a time.
    seed : int
        Of the sample of small blocks and of the lines decoded alone.
    verify : bool
        Decode and compare every coded line or block, outside timing. Without it ``lossless`` is None.

    Returns
    -------
    dict
        Columns of ``linepress.records.schema.MEASURE``; sizes ``_bits`` or ``_bytes``, rates in 10^9 B/s of raw
        bytes, ratios raw / coded.

    Raises `SourceError` where the bytes cannot be read, `CodecError` where the codec does not take them, and
    `MeasureError` where a codec contradicts itself.
    """
    ready = staged(tensor)
    local, codec, fmt = ready.tensor, variant.codec, ready.tensor.format
    counts = extent(local.shape, variant.layout, fmt, variant.line_bytes)
    block = codec.block if isinstance(codec, BlockCodec) else variant.line_bytes
    stream = LineStream(local, chunk_bytes, variant.layout, variant.line_bytes, max(block, variant.line_bytes))
    known = KnownBounds(ready.content_sha256, tensor, variant.layout, variant.line_bytes)
    if known.bounds is None:
        known.count(stream)
    assert known.bounds is not None
    if isinstance(codec, BlockCodec):
        from linepress.stages.measure.blocks import code_blocks

        coded = code_blocks(stream, counts.allocated_bytes, codec, repeats=repeats, seed=seed, verify=verify)
    else:
        from linepress.stages.measure.lines import code_lines

        stream = replace(stream, item_counts=known.item_counts)
        coded = code_lines(stream, counts.n_lines, variant.line_codec, repeats=repeats, seed=seed, verify=verify)
    ready.check_unchanged()
    return row_of(tensor, variant, coded, known.bounds, ready.content_sha256, packings=packings, seed=seed)


def row_of(
    tensor: TensorRef,
    variant: Variant,
    coded: Coded,
    bounds: dict[str, Bound],
    content_sha256: str,
    *,
    packings: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """The columns of a coded tensor, see `measure_case`."""
    codec, fmt = variant.codec, tensor.format
    counts = extent(tensor.shape, variant.layout, fmt, variant.line_bytes)
    costs = _packing_costs(variant, coded, packings, tensor.n_bytes)
    own = coded.class_bound
    name = "field_order0" if own is None else own.name
    return {
        **_tensor_columns(tensor, content_sha256),
        **_variant_columns(variant),
        "lines": counts.n_lines,
        "pad_bytes": counts.pad_bytes,
        "sampled": coded.sampled,
        "sampled_lines": len(coded.unit_bits) if coded.sampled else None,
        "seed": seed,
        **_size_columns(coded, costs, tensor.n_bytes),
        **_bound_columns(bounds if own is None else bounds | {own.name: own}, name, coded, tensor),
        **_spread_columns(coded, variant.line_bytes),
        "head_bits": head_bits(tensor, coded, variant.layout, variant.line_bytes),
        "lossless": coded.mismatch is None if coded.verified else None,
        "mismatch_line": _mismatch_line(coded, variant.line_bytes),
        **_time_columns(coded, tensor.n_bytes),
        **_card_columns(codec, fmt),
    }


def _tensor_columns(tensor: TensorRef, content_sha256: str) -> dict[str, Any]:
    return {
        "source": tensor.uri,
        "revision": tensor.revision,
        "tensor": tensor.name,
        "kind": tensor.kind,
        "layer": tensor.layer,
        "group": tensor.group,
        "format": tensor.format.name,
        "shape": list(tensor.shape),
        "cast": tensor.cast,
        "content_sha256": content_sha256,
        "elements": tensor.n_elements,
        "raw_bytes": tensor.n_bytes,
    }


def _variant_columns(variant: Variant) -> dict[str, Any]:
    codec = variant.codec
    return {
        "codec": codec.codec_id,
        "codec_kind": codec.kind,
        "variant": variant.spec,
        "options": codec.options(),
        "format_version": codec.format_version,
        "layout": variant.layout,
        "line_bytes": variant.line_bytes,
        "block_bytes": codec.block if isinstance(codec, BlockCodec) else None,
    }


def _size_columns(coded: Coded, costs: list[dict[str, Any]], raw_bytes: int) -> dict[str, Any]:
    first = costs[0]
    return {
        "payload_bits": coded.payload_bits,
        "payload_bytes": -(-coded.payload_bits // 8),
        "table_bytes": coded.table_bytes,
        "packing": first["packing"],
        "packed_bytes": first["packed_bytes"],
        "metadata_bytes": first["metadata_bytes"],
        "packings": costs,
        "payload_ratio": _ratio(8 * raw_bytes, coded.payload_bits),
        "packed_ratio": first["packed_ratio"],
    }


def _packing_costs(variant: Variant, coded: Coded, packings: Sequence[str], raw_bytes: int) -> list[dict[str, Any]]:
    """Cost of every packing, the variant's own first, each once."""
    if isinstance(variant.codec, BlockCodec):
        return [_block_cost(coded, raw_bytes)]
    wanted: dict[str, Packing] = {variant.packing.spec: variant.packing}
    for text in packings:
        packing = parse_packing(text)
        wanted.setdefault(packing.spec, packing)
    return [_line_cost(packing, coded, variant.line_bytes, raw_bytes) for packing in wanted.values()]


def _line_cost(packing: Packing, coded: Coded, line_bytes: int, raw_bytes: int) -> dict[str, Any]:
    bits: NDArray[np.uint16] = coded.unit_bits.astype(np.uint16, copy=False)
    total = {"packed_bytes": 0, "data_bytes": 0, "metadata_bytes": 0, "table_bytes": 0}
    for start in range(0, max(len(bits), 1), COST_LINES):
        cost = packing.cost(bits[start : start + COST_LINES], coded.table_bytes if start == 0 else 0, line_bytes)
        for key in total:
            total[key] += int(getattr(cost, key))
    return {"packing": packing.spec, **total, "packed_ratio": _ratio(raw_bytes, total["packed_bytes"])}


def _block_cost(coded: Coded, raw_bytes: int) -> dict[str, Any]:
    """Blocks one after another on byte boundaries, found by a 4-byte pointer a page of 4 KiB (or a block, if larger)
    and, where a page holds several blocks, a length code a block wide enough for any length up to the block."""
    per_page = max(PAGE_BYTES // coded.unit_bytes, 1)
    code_bits = coded.unit_bytes.bit_length() if per_page > 1 else 0
    metadata = -(-coded.n_units // per_page) * (POINTER_BYTES + -(-per_page * code_bits // 8))
    data = -(-coded.payload_bits // 8)
    return {
        "packing": "blocks",
        "packed_bytes": data + metadata,
        "data_bytes": data,
        "metadata_bytes": metadata,
        "table_bytes": 0,
        "packed_ratio": _ratio(raw_bytes, data + metadata),
    }


def _bound_columns(bounds: dict[str, Bound], name: str, coded: Coded, tensor: TensorRef) -> dict[str, Any]:
    own = bounds.get(name, bounds["field_order0"])
    payload_ratio = _ratio(8 * tensor.n_bytes, coded.payload_bits)
    held, _ = held_against(own.name, own.ratio, {b.name: b.ratio for b in bounds.values()}, payload_ratio)
    bound = bounds.get(held)
    if bound is not own:
        _check_width(tensor, own, payload_ratio)
    every = [{"name": b.name, "bits_per_value": b.bits_per_value, "ratio": b.ratio} for b in bounds.values()]
    if bound is None:
        unbounded = ("bound_ratio", "bound_bits_per_value", "above_bound_pct", "above_bound_bits_per_value")
        return {"bound_name": None, "bounds": every, **dict.fromkeys(unbounded)}
    found = coded.payload_bits / tensor.n_elements if tensor.n_elements else float("nan")
    return {
        "bound_name": bound.name,
        "bound_ratio": bound.ratio,
        "bound_bits_per_value": bound.bits_per_value,
        "bounds": every,
        "above_bound_pct": 100 * (found / bound.bits_per_value - 1) if bound.bits_per_value else float("nan"),
        "above_bound_bits_per_value": found - bound.bits_per_value,
    }


def _check_width(tensor: TensorRef, own: Bound, payload_ratio: float) -> None:
    """Raise `MeasureError` where a codec beats its bound because the elements are not what the format says."""
    width = tensor.format.storage.itemsize
    if tensor.format.is_float or width < 2:
        return
    found = narrower(tensor.read(0, min(tensor.n_bytes, SAMPLE_BYTES) // width * width), width)
    if found is not None:
        raise MeasureError(
            f"{tensor.name}: a ratio of {payload_ratio:.3f} is above the bound {own.ratio:.3f} of {own.name}: "
            f"the {tensor.format.name} elements are {found}-bit integers packed together; store them as bytes, or "
            f"beside the scales and shape that their tool writes"
        )


def _spread_columns(coded: Coded, line_bytes: int) -> dict[str, Any]:
    """Histogram and percentiles of coded bits a line; None for blocks larger than a line, which have no lines."""
    bits = coded.unit_bits
    if coded.unit_bytes != line_bytes or not len(bits):
        return dict.fromkeys(("bits_histogram", "bits_p01", "bits_p50", "bits_p99", "bits_max"))
    histogram = size_counts(bits.astype(np.uint16, copy=False), 8 * line_bytes)
    below = np.cumsum(histogram)
    p01, p50, p99 = (int(np.searchsorted(below, q * len(bits))) for q in (0.01, 0.5, 0.99))
    return {
        "bits_histogram": histogram.tolist(),
        "bits_p01": float(p01),
        "bits_p50": float(p50),
        "bits_p99": float(p99),
        "bits_max": float(bits.max()),
    }


def _mismatch_line(coded: Coded, line_bytes: int) -> int | None:
    return None if coded.mismatch is None else coded.mismatch * coded.unit_bytes // line_bytes


def _time_columns(coded: Coded, n_bytes: int) -> dict[str, Any]:
    """Raw samples, as the whole tensor would take them, and median rates.

    A block codec has no way to size a block but to encode it, so it has no measure time.
    """
    columns: dict[str, Any] = {"timed_bytes": coded.timed_bytes if coded.encode.repeats else None}
    for name, clock in (("encode", coded.encode), ("decode", coded.decode), ("measure", coded.measure)):
        columns[f"{name}_s"] = clock.samples(coded.timed_bytes, n_bytes) if clock else []
        columns[f"{name}_GBps"] = clock.median_rate(coded.timed_bytes) if clock else None
    return columns


def _card_columns(codec: Codec, fmt: Format) -> dict[str, Any]:
    card = codec.card(fmt)
    if card is None:
        return dict.fromkeys(("decode_latency_ns", "encode_latency_ns", "initiation_interval_ns", "card_status"))
    return {
        "decode_latency_ns": card.decode_latency_ns,
        "encode_latency_ns": card.encode_latency_ns,
        "initiation_interval_ns": card.initiation_interval_cycles.value / card.clock_GHz.value,
        "card_status": card.decode_latency_cycles.status,
    }


def _ratio(raw: int, coded: int) -> float:
    return raw / coded if coded else float("nan")
