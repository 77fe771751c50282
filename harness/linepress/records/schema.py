"""The tables of a run: versioned Arrow schemas, every column with a sentence and a unit.

A row that carries a column its schema does not know keeps it in ``extra`` (a JSON object), so that nothing measured
is lost; a row that lacks a column holds null there. The meaning or type of a column changes only together with
`SCHEMA_VERSION`, and a record of another version is refused when read (`linepress.records.store`).
"""

from __future__ import annotations

import pyarrow as pa

from linepress.records.columns import (
    F64,
    I32,
    I64,
    STRING,
    column,
    count,
    declared,
    flag,
    real,
    samples,
    structs,
    text,
)

SCHEMA_VERSION = 1

STATUSES = ("ok", "failed", "skipped")
"""States a recorded row can be in; planned and running cases have no row yet."""


def _headline_columns(name: str, what: str) -> dict[str, tuple[str, str]]:
    """Columns of one saturated pattern."""
    return {
        f"effective_bandwidth_{name}_GBps": ("double", f"useful bytes per ns, {what}, saturated"),
        f"plain_bandwidth_{name}_GBps": ("double", "the channel without compression at its best"),
        f"plain_default_bandwidth_{name}_GBps": ("double", "the same with default mapping, policy and queues"),
        f"gain_{name}": ("double", "effective / plain at its best; NaN where it has not converged"),
        f"gain_{name}_half_width_pct": ("double", "95 % confidence interval of the gain, ± %"),
        f"default_gain_{name}": ("double", "compressed / plain, both with everything at its default"),
        f"default_resource_{name}": ("string", "the resource behind the default's gain where above its bytes saved"),
        f"bytes_saved_{name}": ("double", "bytes on the bus a useful byte, plain / compressed"),
        f"resource_{name}": ("string", "where the gain is above the bytes saved: the resource they free"),
        f"plain_settings_{name}": ("string", "mapping and policy of the plain channel at its best"),
        f"settings_{name}": ("string", "mapping and policy of the compressed channel"),
        f"accesses_{name}": ("int64", "accesses of the longest run behind the gain"),
    }


# column -> (Arrow-like type, what it holds with its unit). `list<...>` and `map` columns hold plain Python values.
CHANNEL_COLUMNS: dict[str, tuple[str, str]] = {
    "workload": ("string", "pattern whose latency is reported"),
    "memory": ("string", "memory part"),
    "mapping": ("string", "address mapping of the part"),
    "policy": ("string", "controller policy of the compressed channel in the latency run; empty: the default"),
    "packing": ("string", "packing specification"),
    "codec": ("string", "codec variant"),
    "data": ("string", "what the lines hold: weights, kv, …"),
    "placement": ("string", "where the engine sits: controller, sram or dma"),
    "mode": ("string", "offline (compressed once, read-only) or inline (both ways)"),
    "line_bytes": ("int64", "bytes of a line"),
    "lines": ("int64", "lines of the histogram"),
    "n_requests": ("int64", "accesses of the latency runs"),
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
    **_headline_columns("sequential", "sequential reads"),
    **_headline_columns("random", "random line reads"),
    **_headline_columns("mixed", "half sequential half random, with writes inline"),
    **_headline_columns("workload", "the named workload"),
    "converged": (
        "bool",
        "whether every gain's interval is as small as asked for (1 %); a gain whose is not is refused: NaN",
    ),
    "most_in_flight": ("int64", "most lines taken and not returned at one time, in any of these runs"),
    "closed_form_gain_sequential": (
        "double",
        "raw / fetched bytes with metadata, and the engine's and port's ceiling",
    ),
    "closed_form_gain_random": (
        "double",
        "rows, or atoms, of a raw line / those of a coded one with metadata misses",
    ),
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
    "energy_pJ_per_useful_byte": (
        "double",
        "energy of the memory device per byte delivered, sequential run, compressed",
    ),
    "plain_energy_pJ_per_useful_byte": (
        "double",
        "energy of the memory device per byte delivered, sequential run, plain",
    ),
    "energy_random_pJ_per_useful_byte": ("double", "the same in the random run, compressed"),
    "plain_energy_random_pJ_per_useful_byte": ("double", "the same in the random run, plain"),
    "phy_energy_pJ_per_useful_byte": ("double", "drivers and PHY of both ends on top, sequential run; NaN: unknown"),
    "plain_phy_energy_pJ_per_useful_byte": ("double", "the same of the plain channel"),
    "channels_per_device": ("int64", "channels of one stack, module or package"),
    "device_bandwidth_sequential_GBps": ("double", "effective sequential bandwidth of all channels of the device"),
    "decoders": ("int64", "decode pipelines of the channel: what keeps up with the port at this codec's interval"),
    "decode_latency_ns": ("double", "decoder latency used"),
    "encode_latency_ns": ("double", "encoder latency used"),
    "decode_interval_ns": ("double", "time between two lines in one decoder"),
}

