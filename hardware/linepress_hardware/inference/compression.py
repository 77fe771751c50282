"""Compression as an accelerator sees it: ratios for capacity, gains for traffic, ceilings and latency for time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from linepress_hardware.errors import ConfigurationError


@dataclass(frozen=True)
class Compression:
    """Numbers of one codec variant on one model and channel.

    Ratios are raw / stored bytes (packed) and decide capacity. Gains are effective / plain bandwidth as the
    channel delivers them and decide time; None takes the ratio, which needs a channel without overheads.
    """

    weight_ratio: float = 1.0
    kv_ratio: float = 1.0
    weight_ratio_by_group: Mapping[str, float] = field(default_factory=dict)
    key_ratio: float | None = None
    value_ratio: float | None = None
    weight_bandwidth_gain: float | None = None
    kv_bandwidth_gain: float | None = None
    decode_latency_ns: float = 0.0
    decompressor_GBps: float | None = None

    def __post_init__(self) -> None:
        numbers: dict[str, float | None] = {
            "weight_ratio": self.weight_ratio,
            "kv_ratio": self.kv_ratio,
            "key_ratio": self.key_ratio,
            "value_ratio": self.value_ratio,
            "weight_bandwidth_gain": self.weight_bandwidth_gain,
            "kv_bandwidth_gain": self.kv_bandwidth_gain,
            "decompressor_GBps": self.decompressor_GBps,
            **{f"weight_ratio of {group}": ratio for group, ratio in self.weight_ratio_by_group.items()},
        }
        for name, value in numbers.items():
            if value is not None and not 0 < value < float("inf"):
                raise ConfigurationError(f"{name} is {value!r}; give a finite number above 0 (1 means no change)")
        if not 0 <= self.decode_latency_ns < float("inf"):
            raise ConfigurationError(f"decode_latency_ns is {self.decode_latency_ns!r}; give 0 or more ns")

    def ratio_of(self, group: str) -> float:
        """Capacity ratio of one tensor group; an output head without its own takes that of the input table."""
        if group == "lm_head" and group not in self.weight_ratio_by_group:
            group = "embed"
        return self.weight_ratio_by_group.get(group, self.weight_ratio)

    @property
    def kv_capacity_ratio(self) -> float:
        """Ratio of keys and values together: harmonic mean, since a cache holds as much of each."""
        key = self.kv_ratio if self.key_ratio is None else self.key_ratio
        value = self.kv_ratio if self.value_ratio is None else self.value_ratio
        return 2 / (1 / key + 1 / value)

    @property
    def weight_channel_efficiency(self) -> float:
        """Share of the weight ratio that the channel turns into bandwidth."""
        return 1.0 if self.weight_bandwidth_gain is None else self.weight_bandwidth_gain / self.weight_ratio

    def traffic_gain_of(self, group: str) -> float:
        """Effective bandwidth gain of reads of one tensor group."""
        return self.ratio_of(group) * self.weight_channel_efficiency

    @property
    def kv_traffic_gain(self) -> float:
        """Effective bandwidth gain of KV reads."""
        return self.kv_capacity_ratio if self.kv_bandwidth_gain is None else self.kv_bandwidth_gain


PLAIN = Compression()


def effective_ratio(parts: list[tuple[float, float]]) -> float:
    """1 / r_eff = Σ f_i / r_i over ``(bytes, ratio)`` pairs; 1 when there are no bytes."""
    raw = sum(size for size, _ in parts)
    return raw / sum(size / ratio for size, ratio in parts) if raw else 1.0
