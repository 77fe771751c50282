"""`measure`: tensors under codecs, as rows that show themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any

from linepress.errors import LinepressError, SourceError
from linepress_codecs.errors import CodecError, SpecError, UnsupportedFormatError

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from linepress.sources import Selection, Source, TensorRef
    from linepress_codecs.variant import Variant

DEFAULT_CODECS = ("raw", "lz4:block=64KiB", "zstd:level=3:block=64KiB", "huffman")


@dataclass
class Measured:
    """What became of some tensors under some codecs.

    Attributes
    ----------
    rows : list of dict
        One row a case that was measured: the columns of the table ``measure``.
    failed, skipped : list of dict
        The other cases, with ``error`` or ``reason`` as one sentence.
    cases : list of dict
        Every case with its ``status``, measured or not.

    Prints as the headline table; in a notebook too.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    cases: list[dict[str, Any]] = field(default_factory=list)

    def headline(self) -> list[dict[str, Any]]:
        """One line for each kind of data, format and variant; see `linepress.records.summary`."""
        from linepress.records.summary import frame_of, headline

        return headline(frame_of(self.cases))

    def arrow(self) -> pyarrow.Table:
        """The rows as an Arrow table with the columns of the table ``measure``."""
        import json

        import pyarrow as pa

        from linepress.records.schema import schema

        plain = [row | {"options": json.dumps(row["options"])} for row in self.rows]
        fields = [one for one in schema("measure") if any(one.name in row for row in plain)]
        return pa.Table.from_pylist(plain, schema=pa.schema(fields))

    def pandas(self) -> pandas.DataFrame:
        """The rows as a pandas frame."""
        return self.arrow().to_pandas()

    def polars(self) -> polars.DataFrame:
        """The rows as a polars frame; `ImportError` where polars is not installed."""
        import polars

        return polars.from_arrow(self.arrow())  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __repr__(self) -> str:
        from linepress.tables.text import as_text

        return as_text(self._table())

    def _repr_html_(self) -> str:
        from linepress.tables.html import as_html

        return as_html(self._table())

    def _table(self) -> Any:
        from linepress.tables.ratios import headline_table

        return headline_table({"": self.headline()})


def measure(
    x: Any,
    *codecs: str,
    layout: str | Sequence[str] = (),
    cast: str | Sequence[str] = (),
    packing: str | Sequence[str] = (),
    tensor: str | Sequence[str] = (),
    base: Any = None,
    repeats: int = 3,
    seed: int = 0,
) -> Measured:
    """Measure tensors with codecs; every coded line is decoded and compared, outside timing.

    Parameters
    ----------
    x
        A path or URI as `linepress measure` takes it, a NumPy or ml_dtypes array, a torch tensor, or a list of these.
    codecs
        Codecs with their options, for instance ``"huffman"``, ``"zstd:level=3:block=64KiB"``; a few common ones where
        none is given.
    layout, cast, packing
        As the options of ``linepress measure``; several give every combination (the first packing is the row's own).
    tensor
        Shell patterns on names of tensors; all where none is given.
    base
        An older version of ``x``, likewise; codec ``delta`` codes each tensor against its namesake.
    repeats
        Timed rounds, 0 for none.
    seed
        Of samples and spot checks.

    Raises `SourceError` and `SpecError` with one sentence for what is not a tensor or not a codec; a case that fails
    is in `Measured.failed`.
    """
    from linepress import environment

    environment.prepare()
    from linepress.sources import Selection

    sources = [source_of(one) for one in (x if isinstance(x, list | tuple) else [x])]
    packings = _texts(packing)
    variants = make_variants(codecs or DEFAULT_CODECS, _texts(layout), packings)
    old = None if base is None else source_of(base)
    chosen = [
        one
        for source in sources
        for one in select(source, Selection(names=_texts(tensor)), _texts(cast) or ("none",), old)
    ]
    return run_cases(chosen, variants, packings=packings, repeats=repeats, seed=seed)


