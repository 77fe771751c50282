"""Models and accelerators named on the command line: built in, or by a file of the user's."""

from __future__ import annotations

import json
from pathlib import Path

from linepress.errors import SourceError
from linepress_hardware.catalog.accelerators import Accelerator, accelerator, parse_accelerator
from linepress_hardware.inference.catalog import model
from linepress_hardware.inference.hf_config import parse_config
from linepress_hardware.inference.shapes import ModelShape

# A configuration is a few kilobytes, or a few megabytes where a quantiser lists every module of a mixture of experts;
# anything much larger is another file named by mistake.
MAX_CONFIG_BYTES = 16 << 20


def model_argument(text: str) -> ModelShape:
    """`text` as a shape.

    Raises
    ------
    SourceError
        The file does not exist, is not JSON, or is too large to be a configuration.
    HardwareError
        No such built-in shape, or a configuration whose fields are missing or contradict each other.
    """
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


def accelerator_argument(text: str) -> Accelerator:
    """A built-in accelerator by name or alias, or the one that a ``.toml`` data file describes."""
    path = Path(text)
    if path.suffix != ".toml":
        return accelerator(text)
    if not path.is_file():
        raise SourceError(f"{path} does not exist; give an accelerator's data file or a built-in name")
    return parse_accelerator(path.read_text(encoding="utf-8"), str(path))