COMMON: tuple[pa.Field, ...] = (
    text("run_id", "Run that wrote the row: the name of its folder."),
    text("case_key", "sha256 that identifies the case across runs; rows of one case share it."),
    column("row", I32, "Index of the row within its case, from 0."),
    text("status", "ok, failed or skipped."),
    text("error_type", "Class of the exception of a failed case."),
    text("error", "Sentence of the failure, or the reason of a skip."),
    column("attempts", I32, "Times the case was tried in the run that wrote the row."),
    real("seconds", "Wall time of the whole case on its worker; of all its parts together where it was split.", "s"),
    text("host", "Host name of the worker."),
    text("versions", "JSON object: package -> version on the worker."),
    column("started_at", pa.timestamp("us", tz="UTC"), "When the case began, by the worker's clock."),
    text("extra", "JSON object of columns this schema version does not know."),
)

_PACKING = (
    ("packing", STRING),
    ("packed_bytes", I64),
    ("data_bytes", I64),
    ("metadata_bytes", I64),
    ("table_bytes", I64),
    ("packed_ratio", F64),
)
_BOUND = (("name", STRING), ("bits_per_value", F64), ("ratio", F64))

MEASURE = (
    text("source", "URI the tensor was read from."),
    text("revision", "Resolved revision of the source: 40-hex commit for the hub, empty for local files."),
    text("tensor", "Name of the tensor in its source."),
    text("kind", "weight, key, value, activation, grad or optim."),
    column("layer", I32, "Layer index; null outside layers."),
    text("group", "Group of the tensor: q_proj … down_proj, embed, norm, key_cache, value_cache, other."),
    text("format", "Element format as measured, after the cast: bf16, fp16, fp32, e4m3, e5m2, int8, …"),
    column("shape", pa.list_(I64), "Shape of the tensor, elements.", "elements"),
    text("cast", "Cast applied before measuring, for instance e4m3:scale=tensor; empty: as stored."),
    text("content_sha256", "sha256 of the stored bytes of the tensor, before any cast."),
    count("elements", "Elements of the tensor.", "elements"),
    count("lines", "Lines of the tensor in this layout.", "lines"),
    count("pad_bytes", "Zero bytes that fill the last line.", "B"),
    text("codec", "Codec id."),
    text("codec_kind", "line or block."),
    text("variant", "Codec with its non-default options, as printed everywhere."),
    text("options", "JSON object: every option with its resolved value."),
    column("format_version", I32, "Version of the coded stream."),
    text("layout", "How the tensor becomes lines."),
    column("line_bytes", I32, "Bytes of a line.", "B"),
    count("block_bytes", "Bytes of a block; null for line codecs.", "B"),
    flag("sampled", "Whether a seeded sample of the lines was coded instead of all."),
    count("sampled_lines", "Lines (or blocks) coded when sampled.", "lines"),
    count("seed", "Seed of the sample and of the line spot checks."),
    count("raw_bytes", "Bytes before coding.", "B"),
    count("payload_bits", "Sum of the coded bits of all lines or blocks.", "bit"),
    count("payload_bytes", "payload_bits in bytes, rounded up.", "B"),
    count("table_bytes", "Serialised tables of the codec.", "B"),
    text("packing", "Packing that packed_bytes and packed_ratio refer to: the variant's own, else the first one."),
    count("packed_bytes", "Bytes in memory under that packing: data, metadata and tables.", "B"),
    count("metadata_bytes", "Tags, offset tables and the like under that packing.", "B"),
    structs("packings", _PACKING, "Cost under every packing asked for; bytes and bare ratio."),
    real("payload_ratio", "8 raw_bytes / payload_bits."),
    real("packed_ratio", "raw_bytes / packed_bytes."),
    text("bound_name", "Entropy bound the codec is held against."),
    real("bound_ratio", "Ratio a codec of that class cannot beat."),
    real("bound_bits_per_value", "The same in bits per element.", "bit"),
    structs("bounds", _BOUND, "Every entropy bound computed for the tensor; bits per element and bare ratio."),
    real("above_bound_pct", "Coded size above the bound.", "%"),
    real("above_bound_bits_per_value", "The same in bits per element.", "bit"),
    column("bits_histogram", pa.list_(I64), "Lines by coded bits: entry b counts lines of b bits.", "lines"),
    real("bits_p01", "1st percentile of the coded bits of a line.", "bit"),
    real("bits_p50", "Median coded bits of a line.", "bit"),
    real("bits_p99", "99th percentile of the coded bits of a line.", "bit"),
    real("bits_max", "Most coded bits of a line.", "bit"),
    column(
        "head_bits",
        pa.list_(I64),
        "Coded bits of the lines of each KV head, in head order; null where the tensor has no heads or a line "
        "crosses heads.",
        "bit",
    ),
    flag("lossless", "Whether every line came back bit for bit."),
    count("mismatch_line", "First line that did not; null when lossless."),
    count("timed_bytes", "Raw bytes of a timed round: all of a small tensor, a sample of a large one.", "B"),
    samples("encode_s", "Seconds of each timed encode round, scaled from timed_bytes to raw_bytes.", "s"),
    samples("decode_s", "Seconds of each timed decode round, scaled from timed_bytes to raw_bytes.", "s"),
    samples("measure_s", "Seconds of each timed measure round, scaled from timed_bytes to raw_bytes.", "s"),
    real("encode_GBps", "Median rate of encoding, raw bytes.", "GB/s"),
    real("decode_GBps", "Median rate of decoding, raw bytes.", "GB/s"),
    real("measure_GBps", "Median rate of measuring, raw bytes.", "GB/s"),
    real("decode_latency_ns", "Decode latency of the codec's hardware card.", "ns"),
    real("encode_latency_ns", "Encode latency of the codec's hardware card.", "ns"),
    real("initiation_interval_ns", "Time between lines of one engine on the codec's hardware card.", "ns"),
    text("card_status", "published, derived, estimated or simulated: standing of the card's decode latency."),
)

