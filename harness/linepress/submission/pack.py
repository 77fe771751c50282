"""``linepress pack``: a model folder, a file or a KV snapshot becomes a submission with its manifest."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from linepress.errors import LinepressError
from linepress.sources.groups import place_of
from linepress.submission.check.ledger import Ledger, name_of
from linepress.submission.check.limits import MANIFEST_NAME, Limits
from linepress.submission.check.manifest import (
    SCHEMA_VERSION,
    Declared,
    Expected,
    FileEntry,
    Licence,
    Manifest,
    SourceRef,
    write_manifest,
)
from linepress.submission.check.reading import FileFacts, read_file
from linepress.submission.check.rules.documents import CONFIG_NAME, INDEX_SUFFIX, check_documents
from linepress.submission.check.rules.identity import SLUG, UPLOAD, licences, like_licence
from linepress.submission.check.rules.names import name_problem

_TEXTS = ("license", "licence", "copying", "notice")


@dataclass
class Packed:
    """A submission as written.

    Attributes
    ----------
    folder : Path
        ``<out>/<partner>/<name>``.
    manifest : Manifest
    left_out : list of str
        Files of the model that a submission does not need and does not take.
    normalised : list of str
        JSON files whose Infinity or NaN, which JSON has not, was written in its own numbers.
    """

    folder: Path
    manifest: Manifest
    left_out: list[str] = field(default_factory=list)
    normalised: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Terms:
    """What the partner states: licence, source, contact, suite, and the kind where the tensors' names do not tell."""

    licence: str
    contact: str
    source: str = UPLOAD
    revision: str | None = None
    redistribution: bool | None = None
    gated: bool = False
    waiver: str | None = None
    suite: str = "smoke"
    reference: bool = False
    kind: Literal["model", "snapshot"] | None = None


def pack(
    model: Path, partner: str, out: Path, terms: Terms, *, name: str | None = None, variants: Sequence[str] = ()
) -> Packed:
    """Write ``<out>/<partner>/<name>`` and its manifest.

    Parameters
    ----------
    model : Path
        A safetensors file, or a folder of them with their index, ``config.json`` and licence.
    partner : str
        Name of the submitter: lower-case letters, digits, ``.`` and ``-``.
    out : Path
        Where submissions are kept.
    terms : Terms
        With ``reference``, only the manifest is written, and the files stay where ``source`` says.
    name : str | None
        Name of the submission; by default that of the model.
    variants : sequence of str
        Codec variants whose exact results are measured and reported as expected.

    Raises `LinepressError` where the model cannot become a submission; nothing is left behind then.
    """
    name = name if name is not None else _slug(model)
    for what, text in (("partner", partner), ("name", name)):
        if not SLUG.match(text):
            raise LinepressError(
                f"{what} {name_of(text)}: give lower-case letters, digits, '.' and '-', at most 64 of them"
            )
    hint = like_licence(terms.licence)
    if hint and terms.waiver is None:
        raise LinepressError(f"licence {name_of(terms.licence)} is not an SPDX identifier of the list{hint}")
    chosen, left_out = _choose(model)
    folder = out / partner / name
    if folder.exists():
        raise LinepressError(f"{folder}: is there already; choose another --name or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder.parent))
    try:
        normalised: list[str] = []
        manifest = _write(staging, chosen, partner, name, terms, variants, normalised)
        (staging / MANIFEST_NAME).write_text(write_manifest(manifest), encoding="utf-8")
        staging.chmod(0o755)
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return Packed(folder, manifest, left_out, normalised)


def _slug(model: Path) -> str:
    base = model.absolute().name.removesuffix(".safetensors").lower()
    return (
        "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-" for c in base).strip("-.")[:64].strip("-.")
    )


def _choose(model: Path) -> tuple[dict[str, Path], list[str]]:
    """Files of a submission by their path in it, and the rest."""
    if model.is_file():
        return {model.name: model.resolve()}, []
    if not model.is_dir():
        raise LinepressError(f"{model}: there is no such file or folder; check the path")
    chosen: dict[str, Path] = {}
    left_out: list[str] = []
    for path in sorted(model.rglob("*")):
        if path.is_dir():
            continue
        inside = path.relative_to(model).as_posix()
        lowered = path.name.lower()
        wanted = (
            lowered.endswith((".safetensors", INDEX_SUFFIX))
            or path.name == CONFIG_NAME
            or lowered.split(".")[0] in _TEXTS
        )
        if wanted and name_problem(inside) is None and path.is_file():
            # a hub snapshot holds links into a cache: what they lead to is copied
            chosen[inside] = path.resolve()
        else:
            left_out.append(inside)
    if not any(inside.endswith(".safetensors") for inside in chosen):
        raise LinepressError(f"{model}: holds no .safetensors file; convert the model first")
    return chosen, left_out


