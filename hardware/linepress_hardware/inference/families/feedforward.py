"""MLPs and experts of a family's layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.families.fields import Fields
from linepress_hardware.inference.layers import Experts, Mlp


def mlps(f: Fields, rule: Mapping[str, Any], where: Sequence[bool]) -> tuple[Mlp, ...]:
    """Plain MLPs of the layers marked in `where`; a width may be one a layer."""
    if not any(where):
        return ()
    keys = rule.get("width", ["intermediate_size"])
    value = f.get(*keys)
    if isinstance(value, list):
        if len(value) != len(where):
            raise ConfigurationError(f"{f.name}: {keys[0]} has {len(value)} entries for {len(where)} layers")
        widths = [f.checked(width, keys[0]) for width in value]
    else:
        widths = [_adjusted(f, rule, f.whole(*keys))] * len(where)
    doubled = set(range(len(where) - f.whole("num_kv_shared_layers", default=0, least=0), len(where)))
    if rule.get("doubled") and f.switch(rule["doubled"]):  # layers that read another's cache have twice the width
        widths = [width * (2 if i in doubled else 1) for i, width in enumerate(widths)]
    counts = Counter(width for width, here in zip(widths, where, strict=True) if here)
    return tuple(Mlp(layers, width) for width, layers in sorted(counts.items()))


def _adjusted(f: Fields, rule: Mapping[str, Any], width: int) -> int:
    """LFM2 gives the width before its gate takes a third, and rounds it up to whole blocks."""
    if "adjust" not in rule or not f.switch(rule["adjust"]):
        return width
    factor, block = f.get("block_ffn_dim_multiplier"), f.whole("block_multiple_of")
    width = 2 * width // 3
    if factor is not None:
        width = int(width * float(factor))
    return -(-width // block) * block


def experts(f: Fields, rule: Mapping[str, Any], layers: int) -> Experts | None:
    """The mixture that `layers` layers have; None where the file has no experts."""
    if not rule or layers == 0:
        return None
    total = f.get(*rule["total"])
    if total is None or total == 0:
        if rule.get("optional", False):
            return None
        raise ConfigurationError(f"{f.name}: config has no {rule['total'][0]}; add it as a whole number")
    width = f.whole(*rule["width"])
    shared, shared_width = 0, width
    if "shared" in rule:
        shared = f.whole(*rule["shared"], default=rule.get("shared_default", 0), least=0)
    elif "shared_width" in rule:
        shared_width = f.whole(*rule["shared_width"], default=0, least=0)
        shared = 1 if shared_width else 0
    if shared and "shared_width" in rule:
        shared_width = f.whole(*rule["shared_width"], default=width)
    found = Experts(
        total=f.whole(*rule["total"]),
        active=f.whole(*rule["active"]),
        intermediate=width,
        layers=layers,
        shared=shared,
        shared_intermediate=shared_width if shared else 0,
        router_bias=f.switch(rule.get("router_bias", False)),
        shared_gate=bool(shared) and rule.get("shared_gate", False),
        bias=rule.get("bias", False),
        latent=f.whole(*rule["latent"], default=0, least=0) if "latent" in rule else 0,
    )
    if found.active > found.total:
        raise ConfigurationError(
            f"{f.name}: num_experts_per_tok {found.active} exceeds the {found.total} experts; correct one of them"
        )
    return found