# The stage declares what it returns; what is added here says which measurement the line sizes came from.
CHANNEL = (
    text("cast", "Cast of the data; empty: as stored."),
    text("format", "Element format of the data."),
    text("sources", "JSON list of the sources that the histogram was pooled over."),
    count("tensors", "Tensors pooled.", "tensors"),
    real("payload_ratio", "Payload ratio of the pooled lines."),
    count("table_bytes", "Codec tables of the pooled tensors.", "B"),
    *(declared(name, kind, doc) for name, (kind, doc) in CHANNEL_COLUMNS.items()),
)

SYSTEM = (
    text("model", "Model, by its data file or config.json."),
    text("accelerator", "Accelerator, by its data file."),
    text("scenario", "Name of the scenario: context, batch and phase."),
    text("codec", "Variant whose measured ratios were used; raw for none."),
    text("packing", "Packing whose packed ratio counts for capacity."),
    text("memory", "Memory whose channel gain was used."),
    text("cast", "Cast of the weights; empty: as stored."),
    text("stage", "prefill, decode, or total."),
    count("context_tokens", "Tokens of context.", "tokens"),
    count("batch", "Sequences in a batch."),
    column("devices", I32, "Accelerators that share the model."),
    real("weight_ratio", "Packed ratio of the weights."),
    real("kv_ratio", "Packed ratio of the KV cache."),
    real("time_s", "Time of the stage with compression.", "s"),
    real("plain_time_s", "Time of the stage without compression.", "s"),
    real("tokens_per_s", "Tokens a second with compression.", "1/s"),
    real("plain_tokens_per_s", "Tokens a second without compression.", "1/s"),
    real("speedup", "tokens_per_s over plain_tokens_per_s."),
    real("closed_form_speedup", "Closed form beside speedup."),
    real("expected_tokens_per_s", "Tokens a second with compression, as a machine reaches the roofline.", "1/s"),
    real("expected_tokens_per_s_low", "The same, low end of the band of measured residuals.", "1/s"),
    real("expected_tokens_per_s_high", "The same, high end.", "1/s"),
    real("expected_plain_tokens_per_s", "The same without compression.", "1/s"),
    real("expected_speedup", "expected_tokens_per_s over expected_plain_tokens_per_s."),
    real("expected_speedup_low", "Low end of its band."),
    real("expected_speedup_high", "High end of its band."),
    count("decoder_engines_needed", "Decoders of the codec's hardware card that keep up with a device."),
    real("band_share", "90th percentile of the residuals behind the band, share of a token's time."),
    text("band_source", "What was measured for the band, or that it is carried over from another accelerator."),
    real("ttft_s", "Time to the first token.", "s"),
    real("plain_ttft_s", "Time to the first token without compression.", "s"),
    count("largest_batch", "Largest batch that fits at this context."),
    count("plain_largest_batch", "The same without compression."),
    count("largest_batch_low", "Largest batch less what an engine keeps for itself."),
    count("plain_largest_batch_low", "The same without compression."),
    count("devices_needed", "Devices that hold weights and KV."),
    count("plain_devices_needed", "The same without compression."),
    real("racks_needed", "Racks for those devices."),
    real("plain_racks_needed", "The same without compression."),
    real("power_W", "Power of the devices needed.", "W"),
    real("energy_J_per_million_tokens", "Energy of a million tokens.", "J"),
    real("cost_usd_per_million_tokens", "Cost of a million tokens.", "USD"),
    real("allreduce_s", "Time of the allreduces of one step.", "s"),
    text("bound_by", "memory, compute, decompressor, communication or overhead: what limits the step."),
    text("format", "Element format of the weights."),
    text("weight_sources", "JSON list of the sources whose weights were measured."),
    text("kv_codec", "Variant whose KV ratio was used; empty: KV not compressed."),
    text("kv_format", "Element format of the KV cache that was measured."),
    flag("gain_measured", "Whether the bandwidth gain came from the channel stage; else the ratio stands for it."),
    count("seed", "Seed of the stage."),
    text("scenario_precision", "Bits of weights, activations and KV: w16a16kv16."),
    count("parameters", "Parameters of the model."),
    real("device_bandwidth_GBps", "Memory bandwidth of a device.", "GB/s"),
    real("device_capacity_GB", "Memory of a device.", "GB"),
    real("device_peak_Tops", "Dense peak of a device at this precision.", "Top/s"),
    real("closed_form_time_s", "Closed form beside time_s.", "s"),
    real("closed_form_plain_time_s", "Closed form beside plain_time_s.", "s"),
    real("decode_memory_s", "Memory time of a step with compression.", "s"),
    real("decode_compute_s", "Compute time of a step.", "s"),
    real("decode_decompressor_s", "Time that the decompressors need for a step.", "s"),
    real("decode_communication_s", "Communication time of a step.", "s"),
    real("decode_overhead_s", "Host and launch time of a step.", "s"),
    real("traffic_weight_bytes", "Weight bytes read in a step, raw.", "B"),
    real("traffic_kv_bytes", "KV bytes read in a step, raw.", "B"),
    real("traffic_other_bytes", "Other bytes moved in a step.", "B"),
    real("traffic_stored_bytes", "Bytes that a step moves on the memory bus with compression.", "B"),
    real("effective_traffic_ratio", "Raw over stored bytes of the weights and KV that a step reads."),
    real("decompressor_needed_GBps", "Rate at which decompressors must put out raw bytes.", "GB/s"),
    real("bytes_in_flight_added", "Further bytes in flight that the decode latency asks for.", "B"),
    count("prompt_tokens", "Tokens of the prompt.", "tokens"),
    real("ttft_speedup", "plain_ttft_s over ttft_s."),
    real("closed_form_plain_ttft_s", "Closed form beside plain_ttft_s.", "s"),
    text("prefill_bound", "memory or compute: what limits the prefill."),
    flag("compressed_fits", "Whether weights and KV fit the devices with compression."),
    flag("plain_fits", "The same without compression."),
    real("capacity_gain", "Tokens of KV that fit with compression over those that fit without."),
    real("closed_form_capacity_gain", "Closed form beside capacity_gain."),
    real("compressed_capacity_tokens", "Tokens of KV that fit with compression.", "tokens"),
    real("plain_capacity_tokens", "The same without compression.", "tokens"),
    count("largest_context_tokens", "Longest context that fits at this batch.", "tokens"),
    count("plain_largest_context_tokens", "The same without compression.", "tokens"),
    real("plain_energy_J_per_million_tokens", "Energy of a million tokens without compression.", "J"),
    real("plain_cost_usd_per_million_tokens", "Cost of a million tokens without compression.", "USD"),
    text("sources", "JSON: where the figures used come from, and their standing."),
)

