"""The plan of a run: which tensors meet which variants, each pair a case with a key.

Planning opens sources by their headers, hashes local tensors (remembered between runs) and reads no weights of the
hub. A case that cannot be measured for a stated reason is planned as skipped, so that totals always add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from linepress.cluster.tasks import Split, Task
from linepress.environment import expanded
from linepress.errors import SourceError
from linepress.run.estimate import case_s
from linepress.run.keys import case_key, content_ids
from linepress.sources import Selection, TensorRef, open_source
from linepress.sources.hashes import HashCache
from linepress.sources.hub import HubBytes
from linepress.stages.measure.split import PARTS_OF_SPLIT, SPLIT_BYTES, parts_of
from linepress.suite.model import CodecSpec, SourceSpec, Suite
from linepress_codecs.contracts import LineCodec
from linepress_codecs.errors import CodecError
from linepress_codecs.formats import FORMATS
from linepress_codecs.layout import extent
from linepress_codecs.variant import Variant, expand

MEASURE_TARGET = "linepress.stages.measure.case:measure_case"
SPLIT_MODULE = "linepress.stages.measure.split"
WORKER_BYTES = 512 << 20
CHUNK_COPIES = 12
LINE_COST_BYTES = 4
"""What a case takes: interpreter, libraries and packing arrays of one segment; raw, coded and decoded forms of a
chunk with the codec's own working arrays; coded size of every line, twice. ``benchmarks.engine memory`` holds it
against the peak of real workers."""


@dataclass(frozen=True, slots=True)
class PlannedVariant:
    """A variant with where it applies; empty tuples mean everywhere."""

    variant: Variant
    spec: str
    kinds: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()

    def applies(self, tensor: TensorRef) -> bool:
        """Whether the suite wants this variant on this tensor."""
        return (not self.kinds or tensor.kind in self.kinds) and (
            not self.formats or tensor.format.name in self.formats
        )


@dataclass(slots=True)
class Case:
    """One tensor × variant, by index into the plan."""

    key: str
    tensor: int
    variant: int
    skip: str = ""


@dataclass
class Plan:
    """Everything a run will measure.

    Attributes
    ----------
    suite : Suite
    tensors : list of TensorRef
        Selected tensors, once for each cast.
    contents : list of str
        Content identity of each tensor, see `linepress.run.keys.content_ids`.
    bases : dict of str
        Content identity of the older versions that tensors go against, by their own identity.
    variants : list of PlannedVariant
    cases : list of Case
        Tensor by tensor, so that neighbours in a group read the same bytes.
    provenance : list of dict
        What each source says about itself, for the manifest.
    duplicates : int
        Cases left out because another one computes the same.
    unavailable : list of str
        Optional sources that could not be opened, with the reason.
    split_bytes : int
        Raw bytes above which a tensor is measured in parts; 0 for none. Changes no result and no key.
    """

    suite: Suite
    tensors: list[TensorRef] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    bases: dict[str, str] = field(default_factory=dict)
    variants: list[PlannedVariant] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    provenance: list[dict[str, Any]] = field(default_factory=list)
    duplicates: int = 0
    unavailable: list[str] = field(default_factory=list)
    split_bytes: int = SPLIT_BYTES

    @property
    def raw_bytes(self) -> int:
        """Bytes of all selected tensors, casts counted apart."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    def order(self) -> dict[str, int]:
        """Case key -> place in the plan."""
        return {case.key: place for place, case in enumerate(self.cases)}

    def tasks(self, done: Mapping[str, str]) -> Iterator[Task]:
        """Tasks of the cases that are neither skipped nor in ``done`` as ok or skipped.

        The largest tensors first, so that a run does not end in one worker's last large case; all casts and variants
        of one tensor in a row, so that its bytes are fetched and cast once.
        """
        first: dict[str, int] = {}
        order = []
        for number, tensor in enumerate(self.tensors):
            stored = tensor.stored()
            order.append((-stored.n_bytes, first.setdefault(stored.identity, number)))
        for case in sorted(self.cases, key=lambda case: order[case.tensor]):
            if not case.skip and done.get(case.key) not in ("ok", "skipped"):
                yield self.task(case)

    def task(self, case: Case) -> Task:
        """One case on its way to a worker."""
        tensor = self.tensors[case.tensor]
        model = self.suite.model
        content = self.contents[case.tensor]
        return Task(
            key=case.key,
            stage="measure",
            target=MEASURE_TARGET,
            arguments=(tensor, self.variants[case.variant].variant),
            options={
                "packings": tuple(model.packings),
                "repeats": model.repeats,
                "chunk_bytes": model.chunk_bytes,
                "seed": model.seeds.sample,
            },
            identity=self.identity(case),
            n_bytes=tensor.n_bytes,
            content_sha256=content.removeprefix("sha256:") if content.startswith("sha256:") else "",
            memory_bytes=WORKER_BYTES + CHUNK_COPIES * model.chunk_bytes + LINE_COST_BYTES * tensor.n_bytes // 64,
            data="" if tensor.local else tensor.stored().identity,
            afar=tensor.stored() if isinstance(tensor.location, HubBytes) else None,
            split=self._split(tensor, self.variants[case.variant].variant),
        )

    def _split(self, tensor: TensorRef, variant: Variant) -> Split | None:
        chunk_bytes = self.suite.model.chunk_bytes
        parts = parts_of(tensor, variant, chunk_bytes, self.split_bytes)
        if not parts:
            return None
        part_bytes = self.split_bytes // PARTS_OF_SPLIT + chunk_bytes
        memory_bytes = WORKER_BYTES + CHUNK_COPIES * chunk_bytes + LINE_COST_BYTES * part_bytes // 64
        return Split(SPLIT_MODULE, parts, memory_bytes)

    def weight(self, case: Case) -> float:
        """Core-seconds of a case among others, see `linepress.run.estimate.case_s`."""
        planned, model = self.variants[case.variant], self.suite.model
        return case_s(planned.spec, planned.variant, self.tensors[case.tensor], model.repeats, model.packings)

    def identity(self, case: Case) -> dict[str, Any]:
        """Columns of ``measure`` that say which case a row without results is."""
        tensor, planned = self.tensors[case.tensor], self.variants[case.variant]
        return {**_tensor_identity(tensor), **_variant_identity(planned)}

    def skipped_rows(self, done: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Rows of the cases planned as skipped and not recorded yet."""
        for case in self.cases:
            if case.skip and case.key not in done:
                yield {**self.identity(case), "case_key": case.key, "status": "skipped", "error": case.skip, "row": 0}


def _tensor_identity(tensor: TensorRef) -> dict[str, Any]:
    return {
        "source": tensor.uri,
        "revision": tensor.revision,
        "tensor": tensor.name,
        "kind": tensor.kind,
        "layer": tensor.layer,
        "group": tensor.group,
        "format": tensor.format.name,
        "shape": list(tensor.shape),
        "cast": tensor.cast,
        "raw_bytes": tensor.n_bytes,
    }


def _variant_identity(planned: PlannedVariant) -> dict[str, Any]:
    variant = planned.variant
    return {
        "codec": variant.codec.codec_id,
        "codec_kind": variant.codec.kind,
        "variant": planned.spec,
        "format_version": variant.codec.format_version,
        "layout": variant.layout,
    }


def make_plan(suite: Suite, cache: HashCache | None = None, on_progress: Callable[[str], None] | None = None) -> Plan:
    """Open the sources of a suite and pair tensors with variants.

    Raises `SuiteError` with file and line for a variant, cast, packing or selection that means nothing, and
    `SourceError` for a source that is not what it claims to be.
    """
    say = on_progress or (lambda text: None)
    plan = Plan(suite, variants=plan_variants(suite))
    check_packings(suite)
    for number, source in enumerate(suite.model.sources):
        say(f"reading headers of {source.uri}")
        try:
            _add_source(plan, number, source)
        except SourceError as error:
            if not source.optional:
                raise
            plan.unavailable.append(f"{source.uri}: {error}")
    read = 0

    def on_hash(n_bytes: int) -> None:
        nonlocal read
        read += n_bytes
        say(f"hashing tensors, {read / 1e9:.2f} GB read")

    bases = [tensor.base for tensor in plan.tensors if tensor.base is not None]
    contents = content_ids([*plan.tensors, *bases], cache, on_hash)
    plan.contents = contents[: len(plan.tensors)]
    plan.bases = dict(zip((base.identity for base in bases), contents[len(plan.tensors) :], strict=True))
    _add_cases(plan)
    return plan


def plan_variants(suite: Suite) -> list[PlannedVariant]:
    """Every variant of a suite, sweeps unfolded, duplicates dropped; errors carry file and line."""
    planned: dict[tuple[str, tuple[str, ...], tuple[str, ...]], PlannedVariant] = {}
    for number, entry in enumerate(suite.model.codecs):
        place: tuple[str | int, ...] = ("codecs", number)
        kinds, formats = _where(entry)
        for name in formats:
            if name not in FORMATS:
                raise suite.at(place, f"unknown element format {name!r}; use one of {', '.join(FORMATS)}")
        try:
            for variant in expand(entry if isinstance(entry, str) else entry.entry()):
                found = PlannedVariant(variant, variant.spec, kinds, formats)
                planned.setdefault((found.spec, kinds, formats), found)
        except CodecError as error:
            raise suite.at(place, str(error)) from None
    return list(planned.values())


def _where(entry: str | CodecSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return ((), ()) if isinstance(entry, str) else (tuple(entry.kinds), tuple(entry.formats))


def check_packings(suite: Suite) -> None:
    """Raise `SuiteError` for a packing that does not exist."""
    from linepress_codecs.packing import parse_packing

    model = suite.model
    named: list[tuple[tuple[str | int, ...], str]] = [(("packings", i), p) for i, p in enumerate(model.packings)]
    if model.channel is not None:
        named += [(("channel", "packings", i), p) for i, p in enumerate(model.channel.packings) if p != "off"]
    if model.system is not None:
        named += [(("system", "packings", i), p) for i, p in enumerate(model.system.packings)]
    if model.fabric is not None:
        named.append((("fabric", "packing"), model.fabric.packing))
    for place, spec in named:
        try:
            parse_packing(spec)
        except CodecError as error:
            raise suite.at(place, str(error)) from None


def source_uri(suite: Suite, uri: str) -> str:
    """A relative path as seen from the suite's folder; anything else as it is."""
    if ":" in uri.split("/")[0] or expanded(uri).is_absolute():
        return uri
    return str(suite.folder / uri)


def _add_source(plan: Plan, number: int, spec: SourceSpec) -> None:
    suite = plan.suite
    source = open_source(source_uri(suite, spec.uri))
    wanted = spec.tensors
    selection = Selection(
        names=tuple(wanted.names),
        groups=tuple(wanted.groups),
        layers=tuple(wanted.layers),
        kinds=tuple(wanted.kinds),
        max_bytes=spec.max_bytes,
    )
    everything = source.tensors()
    chosen = selection.of(everything)
    if not chosen:
        have = ", ".join(sorted({t.group for t in everything})) or "none"
        raise suite.at(
            ("sources", number, "tensors"),
            f"none of the {len(everything)} tensors of {spec.uri} is selected; groups there are {have}",
        )
    base = open_source(source_uri(suite, spec.base)) if spec.base else None
    if base is not None:
        try:
            chosen = base.as_base_of(chosen)
        except SourceError as error:
            raise suite.at(("sources", number, "base"), str(error)) from None
    for place, cast in enumerate(spec.casts):
        try:
            plan.tensors += [tensor.with_cast(cast) for tensor in chosen]
        except SourceError as error:
            raise suite.at(("sources", number, "casts", place), str(error)) from None
    provenance = {
        **source.provenance(),
        "label": spec.label or spec.uri,
        "selected_tensors": len(chosen),
        "tensors": len(everything),
        "skipped_tensors": source.skipped(),
        "left_out_files": source.left_out(),
        **({"base": base.provenance()} if base is not None else {}),
    }
    plan.provenance.append(provenance)


def _add_cases(plan: Plan) -> None:
    seen: set[str] = set()
    described = [planned.variant.identity() for planned in plan.variants]
    repeats = (plan.suite.model.repeats, plan.suite.model.seeds.sample, tuple(plan.suite.model.packings))
    for at, (tensor, content) in enumerate(zip(plan.tensors, plan.contents, strict=True)):
        for number, planned in enumerate(plan.variants):
            if not planned.applies(tensor):
                continue
            key = case_key(
                "measure",
                variant=described[number],
                tensor=tensor.name,
                format=tensor.format.name,
                shape=tensor.shape,
                cast=tensor.cast,
                content=content if tensor.base is None else f"{content} against {plan.bases[tensor.base.identity]}",
                settings=repeats,
            )
            if key in seen:
                plan.duplicates += 1
                continue
            seen.add(key)
            plan.cases.append(Case(key, at, number, _why_not(planned.variant, tensor)))


def _why_not(variant: Variant, tensor: TensorRef) -> str:
    """Why a variant cannot take a tensor; empty when it can."""
    return _reason(variant, tensor.format.name, tensor.shape)


@lru_cache(maxsize=4096)
def _reason(variant: Variant, format_name: str, shape: tuple[int, ...]) -> str:
    codec = variant.codec
    if isinstance(codec, LineCodec) and not codec.supports(FORMATS[format_name]):
        return f"{codec.codec_id} does not take {format_name} elements"
    try:
        extent(shape, variant.layout, FORMATS[format_name], variant.line_bytes)
    except CodecError as error:
        return str(error)
    return ""
