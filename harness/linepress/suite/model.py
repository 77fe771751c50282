"""Suites: what to run, as strict YAML checked by pydantic.

A suite is one file; `load_suite` finds it by path or, for the suites that come with linepress, by name. Paths in
``sources`` are relative to the suite's own folder. ``--set key=value`` changes a value before the check: a run with
other values is another suite (another hash, another run folder).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from linepress.errors import SuiteError
from linepress.suite.yaml12 import Document, parse_yaml, read_yaml
from linepress_codecs.variant import parse_bytes

Kind = Literal["weight", "key", "value", "activation", "grad", "optim"]


def _size(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


def parse_layers(value: object) -> object:
    """``[0, "4-7"]`` as ``[0, 4, 5, 6, 7]``. Raises `ValueError` for another shape."""
    if not isinstance(value, list):
        return value
    layers: list[object] = []
    for item in value:
        bounds = re.fullmatch(r"(\d+)-(\d+)", item) if isinstance(item, str) else None
        if isinstance(item, str) and bounds is None:
            raise ValueError(f"{item!r} is not a layer: write 3 or a range such as 0-7")
        layers += range(int(bounds[1]), int(bounds[2]) + 1) if bounds else [item]
    return layers


ByteSize = Annotated[int, BeforeValidator(_size), Field(gt=0)]
Layers = Annotated[list[int], BeforeValidator(parse_layers)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Part(BaseModel):
    """Base of every section: unknown keys are errors, types are not converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TensorFilter(Part):
    """Which tensors to take; every condition given must hold."""

    names: list[str] = []
    groups: list[str] = []
    layers: Layers = []
    kinds: list[Kind] = []


class SourceSpec(Part):
    """Where tensors come from, which of them, under which casts.

    ``max_bytes`` is a budget over the selected tensors of the source, as stored: those that fit are taken whole.
    """

    uri: Annotated[str, Field(min_length=1)]
    label: str = ""
    tensors: TensorFilter = TensorFilter()
    casts: Annotated[list[str], Field(min_length=1)] = ["none"]
    base: str = ""
    """An older version of the same model: each tensor goes with its namesake there, for codecs like `delta`."""
    max_bytes: ByteSize | None = None
    optional: bool = False
    """Whether a source that cannot be opened is a warning (and a skip in the record) instead of an error."""


class CodecSpec(BaseModel):
    """A codec with its options; a list as a value sweeps it. ``kinds`` and ``formats`` say where it applies."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    codec: Annotated[str, Field(min_length=1)]
    kinds: list[Kind] = []
    formats: list[str] = []

    def entry(self) -> dict[str, Any]:
        """What `linepress_codecs.variant.expand` takes: the codec and its options."""
        return {"codec": self.codec, **(self.model_extra or {})}


class ChannelSpec(Part):
    """The channel stage: every line codec × data × memory × packing × workload."""

    memories: Annotated[list[str], Field(min_length=1)]
    workloads: Annotated[list[str], Field(min_length=1)] = ["sequential"]
    packings: list[str] = []
    """Packings; the suite's own where none is given."""
    codecs: list[str] = ["*"]
    """Shell patterns on variants."""
    n_requests: PositiveInt = 20_000
    within_pct: Annotated[float, Field(gt=0, lt=50, strict=False)] = 1.0
    """Half-width, in %, that the 95 % confidence interval of every bandwidth gain must reach; else none is stated."""
    load_pct_peak: Annotated[float, Field(gt=0, le=100, strict=False)] | None = None
    """Offered load of the latency run, % of the pin peak of the plain channel; the stage's default when left out."""


class ScenarioSpec(BaseModel):
    """One way of using a model; the keys are those of the system stage's `Scenario`."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: Name


class SystemSpec(Part):
    """The system stage: model × accelerator × scenario × codec × packing."""

    models: Annotated[list[str], Field(min_length=1)]
    accelerators: Annotated[list[str], Field(min_length=1)]
    scenarios: Annotated[list[ScenarioSpec], Field(min_length=1)]
    memory: str = ""
    """Memory whose channel gain counts; the accelerator's own, else the first of the channel stage, when empty."""
    packings: list[str] = []
    codecs: list[str] = ["*"]


