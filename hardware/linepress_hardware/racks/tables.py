"""The talk's two rack tables: every cell as printed, what its own numbers multiply out to, and each contradiction.

A difference is a finding, never a silent correction: the printed cell stays.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from linepress_hardware.catalog.accelerators import MemoryTier, accelerator

# Published capacities against the talk's rounded cells: two printed digits carry half a percent at best.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Finding:
    """One contradiction: where, what the talk prints, what follows from `basis`, in one sentence."""

    table: str
    row: str
    cell: str
    printed: str
    computed: str
    sentence: str

    def as_dict(self) -> dict[str, str]:
        return dict(self.__dict__)


def _load(name: str) -> dict[str, Any]:
    file = resources.files("linepress_hardware").joinpath("data", "racks", "tables", name)
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _tier(part_name: str, tier: str) -> MemoryTier:
    return next(level for level in accelerator(part_name).memory if level.tier == tier)


def table_a() -> dict[str, Any]:
    """ "Total Memory per Rack": printed cells, the basis multiplied out, published figures at the same chip count.

    Returns
    -------
    dict
        ``title``, ``source``, ``rows`` (columns of ``rack_table_a.csv`` of the reference, plus ``printed``,
        ``printed_note``, ``status``) and ``findings``.
    """
    raw = _load("table_a.toml")
    rows, findings = [], []
    for cell in raw["row"]:
        row = _row_a(cell)
        rows.append(row)
        findings += _findings_a(cell, row)
    return {"title": raw["title"], "source": raw["source"], "rows": rows, "findings": findings}


def _row_a(cell: dict[str, Any]) -> dict[str, Any]:
    part = accelerator(cell["accelerator"])
    level = _tier(cell["accelerator"], cell["tier"])
    chips = cell.get("chips")
    count = chips if chips is not None else cell.get("systems")
    low, high = cell.get("GB_each_low"), cell.get("GB_each_high")
    published_GB = level.capacity_bytes / 1e9
    rate = None if level.bandwidth_Bps is None else level.bandwidth_Bps / 1e9
    watts = None if part.power is None else part.power.base
    return {
        "row": cell["row"],
        "printed": cell["printed"],
        "printed_note": cell["printed_note"],
        "seed_TB_low": cell["TB_low"],
        "seed_TB_high": cell["TB_high"],
        "seed_chips_per_rack": chips,
        "seed_systems_per_rack": cell.get("systems"),
        "seed_GB_each_low": low,
        "seed_GB_each_high": high,
        "TB_from_seed_basis_low": None if low is None or count is None else count * low / 1e3,
        "TB_from_seed_basis_high": None if high is None or count is None else count * high / 1e3,
        "accelerator": part.name,
        "published_memory": level.kind,
        "GB_per_chip_published": published_GB,
        "TB_at_seed_chips": None if chips is None else chips * published_GB / 1e3,
        "chips_for_seed_TB": cell["TB_low"] * 1e3 / published_GB if cell["same_tier"] else None,
        "bandwidth_GBps_per_chip": rate,
        "TBps_at_seed_chips": None if chips is None or rate is None else chips * rate / 1e3,
        "chip_W": watts,
        "chips_kW_at_seed_chips": None if chips is None or watts is None else chips * watts / 1e3,
        "source": level.capacity.source,
        "status": level.capacity.status,
    }


def _findings_a(cell: dict[str, Any], row: dict[str, Any]) -> list[Finding]:
    name, printed = row["row"], f"{cell['printed']} TB"
    out: list[Finding] = []

    def add(cell_name: str, computed: str, sentence: str) -> None:
        out.append(Finding("A", name, cell_name, printed, computed, sentence))

    low, high = row["TB_from_seed_basis_low"], row["TB_from_seed_basis_high"]
    if low is not None and not _within(cell["printed"], cell["TB_low"], low, high):
        count = row["seed_chips_per_rack"] or row["seed_systems_per_rack"]
        product = f"{count} × {cell['GB_each_low']} GB = {low:g} TB"
        add("basis", f"{low:g} TB", f"{name}: the note multiplies out to {product}, the cell says {printed}")
    at = row["TB_at_seed_chips"]
    same = cell["same_tier"]
    if same and at is not None and abs(at - cell["TB_low"]) > TOLERANCE * cell["TB_low"]:
        chips, size = row["seed_chips_per_rack"], row["GB_per_chip_published"]
        add(
            "published",
            f"{at:g} TB",
            f"{name}: {chips} × the published {size:g} GB of {row['published_memory']} is {at:g} TB, "
            f"the cell says {printed} ({row['chips_for_seed_TB']:.1f} chips)",
        )
    elif same and at is None:
        needed = row["chips_for_seed_TB"]
        add(
            "published",
            f"{needed:.1f} chips",
            f"{name}: {printed} takes {needed:.1f} chips of the published {row['GB_per_chip_published']:g} GB of "
            f"{row['published_memory']}, and the note names no count of chips",
        )
    for remark in cell["remarks"]:
        add("remark", "", f"{name}: {remark}")
    return out


def _within(printed: str, value: float, low: float, high: float) -> bool:
    """Whether the printed value lies in the range, or is an end of it rounded to the printed digits."""
    digits = len(printed.partition(".")[2])
    return low <= value <= high or value in (round(low, digits), round(high, digits))


def table_b() -> dict[str, Any]:
    """ "Rack ISO Space": every printed cell beside the one recomputed from the system's own figures.

    Returns
    -------
    dict
        ``title``, ``source``, ``columns``, ``rows`` (``key, component, unit, printed, value, computed, formula``)
        and ``findings``.
    """
    raw = _load("table_b.toml")
    columns = raw["columns"]
    values = {row["key"]: row["value"] for row in raw["row"]}
    rows, findings = [], []
    for cell in raw["row"]:
        computed = [_computed(cell, values, column, i) for i, column in enumerate(columns)]
        rows.append(
            {
                "key": cell["key"],
                "component": cell["component"],
                "unit": cell["unit"],
                "printed": cell["printed"],
                "value": [None if math.isnan(v) else v for v in cell["value"]],
                "computed": computed,
                "formula": cell["formula"],
            }
        )
        findings += _findings_b(cell, columns, values, computed)
    findings += _swapped(raw, values)
    return {"title": raw["title"], "source": raw["source"], "columns": columns, "rows": rows, "findings": findings}


def _computed(cell: dict[str, Any], values: dict[str, list[float]], column: str, i: int) -> float | None:
    """The cell from the figures named in its formula, None where one is missing or the cell is given."""
    if cell["formula"] == "given":
        return None
    if column in cell.get("shared", []):
        return float(cell["value"][i])
    left, right = (values[key.strip()][i] for key in cell["formula"].split("*"))
    product = left * right
    return None if math.isnan(product) else round(product, 9)


def _findings_b(
    cell: dict[str, Any], columns: list[str], values: dict[str, list[float]], computed: list[float | None]
) -> list[Finding]:
    out = []
    for i, column in enumerate(columns):
        result = computed[i]
        if result is None:
            continue
        low = cell["value"][i]
        high = cell.get("high", [math.nan] * len(columns))[i]
        if result == low or (not math.isnan(high) and low <= result <= high):
            continue
        if math.isclose(result, low, rel_tol=1e-9):
            continue
        left, right = (values[key.strip()][i] for key in cell["formula"].split("*"))
        unit = f" {cell['unit']}" if cell["unit"] not in ("count", "cores") else ""
        sentence = (
            f"{column}: {cell['component']} a rack is {left:g} × {right:,.10g} = {result:,.10g}{unit}, "
            f"the cell says {cell['printed'][i]}"
        )
        out.append(Finding("B", column, cell["key"], cell["printed"][i], f"{result:,.10g}{unit}", sentence))
    return out


def _swapped(raw: dict[str, Any], values: dict[str, list[float]]) -> list[Finding]:
    """Two cells of a row that are right only the other way round."""
    out = []
    for cell in raw["row"]:
        if cell["formula"] == "given":
            continue
        columns = raw["columns"]
        computed = [_computed(cell, values, column, i) for i, column in enumerate(columns)]
        for i in range(len(columns)):
            for j in range(i + 1, len(columns)):
                a, b = cell["value"][i], cell["value"][j]
                if a != b and computed[i] == b and computed[j] == a:
                    out.append(
                        Finding(
                            "B",
                            f"{columns[i]}, {columns[j]}",
                            cell["key"],
                            f"{cell['printed'][i]}, {cell['printed'][j]}",
                            f"{computed[i]:g}, {computed[j]:g} {cell['unit']}",
                            f"{cell['component']}: the cells of {columns[i]} and {columns[j]} look swapped",
                        )
                    )
    return out
