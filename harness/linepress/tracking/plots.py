"""The report's plots as files of their own, so that MLflow shows them beside the metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SVG = re.compile(r"<svg\b([^>]*)>(.*?)</svg>", re.DOTALL)
_NAME = re.compile(r'aria-labelledby="([A-Za-z0-9_-]+)-t\b')
_VARIABLES = re.compile(r":root\s*\{([^}]*)\}")


def plots(report: str) -> Iterator[tuple[str, str]]:
    """``(file name, SVG document)`` of each plot in a report; plots take their colours from the page, which the first
    ``:root`` rule of the page declares, so that rule goes along."""
    variables = _VARIABLES.search(report)
    style = f"<style>:root{{{variables.group(1)}}} svg{{background:#fff}}</style>" if variables else ""
    for number, match in enumerate(_SVG.finditer(report)):
        named = _NAME.search(match.group(1))
        if named is None:
            continue
        attributes = match.group(1)
        yield (
            f"{number:02d}-{named.group(1)}.svg",
            f'<svg xmlns="http://www.w3.org/2000/svg"{attributes}>{style}{match.group(2)}</svg>\n',
        )
