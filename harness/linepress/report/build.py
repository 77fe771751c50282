"""Build ``report/index.html`` in a run folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from linepress import __version__
from linepress.claims import Verdict, verdicts
from linepress.records import RunStore
from linepress.records.files import write_atomically
from linepress.records.place import RunPlace
from linepress.records.standing import standing
from linepress.report.model import Section
from linepress.report.sections import decoders, fabric, hardware, night, overview, pages, ratios, record
from linepress.report.view import RunView

MAX_BYTES = 5_000_000
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
SECTIONS: tuple[Callable[[RunView], Section], ...] = (
    overview.verdict,
    night.compared,
    overview.headline,
    ratios.speed,
    ratios.by_group,
    ratios.layers,
    ratios.kv,
    ratios.sizes,
    decoders.decoders,
    hardware.channel,
    hardware.system,
    fabric.fabric,
    pages.pages,
    record.claims,
    record.failures,
    night.history,
    record.provenance,
    record.full_table,
)


def build_report(run: RunPlace | str | RunStore, found: list[Verdict] | None = None) -> Path:
    """Write the report of a run and return its path, ``report/index.html`` of the run folder.

    The report of a run in a store is written to its copy in the cache and carried on to the store.

    Parameters
    ----------
    run
        Folder or place of the run, or its open store, with ``manifest.json`` and ``tables/``.
    found
        Verdicts on the claims where they are known already; computed otherwise.

    Raises
    ------
    RecordError
        The folder is not a run of this schema version, or the file cannot be written.
    """
    store = RunStore.open(run)
    store.fetch(night.FOLDER)
    view = RunView.load(store, verdicts(store) if found is None else found)
    html = render(view)
    path = store.path / "report" / "index.html"
    write_atomically(path, html.encode())
    store.carry(path)
    return path


def render(view: RunView) -> str:
    """The report as one HTML document with no reference to anything outside itself."""
    sections = [section for section in (build(view) for build in SECTIONS) if section.parts]
    assets = files("linepress.report").joinpath("assets")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(assets.joinpath("report.html.j2").read_text(encoding="utf-8"))
    suite = view.manifest.get("suite") or {}
    name = suite.get("name", "") if isinstance(suite, dict) else str(suite)
    page = template.render(
        title=f"{standing(view.store).word}: {name or 'linepress'} report",
        suite=name,
        run_id=view.store.run_id,
        sections=sections,
        css=assets.joinpath("report.css").read_text(encoding="utf-8"),
        js=assets.joinpath("report.js").read_text(encoding="utf-8"),
        version=__version__,
    )
    # Control characters have no place in HTML; a name that holds one shows the replacement character instead.
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(page))
