"""Transformers 5: a ``DynamicCache`` or ``StaticCache`` after ``model(..., past_key_values=cache)``, windows too."""

from typing import Any

from linepress.sources.snapshot.export import export


def export_cache(cache: Any, sequence_tokens: Any, path: str, padding: str = "left", **said: str) -> None:
    """``sequence_tokens``: tokens of each sequence without padding (``attention_mask.sum(1)``)."""
    first = cache.layers[0].keys
    static = "static" in type(cache.layers[0]).__name__.lower()
    slots = [layer.keys.shape[2] for layer in cache.layers]
    if len(set(slots)) > 1:  # sliding-window layers keep fewer tokens
        said = {"layers": str(len(slots)), "layer_tokens": ",".join(map(str, slots)), **said}
    export(
        path,
        {f"{k}_cache_tensor_{i}": getattr(x, f"{k}s") for i, x in enumerate(cache.layers) for k in ("key", "value")},
        "transformers-5:static" if static else "transformers-5",
        kv_heads=first.shape[1],
        head_dim=first.shape[3],
        value_head_dim=cache.layers[0].values.shape[3],
        sequence_tokens=sequence_tokens,
        **{"keys": "post-RoPE", "padding": "right" if static else padding, **said},
    )
