"""What verbs and Python name by a text: models, accelerators and topologies, built in or in a file; sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from linepress.errors import LinepressError, SourceError

if TYPE_CHECKING:
    from linepress_hardware.catalog.accelerators import Accelerator
    from linepress_hardware.fabric.topologies import Topology
    from linepress_hardware.inference.shapes import ModelShape

# A configuration is a few kilobytes, or a few megabytes where a quantiser lists every module of a mixture of experts;
# anything much larger is another file named by mistake.
MAX_CONFIG_BYTES = 16 << 20


def model_named(text: str) -> ModelShape:
    """`text` as a shape.

    Raises
    ------
    SourceError
        The file does not exist, is not JSON, or is too large to be a configuration.
    HardwareError
        No such built-in shape, or a configuration whose fields are missing or contradict each other.
    """
    from linepress_hardware.inference.catalog import model
    from linepress_hardware.inference.hf_config import parse_config

    path = Path(text)
    if path.is_dir():
        path = path / "config.json"
    elif path.suffix != ".json" and not path.is_file():
        return model(text)
    if not path.is_file():
        raise SourceError(f"{path} does not exist; give a model's config.json, its folder, or a built-in name")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise SourceError(f"{path} has {path.stat().st_size:,} bytes, too many for a config.json; give that file")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is not JSON ({error}); give a model's config.json") from error
    name = path.parent.name if path.name == "config.json" and path.parent.name else path.stem
    return parse_config(config, name)


def accelerator_named(text: str) -> Accelerator:
    """A built-in accelerator by name or alias, or the one that a ``.toml`` data file describes."""
    from linepress_hardware.catalog.accelerators import accelerator, parse_accelerator

    path = Path(text)
    if path.suffix != ".toml":
        return accelerator(text)
    if not path.is_file():
        raise SourceError(f"{path} does not exist; give an accelerator's data file or a built-in name")
    return parse_accelerator(path.read_text(encoding="utf-8"), str(path))


def topology_named(text: str, accelerators: int | None = None) -> Topology:
    """A packaged topology, or one from a ``.toml`` file of the same layout, wired for so many accelerators."""
    from linepress_hardware.fabric.topologies import parse_topology, topology

    path = Path(text)
    if path.suffix != ".toml":
        found = topology(text)
    elif path.is_file():
        found = parse_topology(path.read_text(encoding="utf-8"), text)
    else:
        raise LinepressError(f"there is no file {text}; give a .toml of the layout of data/topologies, or a name")
    return found if accelerators is None else found.with_accelerators(accelerators)


def size_bytes(text: str) -> int:
    """``1GiB`` as bytes; one sentence for anything else."""
    from linepress_codecs.variant import parse_bytes

    try:
        value = parse_bytes(text)
    except ValueError as error:
        raise LinepressError(str(error)) from None
    if value <= 0:
        raise LinepressError(f"a size of {text} moves nothing; give 1 byte or more")
    return value
