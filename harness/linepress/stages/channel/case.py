"""What goes into the channel stage, as plain data; `linepress.records.schema.CHANNEL_COLUMNS` come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ChannelCase:
    """One workload × memory × packing × codec.

    Attributes
    ----------
    memory : str
        Name of a memory part (`linepress list memories`).
    packing : str
        Packing specification of `linepress_codecs.packing`, e.g. ``classes:set=0/32/48/64``; ``off`` is the plain
        channel.
    workload : str
        ``sequential``, ``random``, ``mixed``, ``decode`` or ``kv-gather``: the pattern whose latency is reported.
        The three bandwidths are measured in every case.
    codec, data : str
        Labels carried into the row: codec variant, and ``weights`` or ``kv`` (anything else is taken as weights).
    bits_histogram : tuple[int, ...]
        Lines by coded bits: item b counts the lines of b bits. Sizes of ``8 * line_bytes`` or more are raw lines.
    line_bytes, table_bytes : int
        Bytes of a line; bytes of the codec's tables, which count in the capacity.
    decode_latency_ns, encode_latency_ns, decode_interval_ns : float
        From the codec's hardware card. The interval is the time between two lines entering one decoder.
    seed, n_requests : int
        Seed of line order, workload and faults; accesses of a run at load, and the least of a saturated one, which
        goes on until its rate converges.
    mode : str
        ``offline`` (compressed once, read-only), ``inline`` (both ways) or ``auto``: inline for kv, else offline.
    placement : str
        ``controller``, ``sram`` or ``dma``.
    load_pct_peak : float
        Offered load of the latency run in % of the plain channel's pin peak.
    mapping, policy : str | None
        Address mapping and controller policy (`linepress_hardware.dram.policy`) of the compressed channel; both None:
        those under which the plain channel is fastest (`linepress_hardware.channel.headline`).
    ecc_code : str
        A code of `linepress_hardware.channel.ecc.CODES`.
    value_bytes : int
        Bytes of an element, for the blast radius.
    within_pct : float
        Half-width that the 95 % confidence interval of every gain must reach, in %; saturated runs go on until then.
    overrides : tuple[tuple[str, float], ...]
        Channel parameters that differ from ``data/channel.toml``, e.g. ``(("metadata_cache_bytes", 32768.0),)``.
    """

    memory: str
    packing: str
    workload: str
    codec: str
    data: str
    bits_histogram: tuple[int, ...]
    line_bytes: int = 64
    table_bytes: int = 0
    decode_latency_ns: float = 0.0
    encode_latency_ns: float = 0.0
    decode_interval_ns: float = 0.0
    seed: int = 0
    n_requests: int = 20_000
    mode: str = "auto"
    placement: str = "controller"
    load_pct_peak: float = 10.0
    mapping: str | None = None
    policy: str | None = None
    ecc_code: str = "secded-72-64"
    value_bytes: int = 2
    within_pct: float = 1.0
    overrides: tuple[tuple[str, float], ...] = ()

    def identity(self) -> dict[str, Any]:
        """Columns that say which case it is."""
        return {
            "workload": self.workload,
            "memory": self.memory,
            "packing": self.packing,
            "codec": self.codec,
            "data": self.data,
            "placement": self.placement,
            "mode": self.mode,
            "line_bytes": self.line_bytes,
            "lines": sum(self.bits_histogram),
            "n_requests": self.n_requests,
            "seed": self.seed,
            "load_pct_peak": self.load_pct_peak,
        }
