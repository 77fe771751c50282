"""What goes into the channel stage and what comes out: `ChannelCase`, and `CHANNEL_COLUMNS` of a row.

Plain data, so that record schemas and commands can name the columns without loading the model and its kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

# column -> (Arrow-like type, what it holds with its unit). `list<...>` and `map` columns hold plain Python values.
CHANNEL_COLUMNS: dict[str, tuple[str, str]] = {
    "workload": ("string", "pattern whose latency is reported"),
    "memory": ("string", "memory part"),
    "mapping": ("string", "address mapping of the part"),
    "packing": ("string", "packing specification"),
    "codec": ("string", "codec variant"),
    "data": ("string", "what the lines hold: weights, kv, …"),
    "placement": ("string", "where the engine sits: controller, sram or dma"),
    "mode": ("string", "offline (compressed once, read-only) or inline (both ways)"),
    "line_bytes": ("int64", "bytes of a line"),
    "lines": ("int64", "lines of the histogram"),
    "n_requests": ("int64", "accesses of the latency runs"),
    "n_requests_saturated": ("int64", "accesses of each bandwidth run: at least eight refresh intervals of them"),
    "seed": ("int64", "seed of line order, workload and faults"),
    "load_pct_peak": ("double", "offered load of the latency run, % of the pin peak of the plain channel"),
    "load_sustained": (
        "bool",
        "whether the compressed channel kept up with that load; else latency grows with length",
    ),
    "plain_load_sustained": ("bool", "whether the plain channel kept up with that load"),
    "peak_GBps": ("double", "pin peak of one channel"),
    "atom_bytes": ("int64", "bytes of one column access"),
    "raw_bytes": ("int64", "bytes of the lines before coding"),
    "packed_bytes": ("int64", "bytes in memory: data, metadata and codec tables"),
    "effective_capacity_ratio": ("double", "raw_bytes / packed_bytes"),
    "atoms_per_line_sequential": ("double", "atoms fetched per line, neighbours shared"),
    "atoms_per_line_random": ("double", "atoms fetched for a line alone"),
    "effective_bandwidth_sequential_GBps": ("double", "useful bytes per ns, sequential reads, saturated"),
    "effective_bandwidth_random_GBps": ("double", "useful bytes per ns, random line reads, saturated"),
    "effective_bandwidth_mixed_GBps": (
        "double",
        "useful bytes per ns, half sequential half random, with writes inline",
    ),
    "plain_bandwidth_sequential_GBps": ("double", "the same channel without compression"),
    "plain_bandwidth_random_GBps": ("double", "the same channel without compression"),
    "plain_bandwidth_mixed_GBps": ("double", "the same channel without compression"),
    "gain_sequential": ("double", "effective / plain"),
    "gain_random": ("double", "effective / plain"),
    "gain_mixed": ("double", "effective / plain"),
    "effective_bandwidth_workload_GBps": ("double", "useful bytes per ns under the named workload, saturated"),
    "plain_bandwidth_workload_GBps": ("double", "the same channel without compression"),
    "gain_workload": ("double", "effective / plain under the named workload"),
    "closed_form_gain_sequential": (
        "double",
        "raw / fetched bytes with metadata, and the engine's and port's ceiling",
    ),
    "closed_form_gain_random": ("double", "atoms raw / (atoms per line + metadata misses)"),
    "closed_form_gain_mixed": ("double", "harmonic mean of the two by share, writes as read-modify-write"),
    "closed_form_atoms_per_line_random": ("double", "1 + (s - 1) / A for a line of s bytes at any offset"),
    "closed_form_capacity_ratio": ("double", "line bytes / (mean packed line bytes + metadata per line + tables)"),
    "closed_form_latency_added_ns": ("double", "metadata, ECC and decode latency added to an idle read"),
    "closed_form_metadata_hit_rate": ("double", "share of the footprint that the metadata cache reaches"),
    "latency_mean_ns": ("double", "read latency at the port, compressed"),
    "latency_p50_ns": ("double", "read latency at the port, compressed"),
    "latency_p99_ns": ("double", "read latency at the port, compressed"),
    "latency_p999_ns": ("double", "read latency at the port, compressed"),
    "plain_latency_mean_ns": ("double", "read latency at the port, plain"),
    "plain_latency_p50_ns": ("double", "read latency at the port, plain"),
    "plain_latency_p99_ns": ("double", "read latency at the port, plain"),
    "plain_latency_p999_ns": ("double", "read latency at the port, plain"),
    "idle_latency_added_ns": ("double", "mean latency of random reads one at a time, compressed minus plain"),
    "latency_histogram_ns": ("list<double>", "upper edges of the latency histogram bins"),
    "latency_histogram": ("list<int64>", "reads per bin, compressed"),
    "plain_latency_histogram": ("list<int64>", "reads per bin, plain"),
    "where_bandwidth_went": ("map<string,double>", "shares of bus time of the sequential run, compressed"),
    "where_bandwidth_went_random": ("map<string,double>", "shares of bus time of the random run, compressed"),
    "metadata_hit_rate": ("double", "hits / look-ups of the metadata cache, latency run"),
    "metadata_traffic_ratio": ("double", "metadata bytes / all bytes on the bus, latency run"),
    "metadata_hit_rate_random": ("double", "the same in the random run"),
    "metadata_traffic_ratio_random": ("double", "the same in the random run"),
    "line_buffer_hit_rate": ("double", "atoms served by the line buffer / atoms needed, sequential run"),
    "bytes_on_bus": ("int64", "bytes moved between controller and memory, latency run"),
    "overflows": ("int64", "writes whose line outgrew its place, mixed run"),
    "repacks": ("int64", "pages rewritten in place or smaller, mixed run"),
    "page_moves": ("int64", "pages rewritten with more chunks, mixed run"),
    "read_modify_writes": ("int64", "reads of atoms only to be merged and written back, mixed run"),
    "ecc_code": ("string", "error-correcting code of the run"),
    "ecc_injected": ("int64", "faults injected"),
    "ecc_corrected": ("int64", "corrected, and right"),
    "ecc_detected": ("int64", "detected, not corrected: poison"),
    "ecc_miscorrected": ("int64", "reported corrected, but wrong"),
    "ecc_silent": ("int64", "neither corrected nor detected"),
    "blast_radius_values": ("double", "values lost per uncorrected code word, compressed"),
    "plain_blast_radius_values": ("double", "values lost per uncorrected code word, plain"),
    "blast_radius_metadata_values": ("double", "values lost per uncorrected metadata entry"),
    "energy_pJ_per_useful_byte": ("double", "memory energy per byte delivered, sequential run, compressed"),
    "plain_energy_pJ_per_useful_byte": ("double", "memory energy per byte delivered, sequential run, plain"),
    "energy_random_pJ_per_useful_byte": ("double", "the same in the random run, compressed"),
    "plain_energy_random_pJ_per_useful_byte": ("double", "the same in the random run, plain"),
    "channels_per_device": ("int64", "channels of one stack, module or package"),
    "device_bandwidth_sequential_GBps": ("double", "effective sequential bandwidth of all channels of the device"),
    "decoders": ("int64", "decode pipelines of the channel: what keeps up with the port at this codec's interval"),
    "decode_latency_ns": ("double", "decoder latency used"),
    "encode_latency_ns": ("double", "encoder latency used"),
    "decode_interval_ns": ("double", "time between two lines in one decoder"),
}


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
        Seed of line order, workload and faults; accesses a run (bandwidth runs span eight refreshes at least).
    mode : str
        ``offline`` (compressed once, read-only), ``inline`` (both ways) or ``auto``: inline for kv, else offline.
    placement : str
        ``controller``, ``sram`` or ``dma``.
    load_pct_peak : float
        Offered load of the latency run in % of the plain channel's pin peak.
    mapping : str | None
        Address mapping, None for the part's own.
    ecc_code : str
        A code of `linepress_hardware.channel.ecc.CODES`.
    value_bytes : int
        Bytes of an element, for the blast radius.
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
    ecc_code: str = "secded-72-64"
    value_bytes: int = 2
    overrides: tuple[tuple[str, float], ...] = ()