def source_of(x: Any, **options: Any) -> Source:
    """The source that ``x`` names or is; raises `SourceError`."""
    if isinstance(x, str | PathLike):
        from linepress.sources import open_source

        return open_source(str(x), **options)
    from linepress.sources.arrays import ArraySource

    return ArraySource(x)


def make_variants(specs: Sequence[str], layouts: Sequence[str], packings: Sequence[str]) -> list[Variant]:
    """The variants of ``specs``, each in every layout asked for unless it names its own; the first packing is theirs.

    Raises `SpecError` with a valid example for anything unknown.
    """
    from linepress_codecs.contracts import LineCodec
    from linepress_codecs.packing import parse_packing
    from linepress_codecs.registry import parse_spec
    from linepress_codecs.variant import Variant

    for packing in packings:
        parse_packing(packing)
    found: dict[str, Variant] = {}
    for spec in specs:
        name, options = parse_spec(spec)
        for layout in layouts or (None,):
            own = dict(options)
            if layout is not None:
                own.setdefault("layout", layout)
            variant = Variant.of(name, own)
            if packings and "packing" not in options and isinstance(variant.codec, LineCodec):
                variant = Variant.of(name, {**own, "packing": packings[0]})
            found.setdefault(variant.spec, variant)
    return list(found.values())


def select(
    source: Source, selection: Selection, casts: Sequence[str], base: Source | None = None
) -> Iterator[TensorRef]:
    """The chosen tensors of a source under every cast, each against its namesake in ``base`` where there is one.

    Raises `SourceError` where none is chosen, or one has no namesake of its format and shape.
    """
    everything = source.tensors()
    chosen = selection.of(everything)
    if not chosen:
        groups = ", ".join(sorted({t.group for t in everything})) or "none"
        raise SourceError(
            f"none of the {len(everything)} tensors of {source.uri} is selected; its groups are {groups}: "
            "widen --tensor, --group, --layers or --max-bytes"
        )
    if base is not None:
        chosen = base.as_base_of(chosen)
    for cast in casts:
        for tensor in chosen:
            yield tensor.with_cast(cast)


def run_cases(
    tensors: Sequence[TensorRef],
    variants: Sequence[Variant],
    *,
    packings: Sequence[str] = (),
    repeats: int,
    seed: int,
    advance: Callable[[bool, int], None] = lambda ok, n_bytes: None,
    **options: Any,
) -> Measured:
    """Every tensor under every variant; one case that fails does not stop the others.

    ``advance`` is told of every case: whether it did not fail, and its bytes.
    """
    from linepress.stages.measure.case import measure_case

    found = Measured()
    for tensor in tensors:
        for variant in variants:
            case = {"tensor": tensor.name, "codec": variant.spec, "cast": tensor.cast}
            row = _identity(tensor, variant)
            try:
                row = measure_case(tensor, variant, packings=packings, repeats=repeats, seed=seed, **options)
                found.rows.append(row)
                status = "ok"
            except (UnsupportedFormatError, SpecError) as error:
                found.skipped.append({**case, "reason": str(error)})
                status = "skipped"
            except (LinepressError, CodecError, OSError) as error:
                found.failed.append({**case, "error_type": type(error).__name__, "error": str(error)})
                status = "failed"
            found.cases.append({**row, "status": status})
            advance(status != "failed", tensor.n_bytes)
    return found


def _identity(tensor: TensorRef, variant: Variant) -> dict[str, Any]:
    """The columns that say what a case is, for one that is not measured."""
    return {
        "source": tensor.uri,
        "kind": tensor.kind,
        "group": tensor.group,
        "format": tensor.format.name,
        "cast": tensor.cast,
        "variant": variant.spec,
        "codec": variant.codec.codec_id,
        "codec_kind": variant.codec.kind,
    }


def _texts(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
