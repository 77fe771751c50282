"""Parameters of the compressed channel, read from ``data/channel.toml`` with a source beside each figure."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from importlib.resources import files

from linepress_hardware.errors import ConfigurationError

LINE_BYTES = 64
"""Bytes of a line unless a configuration or a layout says otherwise; those of every published scheme."""


@dataclass(frozen=True)
class Parameter:
    """One figure of ``data/channel.toml``: value, bounds of an override, unit, standing and source."""

    value: float
    low: float
    high: float
    unit: str
    status: str
    source: str


@dataclass(frozen=True)
class ChannelConfig:
    """Parameters of one channel; each field is an entry of ``data/channel.toml`` with its source there."""

    line_bytes: int
    axi_data_bits: int
    axi_clock_GHz: float
    axi_outstanding: int
    axi_ids: int
    axi_ports: int
    burst_lines: int
    engine_clock_GHz: float
    decode_latency_ns: float
    encode_latency_ns: float
    decode_interval_ns: float
    decoders: int
    encode_interval_ns: float
    encoders: int
    bypass_raw: int
    metadata_cache_bytes: int
    metadata_cache_ways: int
    metadata_entry_bytes: int
    metadata_prefetch: int
    metadata_hit_cycles: int
    page_bytes: int
    chunk_bytes: int
    inflation_lines: int
    staging_pages: int
    line_buffer_lines: int
    prefetch_lines: int
    ecc_decode_cycles: int
    over_subscription_ratio: float
    capacity_warning_ratio: float
    capacity_critical_ratio: float
    error_log_records: int
    footprint_bytes: int
    write_share: float
    random_share: float

    @property
    def axi_beat_bytes(self) -> int:
        return self.axi_data_bits // 8

    @property
    def axi_clock_ns(self) -> float:
        return 1.0 / self.axi_clock_GHz

    @property
    def line_transfer_ns(self) -> float:
        """Time of one line on the R or W channel: whole beats."""
        return -(-self.line_bytes // self.axi_beat_bytes) * self.axi_clock_ns

    @property
    def line_interval_ns(self) -> float:
        """Time between two lines on the R or W channels of all ports."""
        return self.line_transfer_ns / self.axi_ports

    @property
    def metadata_hit_ns(self) -> float:
        return self.metadata_hit_cycles / self.engine_clock_GHz

    @property
    def ecc_decode_ns(self) -> float:
        return self.ecc_decode_cycles / self.engine_clock_GHz

    @property
    def decoder_count(self) -> int:
        """Decode pipelines: as configured, or as many as keep up with the R channels."""
        return self.decoders or max(1, math.ceil(self.decode_interval_ns / self.line_interval_ns - 1e-9))

    @property
    def encoder_count(self) -> int:
        """Encode pipelines: as configured, or as many as keep up with the W channels."""
        return self.encoders or max(1, math.ceil(self.encode_interval_ns / self.line_interval_ns - 1e-9))

    def of_lines(self, line_bytes: int) -> ChannelConfig:
        """This channel, as configured for lines of `LINE_BYTES`, for lines of another size.

        What is counted in lines keeps its bytes: lines in flight, of a burst, of the line buffer and of the inflation
        room. Lines shorter than a beat get several ports of their own width instead, which carry the same bytes a
        clock; and since a page then has more tags, its metadata entry grows as much.
        """
        values: dict[str, float] = {"line_bytes": line_bytes}
        for name in ("axi_outstanding", "burst_lines", "line_buffer_lines", "inflation_lines"):
            values[name] = -(-getattr(self, name) * LINE_BYTES // line_bytes)
        if line_bytes < LINE_BYTES:
            values["metadata_entry_bytes"] = self.metadata_entry_bytes * LINE_BYTES // line_bytes
        if line_bytes < self.axi_beat_bytes:
            values["axi_data_bits"] = 8 * line_bytes
            values["axi_ports"] = self.axi_ports * self.axi_beat_bytes // line_bytes
        return self.override(values)

    def override(self, values: Mapping[str, float]) -> ChannelConfig:
        """A copy with some parameters changed; `ConfigurationError` on an unknown name or a bad value."""
        known = parameters()
        changed: dict[str, float | int] = {}
        for name, value in values.items():
            if name not in known:
                raise ConfigurationError(f"unknown channel parameter {name!r}: known are {', '.join(sorted(known))}")
            p = known[name]
            if not p.low <= value <= p.high:
                raise ConfigurationError(
                    f"channel parameter {name} = {value:g} {p.unit} lies outside {p.low:g} … {p.high:g}"
                )
            whole = isinstance(getattr(self, name), int)
            if whole and value != int(value):
                raise ConfigurationError(f"channel parameter {name} = {value:g} must be a whole number of {p.unit}")
            changed[name] = int(value) if whole else float(value)
        result = replace(self, **changed)  # type: ignore[arg-type]
        result.check()
        return result

    def check(self) -> None:
        """Raise `ConfigurationError` where two parameters contradict each other."""
        for name in ("line_bytes", "page_bytes", "chunk_bytes", "metadata_entry_bytes"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ConfigurationError(f"{name} = {value} B must be a power of two")
        if self.axi_data_bits not in (256, 512):
            raise ConfigurationError(f"axi_data_bits = {self.axi_data_bits}: the port is 256 or 512 bit wide")
        if self.chunk_bytes > self.page_bytes:
            raise ConfigurationError(
                f"chunk_bytes = {self.chunk_bytes} exceeds page_bytes = {self.page_bytes}; make it smaller"
            )
        if 0 < self.metadata_cache_bytes < self.metadata_cache_ways * self.metadata_entry_bytes:
            raise ConfigurationError(
                f"metadata_cache_bytes = {self.metadata_cache_bytes} holds no set of {self.metadata_cache_ways} "
                f"ways of {self.metadata_entry_bytes} B; raise it, or set it to 0 for no cache"
            )
        if self.capacity_warning_ratio > self.capacity_critical_ratio:
            raise ConfigurationError(
                f"capacity_warning_ratio = {self.capacity_warning_ratio:g} lies above capacity_critical_ratio = "
                f"{self.capacity_critical_ratio:g}; the warning must come first"
            )


@lru_cache(maxsize=1)
def parameters() -> dict[str, Parameter]:
    """Every parameter with value, bounds, unit, standing and source."""
    text = (files("linepress_hardware") / "data" / "channel.toml").read_text(encoding="utf-8")
    return {name: Parameter(**entry) for name, entry in tomllib.loads(text).items()}


@lru_cache(maxsize=1)
def default_config() -> ChannelConfig:
    """The configuration that ``data/channel.toml`` states."""
    known = parameters()
    declared = {f.name for f in fields(ChannelConfig)}
    if declared != set(known):
        odd = ", ".join(sorted(declared ^ set(known)))
        raise ConfigurationError(f"data/channel.toml and ChannelConfig disagree on {odd}; name each in both")
    values = {name: p.value for name, p in known.items()}
    config = ChannelConfig(**values)  # type: ignore[arg-type]
    config.check()
    return config