FABRIC = (
    text("accelerator", "Accelerator whose scale-up link carries the messages."),
    text("link", "Name of the link."),
    text("topology", "switch, mesh or ring of the accelerator's own link, or a packaged topology."),
    text("operation", "all_reduce, all_gather, reduce_scatter, all_to_all, broadcast or send."),
    text("algorithm", "Algorithm of the collective."),
    text("codec", "Variant whose ratio applied to the messages."),
    text("data", "What the ratio was measured on: weights or kv."),
    text("format", "Element format that the ratio was measured on."),
    text("cast", "Cast of that data; empty: as stored."),
    text("packing", "Packing whose packed ratio was used."),
    column("devices", I32, "Devices that take part."),
    count("size_bytes", "Bytes of the message on each device.", "B"),
    real("ratio", "Ratio of the messages on the wire."),
    real("time_s", "Time with compression.", "s"),
    real("latency_s", "Its part that does not depend on the size.", "s"),
    real("transfer_s", "Its part that does.", "s"),
    real("plain_time_s", "Time without compression.", "s"),
    real("plain_latency_s", "Its part that does not depend on the size.", "s"),
    real("plain_transfer_s", "Its part that does.", "s"),
    real("bus_bandwidth_GBps", "Algorithm-corrected bandwidth with compression, raw bytes.", "GB/s"),
    real("plain_bus_bandwidth_GBps", "The same without compression.", "GB/s"),
    real("speedup", "plain_time_s over time_s."),
    text("method", "closed form, simulation, both, or bound (what neither was done for)."),
    real("closed_form_s", "Closed form with compression; null where messages share links.", "s"),
    real("plain_closed_form_s", "The same without compression.", "s"),
    real("simulated_s", "Packet simulation with compression; null when not run.", "s"),
    real("plain_simulated_s", "The same without compression.", "s"),
    real("bound_s", "What no schedule of the algorithm beats, with compression.", "s"),
    count("packets", "Packets simulated, without compression.", "packets"),
    real("machine_s", "Time on a measured machine with compression, coder at the accelerators; null: none.", "s"),
    real("plain_machine_s", "The same without compression, at its best.", "s"),
    real("machine_speedup", "plain_machine_s over machine_s."),
    real("machine_band", "Largest error of the machine's held-out rows from 1 MiB on, as a share."),
)

