"""Contrast of the report's colours, from the style sheet itself: WCAG 2.2 level AA in light, dark and print."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

CSS = files("linepress.report").joinpath("assets/report.css").read_text(encoding="utf-8")
MODES = ("light", "dark", "print")
TEXT_ON = (
    *((ink, ground) for ink in ("ink", "muted", "link", "good", "bad", "warn") for ground in ("page", "band")),
    ("ink", "goodband"),
    ("muted", "goodband"),
    ("good", "goodband"),
    ("ink", "badband"),
    ("bad", "badband"),
    # Lines of a plot are named in their own colour, so each must be readable as text.
    *((f"c{i}", "page") for i in range(8)),
)


def variables(mode: str) -> dict[str, str]:
    """The colours in force in one setting: those of :root, with what the setting's media query overrides."""
    blocks = re.findall(r":root\s*\{([^}]*)\}", CSS)
    light, dark, paper = (dict(re.findall(r"--(\w+):\s*(#[0-9a-f]{3,6})\b", b)) for b in blocks)
    return light | {"light": {}, "dark": dark, "print": paper}[mode]


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour, WCAG 2.2."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("a", "b", "ratio"), [("#000", "#ffffff", 21.0), ("#777777", "#ffffff", 4.478)])
def test_the_measure_of_contrast_is_that_of_wcag(a: str, b: str, ratio: float) -> None:
    assert contrast(a, b) == pytest.approx(ratio, abs=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_every_text_colour_is_readable_on_every_ground_it_stands_on(mode: str) -> None:
    colours = variables(mode)
    found = {f"{a} on {b}": round(contrast(colours[a], colours[b]), 2) for a, b in TEXT_ON}
    assert {pair: ratio for pair, ratio in found.items() if ratio < 4.5} == {}


def test_dark_and_print_replace_every_colour_of_the_page() -> None:
    blocks = [set(re.findall(r"--(\w+):\s*#", b)) for b in re.findall(r":root\s*\{([^}]*)\}", CSS)]
    assert blocks[0] == blocks[1]
    # A reader in dark mode prints with both queries in force: what print leaves out would come out pale on white.
    assert blocks[0] == blocks[2]
