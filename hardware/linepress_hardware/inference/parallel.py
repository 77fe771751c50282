"""How a model is spread over devices: tensor, pipeline, expert and data parallel degrees."""

from __future__ import annotations

import math
from dataclasses import dataclass

from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.shapes import ModelShape


@dataclass(frozen=True)
class Parallel:
    """Degrees of parallelism; devices = tp × pp × dp, expert parallelism lives inside tp × dp.

    Attributes
    ----------
    tp : int
        Every matrix is split over `tp` devices; two all-reduces a layer.
    pp : int
        Layers are split into `pp` stages; `pp` − 1 transfers of the hidden state a token.
    ep : int
        Routed experts are spread over `ep` devices; two all-to-alls a mixture layer. With `ep` < `tp` an
        expert is split over `tp` / `ep` devices, with `ep` > `tp` experts are shared by `ep` / `tp` replicas.
    dp : int
        Replicas, each with 1 / `dp` of the batch.
    """

    tp: int = 1
    pp: int = 1
    ep: int = 1
    dp: int = 1

    def __post_init__(self) -> None:
        for name in ("tp", "pp", "ep", "dp"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"parallel degree {name} is {value!r}; give a whole number above 0")
        if self.ep > 1 and (self.tp * self.dp) % self.ep:
            raise ConfigurationError(
                f"ep {self.ep} does not divide tp × dp = {self.tp * self.dp}; experts live on those devices"
            )
        if self.ep > 1 and self.tp % self.ep and self.ep % self.tp:
            raise ConfigurationError(f"ep {self.ep} and tp {self.tp} must divide one another")

    @property
    def devices(self) -> int:
        return self.tp * self.pp * self.dp

    @property
    def expert_split(self) -> int:
        """Devices that one expert's matrices are split over."""
        return max(1, self.tp // self.ep)

    @property
    def replicas_sharing_experts(self) -> int:
        """Data-parallel replicas whose tokens meet at one set of experts."""
        return max(1, self.ep // self.tp)

    def check(self, shape: ModelShape) -> None:
        """Raise `ConfigurationError` when `shape` cannot be split like this."""
        if shape.heads % self.tp:
            good = [n for n in range(1, shape.heads + 1) if shape.heads % n == 0]
            raise ConfigurationError(
                f"tp {self.tp} does not divide the {shape.heads} attention heads of {shape.name}; use one of {good}"
            )
        if shape.kv_heads % self.tp and self.tp % shape.kv_heads:
            raise ConfigurationError(
                f"tp {self.tp} neither divides nor is a multiple of the {shape.kv_heads} KV heads of {shape.name}"
            )
        if self.pp > shape.layers:
            raise ConfigurationError(f"pp {self.pp} exceeds the {shape.layers} layers of {shape.name}")
        if self.ep > 1 and shape.experts is None:
            raise ConfigurationError(f"{shape.name} has no experts; leave ep at 1")
        if shape.experts is not None and shape.experts.total % self.ep:
            raise ConfigurationError(
                f"ep {self.ep} does not divide the {shape.experts.total} experts of {shape.name}"
            )

    def kv_heads_of(self, shape: ModelShape) -> int:
        """KV heads a device holds; with more devices than heads each head is held several times."""
        return math.ceil(shape.kv_heads / self.tp)

    def kv_copies(self, shape: ModelShape) -> float:
        """Times that one cached token lies in the memories of a replica, its `tp` devices together.

        A KV head that several devices need is held by each of them, and a latent vector by all.
        """
        if shape.latent is not None:
            return float(self.tp)
        return self.tp * self.kv_heads_of(shape) / shape.kv_heads


ONE_DEVICE = Parallel()