PAGES = (
    text("source", "Snapshot."),
    text("fit", "Snapshot of another text that tables were fitted on; empty: the snapshot itself."),
    text("contract", "Layout of a serving engine, as linepress pages --list names it."),
    text("engine", "The engine."),
    text("codec", "Variant."),
    text("granularity", "line, page or object."),
    count("units", "Units coded.", "units"),
    count("unit_bytes", "Bytes of a unit.", "B"),
    count("page_bytes", "Bytes of a page.", "B"),
    real("ratio", "Raw over coded; of pages with line sizes, of the object with tables too."),
    real("own_text_ratio", "With tables of the snapshot itself; null where ratio is that, or nothing is learned."),
    real("key_ratio", "Payload ratio of the lines of keys."),
    real("value_ratio", "Payload ratio of the lines of values."),
    real("worst_ratio", "Ratio of the worst unit."),
    real("fits_half", "Share of units that fit half of their size."),
    real("fits_five_eighths", "Share of units that fit five eighths of their size."),
    real("fits_three_quarters", "Share of units that fit three quarters of their size."),
    real("moved_bytes", "Bytes moved for a page out and back.", "B"),
    count("grew", "Units whose code is longer than they are.", "units"),
    count("table_bytes", "Bytes of the codec's tables.", "B"),
    real("encode_ns", "Latency of a unit by the codec's card.", "ns"),
    real("decode_ns", "Latency of a unit by the codec's card.", "ns"),
    flag("sampled", "Whether a sample of the units was coded."),
    flag("lossless", "Whether every unit came back."),
)

