"""Where tensors come from: files, folders, the hub, GGUF, NumPy and synthetic distributions.

``open_source(uri)`` reads headers only. A `TensorRef` of the source is small, travels to a worker, and there reads
its own bytes by range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from linepress.environment import expanded
from linepress.errors import SourceError

if TYPE_CHECKING:
    from linepress.sources.base import LineStream, Selection, Source, TensorRef

__all__ = ["LineStream", "Selection", "Source", "TensorRef", "open_source"]


def __getattr__(name: str) -> Any:
    # Arrays come with these; who reads texts of strangers only, as `linepress verify` does, needs none.
    if name in __all__:
        from linepress.sources import base

        return getattr(base, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")


def open_source(uri: str, **options: Any) -> Source:
    """The source that ``uri`` names.

    Parameters
    ----------
    uri : str
        A path to a ``.safetensors`` file, a folder of them, a ``.gguf`` or ``.npy`` file (told by content, not by
        suffix), a folder of GGUF models or parts; ``hf://org/name@rev[/subfolder]``; ``memory:PATH`` (a paged KV
        snapshot as it lies, free pages and padding included); or
        ``synthetic:gauss?shape=4096x4096&sigma=0.02&seed=1``.
    options
        For the hub: ``endpoint``, ``local`` (keep a snapshot on disk instead of streaming). For ``.npy``:
        ``dtype`` (the element format of arrays that hold bits). For GGUF: ``split`` (scales and quants apart).
        A URI may carry them, which is how a suite asks: ``hf://org/name@main?local=true``,
        ``model.gguf?split=true``, ``bits.npy?dtype=bf16``. Options given apart win.

    Raises `SourceError` with one sentence for anything that is not what it claims to be.
    """
    if uri.startswith("synthetic:"):
        from linepress.sources.synthetic import SyntheticSource

        _only(uri, options)
        return SyntheticSource(uri)
    place, asked = _asked(uri)
    options = {**asked, **options}
    if uri.startswith("hf://"):
        from linepress.sources.hub import open_hub

        _only(uri, options, "endpoint", "local")
        return open_hub(uri, **options)
    if uri.startswith("memory:"):
        from linepress.sources.safetensors.reader import SafetensorsSource

        _only(uri, options)
        return SafetensorsSource(uri, [expanded(uri.removeprefix("memory:"))], view="memory")
    if "://" in uri:
        raise SourceError(f"{uri}: no such kind of source; use a path, hf://org/name@revision or synthetic:…")
    path = expanded(place)
    if path.is_dir():
        names = [entry.name.lower() for entry in path.iterdir()]
        if any(name.endswith(".gguf") for name in names) and not any(name.endswith(".safetensors") for name in names):
            from linepress.sources.gguf.parts import open_gguf_folder

            _only(uri, options, "split")
            return open_gguf_folder(uri, path, **options)
        from linepress.sources.safetensors.folder import open_folder

        _only(uri, options)
        return open_folder(uri, path)
    from linepress.sources.sniff import kind_of

    kind = kind_of(path)
    if kind == "npy":
        from linepress.sources.npy import NpySource

        _only(uri, options, "dtype")
        return NpySource(uri, path, **options)
    if kind == "gguf":
        from linepress.sources.gguf.parts import open_gguf

        _only(uri, options, "split")
        return open_gguf(uri, path, **options)
    _only(uri, options)
    from linepress.sources.safetensors.reader import SafetensorsSource

    return SafetensorsSource(uri, [path])


def _asked(uri: str) -> tuple[str, dict[str, Any]]:
    """A URI without its options, and the options; a file whose name has a question mark is that file."""
    place, mark, text = uri.rpartition("?")
    if not mark or expanded(uri).exists():
        return uri, {}
    options: dict[str, Any] = {}
    for item in text.split("&"):
        key, equals, value = item.partition("=")
        if not (key and equals and value) or key in options:
            raise SourceError(f"{uri}: options are key=value, each once, joined by &; for example ?local=true")
        if key in ("local", "split") and value not in ("true", "false"):
            raise SourceError(f"{uri}: {key} is true or false, not {value!r}; for example ?{key}=true")
        options[key] = value == "true" if key in ("local", "split") else value
    return place, options


def _only(uri: str, options: dict[str, Any], *allowed: str) -> None:
    for name in options:
        if name not in allowed:
            takes = f"it takes {', '.join(allowed)}" if allowed else "it takes none"
            raise SourceError(f"{uri}: this kind of source has no option {name!r}: {takes}")
