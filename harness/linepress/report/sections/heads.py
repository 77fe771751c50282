"""The KV cache by layer and head: which heads compress, from the coded bits of each head's lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.records.frame import Frame
from linepress.records.summary import DataClass, Summary, best_line_variant, summarise
from linepress.report.model import Plot
from linepress.report.plots.heads import heads as draw
from linepress.report.plots.style import inline_svg
from linepress.tables import format as fmt
from linepress.tables.model import Column, Note, Row, RowGroup, Table, cell
from linepress.tables.ratios import number_cell

_NAMES = {"key": "keys", "value": "values"}


def by_head(i: int, data: DataClass, rows: Frame, found: list[Summary], table: Any) -> list[Plot | Table | Note]:
    """Heat maps of the best line codec that has heads, and their table; one sentence where no row tells its heads.

    ``table`` is the table ``measure``, whose column ``head_bits`` the frame does not hold.
    """
    known = rows.where(_told(rows, table) & (rows.text("status") == "ok") & np.isfinite(rows.real("layer")))
    best = best_line_variant([s for s in found if s.variant in set(known.text("variant"))])
    if best is None:
        return [
            Note(
                f"{data.label}: no ratio by head; this record does not tell which coded bits belong to which KV head."
            )
        ]
    own = known.equal(variant=best.variant)
    layers = sorted({int(n) for n in own.real("layer")})
    names, ratios, bounds = [], [], []
    for kind, name in _NAMES.items():
        part = own.equal(kind=kind)
        if part.n:
            names.append(name)
            ratios.append(head_ratios(part, layers, table))
            per_layer = [part.where(part.real("layer") == n) for n in layers]
            bounds.append(
                np.array([summarise(p, best.variant).highest_bound[1] if p.n else np.nan for p in per_layer])
            )
    title = f"{data.label}: {best.variant} by layer and head"
    alt = "; ".join(
        f"{name}: {np.nanmin(r):.3f} to {np.nanmax(r):.3f}" for name, r in zip(names, ratios, strict=True)
    )
    caption = (
        "Payload ratio of each KV head: bits of its values as stored over coded bits of its lines. The column apart "
        "is the highest entropy bound of the layer over all heads; a head above it is easier than its layer's mean."
    )
    svg = inline_svg(draw(names, layers, ratios, bounds), f"heads{i}", title, alt)
    return [Plot(f"heads-{i}", svg, title, alt, caption), _table(i, title, layers, names, ratios, bounds)]


def head_ratios(rows: Frame, layers: list[int], table: Any) -> NDArray[np.float64]:
    """Σ raw / Σ coded bits, float64[layer, head], over the tensors of a layer; NaN where a layer has no such head.
    A head's raw bits are its equal share of the tensor's."""
    bits = table.column("head_bits").take(rows.real("position").astype(np.int64)).to_pylist()
    width = max(len(one) for one in bits)
    raw, coded = np.zeros((len(layers), width)), np.zeros((len(layers), width))
    place = {layer: k for k, layer in enumerate(layers)}
    for layer, n_bytes, one in zip(rows.real("layer"), rows.real("raw_bytes"), bits, strict=True):
        k, n = place[int(layer)], len(one)
        raw[k, :n] += 8 * n_bytes / n
        coded[k, :n] += one
    return np.divide(raw, coded, out=np.full_like(raw, np.nan), where=coded > 0)


def _told(rows: Frame, table: Any) -> NDArray[np.bool_]:
    if "head_bits" not in table.column_names:
        return np.zeros(rows.n, dtype=bool)
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(table.column("head_bits")), 0).to_numpy()
    told: NDArray[np.bool_] = lengths[rows.real("position").astype(np.int64)] > 0
    return told


def _table(
    i: int,
    title: str,
    layers: list[int],
    names: list[str],
    ratios: list[NDArray[np.float64]],
    bounds: list[NDArray[np.float64]],
) -> Table:
    width = max(r.shape[1] for r in ratios)
    columns = [Column("layer", numeric=True)]
    columns += [Column(f"head {h}", numeric=True, better="higher") for h in range(width)]
    groups = []
    for name, ratio, bound in zip(names, ratios, bounds, strict=True):
        made = []
        for layer, values, limit in zip(layers, ratio, bound, strict=True):
            padded = [*values, *[np.nan] * (width - len(values)), limit]
            cells = [number_cell(float(v), fmt.ratio(float(v))) for v in padded]
            made.append(Row((cell(str(layer), sort=layer), *cells)))
        groups.append(RowGroup(name, tuple(made)))
    return Table(f"heads-table-{i}", title, (*columns, Column("bound", numeric=True)), tuple(groups))