class FabricSpec(Part):
    """The fabric stage: accelerator × topology × operation × message size × devices × codec."""

    accelerators: Annotated[list[str], Field(min_length=1)]
    topologies: Annotated[list[str], Field(min_length=1)]
    operations: Annotated[list[str], Field(min_length=1)] = ["all_reduce"]
    sizes_bytes: Annotated[list[ByteSize], Field(min_length=1)]
    devices: Annotated[list[PositiveInt], Field(min_length=1)]
    codecs: list[str] = ["*"]
    data: Literal["weights", "kv"] = "kv"
    """Whose measured ratio stands for the messages; activations on the wire are nearest to KV."""
    packing: str = "stream"


STAGES = ("measure", "channel", "system", "fabric", "pages")


class PagesSpec(Part):
    """The pages stage: a KV snapshot as serving engines hold it, contract × codec × line, page and whole."""

    snapshot: Annotated[str, Field(min_length=1)]
    fit: str = ""
    """Snapshot of another text that tables are fitted on; the snapshot itself when empty."""
    contracts: Annotated[list[str], Field(min_length=1)]
    codecs: Annotated[list[str], Field(min_length=1)]


class GateSpec(Part):
    """A threshold on an aggregate of a column; exactly one of ``at_least``, ``at_most``, ``equals``."""

    name: Name
    table: Literal["measure", "channel", "system", "fabric", "pages", "claims"] = "measure"
    column: str
    aggregate: Literal["min", "max", "mean", "sum", "count", "share", "total_ratio"] = "min"
    """``share`` is the fraction of true rows; ``total_ratio`` is Σ raw_bytes / Σ column."""
    where: dict[str, str | int | float | bool] = {}
    at_least: Annotated[float, Field(strict=False)] | None = None
    at_most: Annotated[float, Field(strict=False)] | None = None
    equals: Annotated[float, Field(strict=False)] | None = None
    next_step: str = ""

    @model_validator(mode="after")
    def _one_rule(self) -> GateSpec:
        given = [rule for rule in (self.at_least, self.at_most, self.equals) if rule is not None]
        if len(given) != 1:
            raise ValueError("a gate has exactly one of at_least, at_most and equals")
        return self

    @property
    def rule(self) -> tuple[str, float]:
        """``(at_least | at_most | equals, threshold)``."""
        for name in ("at_least", "at_most", "equals"):
            value = getattr(self, name)
            if value is not None:
                return name, float(value)
        raise SuiteError(f"gate {self.name}: has no threshold; give at_least, at_most or equals")


class Seeds(Part):
    """Seeds of everything random, recorded in every row that used one."""

    sample: int = 1
    channel: int = 1
    system: int = 1


class SuiteModel(Part):
    """A suite file; see ``suites/linepress_suites/*.yaml`` for examples."""

    name: Name
    version: PositiveInt
    title: str = ""
    sources: Annotated[list[SourceSpec], Field(min_length=1)]
    codecs: Annotated[list[str | CodecSpec], Field(min_length=1)]
    packings: Annotated[list[str], Field(min_length=1)] = ["stream", "classes"]
    channel: ChannelSpec | None = None
    system: SystemSpec | None = None
    fabric: FabricSpec | None = None
    pages: PagesSpec | None = None
    gates: list[GateSpec] = []
    claims: bool | list[str] = True
    """Whether to print verdicts on the published claims, or the ids of those wanted."""
    seeds: Seeds = Seeds()
    repeats: Annotated[int, Field(ge=1, le=1000)] = 3
    chunk_bytes: Annotated[ByteSize, Field(ge=4096)] = 8 << 20
    timeout_s: PositiveFloat = 600.0

    @model_validator(mode="after")
    def _gate_names_differ(self) -> SuiteModel:
        names = [gate.name for gate in self.gates]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"gate {twice[0]!r} is given twice; keep one")
        return self


