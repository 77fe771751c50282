"""The report of a run: one self-contained HTML file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linepress.report.build import build_report

__all__ = ["build_report"]


def __getattr__(name: str) -> Any:
    # Matplotlib and Jinja2 load only when a report is built, not when a number is formatted.
    if name == "build_report":
        from linepress.report.build import build_report

        return build_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
