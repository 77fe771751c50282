"""What a claim is, as it stands in ``claims.yaml``, and what a verdict is."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from linepress.errors import LinepressError
from linepress.suite.yaml12 import read_yaml
from linepress.tables import format as fmt

REPRODUCED, NOT_REPRODUCED, NOT_CHECKABLE = "reproduced", "not reproduced", "not checkable"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, NOT_CHECKABLE)


class ClaimsError(LinepressError):
    """A claims file that does not say something checkable; the message gives file and line."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(_Strict):
    """A figure that a check needs and no run measures, with where it comes from."""

    value: float
    unit: str
    source: str
    status: Literal["sourced", "talk", "derived", "unverified", "assumed"]


class CodecRatio(_Strict):
    """Byte-weighted payload ratio of a codec over a sort of data, from the table ``measure``."""

    by: Literal["codec_ratio"]
    codec: str
    """Codec id, or ``best_line``: the lossless line codec with the best payload ratio over this data."""
    data: Literal["weights", "kv"]
    formats: tuple[str, ...]
    cast: bool = False
    """Whether the data was cast to the format (true) or is stored in it (false)."""
    block_bytes: int | None = None


class CodecAdvantage(_Strict):
    """Payload ratio of the best line codec over that of the best of some others, over the same data."""

    by: Literal["codec_advantage"]
    over: tuple[str, ...]
    data: Literal["weights", "kv"]
    formats: tuple[str, ...]


class CardLatency(_Strict):
    """Latency of the best line codec by its hardware card, ns."""

    by: Literal["card_latency"]
    direction: Literal["decode", "encode"]


class CardEngines(_Strict):
    """Decoders of the best line codec that one channel of ``memory`` needs at its peak rate, by the hardware card."""

    by: Literal["card_engines"]
    memory: str


class BlockTime(_Strict):
    """Time to decode one block in software on this machine, µs, from ``measure``."""

    by: Literal["block_time"]
    codec: str
    block_bytes: int


class ChannelGain(_Strict):
    """Best gain over memories and packings for a sort of data, from the table ``channel``."""

    by: Literal["channel_gain"]
    data: Literal["weights", "kv"]
    quantity: Literal["capacity", "sequential", "random"]


class RooflineTable(_Strict):
    """Cells of the talk's roofline table that the roofline model prints alike."""

    by: Literal["roofline_table"]
    model: str
    accelerator: str
    context_tokens: int
    batch: int


class RooflineBound(_Strict):
    """Share of a phase's time in operators that are bound as said, %."""

    by: Literal["roofline_bound"]
    phase: Literal["prefill", "decode"]
    bound: Literal["memory", "compute"]
    model: str
    accelerator: str
    context_tokens: int
    batch: int


class DecodeDominates(_Strict):
    """Answer length from which decoding takes longer than the prefill."""

    by: Literal["decode_dominates"]
    model: str
    accelerator: str
    context_tokens: int
    batch: int


class Product(_Strict):
    """Product of figures, most of them the talk's own: does the table agree with itself?"""

    by: Literal["product"]
    factors: dict[str, Input]
    scale: float = 1.0
    """What turns the product into the claim's unit."""
    note: str = ""


class RackTable(_Strict):
    """A cell of the talk's rack tables, worked out from published figures (table a) or its own (table b)."""

    by: Literal["rack_table"]
    table: Literal["a", "b"]
    row: str
    column: str = ""


class RoundTrip(_Strict):
    """Round trip of a read of 64 B once switches connect this many accelerators, ns.

    The fastest of all pairs of ``links`` and ``switches`` (packaged parts), each with as many switch levels as its
    ports ask for.
    """

    by: Literal["round_trip"]
    accelerators: int
    links: tuple[str, ...]
    switches: tuple[str, ...]


class MeshGrowth(_Strict):
    """Exponent with which links grow with accelerators, in a mesh or through a switch."""

    by: Literal["mesh_growth"]
    topology: Literal["mesh", "switch"]
    accelerators: tuple[int, int]


class LargestMesh(_Strict):
    """Largest full mesh that an accelerator's links allow: of ``link``, and of ``most_link`` beside it."""

    by: Literal["largest_mesh"]
    link: str
    most_link: str


class InNetworkGain(_Strict):
    """Bandwidth gain of an allreduce in the switch over a ring."""

    by: Literal["in_network_gain"]
    accelerators: int


class CompressedMessages(_Strict):
    """Gain of large messages compressed without loss over `link`, coding overlapped with the wire."""

    by: Literal["compressed_messages"]
    ratio: Input
    coder: Input
    link: str
    system: str
    accelerators: int
    note: str = ""


class EnergyPerBit(_Strict):
    """Energy a bit that two power figures imply over a topology's links, pJ; the power itself is never verified."""

    by: Literal["energy_per_bit"]
    before_W: float
    after_W: float
    topology: str
    reason: str


