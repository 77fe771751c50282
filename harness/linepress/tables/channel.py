"""The channel on measured line sizes: gains over the plain channel at its best, and what they stand on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from linepress.tables import format as fmt
from linepress.tables.model import Cell, Column, Row, RowGroup, Table, cell
from linepress.tables.ratios import listed, number_cell

Line = Mapping[str, Any]
PATTERNS = ("sequential", "random", "mixed")


def _data(row: Line) -> Cell:
    return cell(" ".join(filter(None, (row["data"], row.get("format"), row.get("cast")))))


def _gain(pattern: str) -> Callable[[Line], Cell]:
    def made(row: Line) -> Cell:
        mark = "*" if row[f"resource_{pattern}"] else ""
        wide = row[f"gain_{pattern}_half_width_pct"]
        return number_cell(row[f"gain_{pattern}"], f"{fmt.ratio(row[f'gain_{pattern}'])}{mark} ± {wide:.1f} %")

    return made


def _each(prefix: str) -> Callable[[Line], Cell]:
    return lambda row: cell(" / ".join(fmt.ratio(row[f"{prefix}_{pattern}"]) for pattern in PATTERNS))


def _change(plain: str, coded: str) -> Callable[[Line], Cell]:
    return lambda row: number_cell(row[coded], f"{fmt.significant(row[plain])} → {fmt.significant(row[coded])}")


def _latency(name: str) -> Callable[[Line], Cell]:
    def made(row: Line) -> Cell:
        parts = (
            fmt.significant(row[f"{prefix}latency_{name}_ns"]) + ("" if row[f"{prefix}load_sustained"] else "!")
            for prefix in ("plain_", "")
        )
        return number_cell(row[f"latency_{name}_ns"], " → ".join(parts))

    return made


def _hits(row: Line) -> Cell:
    rate = row["metadata_hit_rate"]
    return cell(fmt.ABSENT) if rate is None else number_cell(rate, f"{100 * rate:.1f}")


BEST = "over the plain channel at its best, ± its 95 % confidence interval"
COLUMNS: dict[str, tuple[Column, Callable[[Line], Cell]]] = {
    "data": (Column("data, format", hint="what the lines hold, their element format, and the cast"), _data),
    "memory": (Column("memory"), lambda row: cell(row["memory"])),
    "packing": (Column("packing"), lambda row: cell(row["packing"])),
    "mode": (Column("mode", hint="compressed once, or both ways"), lambda row: cell(row["mode"])),
    "reads": (Column("reads", hint="pattern of the latency run"), lambda row: cell(row["workload"])),
    "capacity": (
        Column("capacity", "x", numeric=True, better="higher"),
        lambda row: number_cell(row["effective_capacity_ratio"], fmt.ratio(row["effective_capacity_ratio"])),
    ),
    **{name: (Column(name, "x", numeric=True, better="higher", hint=BEST), _gain(name)) for name in PATTERNS},
    "workload": (Column("the reads'", "x", numeric=True, better="higher", hint=BEST), _gain("workload")),
    "closed form": (Column("closed form", numeric=True), _each("closed_form_gain")),
    "default": (Column("all at default", numeric=True), _each("default_gain")),
    "saved": (Column("bytes saved", numeric=True, hint="on the bus, a useful byte"), _each("bytes_saved")),
    **{
        f"{name} GB/s": (
            Column(name, "GB/s", numeric=True, hint="plain at its best → compressed"),
            _change(f"plain_bandwidth_{name}_GBps", f"effective_bandwidth_{name}_GBps"),
        )
        for name in PATTERNS
    },
    "energy": (
        Column("device", "pJ/B", numeric=True, hint="plain → compressed, sequential reads, a useful byte"),
        _change("plain_energy_pJ_per_useful_byte", "energy_pJ_per_useful_byte"),
    ),
    "accesses": (
        Column("accesses", numeric=True, hint="of the longest run behind the three gains"),
        lambda row: cell(fmt.count(max(row[f"accesses_{name}"] for name in PATTERNS))),
    ),
    **{
        f"{name} ns": (Column(name, "ns", numeric=True, hint="plain → compressed"), _latency(name))
        for name in ("mean", "p99")
    },
    "hits": (Column("metadata hits", "%", numeric=True), _hits),
    "decoder": (
        Column("decode", "ns", numeric=True, hint="latency of a decoder, and decoders side by side"),
        lambda row: number_cell(
            row["decode_latency_ns"], f"{fmt.significant(row['decode_latency_ns'])} × {row['decoders']}"
        ),
    ),
}
CASE = ("data", "memory", "packing")


def channel_tables(rows: Sequence[Line]) -> list[Table]:
    """Rows of the table ``channel`` (with ``format`` and ``cast`` where they are known), grouped by codec.

    Gains, what they stand beside, rates and latencies, and the settings of the plain channel.
    """
    named = ("workload",) if any(row["workload"] not in PATTERNS for row in rows) else ()
    told = ("reads",) if named else ()
    order, rates = " / ".join(PATTERNS), [f"{name} GB/s" for name in PATTERNS]
    return [
        _table("gains", "Gains over the plain channel at its best", rows, *told, "capacity", *PATTERNS, *named),
        _table("beside", f"Beside them: {order}", rows, "closed form", "default", "saved"),
        _table("rates", "Plain at its best → compressed", rows, *rates, "energy", "accesses"),
        _table("latency", _load(rows), rows, "reads", "mode", "mean ns", "p99 ns", "hits", "decoder"),
        _settings(rows),
    ]


def _load(rows: Sequence[Line]) -> str:
    loads = sorted({row["load_pct_peak"] for row in rows})
    at = ", ".join(f"{load:g}" for load in loads)
    return f"Read latency at {at} % of pin peak, plain → compressed; ! does not sustain this load"


def _table(name: str, caption: str, rows: Sequence[Line], *columns: str) -> Table:
    shown = [COLUMNS[column] for column in (*CASE, *columns)]
    groups = []
    for codec in dict.fromkeys(row["codec"] for row in rows):
        mine = dict.fromkeys(tuple(make(row) for _, make in shown) for row in rows if row["codec"] == codec)
        groups.append(RowGroup(codec, tuple(map(Row, mine))))
    return Table(f"channel-{name}", caption, tuple(column for column, _ in shown), tuple(groups))


def _settings(rows: Sequence[Line]) -> Table:
    """Each memory and pattern once: its settings do not depend on the codec."""
    from linepress_hardware.channel.headline import WITH_WRITES

    columns = (
        Column("memory"),
        Column("pattern"),
        Column("at its best", "GB/s", numeric=True),
        Column("settings: mapping and policy"),
        Column("at default", "GB/s", numeric=True),
        Column("compressed with"),
    )
    found: dict[tuple[str, ...], Row] = {}
    for row in rows:
        for name in (*PATTERNS, "workload"):
            best, default = (row[f"plain_{kind}bandwidth_{name}_GBps"] for kind in ("", "default_"))
            plain, coded = row[f"plain_settings_{name}"], row[f"settings_{name}"]
            with_what = "the same" if coded == plain else coded
            writes = ", with writes" if row["mode"] == "inline" and _said(row, name) in WITH_WRITES else ""
            texts = (
                row["memory"],
                _said(row, name) + writes,
                fmt.significant(best),
                plain,
                fmt.significant(default),
                with_what,
            )
            found.setdefault(texts, Row(tuple(map(cell, texts))))
    return Table("channel-settings", "The plain channel", columns, (RowGroup("", tuple(found.values())),))


def channel_notes(rows: Sequence[Line]) -> list[str]:
    """What is to be said of several rows, each sentence once, with the count of gains it concerns."""
    named = [(row, name) for row in rows for name in _patterns(row)]
    open_ended = [(row, name) for row, name in named if row[f"gain_{name}"] != row[f"gain_{name}"]]
    notes = []
    if open_ended:
        where = listed(list(dict.fromkeys(f"{row['memory']} {_said(row, name)}" for row, name in open_ended)))
        notes.append(
            f"–: no gain is stated where it has not converged: {len(open_ended)} of {len(named)} gains ({where})"
        )
    for key, text in (
        ("resource", "* above the bytes saved, which free {}"),
        ("default_resource", "all at default, above the bytes saved there, which free {}"),
    ):
        freed = Counter((row[f"{key}_{name}"], _said(row, name)) for row, name in named if row[f"{key}_{name}"])
        for resource in dict.fromkeys(resource for resource, _ in freed):
            gains = ", ".join(f"{n} {name}" for (what, name), n in freed.items() if what == resource)
            notes.append(f"{text.format(resource)}: {gains} of {len(rows)} rows")
    most = max(row["most_in_flight"] for row in rows)
    return [*notes, f"at most {most:,} lines in flight"]


def _patterns(row: Line) -> tuple[str, ...]:
    return PATTERNS if row["workload"] in PATTERNS else (*PATTERNS, "workload")


def _said(row: Line, name: str) -> str:
    return str(row["workload"] if name == "workload" else name)


SWEEP = {
    "value": "value",
    **{
        key.format(pattern): heading.format(pattern)
        for pattern in ("sequential", "random")
        for key, heading in {
            "plain_bandwidth_{}_GBps": "{} plain",
            "effective_bandwidth_{}_GBps": "coded",
            "gain_{}": "x ↑",
            "gain_{}_half_width_pct": "± %",
            "metadata_hit_rate_{}": "hits",
        }.items()
    },
}
LOAD_CURVE = {
    "load_pct_peak": "load %",
    **{
        f"{prefix}{key}": f"{said}{heading}"
        for prefix, said in (("plain_", "plain "), ("", ""))
        for key, heading in {
            "latency_mean_ns": "mean ns",
            "latency_p50_ns": "p50 ns",
            "latency_p99_ns": "p99 ns",
            "load_sustained": "sustained",
        }.items()
    },
}
CONTRACT = {
    "threshold_ratio": "threshold",
    "physical_bytes": "physical B",
    "free_bytes": "free B",
    "accepted_bytes": "accepted B",
    "closed_form_bytes": "closed form B",
    "reserve_per_byte": "reserve a B",
}


def extra_tables(document: Mapping[str, Any]) -> list[Table]:
    """What ``linepress channel`` adds: sweeps (in GB/s), load curve, block codecs, capacity, faults, trace, …"""
    made = []
    for name, by, headings in (("sweeps", "parameter", SWEEP), ("load_curve", "pattern", LOAD_CURVE)):
        if name in document:
            made.append(_listed(name, document[name], headings, by))
    if "interleave" in document:
        rows = [{key: value for key, value in row.items() if key != "settings"} for row in document["interleave"]]
        caption = f"random pages over several channels, both under {document['interleave'][0]['settings']}"
        made.append(replace(_turned("interleave", rows), caption=caption))
    for name in ("block_baseline", "faults", "capacity", "trace"):
        if name in document:
            found = document[name]
            made.append(_turned(name, found if isinstance(found, list) else [found]))
    for name in ("contract", "leakage"):
        if name in document:
            rows = document[name]
            made.append(_listed(name, rows, {key: CONTRACT.get(key, key.replace("_", " ")) for key in rows[0]}))
    return made


def _listed(name: str, rows: Sequence[Line], headings: Mapping[str, str], by: str = "") -> Table:
    """A row a case, in groups of one value of ``by``."""
    columns = tuple(
        Column(heading, numeric=not any(isinstance(row[key], str) for row in rows))
        for key, heading in headings.items()
    )
    groups = (
        RowGroup(title, tuple(Row(tuple(cell(_text(row[key])) for key in headings)) for row in mine))
        for title in dict.fromkeys(row.get(by, "") for row in rows)
        if (mine := [row for row in rows if row.get(by, "") == title])
    )
    return Table(name, name.replace("_", " "), columns, tuple(groups))


def _turned(name: str, rows: Sequence[Line]) -> Table:
    """A row a figure, a column a case: for few cases of many figures."""
    first, *figures = rows[0]
    heads = [first.replace("_", " "), *(_text(row[first]) for row in rows)]
    made = tuple(Row(tuple(map(cell, (key.replace("_", " "), *(_text(r[key]) for r in rows))))) for key in figures)
    columns = (Column(heads[0]), *(Column(head, numeric=True) for head in heads[1:]))
    return Table(name, name.replace("_", " "), columns, (RowGroup("", made),))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 1e15):
        return fmt.count(value)
    return fmt.significant(value) if isinstance(value, float) else fmt.ABSENT if value in (None, "") else str(value)
