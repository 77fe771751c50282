"""Checks that read a run's record: ratios, latencies and channel gains, as measured."""

from __future__ import annotations

import math

import numpy as np

from linepress.claims.finding import Finding, missing
from linepress.claims.model import BlockTime, CardEngines, CardLatency, ChannelGain, CodecAdvantage, CodecRatio
from linepress.records.frame import Frame
from linepress.records.summary import Summary, best_payload_line_variant, summarise
from linepress.tables import format as fmt
from linepress_codecs.contracts import LINE_BYTES
from linepress_hardware.dram import load_part

_KINDS = {"weights": ("weight",), "kv": ("key", "value")}


class Records:
    """The tables of a run that claims are checked against."""

    def __init__(self, measure: Frame, channel: Frame) -> None:
        self.measure = measure
        self.channel = channel

    def data(self, data: str, formats: tuple[str, ...], cast: bool) -> Frame:
        """Measured rows of a sort of data, stored in one of the formats or cast to it.

        Dequantised weights are left out: they compress further than the trained weights that claims are about.
        """
        rows = self.measure
        mask = np.isin(rows.text("kind"), _KINDS[data]) & (rows.text("origin") == "")
        mask &= np.isin(rows.text("format"), formats)
        has_cast = rows.text("cast") != ""
        return rows.where(mask & (has_cast if cast else ~has_cast))


def codec_ratio(check: CodecRatio, records: Records) -> Finding:
    """Σ raw / Σ coded bits of the codec over the data; the bound is the entropy bound the codec is held against."""
    what = f"{check.data} in {' or '.join(check.formats)}" + (" after a cast" if check.cast else "")
    how = f"payload ratio of {check.codec} over {what}, byte-weighted, every line decoded and compared"
    rows = records.data(check.data, check.formats, check.cast)
    if not len(rows):
        return missing(
            f"this run measured no {what} (dequantised weights do not count); add a source that has some", how
        )
    if check.codec == "best_line":
        chosen = best_payload_line_variant([summarise(part, v) for (v,), part in rows.by("variant")])
        if chosen is None:
            return missing(f"no line codec came back lossless over {what} in this run; see the failures", how)
    else:
        chosen = _variant_of(check, rows)
        if chosen is None:
            size = f" at {fmt.bytes_si(check.block_bytes)} blocks" if check.block_bytes else ""
            return missing(
                f"this run has no complete case of {check.codec}{size} over {what}; add it to the suite", how
            )
    if not chosen.all_lossless:
        return missing(f"{chosen.variant} was not lossless on {what}; its ratio counts for nothing", how)
    detail = f"{chosen.variant}, {chosen.n_ok} of {chosen.n_planned} cases, {fmt.bytes_si(chosen.raw_bytes)}"
    if np.isfinite(chosen.packed_ratio) and chosen.codec_kind == "line":
        detail += f"; packed ratio {fmt.ratio(chosen.packed_ratio)} ({chosen.packing})"
    if chosen.sampled:
        detail += "; a seeded sample of the lines"
    name, bound = chosen.highest_bound
    bound_text = f"highest entropy bound computed, {name}" if np.isfinite(bound) else ""
    return Finding(chosen.payload_ratio, bound, bound_text, detail, checked_by=how)


def _variant_of(check: CodecRatio, rows: Frame) -> Summary | None:
    """The best complete variant of one codec id, at the block size asked for."""
    own = rows.equal(codec=check.codec)
    if check.block_bytes is not None:
        own = own.where(own.real("block_bytes") == check.block_bytes)
    found = [s for s in (summarise(part, v) for (v,), part in own.by("variant")) if s.n_ok]
    return max(found, key=lambda s: s.payload_ratio, default=None)


def codec_advantage(check: CodecAdvantage, records: Records) -> Finding:
    """Best line codec of the run over the best of the codecs named, both lossless over the same rows."""
    names = ", ".join(check.over)
    how = f"payload ratio of the best line codec over the best of {names}"
    rows = records.data(check.data, check.formats, cast=False)
    classic = rows.where(np.isin(rows.text("codec"), check.over))
    best = best_payload_line_variant([summarise(part, v) for (v,), part in rows.by("variant")])
    other = best_payload_line_variant([summarise(part, v) for (v,), part in classic.by("variant")])
    if best is None or other is None:
        return missing(f"this run measured none of {names}; add one to the suite", how)
    if best.raw_bytes != other.raw_bytes:
        return missing(f"{best.variant} and {other.variant} were not measured over the same bytes in this run", how)
    value = best.payload_ratio / other.payload_ratio
    detail = f"{best.variant} {fmt.ratio(best.payload_ratio)} over {other.variant} {fmt.ratio(other.payload_ratio)}"
    return Finding(value, detail=detail, checked_by=how)


