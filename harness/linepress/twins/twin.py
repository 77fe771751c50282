"""A whole source's twin: fitted, drawn, written, and laid beside what it stands for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from linepress.errors import EXIT_USAGE, SourceError
from linepress.sources import Source, TensorRef, open_source
from linepress.sources.safetensors.header import MAX_HEADER_BYTES
from linepress.sources.snapshot.write import DTYPE_OF_FORMAT, write_tensors
from linepress.sources.text import StrictJsonError, strict_json
from linepress.twins.draw import draw
from linepress.twins.fit import fit_tensor
from linepress.twins.model import MODEL_VERSION, TensorModel

PRIVATE = ("text", "text_sha256", "token_ids_sha256", "generated_sha256", "source_sha256")
"""Header entries that say something about the partner's data; a twin leaves them out."""


class TwinError(SourceError):
    """A twin that cannot be made of this source."""

    exit_code = EXIT_USAGE


def fit(tensors: Sequence[TensorRef], done: Callable[[TensorRef], None] = lambda tensor: None) -> list[TensorModel]:
    """A model for each tensor; ``done`` is told after each. Raises `TwinError` for formats that cannot be written."""
    models: list[TensorModel] = []
    for tensor in tensors:
        if tensor.format.name not in DTYPE_OF_FORMAT and tensor.format.name != "int32":
            raise TwinError(
                f"tensor {tensor.name!r} is {tensor.format.name}, which a twin cannot be written in; "
                f"choose others with --group or --tensor (formats: {', '.join(DTYPE_OF_FORMAT)})"
            )
        models.append(fit_tensor(tensor))
        done(tensor)
    return models


def header_of(source: Source, models: Sequence[TensorModel]) -> dict[str, str]:
    """What a twin's header says: the source's metadata without what tells of its text, and that it is a twin."""
    said = source.provenance().get("metadata")
    kept = {str(k): str(v) for k, v in said.items() if k not in PRIVATE} if isinstance(said, dict) else {}
    if any(model.name.startswith(("key_cache_tensor_", "value_cache_tensor_")) for model in models):
        # the twin holds the written tokens of each layer, whatever pages they lay in
        lengths = {model.rows for model in models}
        for key in ("arrangement", "block_tokens", "padding", "turn_ends", "shared_prefix_tokens"):
            kept.pop(key, None)
        if len(lengths) == 1:
            kept["tokens"] = str(lengths.pop())
    return {**kept, "twin": f"synthetic twin, generator version {MODEL_VERSION}; no value of it is the original's"}


def write_twin(path: Path, models: Sequence[TensorModel], header: dict[str, str], seed: int) -> None:
    """Draw every model and write the twin; the same arguments give the same bytes."""
    tensors: dict[str, tuple[str, NDArray[np.generic]]] = {
        model.name: (model.format, draw(model, seed, i)) for i, model in enumerate(models)
    }
    write_tensors(path, tensors, {**header, "twin_seed": str(seed)})


def write_parameters(path: Path, models: Sequence[TensorModel], header: dict[str, str]) -> None:
    """The models as JSON, from which `read_parameters` and `write_twin` make the twin again."""
    document = {"linepress_twin": MODEL_VERSION, "header": header, "tensors": [m.to_json() for m in models]}
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")


def read_parameters(path: Path) -> tuple[list[TensorModel], dict[str, str]]:
    """Inverse of `write_parameters`; raises `SourceError` in one sentence for anything else."""
    try:
        if path.stat().st_size > MAX_HEADER_BYTES:
            raise SourceError(f"{path} is over {MAX_HEADER_BYTES} B; it is not the parameters of a twin")
        document: Any = strict_json(path.read_bytes())
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}; check the path") from None
    except StrictJsonError as error:
        raise SourceError(f"{path}: {error}; fit again") from None
    if not isinstance(document, dict) or document.get("linepress_twin") != MODEL_VERSION:
        raise SourceError(f"{path} is not the parameters of a twin of version {MODEL_VERSION}; fit again")
    tensors, header = document.get("tensors"), document.get("header")
    if not isinstance(tensors, list) or not tensors or not isinstance(header, dict):
        raise SourceError(f"{path} has no tensors or no header; fit again")
    if not all(isinstance(v, str) for v in header.values()):
        raise SourceError(f"{path}: its header must map text to text; fit again")
    models = [TensorModel.from_json(item, str(path)) for item in tensors]
    if len({m.name for m in models}) != len(models):
        raise SourceError(f"{path} names a tensor twice; fit again")
    return models, header


def pairs(real: Sequence[TensorRef], twin: Path) -> list[tuple[TensorRef, TensorRef]]:
    """(real, twin) tensors by name."""
    drawn = {t.name: t for t in open_source(str(twin)).tensors()}
    return [(tensor, drawn[tensor.name]) for tensor in real]
