"""The conformance kit over the codecs for AI data."""

from __future__ import annotations

import pytest

from linepress_codecs.registry import make, parse_spec
from linepress_codecs.testing import LineCheck, line_checks

SPECS = [
    "window",
    "window:bits=4",
    "tans",
    "tans:streams=1:mantissa=2",
    "adaptive",
    "adaptive:tables=2:streams=8:precision=9",
    "context",
    "context:streams=4",
    "delta",
    "delta:streams=4:precision=9",
]


@pytest.mark.parametrize("check", line_checks(), ids=lambda c: c.__name__)
@pytest.mark.parametrize("spec", SPECS)
def test_conformance(spec: str, check: LineCheck) -> None:
    codec = make(*parse_spec(spec))
    check(codec)  # type: ignore[arg-type]