def _write(
    staging: Path,
    chosen: dict[str, Path],
    partner: str,
    name: str,
    terms: Terms,
    variants: Sequence[str],
    normalised: list[str],
) -> Manifest:
    limits = Limits()
    ledger = Ledger()
    read: list[FileFacts] = []
    for inside, path in chosen.items():
        source = path
        if not terms.reference:
            source = staging / inside
            source.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, source)
            if _normalise(source, limits):
                normalised.append(inside)
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            read.append(
                read_file(
                    inside,
                    descriptor,
                    os.fstat(descriptor).st_size,
                    limits,
                    ledger,
                    sum(len(f.tensors.names) for f in read if f.tensors),
                )
            )
        finally:
            os.close(descriptor)
    check_documents({facts.path: facts for facts in read}, limits, ledger)
    problems = [reason for finding in ledger.findings() if finding.verdict == "FAIL" for reason in finding.reasons]
    if problems:
        raise LinepressError(f"{problems[0]}; mend the model and pack it again")
    tensors = [facts.tensors for facts in read if facts.tensors is not None]
    dtypes = Counter(dtype for part in tensors for dtype in part.dtypes)
    cache = any(place_of(name).kind in ("key_cache", "value_cache") for part in tensors for name in part.names)
    kind = terms.kind or ("snapshot" if cache else "model")
    redistribution = terms.licence in licences() if terms.redistribution is None else terms.redistribution
    return Manifest.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "submitter": partner,
            "name": name,
            "kind": kind,
            "contact": terms.contact,
            "source": SourceRef(uri=terms.source, revision=terms.revision),
            "licence": Licence(
                spdx=terms.licence, redistribution=redistribution, gated=terms.gated, waiver=terms.waiver
            ),
            "delivery": "reference" if terms.reference else "files",
            "suite": terms.suite,
            "files": [
                FileEntry.model_validate({"path": f.path, "bytes": f.n_bytes, "sha256": f.sha256, "format": f.kind})
                for f in read
            ],
            "declares": Declared(
                tensors=sum(dtypes.values()),
                tensor_bytes=sum(sum(part.ends) - sum(part.begins) for part in tensors),
                dtypes=dict(sorted(dtypes.items())),
            ),
            "expected": _expected({f.path: chosen[f.path] for f in read if f.tensors}, variants, limits),
        }
    )


# A string, passed over, or a number that Python writes and JSON has not.
_BEYOND_JSON = re.compile(rb'"(?:[^"\\]|\\.)*"|-?Infinity\b|NaN\b', re.DOTALL)
_IN_JSON = {b"Infinity": b"1e999", b"-Infinity": b"-1e999", b"NaN": b"null"}


def _normalise(path: Path, limits: Limits) -> bool:
    """Write Infinity and NaN of a JSON file as JSON's own 1e999 and null, which readers take for the same; whether
    there was any. Some models' configurations have them (``time_step_limit`` of Mamba layers)."""
    if path.suffix != ".json" or path.stat().st_size > limits.json_bytes:
        return False
    raw = path.read_bytes()
    mended = _BEYOND_JSON.sub(lambda found: _IN_JSON.get(found.group(), found.group()), raw)
    if mended == raw:
        return False
    path.write_bytes(mended)
    return True


def _expected(paths: dict[str, Path], variants: Sequence[str], limits: Limits) -> list[Expected]:
    """Exact results of every tensor under every variant."""
    if not variants:
        return []
    from linepress.sources import open_source
    from linepress.stages.measure.case import measure_case
    from linepress_codecs.variant import Variant

    parsed = [Variant.parse(text) for text in variants]
    found: list[Expected] = []
    left_bytes = limits.rerun_bytes
    for inside, path in paths.items():
        for tensor in open_source(str(path)).tensors():
            for variant in parsed:
                left_bytes -= tensor.n_bytes
                if len(found) >= limits.expected or left_bytes < 0:
                    raise LinepressError(
                        f"expected results for every tensor are over {limits.expected} results or "
                        f"{limits.rerun_bytes} B to code; report fewer variants with --expect, or none"
                    )
                row: dict[str, Any] = measure_case(tensor, variant, repeats=0)
                found.append(
                    Expected(
                        file=inside,
                        tensor=tensor.name,
                        variant=variant.spec,
                        payload_bits=int(row["payload_bits"]),
                        packed_bytes=int(row["packed_bytes"]),
                    )
                )
    return found
