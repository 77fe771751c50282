"""Kernel times of a model on a GPU: measured where a table has the kernel, else by shape from the GPU's forms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.kernels.forms import DeviceForms
from linepress_hardware.inference.kernels.grids import AttentionGrid, modelled
from linepress_hardware.inference.kernels.layers import (
    ELEMENT_BYTES,
    elementwise_bytes,
    expected_experts,
    heads,
    matrix,
)
from linepress_hardware.inference.kernels.tables import KernelTable
from linepress_hardware.inference.shapes import ModelShape

F8 = NDArray[np.float64]


@dataclass(frozen=True)
class KernelTimes:
    """Seconds of the kernels of `shape` at `tp`; `ep` devices share the experts of `ranks` engines."""

    shape: ModelShape
    tp: int
    forms: DeviceForms | None = None
    table: KernelTable | None = None
    ep: int = 1
    ranks: int = 1

    def seconds(self, name: str, tokens: ArrayLike) -> F8:
        """One launch of a kernel over `tokens` tokens (or sequences, for ``lm_head`` and ``sampler``)."""
        if name == "experts":
            return self._experts(tokens)
        if self.table is not None and self.table.has(name):
            return self.table.seconds(name, tokens)
        forms = self._forms(name)
        of = matrix(self.shape, self.tp, name)
        if of is not None:
            return forms.linear.seconds(of, tokens, forms.multiprocessors)
        one = forms.elementwise.get(name, forms.elementwise["layernorm"])
        return one.seconds(elementwise_bytes(self.shape, self.tp, name, tokens), forms.cache_bytes)

    def attention(self) -> AttentionGrid:
        """Attention of one layer."""
        if self.table is not None:
            return self.table.attention
        return modelled(self._forms("attention"), heads(self.shape, self.tp))

    def _forms(self, name: str) -> DeviceForms:
        if self.forms is None:
            raise ConfigurationError(f"the kernel table has no {name} and this GPU has no forms to take it from")
        return self.forms

    def _experts(self, tokens: ArrayLike) -> F8:
        """A mixture layer: router, grouped products of the experts that the tokens reach, gated activation.

        With expert parallelism the tokens of all ranks meet; a device holds E / ep whole experts, else its share of
        every expert.
        """
        e = self.shape.experts
        if e is None:
            raise ConfigurationError(f"{self.shape.name} has no experts")
        apart = self.ep > 1
        t = np.asarray(tokens, dtype=np.float64) * (self.ranks if apart else 1)
        local = e.total / self.ep if apart else float(e.total)
        reached = expected_experts(local, e.active, e.total, t)
        if self.table is not None and self.table.experts is not None:
            return self.table.experts_s(t, reached)
        forms = self._forms("experts")
        width = e.intermediate if apart else -(-e.intermediate // self.tp)
        matrices = 3 if self.shape.gated_mlp else 2
        h = self.shape.hidden
        rows = t * e.active / (self.ep if apart else 1)
        ops = 2.0 * rows * matrices * h * width
        moved = ELEMENT_BYTES * (reached * matrices * h * width + 2 * t * h)
        linear = forms.linear
        memory = moved / (linear.bandwidth_GBps * 1e9)
        busy = ops / (linear.peak_Tops * 1e12 * linear.small_tile)
        joined = (memory**linear.exponent + busy**linear.exponent) ** (1 / linear.exponent)
        out = np.asarray(forms.expert_launch_us * 1e-6 + joined)
        if e.shared:
            out = out + 3.0 * t * e.shared * e.shared_intermediate * h * 2.0 / (linear.peak_Tops * 1e12)
        return out