def card_latency(check: CardLatency, records: Records) -> Finding:
    """Latency of the best line codec's hardware card, ns; the card says how far it is published or estimated."""
    column = f"{check.direction}_latency_ns"
    how = f"{check.direction} latency on the hardware card of the best line codec of the run"
    rows = records.measure
    rows = rows.where((rows.text("status") == "ok") & np.isfinite(rows.real(column)))
    chosen = best_payload_line_variant([summarise(part, v) for (v,), part in rows.by("variant")])
    if chosen is None:
        return missing("no line codec of this run carries a hardware card; add a line codec to the suite", how)
    own = rows.equal(variant=chosen.variant)
    worst = float(own.real(column).max())
    standing = ", ".join(s for s in own.unique("card_status") if s) or "standing not recorded"
    return Finding(worst, detail=f"{chosen.variant}, card: {standing}; no silicon was timed", checked_by=how)


def card_engines(check: CardEngines, records: Records) -> Finding:
    """Decoders side by side whose raw lines fill one channel at its peak, for the best line codec of the run."""
    peak = load_part(check.memory).peak_GBps
    how = f"interval and clock on the card of the best line codec of the run, at the {peak:g} GB/s of a channel"
    rows = records.measure
    rows = rows.where((rows.text("status") == "ok") & np.isfinite(rows.real("initiation_interval_ns")))
    variants = [summarise(part, v) for (v,), part in rows.by("variant")]
    chosen = best_payload_line_variant(variants)
    if chosen is None:
        return missing("no line codec of this run carries a hardware card; add a line codec to the suite", how)

    def engines(variant: str) -> int:
        interval_ns = float(rows.equal(variant=variant).real("initiation_interval_ns").max())
        return max(1, math.ceil(peak * interval_ns / LINE_BYTES - 1e-9))

    one = best_payload_line_variant([v for v in variants if engines(v.variant) == 1])
    beside = (
        f"; with one: {one.variant}, {fmt.ratio(one.payload_ratio)}" if one else "; no codec of the run needs one"
    )
    detail = (
        f"{chosen.variant}, {fmt.ratio(chosen.payload_ratio)}: {engines(chosen.variant)} decoders{beside}; "
        "pre-layout, and times the ratio where the channel hands on more raw bytes than its own peak"
    )
    return Finding(engines(chosen.variant), detail=detail, checked_by=how)


def block_time(check: BlockTime, records: Records) -> Finding:
    """Median software decode time of one block, µs: block bytes over the measured rate."""
    how = f"median time to decode one block of {fmt.bytes_si(check.block_bytes)} with {check.codec}, one core"
    rows = records.measure.equal(codec=check.codec, status="ok")
    rows = rows.where((rows.real("block_bytes") == check.block_bytes) & (rows.real("decode_GBps") > 0))
    if not len(rows):
        return missing(
            f"this run timed no {check.codec} at {fmt.bytes_si(check.block_bytes)}; add it to the suite", how
        )
    best = max(summarise(part, v).decode_GBps for (v,), part in rows.by("variant"))
    return Finding(check.block_bytes / best / 1e3, detail=f"{fmt.significant(best)} GB/s in software", checked_by=how)


def channel_gain(check: ChannelGain, records: Records) -> Finding:
    """Best gain of the channel stage over all memories, packings and line codecs of the run."""
    columns = {
        "capacity": "effective_capacity_ratio",
        "sequential": "gain_sequential",
        "random": "gain_random",
    }
    how = f"best {check.quantity} gain of the channel stage over all memories and packings"
    rows = records.channel
    rows = rows.where((rows.text("status") == "ok") & (rows.text("data") == check.data))
    gain = rows.real(columns[check.quantity])
    if not np.isfinite(gain).any():
        return missing(
            f"this run has no channel results for {check.data}; add memories and packings to the suite", how
        )
    best = int(np.nanargmax(gain))
    where = f"{rows.text('codec')[best]}, {rows.text('memory')[best]}, packing {rows.text('packing')[best]}"
    if check.quantity != "capacity":
        wide = rows.real(f"gain_{check.quantity}_half_width_pct")[best]
        if np.isfinite(wide):
            default = fmt.ratio(rows.real(f"default_gain_{check.quantity}")[best])
            where += f", ± {wide:.1f} %, plain at its best (both at default: {default})"
    payload = float(rows.real("payload_ratio")[best])
    return Finding(
        float(gain[best]),
        payload,
        "payload ratio of the lines" if np.isfinite(payload) else "",
        where,
        checked_by=how,
    )
