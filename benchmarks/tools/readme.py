"""Tables and picture of README.md, made anew from a run: ``python -m benchmarks.tools.readme RUN``.

Ratios, and what they buy in a memory channel; for gains to one percent, of a run of
``linepress run smoke --set channel.within_pct=1``. A table goes between two marker comments, so that prose and
numbers cannot drift apart by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from linepress.claims import Verdict, verdicts
from linepress.errors import EXIT_OK, EXIT_USAGE, LinepressError
from linepress.records import RunStore
from linepress.records.summary import best_on_another_text, best_payload_line_variant
from linepress.report.sections.overview import claim_marks
from linepress.report.view import RunView
from linepress.tables.channel import channel_tables
from linepress.tables.markdown import as_markdown
from linepress.tables.ratios import headline_table

GAINS = (
    "\\*: above the bytes saved on the bus; the report names the resource that these free. What has not converged is "
    "not stated."
)
COLUMNS = ("data", "raw", "codec", "payload", "packed", "bound", "decode", "lossless")


def ratio_table(view: RunView) -> str:
    """Of data as stored: the best line codec, plain Huffman and the best block codec; the report has the rest."""
    shown = []
    for data, found in view.summaries.items():
        if data.origin or data.cast:
            continue
        blocks = [s for s in found if s.codec_kind == "block" and s.all_lossless]
        chosen = [best_payload_line_variant(found), *(s for s in found if s.variant == "huffman"), *blocks[:1]]
        wanted = dict.fromkeys(s.variant for s in chosen if s is not None)
        shown += [s.row(data) for s in found if s.variant in wanted]
    return "\n".join(as_markdown(headline_table({"": shown}, COLUMNS)))


def channel_table(view: RunView) -> str:
    """Gains of data as stored over the plain channel at its best."""
    rows = [r for r in view.store.table("channel").to_pylist() if r["status"] == "ok" and not r["cast"]]
    rows = [r for r in rows if r["data"] in ("weights", "kv")]
    return "\n".join(as_markdown(channel_tables(rows)[0])) if rows else ""


def with_table(text: str, name: str, table: str, origin: str) -> str:
    """``text`` with the table between its markers; raises `LinepressError` where they are missing."""
    first, last = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise LinepressError(f"README has no markers {first} and {last}; put them where the table belongs")
    return f"{before}{first}\n{table}\n\n{origin}\n{last}{after}"


def picture(found: list[Verdict], folder: Path) -> list[Path]:
    """PNG file of the claims."""
    from linepress.report.plots import system
    from linepress.report.plots.style import png

    marks = claim_marks(found)
    if not marks:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    png(system.claims(marks), folder / "claims.png")
    return [folder / "claims.png"]


def _origin(view: RunView) -> str:
    suite, machine = view.manifest.get("suite") or {}, view.manifest.get("machine") or {}
    other, said = best_on_another_text(view.store), ""
    if other is not None:
        said = (
            f"KV with tables of another text, in pages of {other['contract']}: payload {other['ratio']:.3f} by "
            f"`{other['codec']}`, where tables of its own text give {other['own_text_ratio']:.3f}.\n\n"
        )
    return said + (
        f"Suite `{suite.get('name', '')}` version {suite.get('version', '')}, one core of "
        f"{machine.get('cpu', 'an unknown machine')}; every line of every case decoded and compared."
    )


def main(arguments: list[str]) -> int:
    """``RUN [README]``: rewrite the tables in README.md and the picture beside it in docs/images."""
    if not 1 <= len(arguments) <= 2:
        sys.stderr.write("usage: python -m benchmarks.tools.readme RUN [README.md]\n")
        return EXIT_USAGE
    readme = Path(arguments[1] if len(arguments) == 2 else "README.md")
    try:
        store = RunStore.open(arguments[0])
        found = verdicts(store)
        view = RunView.load(store, found)
        text = with_table(readme.read_text(encoding="utf-8"), "ratios", ratio_table(view), _origin(view))
        text = with_table(text, "channel", channel_table(view), GAINS)
    except LinepressError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    readme.write_text(text, encoding="utf-8")
    for path in [readme, *picture(found, readme.parent / "docs" / "images")]:
        sys.stdout.write(f"{path}\n")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
