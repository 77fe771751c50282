"""What an accelerator is asked to do: context, batch, precision, devices, and what they cost to run."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from linepress_hardware.catalog.figures import Datum, figure
from linepress_hardware.errors import ConfigurationError
from linepress_hardware.inference.parallel import Parallel
from linepress_hardware.inference.precision import Precision, parse_precision

STAGES = ("decode", "prefill", "chunked-prefill", "speculative")


@dataclass(frozen=True)
class Scenario:
    """One operating point.

    Attributes
    ----------
    context_tokens : int
        KV length of a decode step, prompt and answer so far.
    batch : int
        Sequences decoded together, over all replicas.
    prompt_tokens, answer_tokens : int
        For the time to first token and the tokens of a whole request; 0 takes `context_tokens` and 1.
    precision : str
        ``w16a16kv16`` and the like.
    tp, pp, ep, dp : int
        Parallel degrees; devices = tp × pp × dp.
    topology, algorithm : str
        Of the tensor-parallel all-reduce; an empty algorithm takes what the machine does.
    memory_efficiency, compute_efficiency : float
        Share of peak bandwidth and peak op/s that kernels reach, (0, 1]; 1 is the bound.
    usable_share : float
        Share of the memory that weights and KV may fill.
    overhead_s : float
        Host and launch time of a step.
    draft_tokens, accepted_tokens : float
        Speculative decode: tokens guessed and, of them, accepted on average a step.
    chunk_tokens : int
        Chunked prefill: tokens a step; 0 means the prompt at once.
    """

    name: str = "decode"
    context_tokens: int = 2048
    batch: int = 1
    prompt_tokens: int = 0
    answer_tokens: int = 0
    precision: str = "w16a16kv16"
    tp: int = 1
    pp: int = 1
    ep: int = 1
    dp: int = 1
    topology: str = "switch"
    algorithm: str = ""
    memory_efficiency: float = 1.0
    compute_efficiency: float = 1.0
    usable_share: float = 0.9
    overhead_s: float = 0.0
    draft_tokens: int = 0
    accepted_tokens: float = 0.0
    chunk_tokens: int = 0

    def __post_init__(self) -> None:
        for field in ("context_tokens", "batch"):
            if getattr(self, field) < 1:
                raise ConfigurationError(f"scenario {self.name}: {field} is {getattr(self, field)}; give 1 or more")
        for field in ("prompt_tokens", "answer_tokens", "draft_tokens", "chunk_tokens", "overhead_s"):
            if getattr(self, field) < 0:
                raise ConfigurationError(f"scenario {self.name}: {field} is {getattr(self, field)}; give 0 or more")
        for field in ("memory_efficiency", "compute_efficiency", "usable_share"):
            if not 0 < getattr(self, field) <= 1:
                raise ConfigurationError(
                    f"scenario {self.name}: {field} is {getattr(self, field)}; give a share above 0, at most 1"
                )
        if not 0 <= self.accepted_tokens <= self.draft_tokens:
            raise ConfigurationError(
                f"scenario {self.name}: {self.accepted_tokens} accepted of {self.draft_tokens} draft tokens; "
                f"accept 0 to all of them"
            )
        self.parsed_precision()
        self.parallel()

    def parsed_precision(self) -> Precision:
        return parse_precision(self.precision)

    def parallel(self) -> Parallel:
        return Parallel(self.tp, self.pp, self.ep, self.dp)

    @property
    def prompt(self) -> int:
        return self.prompt_tokens or self.context_tokens


@dataclass(frozen=True)
class Economics:
    """Assumptions that turn watts and prices into money; each a figure with its source."""

    electricity: Datum
    lifetime: Datum
    utilisation: Datum
    host_power_factor: Datum

    @property
    def usd_per_joule(self) -> float:
        return self.electricity.value / 3.6e6

    @property
    def lifetime_s(self) -> float:
        return self.lifetime.value * 365.25 * 86400 * self.utilisation.value


@cache
def economics() -> Economics:
    """The packaged assumptions (``data/inference/economics.toml``)."""
    file = resources.files("linepress_hardware").joinpath("data", "inference", "economics.toml")
    raw = tomllib.loads(file.read_text(encoding="utf-8"))
    where = "economics.toml"
    return Economics(
        figure(raw.get("electricity"), f"{where} electricity", "USD/kWh"),
        figure(raw.get("lifetime"), f"{where} lifetime", "years"),
        figure(raw.get("utilisation"), f"{where} utilisation", "share"),
        figure(raw.get("host_power_factor"), f"{where} host_power_factor", "ratio"),
    )