class Uncheckable(_Strict):
    """A claim that nothing here can check, and why."""

    by: Literal["none"]
    reason: str


Check = Annotated[
    CodecRatio
    | CodecAdvantage
    | CardLatency
    | CardEngines
    | BlockTime
    | ChannelGain
    | RooflineTable
    | RooflineBound
    | DecodeDominates
    | Product
    | RackTable
    | RoundTrip
    | MeshGrowth
    | LargestMesh
    | InNetworkGain
    | CompressedMessages
    | EnergyPerBit
    | Uncheckable,
    Field(discriminator="by"),
]


class Claimed(_Strict):
    """The published figure: one value or a range, how it is to be compared, and how far off still counts."""

    low: float
    high: float | None = None
    unit: str
    relation: Literal["equal", "at_least", "at_most", "below"] = "equal"
    tolerance: float = 0.0
    """Absolute, in the unit of the claim."""
    why: str = ""
    """Why this tolerance."""

    @property
    def top(self) -> float:
        return self.low if self.high is None else self.high

    def holds(self, value: float) -> bool:
        """Whether ``value`` agrees with the claim within the tolerance."""
        if not math.isfinite(value):
            return False
        slack = self.tolerance + 1e-12 * max(abs(self.low), abs(self.top))
        if self.relation == "at_least":
            return value >= self.low - slack
        if self.relation == "at_most":
            return value <= self.top + slack
        if self.relation == "below":
            return value < self.top
        return self.low - slack <= value <= self.top + slack

    def text(self) -> str:
        """``≥ 1.500``, ``8 to 16 accelerators``."""
        sign = {"equal": "", "at_least": "≥ ", "at_most": "≤ ", "below": "< "}[self.relation]
        if self.high is not None and self.high != self.low:
            bare = fmt.with_unit(self.low, "" if self.unit == "ratio" else self.unit).removesuffix(f" {self.unit}")
            return f"{sign}{bare} to {fmt.with_unit(self.high, self.unit)}"
        return sign + fmt.with_unit(self.low, self.unit)

    def tolerance_text(self) -> str:
        amount = "exact" if not self.tolerance else f"± {fmt.significant(self.tolerance)}"
        if self.tolerance and self.unit != "ratio":
            amount += f" {self.unit}"
        return f"{amount} ({self.why})" if self.why else amount


class Claim(_Strict):
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    group: str
    source: str
    """Key of ``published``."""
    where: str
    """Place in the source: slide or table."""
    quote: str
    metric: str
    claimed: Claimed | None = None
    check: Check

    @model_validator(mode="after")
    def _figure_for_a_check(self) -> Claim:
        if self.claimed is None and not isinstance(self.check, Uncheckable):
            raise ValueError(f"claim {self.id} is checked by {self.check.by} and so needs `claimed`")
        return self


class PublishedIn(_Strict):
    title: str
    authors: str = ""
    where: str = ""
    note: str = ""


class ClaimSet(_Strict):
    version: int
    published: dict[str, PublishedIn]
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _consistent(self) -> ClaimSet:
        seen: set[str] = set()
        for claim in self.claims:
            if claim.id in seen:
                raise ValueError(f"two claims are called {claim.id!r}; rename one")
            seen.add(claim.id)
            if claim.source not in self.published:
                known = ", ".join(self.published)
                raise ValueError(f"claim {claim.id}: source {claim.source!r} is not one of `published`: {known}")
        return self

    def source_text(self, claim: Claim) -> str:
        published = self.published[claim.source]
        by = f"{published.authors}, " if published.authors else ""
        return f"{by}{published.title}; {claim.where}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says about one claim; the texts are the columns of the table ``claims``."""

    claim_id: str
    title: str
    group: str
    claim_source: str
    quote: str
    metric: str
    claimed: str
    measured: str
    bound: str
    tolerance: str
    verdict: str
    reason: str
    checked_by: str
    unit: str = ""
    claimed_low: float | None = None
    claimed_high: float | None = None
    measured_value: float | None = None
    bound_value: float | None = None

    def row(self) -> dict[str, Any]:
        """A row of the table ``claims``; the numeric fields end up in its ``extra``."""
        return asdict(self)


def packaged(name: str) -> Any:
    """A data file shipped with the suites, as a context manager that gives its path."""
    return as_file(files("linepress_suites").joinpath(name))


def load_claims(path: Path | None = None) -> ClaimSet:
    """The claims of a file, by default the shipped ones; raises `ClaimsError` with file and line."""
    if path is not None:
        return read_yaml(path, ClaimsError).parse(ClaimSet, ClaimsError)
    with packaged("claims.yaml") as file:
        return read_yaml(file, ClaimsError).parse(ClaimSet, ClaimsError)
