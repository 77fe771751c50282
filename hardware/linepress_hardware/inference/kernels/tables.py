"""Measured kernel times, one table a GPU, model and tensor-parallel degree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.kernels.grids import AttentionGrid, measured

F8 = NDArray[np.float64]
COLUMNS = (
    "hardware",
    "model",
    "tp",
    "kind",
    "layer",
    "tokens_or_sequences",
    "prefill_chunk",
    "kv_prefill",
    "n_decode",
    "kv_decode",
    "time_us",
)
_EXPERTS = "tokens="  # layer of a row of a mixture: tokens=64|activated=38


@dataclass(frozen=True)
class Rows:
    """Rows of one table as columns; numbers that a row lacks are NaN. `experts` is [rows, (tokens, activated)]."""

    hardware: str
    model: str
    tp: int
    layer: NDArray[np.str_]
    tokens: F8
    chunk: F8
    prior: F8
    sequences: F8
    keys: F8
    seconds: F8
    experts: F8

    def of(self, layer: str) -> NDArray[np.bool_]:
        """Mask of a layer's rows."""
        return np.asarray(self.layer == layer)


def read_rows(rows: Iterable[Mapping[str, str]], where: str = "kernel table") -> list[Rows]:
    """Rows of ``operator_times.csv`` (columns `COLUMNS`) by GPU, model and tensor-parallel degree.

    Raises
    ------
    ConfigurationError
        A column is missing or no number, a time is not positive; the message names the row.
    """
    groups: dict[tuple[str, str, int], list[tuple[str, list[float], tuple[float, float]]]] = {}
    for number, row in enumerate(rows, start=1):
        try:
            values = [float(row[name]) if row[name] else np.nan for name in COLUMNS[5:]]
            key = (row["hardware"], row["model"], int(float(row["tp"])))
            layer = row["layer"]
        except KeyError as error:
            raise ConfigurationError(
                f"{where} row {number} has no column {error}; give {', '.join(COLUMNS)}"
            ) from None
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{where} row {number}: {error}; give numbers") from None
        if not 0 < values[-1] < np.inf:
            raise ConfigurationError(f"{where} row {number}: time_us is {values[-1]}; give a number above 0")
        pair = (np.nan, np.nan)
        if layer.startswith(_EXPERTS):
            try:
                first, second = (float(part.split("=")[1]) for part in layer.split("|"))
            except (IndexError, ValueError):
                raise ConfigurationError(
                    f"{where} row {number}: layer {layer!r} is not of the form tokens=64|activated=38"
                ) from None
            layer, pair = "experts", (first, second)
        groups.setdefault(key, []).append((layer, values, pair))
    if not groups:
        raise ConfigurationError(f"{where} has no row; give {', '.join(COLUMNS)}")
    out = []
    for (hardware, model, tp), found in groups.items():
        numbers = np.array([values for _, values, _ in found])
        tokens, chunk, prior, sequences, keys, micros = (numbers[:, i] for i in range(6))
        names, experts = np.array([name for name, _, _ in found]), np.array([pair for _, _, pair in found])
        out.append(Rows(hardware, model, tp, names, tokens, chunk, prior, sequences, keys, micros * 1e-6, experts))
    return out


@dataclass(frozen=True)
class KernelTable:
    """Interpolated times of one table: seconds of a kernel by tokens (or sequences), and the attention grid."""

    dense: Mapping[str, tuple[F8, F8]]
    attention: AttentionGrid
    experts: tuple[F8, F8, F8] | None  # tokens, activated, seconds [tokens, activated]

    @classmethod
    def of(cls, rows: Rows) -> KernelTable:
        """Rows of one layer and size are averaged.

        Raises
        ------
        ConfigurationError
            The table has no attention rows.
        """
        at = rows.of("attention")
        if not at.any():
            raise ConfigurationError(f"the kernel table of {rows.model} on {rows.hardware} has no attention rows")
        grid = measured(rows.chunk[at], rows.prior[at], rows.sequences[at], rows.keys[at], rows.seconds[at])
        dense = {}
        for layer in np.unique(rows.layer[~at & ~rows.of("experts")]):
            mine = rows.of(str(layer))
            sizes, place = np.unique(rows.tokens[mine], return_inverse=True)
            mean = np.bincount(place, rows.seconds[mine]) / np.bincount(place)
            dense[str(layer)] = (sizes, mean)
        return cls(dense, grid, _experts(rows))

    def has(self, layer: str) -> bool:
        return layer in self.dense or (layer == "experts" and self.experts is not None)

    def seconds(self, layer: str, tokens: ArrayLike) -> F8:
        """Linear between the measured sizes, in proportion beyond the last.

        Raises
        ------
        ConfigurationError
            The table has no such kernel.
        """
        if layer not in self.dense:
            raise ConfigurationError(f"the kernel table has no {layer}; it has {', '.join(sorted(self.dense))}")
        sizes, times = self.dense[layer]
        t = np.asarray(tokens, dtype=np.float64)
        return np.asarray(np.where(t > sizes[-1], times[-1] * t / sizes[-1], np.interp(t, sizes, times)))

    def experts_s(self, tokens: ArrayLike, activated: ArrayLike) -> F8:
        """A mixture layer's products over `tokens`, `activated` of its experts among them."""
        if self.experts is None:
            raise ConfigurationError("the kernel table has no rows of experts (tokens=…|activated=…)")
        sizes, counts, times = self.experts
        t, a = np.broadcast_arrays(np.asarray(tokens, dtype=np.float64), np.asarray(activated, dtype=np.float64))
        columns = np.stack([np.interp(t, sizes, times[:, j]) for j in range(counts.size)], axis=-1)
        at = np.clip(np.searchsorted(counts, a) - 1, 0, max(counts.size - 2, 0))
        if counts.size == 1:
            return np.asarray(columns[..., 0] * np.maximum(1.0, t / sizes[-1]))
        share = np.clip((a - counts[at]) / (counts[at + 1] - counts[at]), 0.0, 1.0)
        low = np.take_along_axis(columns, at[..., None], -1)[..., 0]
        high = np.take_along_axis(columns, at[..., None] + 1, -1)[..., 0]
        return np.asarray((low * (1 - share) + high * share) * np.maximum(1.0, t / sizes[-1]))


def _experts(rows: Rows) -> tuple[F8, F8, F8] | None:
    mine = rows.of("experts")
    if not mine.any():
        return None
    tokens, activated, seconds = rows.experts[mine, 0], rows.experts[mine, 1], rows.seconds[mine]
    sizes, counts = np.unique(tokens), np.unique(activated)
    grid = np.full((sizes.size, counts.size), np.nan)
    grid[np.searchsorted(sizes, tokens), np.searchsorted(counts, activated)] = seconds
    # Few tokens cannot reach many experts and many tokens miss few: such points take the nearest that was measured.
    for line in grid:
        known = ~np.isnan(line)
        if known.any():
            line[:] = np.interp(counts, counts[known], line[known])
    lost = np.isnan(grid).any(axis=1)
    for j in range(counts.size):
        grid[lost, j] = np.interp(sizes[lost], sizes[~lost], grid[~lost, j])
    return sizes, counts, grid