class Suite:
    """A checked suite with the file it came from.

    Attributes
    ----------
    model : SuiteModel
    document : Document
        For errors that later stages find: `at` gives them file and line.
    overrides : tuple of str
        ``--set`` values as given.
    """

    def __init__(self, model: SuiteModel, document: Document, overrides: Sequence[str] = ()) -> None:
        self.model = model
        self.document = document
        self.overrides = tuple(overrides)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def folder(self) -> Path:
        """Folder that relative source paths start from."""
        return self.document.path.parent

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """Every key with its resolved value, as plain data."""
        return self.model.model_dump(mode="json")

    @cached_property
    def sha256(self) -> str:
        """Hash of the resolved content: comments and spelling do not count, every value does."""
        text = json.dumps(self.resolved, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def at(self, place: tuple[str | int, ...], what: str) -> SuiteError:
        """An error about one place of the suite, with file and line."""
        error = self.document.error(place, what, SuiteError)
        assert isinstance(error, SuiteError)
        return error


def suites_folder() -> Path:
    """Folder of the suites that come with linepress."""
    import linepress_suites

    return Path(linepress_suites.__path__[0])


def builtin_suites() -> dict[str, Path]:
    """Suites that come with linepress, by name."""
    return {file.stem: file for file in sorted(suites_folder().glob("*.yaml")) if _is_suite(file)}


def _is_suite(file: Path) -> bool:
    # Other data (claims, hardware choices) lives beside the suites; only a suite says what to read.
    return re.search(r"^sources:", file.read_text(encoding="utf-8"), re.MULTILINE) is not None


def find_suite(name_or_path: str) -> Path:
    """File of a suite; raises `SuiteError` with the nearest name where there is none."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or "/" in name_or_path:
        if not path.is_file():
            raise SuiteError(f"{name_or_path}: there is no such suite file; check the path")
        return path
    known = builtin_suites()
    if name_or_path in known:
        return known[name_or_path]
    near = difflib.get_close_matches(name_or_path, known, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ";"
    raise SuiteError(
        f"no suite called {name_or_path!r}{hint} there are {', '.join(known) or 'none'}, or give the path of a file"
    )


def load_suite(name_or_path: str, overrides: Sequence[str] = ()) -> Suite:
    """Read and check a suite; raises `SuiteError` (one sentence with file, line, allowed values)."""
    document = read_yaml(find_suite(name_or_path))
    for override in overrides:
        document = _set(document, override)
    return Suite(document.parse(SuiteModel), document, overrides)


def list_suites() -> list[dict[str, Any]]:
    """Name, version, title and size of every suite that comes with linepress, for ``linepress list suites``."""
    rows = []
    for name, path in builtin_suites().items():
        model = load_suite(str(path)).model
        rows.append(
            {
                "suite": name,
                "version": model.version,
                "title": model.title,
                "sources": len(model.sources),
                "codecs": len(model.codecs),
                "stages": [stage for stage in STAGES if _has(model, stage)],
                "path": str(path),
            }
        )
    return rows


def _has(model: SuiteModel, stage: str) -> bool:
    return stage == "measure" or getattr(model, stage) is not None


def _set(document: Document, override: str) -> Document:
    """The document with one ``a.b.0.c=value`` applied; raises `SuiteError` where the path does not exist."""
    key, equals, text = override.partition("=")
    if not (key and equals):
        raise SuiteError(f"--set {override}: write key=value, for instance repeats=1 or channel.n_requests=1000")
    value = parse_yaml(text, Path(f"--set {key}")).data if text.strip() else ""
    steps: list[str | int] = [int(step) if step.isdigit() else step for step in key.split(".")]
    data = json.loads(json.dumps(document.data))
    here: Any = data
    for i, step in enumerate(steps[:-1]):
        if isinstance(here, dict) and isinstance(step, str):
            here = here.setdefault(step, {})
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        else:
            raise SuiteError(
                f"--set {override}: {'.'.join(map(str, steps[: i + 1]))} is not in the suite; check the key"
            )
    last = steps[-1]
    is_key = isinstance(here, dict) and isinstance(last, str)
    is_index = isinstance(here, list) and isinstance(last, int) and last < len(here)
    if not (is_key or is_index):
        raise SuiteError(f"--set {override}: {key} is not in the suite; check the key")
    here[last] = value
    place = tuple(steps)
    lines = {at: line for at, line in document.lines.items() if at[: len(place)] != place}
    lines[place] = document.line(place)
    return Document(document.path, document.text, data, lines)


def as_mapping(scenario: ScenarioSpec) -> Mapping[str, Any]:
    """A scenario's keys and values."""
    return scenario.model_dump()
