"""Tensors that a family has beside its layers' usual ones, as (tensor group, elements of the whole model)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from linepress_hardware.inference.families.fields import Fields

Elements = tuple[tuple[str, int], ...]


def _per_layer_inputs(f: Fields, layers: int, hidden: int) -> Elements:
    """Gemma 3n and 4: a second input table with a row a layer, projected into every layer."""
    width = f.whole("hidden_size_per_layer_input", default=0, least=0)
    if not width:
        return ()
    table = f.whole("vocab_size_per_layer_input") * layers * width
    per_layer = layers * (2 * hidden * width + hidden)
    return ("embed", table), ("other", per_layer + layers * width * hidden + width)


def _altup(f: Fields, layers: int, hidden: int) -> Elements:
    """Gemma 3n: several residual streams (AltUp) and a low-rank residual (Laurel) in every layer."""
    streams, rank = f.whole("altup_num_inputs"), f.whole("laurel_rank")
    altup = 2 * hidden + streams * streams + streams**3 + streams * hidden
    laurel = 2 * rank * hidden + hidden
    return (("other", layers * (altup + laurel) + 2 * (streams - 1) * hidden * hidden),)


def _hyper_connections(f: Fields, layers: int, hidden: int) -> Elements:
    """DeepSeek-V4: mixing of several residual streams before and after attention and experts, and before the head."""
    streams = f.whole("hc_mult")
    mixed = streams * (2 + streams)
    per_layer = 2 * (mixed * streams * hidden + mixed + 3)
    return (("other", layers * per_layer + streams * streams * hidden + streams + 1),)


def _mixture_beside_mlp(f: Fields, layers: int, hidden: int) -> Elements:
    """Gemma 4's experts stand beside the plain MLP: three more norms, a router scale, a scale an expert."""
    if not f.flag("enable_moe_block"):
        return ()
    return (("norm", layers * 3 * hidden), ("router", layers * (hidden + f.whole("num_experts"))))


def _activation(f: Fields, layers: int, hidden: int) -> Elements:
    """Apertus: two numbers of the activation a layer."""
    return (("other", 2 * layers),)


def _image_tokens(f: Fields, layers: int, hidden: int) -> Elements:
    """Llama 3.2 Vision: eight more rows of the input table, which the head has not."""
    return (("embed", 8 * hidden),)


EXTRAS: Mapping[str, Callable[[Fields, int, int], Elements]] = {
    "per-layer-inputs": _per_layer_inputs,
    "altup": _altup,
    "hyper-connections": _hyper_connections,
    "mixture-beside-mlp": _mixture_beside_mlp,
    "activation": _activation,
    "image-tokens": _image_tokens,
}
