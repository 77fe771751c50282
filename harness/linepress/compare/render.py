"""A comparison as text for a terminal and as Markdown for CI."""

from __future__ import annotations

from collections.abc import Sequence

from linepress.compare.lines import (
    Line,
    aligned,
    closing,
    equal_line,
    exact_lines,
    failure_lines,
    gate_line,
    header,
    incomparable_lines,
    lossless_lines,
    modelled_lines,
    speed_lines,
)
from linepress.compare.verdict import Comparison
from linepress.tables.markdown import escape_markdown

LEGEND = "marks: ! new failure, + worse, - better, ~ not significant, x not comparable or no result, * recovered"
_COLUMNS = ("", "codec", "metric", "base", "new", "change")


def as_text(found: Comparison) -> str:
    """Plain text; the last line is the gate."""
    out = header(found)
    out += _section("outcomes", failure_lines(found))
    out += _section("exact", [*lossless_lines(found), *exact_lines(found)])
    out.append(equal_line(found))
    out += _section("modelled", modelled_lines(found))
    how = found.sampled.how or "interleaved rounds"
    out += _section(f"sampled ({how}; fastest round of each tensor)", speed_lines(found))
    out += _section("not comparable", incomparable_lines(found))
    out += [LEGEND, *closing(found)]
    return "\n".join(out) + "\n"


def as_markdown(found: Comparison, heading: str = "linepress compare") -> str:
    """Markdown with tables; the verdict is the first line under the heading."""
    out = [f"## {escape_markdown(heading)}", "", f"**{escape_markdown(gate_line(found))}**", ""]
    out += [f"- {escape_markdown(line)}" for line in header(found)]
    failures = failure_lines(found)
    if failures:
        out += ["", "### Outcomes", ""]
        out += [f"- `{line.mark or ' '}` {escape_markdown('   '.join(line.cells))}" for line in failures]
    out += _table("Exact", [*lossless_lines(found), *exact_lines(found)])
    out += ["", escape_markdown(equal_line(found))]
    out += _table("Modelled", modelled_lines(found))
    out += _table(f"Sampled ({found.sampled.how or 'interleaved rounds'})", speed_lines(found))
    incomparable = incomparable_lines(found)
    if incomparable:
        out += [
            "",
            "### Not comparable",
            "",
            *(f"- `x` {escape_markdown('   '.join(line.cells))}" for line in incomparable),
        ]
    out += ["", *(f"- {escape_markdown(line)}" for line in closing(found)[:-1]), "", LEGEND]
    return "\n".join(out) + "\n"


def _section(title: str, lines: Sequence[Line]) -> list[str]:
    return [title, *aligned(lines)] if lines else []


def _table(title: str, lines: Sequence[Line]) -> list[str]:
    if not lines:
        return []
    rule = ["---", "---", "---", "---:", "---:", "---"]
    whole = [line for line in lines if len(line.cells) == len(_COLUMNS) - 1]
    rows = [(f"`{line.mark}`" if line.mark else "", *map(escape_markdown, line.cells)) for line in whole]
    table = [f"| {' | '.join(cells)} |" for cells in (_COLUMNS, rule, *rows)] if rows else []
    notes = [f"- {escape_markdown('   '.join(line.cells))}" for line in lines if len(line.cells) != len(_COLUMNS) - 1]
    return ["", f"### {title}", "", *table, *([""] if table and notes else []), *notes]
