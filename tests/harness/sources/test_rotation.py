"""Positions and rotation of keys, from what a snapshot's header says."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from linepress.sources.rotation import tokens_of
from linepress_codecs.context.rotation import TURN, steps_of

SHAPE = (3, 512, 64)
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def rates(notes: dict[str, str]) -> list[float]:
    """Radians a position of each pair; empty where there is no rotation."""
    rotation = tokens_of("key", SHAPE, notes, b"").rotation
    return [step / TURN * 2 * math.pi for step in rotation.steps] if rotation else []


def test_the_plain_rotation() -> None:
    tokens = tokens_of("key", SHAPE, {"rope_theta": "100000.0", "rope_layout": "half-split: channel d pairs"}, b"")
    assert tokens.known
    assert tokens.positions is None
    assert tokens.rotation is not None
    assert (tokens.rotation.head_dim, tokens.rotation.offset, tokens.rotation.interleaved) == (64, 0, False)
    assert tokens.rotation.steps == steps_of(1e5, 32)
    assert rates({"rope_theta": "100000.0"}) == pytest.approx([1e5 ** (-i / 32) for i in range(32)], abs=1e-8)


def test_parts_layouts_and_latents() -> None:
    quarter = tokens_of("key", SHAPE, {"rope_theta": "1e4", "rope_dim": "16", "rope_layout": "interleaved"}, b"")
    assert quarter.rotation is not None
    assert (quarter.rotation.interleaved, quarter.rotation.offset, len(quarter.rotation.steps)) == (True, 0, 8)
    latent = tokens_of("key", (1, 99, 576), {"rope_theta": "1e4", "rope_dim": "64", "holds": "latent"}, b"")
    assert latent.rotation is not None
    assert (latent.rotation.offset, len(latent.rotation.steps)) == (512, 32)


def test_scalings_of_model_configurations() -> None:
    plain = rates({"rope_theta": "500000"})
    linear = rates({"rope_theta": "500000", "rope_scaling": json.dumps({"rope_type": "linear", "factor": 4})})
    assert linear == pytest.approx([rate / 4 for rate in plain], abs=1e-8)
    llama = rates({"rope_theta": "500000", "rope_scaling": json.dumps(LLAMA3)})
    for before, after in zip(plain, llama, strict=True):
        wavelength = 2 * math.pi / before
        # Short waves stay, waves over the old context are eight times longer (Llama 3.1, 8,192 tokens before).
        if wavelength < 8192 / 4:
            assert after == pytest.approx(before, abs=1e-8)
        elif wavelength > 8192:
            assert after == pytest.approx(before / 8, abs=1e-8)
        else:
            assert before / 8 < after < before


@pytest.mark.parametrize(
    "notes",
    [
        {},
        {"rope_theta": "much"},
        {"rope_theta": "nan"},
        {"rope_theta": "1e400"},
        {"rope_theta": "1e4", "rope_dim": "-2"},
        {"rope_theta": "1e4", "rope_dim": "128"},
        {"rope_theta": "1e4", "rope_scaling": "[1"},
        {"rope_theta": "1e4", "rope_scaling": "[1]"},
        {"rope_theta": "1e4", "rope_scaling": '{"rope_type": "linear", "factor": 0}'},
        {"rope_theta": "1e4", "rope_scaling": '{"rope_type": "linear", "factor": -1}'},
        {"rope_theta": "1e4", "rope_scaling": '{"rope_type": "yarn", "factor": 4}'},
        {"rope_theta": "1e4", "keys": "pre-RoPE"},
    ],
    ids=str,
)
def test_what_states_no_rotation_is_left_to_the_data(notes: dict[str, str]) -> None:
    tokens = tokens_of("key", SHAPE, notes, b"")
    assert tokens.rotation is None
    assert tokens.known


def test_values_and_weights_do_not_turn() -> None:
    notes = {"rope_theta": "1e4"}
    assert not tokens_of("value", SHAPE, notes, b"").known
    assert not tokens_of("weight", (512, 64), notes, b"").known
    assert tokens_of("value", SHAPE, notes, b"").rotation is None
    positions = tokens_of("key", SHAPE, {}, np.arange(4, dtype="<u4").tobytes()).positions
    assert positions is not None
    assert positions.tolist() == [0, 1, 2, 3]
