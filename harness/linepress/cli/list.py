"""``linepress list KIND``: codecs, suites, parts of the hardware models, runs, claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from linepress.cli.common import PLACE, json_option, print_json, stdout

if TYPE_CHECKING:
    from linepress.records.place import RunPlace

KIND_NAMES = (
    "codecs",
    "suites",
    "memories",
    "accelerators",
    "models",
    "racks",
    "links",
    "switches",
    "topologies",
    "runs",
    "claims",
)
# column -> heading; columns that are not named stay in --json
SHOWN: dict[str, dict[str, str]] = {
    "codecs": {"codec": "codec", "kind": "kind", "version": "version", "summary": "what it does", "source": "source"},
    "suites": {"suite": "suite", "version": "version", "title": "title", "stages": "stages", "path": "file"},
    "memories": {
        "memory": "memory",
        "title": "title",
        "channel_peak_GBps": "channel, GB/s",
        "atom_bytes": "atom, B",
        "channels_per_device": "channels",
    },
    "accelerators": {
        "accelerator": "accelerator",
        "memory": "memory",
        "capacity_bytes": "capacity",
        "bandwidth_GBps": "GB/s",
        "power_W": "W",
        "status": "standing",
        "source": "source",
    },
    "models": {
        "model": "model",
        "parameters": "parameters",
        "layers": "layers",
        "hidden": "hidden",
        "kv_heads": "KV heads",
        "kv_bytes_per_token_bf16": "KV, B/token (bf16)",
    },
    "racks": {"rack": "rack", "title": "title", "accelerator": "accelerator", "chips": "chips", "power_W": "W"},
    "links": {
        "link": "link",
        "title": "title",
        "rate_Gbps": "Gb/s one way",
        "links_per_accelerator": "links a device",
        "payload_max_bytes": "payload, B",
        "efficiency_64B_pct": "64 B efficiency, %",
        "hop_ns": "hop, ns",
        "status": "standing",
        "source": "source of the rate",
    },
    "switches": {
        "switch": "switch",
        "title": "title",
        "capacity_Tbps": "Tb/s",
        "ports_200G": "200G ports",
        "ports_800G": "800G ports",
        "latency_ns": "latency, ns",
        "reduces": "reduces",
        "status": "standing",
        "source": "source of the capacity",
    },
    "topologies": {
        "topology": "topology",
        "kind": "kind",
        "accelerators": "accelerators",
        "racks": "racks",
        "link": "link",
        "switch": "switch",
        "links": "links",
        "switches": "switches",
        "accelerator_GBps": "GB/s a device",
        "medium": "medium",
        "status": "standing",
    },
    "runs": {
        "run": "run",
        "suite": "suite",
        "commit": "commit",
        "status": "status",
        "ok": "ok",
        "failed": "failed",
        "planned": "planned",
        "age": "age",
    },
    "claims": {
        "claim": "claim",
        "title": "title",
        "claimed": "claimed",
        "tolerance": "counts as equal",
        "checked_by": "checked by",
    },
}
EPILOG = """\b
Examples:
  linepress list codecs
  linepress list topologies
  linepress list claims --json
  linepress list runs --folder /data/runs
"""


@click.command(name="list", epilog=EPILOG)
@click.argument("kind", type=click.Choice(KIND_NAMES), metavar="KIND")
@click.option("--folder", type=PLACE, metavar="FOLDER|URI", default="runs", help="Where to look for runs.")
@json_option
def command(kind: str, folder: RunPlace, as_json: bool) -> int:
    """List what linepress knows.

    KIND is codecs, suites, memories, accelerators, models, racks, links, switches, topologies, runs or claims.
    """
    from linepress.listing import KINDS, runs

    rows = runs(folder) if kind == "runs" else KINDS[kind]()
    if as_json:
        print_json(rows)
        return 0
    if not rows:
        where = f" under {folder}; `linepress run smoke` makes one" if kind == "runs" else ""
        stdout().print(f"no {kind}{where}")
        return 0
    _print(kind, rows)
    return 0


def _print(kind: str, rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    console = stdout()
    columns = SHOWN[kind]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, heading in columns.items():
        numeric = all(isinstance(row.get(name), int | float) or row.get(name) is None for row in rows)
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(name, row.get(name)) for name in columns))
    if not console.is_terminal:
        # Piped output keeps whole lines: nothing is folded or cut to a guessed width.
        console.width = 10_000
    console.print(table)
    for row in rows:
        if row.get("problem"):
            console.print(f"{row['run']}: {row['problem']}", markup=False)


def _text(name: str, value: Any) -> str:
    from rich.markup import escape

    from linepress import format as fmt

    if value is None or value == "":
        return "–"
    if isinstance(value, list):
        return escape(", ".join(str(v) for v in value))
    if name.endswith("_bytes"):
        return fmt.bytes_si(value) if value >= 1000 else fmt.plain(value)
    if isinstance(value, int | float):
        return fmt.plain(value, 4) if isinstance(value, float) else fmt.count(value)
    return escape(str(value))