CLAIMS = (
    text("claim_id", "Identifier of the claim."),
    text("title", "The claim in a few words."),
    text("claim_source", "Who published it, where."),
    text("quote", "The words of the claim."),
    text("metric", "What is compared."),
    text("claimed", "The published figure, as text."),
    text("measured", "The figure of this run, as text; empty when not checkable."),
    text("bound", "The bound beside it, as text."),
    text("tolerance", "What counts as equal, as text."),
    text("verdict", "reproduced, not reproduced or not checkable."),
    text("reason", "Why the verdict is what it is."),
    text("checked_by", "How it was checked."),
    text("group", "What the claim is about."),
    text("unit", "Unit of the four figures that follow."),
    real("claimed_low", "The published figure, or the lower end of a range."),
    real("claimed_high", "The published figure, or the upper end of a range."),
    real("measured_value", "The figure of this run."),
    real("bound_value", "The bound beside it."),
)

GATES = (
    text("gate", "Name of the gate."),
    text("table", "Table it looks at."),
    text("metric", "Column and aggregate it looks at."),
    text("where", "JSON object: rows it looks at."),
    text("rule", "at_least, at_most or equals."),
    real("threshold", "The value that must be kept."),
    real("value", "The value found; null when no row was there."),
    flag("passed", "Whether the gate holds; a gate without rows fails."),
    text("next_step", "What to do when it does not."),
)

FAILURES = (
    text("stage", "measure, channel, system, fabric or pages."),
    text("label", "The case in words."),
)

_OWN: dict[str, tuple[pa.Field, ...]] = {
    "measure": MEASURE,
    "channel": CHANNEL,
    "system": SYSTEM,
    "fabric": FABRIC,
    "pages": PAGES,
    "claims": CLAIMS,
    "gates": GATES,
    "failures": FAILURES,
}

ADDED = frozenset(
    {("measure", "head_bits"), ("measure", "timed_bytes"), ("pages", "own_text_ratio")}
    | {("fabric", name) for name in ("machine_s", "plain_machine_s", "machine_speedup", "machine_band")}
)
"""Columns that this schema version got later: a part written before has none, and holds null there."""

TABLES = tuple(_OWN)
"""Names of the tables of a run."""


def schema(table: str) -> pa.Schema:
    """Arrow schema of one table: the common columns, then its own; version and name in the schema's metadata.

    Raises `KeyError` for a name that is not in `TABLES`.
    """
    metadata = {"linepress_table": table, "linepress_schema_version": str(SCHEMA_VERSION)}
    return pa.schema([*COMMON, *_OWN[table]], metadata=metadata)


__all__ = ["ADDED", "SCHEMA_VERSION", "STATUSES", "TABLES", "schema"]


# column -> (Arrow-like type, what it holds with its unit). `list<...>` and `map` columns hold plain Python values.
