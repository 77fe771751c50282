"""A family's data file: which model types it is, its class defaults, and the rules that make its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from linepress_hardware.catalog.files import check_keys, read_toml, texts
from linepress_hardware.errors import ConfigurationError

_KEYS = frozenset(
    {
        "model_types", "wrappers", "source", "defaults", "layers", "attention", "linear", "mlp", "experts",
        "norms_per_layer", "norm_bias", "final_norm", "head_bias", "extras", "note",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """Rules of one data file; each table is read by the module of its name (`pattern`, `attention`, …).

    Attributes
    ----------
    model_types : tuple of str
        ``model_type`` values of the language model.
    wrappers : tuple of str
        Types of multimodal wrappers whose ``text_config`` is of this family when it does not say.
    defaults : mapping
        What the configuration class fills in for a field that the file leaves out; a field without one is needed.
    """

    model_types: tuple[str, ...]
    wrappers: tuple[str, ...]
    source: str
    defaults: Mapping[str, Any]
    layers: Mapping[str, Any]
    attention: Mapping[str, Any]
    linear: Mapping[str, Any]
    mlp: Mapping[str, Any]
    experts: Mapping[str, Any]
    norms_per_layer: int = 2
    norm_bias: bool = False
    final_norm: bool = True
    head_bias: bool | str = False
    extras: tuple[str, ...] = ()
    note: str = ""
    where: str = field(default="", compare=False)


def parse_family(text: str, where: str) -> Family:
    """One data file; mistakes are `ConfigurationError` naming it."""
    raw = read_toml(text, where)
    check_keys(raw, where, ("model_types", "source", "attention"), _KEYS)
    tables = {key: raw.get(key, {}) for key in ("defaults", "layers", "attention", "linear", "mlp", "experts")}
    plain = {
        key: raw[key] for key in ("norms_per_layer", "norm_bias", "final_norm", "head_bias", "note") if key in raw
    }
    return Family(
        model_types=tuple(raw["model_types"]),
        wrappers=tuple(raw.get("wrappers", ())),
        source=raw["source"],
        extras=tuple(raw.get("extras", ())),
        where=where,
        **tables,
        **plain,
    )


@cache
def families() -> Mapping[str, Family]:
    """Every packaged family by each of its model types."""
    out: dict[str, Family] = {}
    for where, text in texts("families"):
        family = parse_family(text, where)
        for kind in family.model_types:
            if kind in out:
                raise ConfigurationError(f"{where} takes model type {kind}, which {out[kind].where} has already")
            out[kind] = family
    return out


@cache
def wrappers() -> Mapping[str, Family]:
    """The family inside each multimodal wrapper that need not name it."""
    return {kind: family for family in families().values() for kind in family.wrappers}
