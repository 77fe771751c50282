"""What a source says of the positions and the rotary embedding of a cache's keys, as a codec takes it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from linepress_codecs.context.rotation import TURN
from linepress_codecs.contracts import Rotation
from linepress_codecs.tokens import Tokens

MOST_DIM = 4096


def tokens_of(kind: str, shape: tuple[int, ...], notes: Mapping[str, str], positions: bytes) -> Tokens:
    """Positions and rotation of a tensor's tokens.

    Keys have both, and so may a tensor of three axes of which the name says nothing. ``rope_theta`` in the notes,
    with ``rope_layout`` (``half…`` or ``interleaved…``), ``rope_dim`` where not all channels turn and
    ``rope_scaling``, the scaling of the model's configuration as JSON, give the rotation; a codec holds it against
    the data, and finds its own where there is none.
    """
    known = kind == "key" or (kind == "weight" and len(shape) == 3)
    where = np.frombuffer(positions, "<u4").astype(np.uint32) if positions else None
    rotation = _rotation(shape[-1], notes) if known and len(shape) > 1 else None
    return Tokens(where, rotation, known)


def _rotation(dim: int, notes: Mapping[str, str]) -> Rotation | None:
    """The rotation that the notes state; None where they state none that a head of ``dim`` channels can have."""
    if notes.get("keys", "post-RoPE") == "pre-RoPE" or not 2 <= dim <= MOST_DIM:
        return None
    try:
        base, turning = float(notes["rope_theta"]), int(notes.get("rope_dim", dim))
        scaling = json.loads(notes.get("rope_scaling", "{}"))
        if not 1 < base < math.inf or not 2 <= turning <= dim or not isinstance(scaling, dict):
            return None
        rates = _scaled([base ** (-2 * i / turning) for i in range(turning // 2)], scaling)
    except (KeyError, ValueError, TypeError, ZeroDivisionError, OverflowError):
        return None
    if rates is None or not all(0 <= rate <= math.pi for rate in rates):
        return None
    steps = tuple(round(rate / (2 * math.pi) * TURN) for rate in rates)
    offset = dim - 2 * len(steps) if notes.get("holds") == "latent" else 0
    return Rotation(dim, offset, notes.get("rope_layout", "half").startswith("interleaved"), steps)


def _scaled(rates: list[float], scaling: Mapping[str, Any]) -> list[float] | None:
    """Radians a position under a scaling of Transformers' configurations; None for one that is not known here."""
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return rates
    factor = float(scaling["factor"])
    if kind == "linear":
        return [rate / factor for rate in rates]
    if kind != "llama3":
        return None
    # Slow pairs are slowed by the factor, fast ones are not, those between by a mixture (Llama 3.1's configuration).
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    before = float(scaling["original_max_position_embeddings"])
    out = []
    for rate in rates:
        turns = before * rate / (2 * math.pi)
        share = min(max((turns - low) / (high - low), 0.0), 1.0)
        out.append((1 - share) * rate / factor + share * rate)
    return out
