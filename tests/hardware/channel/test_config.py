"""Channel parameters: each with a source, overrides checked, contradictions refused."""

from __future__ import annotations

import pytest

from linepress_hardware.channel.config import default_config, parameters
from linepress_hardware.errors import ConfigurationError


def test_every_parameter_has_unit_status_source_and_lies_in_its_bounds() -> None:
    for name, p in parameters().items():
        assert p.unit, name
        assert p.source, name
        assert p.status in ("published", "derived", "assumed"), name
        assert p.low <= p.value <= p.high, name


def test_units_follow_from_the_clock() -> None:
    config = default_config().override({"axi_data_bits": 256, "axi_clock_GHz": 1.6})
    assert config.line_transfer_ns == pytest.approx(2 / 1.6)
    assert config.axi_beat_bytes == 32


def test_decoders_keep_up_with_the_port_unless_fixed() -> None:
    config = default_config()
    assert config.decoder_count == 1
    assert config.override({"decode_interval_ns": 8.4}).decoder_count == 11
    assert config.override({"decode_interval_ns": 8.4, "decoders": 2}).decoder_count == 2


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ({"no_such": 1}, "unknown channel parameter 'no_such'"),
        ({"axi_outstanding": 0}, "lies outside"),
        ({"axi_outstanding": 2.5}, "whole number"),
        ({"axi_data_bits": 384}, "256 or 512"),
        ({"chunk_bytes": 768}, "power of two"),
        ({"chunk_bytes": 4096, "page_bytes": 2048}, "exceeds page_bytes"),
        ({"metadata_cache_bytes": 64}, "holds no set"),
        ({"capacity_warning_ratio": 0.99}, "warning must come first"),
    ],
)
def test_bad_overrides_are_one_sentence(override: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        default_config().override(override)


def test_no_metadata_cache_is_allowed() -> None:
    assert default_config().override({"metadata_cache_bytes": 0}).metadata_cache_bytes == 0
