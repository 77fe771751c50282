"""Which element format the bytes of a safetensors tensor have, where quantisers pack several values into one item.

Told by a tensor's name and its neighbours, by what the file or the ``config.json`` beside it states, and where those
leave it open by the bytes themselves. Layouts: AutoGPTQ ``qlinear``, AutoAWQ ``WQLinear_GEMM``, Marlin, compressed-
tensors 0.20 ``pack_to_int32``, MLX ``quantize`` (affine, mxfp4, nvfp4, mxfp8), bitsandbytes 0.49 ``Params4bit``, HQQ
``Quantizer``, torchao ``Int4Tensor`` and tile-packed int4, OCP Microscaling 1.0, ModelOpt NVFP4.

Widths of 4 and 8 bits are ``int4`` and ``int8``; others that packing leaves across bytes (2, 3, 5, 6, 7 bits) are
``uint8``, bytes of a statistics of their own, never the wide integers that hold them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from linepress.sources.packed import SAMPLE_BYTES, narrower
from linepress.sources.safetensors.header import Entry

Peek = Callable[[Entry, int], NDArray[np.uint8]]
"""Reads the first so many bytes of a tensor."""

_HELD = {"I8": 8, "U8": 8, "I16": 16, "U16": 16, "I32": 32, "U32": 32, "I64": 64, "U64": 64}
_GROUPS = (16, 32, 64, 128, 256, 512, 1024)
_NF4 = ("quant_state.bitsandbytes__nf4", "quant_state.bitsandbytes__fp4")

# safetensors dtype -> element format; the others (64-bit types, BOOL, six-bit floats) are listed as skipped
FORMAT_OF_DTYPE = {
    "BF16": "bf16", "F16": "fp16", "F32": "fp32", "F8_E4M3": "e4m3", "F8_E5M2": "e5m2", "F8_E4M3FNUZ": "e4m3fnuz",
    "F8_E5M2FNUZ": "e5m2fnuz", "F8_E8M0": "e8m0", "I8": "int8", "U8": "uint8", "F4": "e2m1", "I16": "int16",
    "U16": "int16", "I32": "int32", "U32": "int32",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Storage:
    """Element format, shape in stored units, and how the width of packed values was told ("" if none are packed)."""

    format: str
    shape: tuple[int, ...]
    packed: str = ""


@dataclass(slots=True)
class Neighbours:
    """A header's tensors by name, its metadata, and how to read a few bytes of one.

    ``stated`` is what a configuration says of the whole file: ``bits`` of its packed integers.
    """

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    peek: Peek
    stated: Mapping[str, int] = field(default_factory=dict)
    _widths: dict[tuple[object, ...], int | None] = field(default_factory=dict)

    def get(self, name: str) -> Entry | None:
        return self.entries.get(name)

    def any_of(self, *names: str) -> Entry | None:
        return next((found for name in names if (found := self.entries.get(name)) is not None), None)

    def whole(self, entry: Entry | None) -> list[int] | None:
        """The numbers of a small integer tensor."""
        if entry is None or entry.dtype not in _HELD or entry.end - entry.start > 256:
            return None
        kind = f"<{'u' if entry.dtype[0] == 'U' else 'i'}{_HELD[entry.dtype] // 8}"
        return [int(n) for n in self.peek(entry, entry.end - entry.start).view(kind)]


def storage_of(entry: Entry, around: Neighbours) -> Storage:
    """Element format of a tensor; packed payloads are told as the module says."""
    name, shape = entry.name, entry.shape
    stem, _, leaf = name.rpartition(".")
    stem = stem + "." if stem else ""
    if entry.dtype == "F4":
        whole = shape[-1] // 2 if shape and shape[-1] % 2 == 0 else 0
        return Storage("e2m1", (*shape[:-1], whole) if whole else (entry.end - entry.start,))
    if entry.dtype == "U8" and (found := _microscaled(name, stem, leaf, around)) is not None:
        return Storage(found, shape)
    if entry.dtype in _HELD and entry.end > entry.start:
        for tell in _TELLERS:
            told = tell(entry, stem, leaf, around)
            if told is not None:
                return _packed(entry, *told)
    return Storage(FORMAT_OF_DTYPE[entry.dtype], shape)


def _packed(entry: Entry, width: int | str, how: str) -> Storage:
    """`width` bits of an integer, or the name of a format, in the items of `entry`."""
    name = {4: "int4", 8: "int8"}.get(width, "uint8") if isinstance(width, int) else width
    item = _HELD[entry.dtype] // 8
    shape = (*entry.shape[:-1], entry.shape[-1] * item) if entry.shape else (item,)
    bits = f"{width}-bit integers" if isinstance(width, int) else width
    return Storage(name, shape, f"{bits} in {entry.dtype}, width from {how}")


def _microscaled(name: str, stem: str, leaf: str, around: Neighbours) -> str | None:
    """MXFP4 ``…_blocks`` beside ``…_scales`` (E8M0), NVFP4 ``weight`` or ``weight_packed`` beside its two scales."""
    if leaf.endswith("_blocks") and around.get(f"{name[:-7]}_scales"):
        return "e2m1"
    if leaf.endswith("_scales") and around.get(f"{name[:-7]}_blocks"):
        return "e8m0"
    if leaf == "weight" and around.get(f"{name}_scale") and around.get(f"{name}_scale_2"):
        return "e2m1"
    scale = around.get(f"{stem}weight_scale")
    if leaf == "weight_packed" and scale is not None:
        if around.get(f"{stem}weight_global_scale"):
            return "e2m1"
        if scale.dtype == "U8":  # compressed-tensors mxfp4: one exponent byte a block of 32
            return "e2m1"
    if leaf == "weight_scale" and (packed := around.get(f"{stem}weight_packed")) and packed.dtype == "U8":
        return "e8m0"
    if leaf == "scales" and (weight := around.get(f"{stem}weight")) is not None and weight.dtype == "U32":
        return {"e2m1": "e8m0", "nvfp4": "e4m3", "mxfp8": "e8m0"}.get(_mlx_float(weight, around.entries[name]) or "")
    return None


# Each teller: (bits or a format, how they were told), or None where the tensor is not its own.
Told = tuple[int | str, str]


def _gptq(entry: Entry, stem: str, leaf: str, around: Neighbours) -> Told | None:
    """GPTQ and AWQ: ``qzeros`` packs one zero point for each entry of ``scales``, so their shapes give the width."""
    if entry.dtype not in ("I32", "U32", "I16") or leaf not in ("qweight", "qzeros") or not entry.shape:
        return None
    zeros, scales = around.get(f"{stem}qzeros"), around.get(f"{stem}scales")
    if zeros is not None and scales is not None and zeros.shape and scales.shape and scales.shape[-1]:
        bits = _HELD[zeros.dtype] * zeros.shape[-1] // scales.shape[-1] if zeros.dtype in _HELD else 0
        if bits in range(1, 9):
            return bits, "the shapes of qzeros and scales"
    return _stated(around) or (4, "the usual width of this layout")


def _marlin(entry: Entry, stem: str, leaf: str, around: Neighbours) -> Told | None:
    """Marlin: ``B`` holds tiles of 16 inputs, ``s`` a scale a group and output."""
    scales = around.get(f"{stem}s")
    if leaf != "B" or entry.dtype != "I32" or scales is None or len(entry.shape) != 2 or len(scales.shape) != 2:
        return None
    if not scales.shape[1] or 32 * entry.shape[1] % (16 * scales.shape[1]):
        return None
    return 32 * entry.shape[1] // (16 * scales.shape[1]), "the shapes of B and s"


def _compressed(entry: Entry, stem: str, leaf: str, around: Neighbours) -> Told | None:
    """compressed-tensors ``pack-quantized``: rows of ceil(inputs × bits / 32) words; ``weight_shape`` says inputs."""
    base = leaf.removesuffix("_packed").removesuffix("_zero_point")
    if entry.dtype != "I32" or leaf not in (f"{base}_packed", f"{base}_zero_point") or base == leaf:
        return None
    packed = around.get(f"{stem}{base}_packed")
    if packed is None or not packed.shape:
        return None
    sizes = around.whole(around.get(f"{stem}{base}_shape"))
    if sizes and sizes[-1] > 0:
        across = [-(-sizes[-1] * bits // 32) for bits in range(1, 9)]
        apart = [-(-sizes[-1] // (32 // bits)) for bits in range(1, 9)]  # older files: as many as fit a word whole
        for words in (across, apart):
            if packed.shape[-1] in words:
                return 1 + words.index(packed.shape[-1]), f"{base}_shape"
    return _stated(around) or _from_groups(packed, around.get(f"{stem}{base}_scale")) or _content(packed, around)


def _mlx(entry: Entry, stem: str, leaf: str, around: Neighbours) -> Told | None:
    """MLX: ``weight`` (U32) beside ``scales``, and ``biases`` for affine integers of 2 to 8 bits."""
    scales = around.get(f"{stem}scales")
    if entry.dtype != "U32" or leaf != "weight" or scales is None or not entry.shape or not scales.shape:
        return None
    biases = around.get(f"{stem}biases")
    if biases is None:
        found = _mlx_float(entry, scales)
        return (
            ("e2m1" if found == "nvfp4" else "e4m3" if found == "mxfp8" else found, "its scales") if found else None
        )
    told = _stated(around)
    if told is not None and _group_of(entry, scales, int(told[0])):
        return told
    return _affine_width(entry, scales, biases, around) or _from_groups(entry, scales) or _content(entry, around)


def _mlx_float(weight: Entry, scales: Entry) -> str | None:
    """MLX's microscaled modes: mxfp4 (32 values a scale), nvfp4 (16), mxfp8 (32), told by bits × group."""
    if scales.dtype != "U8" or not scales.shape or not scales.shape[-1]:
        return None
    return {128: "e2m1", 64: "nvfp4", 256: "mxfp8"}.get(32 * weight.shape[-1] // scales.shape[-1])


def _bitsandbytes(entry: Entry, stem: str, leaf: str, around: Neighbours) -> Told | None:
    """bitsandbytes ``Params4bit``: two codes a byte, the quantisation state in tensors named after the weight."""
    if entry.dtype not in ("U8", "I8") or not any(around.get(f"{entry.name}.{state}") for state in _NF4):
        return None
    return 4, "its quant_state"


def _hqq(entry: Entry, stem: str, leaf: str, around: Neighbours) -> Told | None:
    """HQQ: ``W_q`` with ``nbits`` (or the unpacked ``shape``) beside it; 3 bits lie ten to an I32."""
    if leaf != "W_q":
        return None
    bits = around.whole(around.get(f"{stem}nbits"))
    if bits and bits[0] in range(1, 9):
        return bits[0], "nbits"
    sizes = around.whole(around.get(f"{stem}shape"))
    if sizes and np.prod(sizes) > 0:
        per = 8 * (entry.end - entry.start) / float(np.prod(sizes))
        return max(1, min(8, int(per))), "shape"
    return _stated(around) or _content(entry, around)


def _torchao(entry: Entry, stem: str, leaf: str, around: Neighbours) -> Told | None:
    """torchao: ``…qdata`` of an int4 tensor subclass, told by the type in the header or by tile-packed scales."""
    name = entry.name
    if not name.endswith(("qdata", "packed_weight", "int_data")) or entry.dtype not in _HELD:
        return None
    base = name[: -len(next(end for end in ("qdata", "packed_weight", "int_data") if name.endswith(end)))]
    described = "".join(text for key, text in around.metadata.items() if base.startswith(key.rstrip("_")))
    for word, bits in (("Int4", 4), ("int4", 4), ("Int8", 8), ("UIntx", 0), ("Intx", 0)):
        if word in described and bits:
            return bits, "the tensor type in the header"
    if entry.dtype in ("I32", "U32"):
        tiles = around.any_of(f"{base}scale_and_zero", f"{base}scales_and_zeros")
        return (4, "its tile-packed scales") if tiles is not None else _content(entry, around)
    return None


def _opaque(entry: Entry, stem: str, leaf: str, around: Neighbours) -> Told | None:
    """EXL2's words of mixed widths: bytes."""
    if leaf == "q_weight" and entry.dtype == "I32" and around.get(f"{stem}q_scale"):
        return "uint8", "its mixed widths"
    return None


def _unknown(entry: Entry, stem: str, leaf: str, around: Neighbours) -> Told | None:
    """Any other wide integers: the content says whether they are several narrow ones."""
    if entry.dtype not in ("I32", "U32") or entry.end - entry.start < 4096 or len(entry.shape) < 2:
        return None
    return _content(entry, around)


_TELLERS = (_gptq, _marlin, _compressed, _mlx, _bitsandbytes, _hqq, _torchao, _opaque, _unknown)


def _stated(around: Neighbours) -> Told | None:
    """Bits that the configuration or the header states for the whole file."""
    if around.stated.get("bits") in range(1, 9):
        return around.stated["bits"], "quantization_config"
    text = around.metadata.get("bits", "")
    return (int(text), "bits in the header") if text in tuple("12345678") else None


def _group_of(packed: Entry, scales: Entry, bits: int) -> int:
    """Values that share a scale if each has `bits` bits; 0 where that is no whole number."""
    values = 32 * packed.shape[-1]
    return values // bits // scales.shape[-1] if scales.shape[-1] and values % (bits * scales.shape[-1]) == 0 else 0


def _from_groups(packed: Entry, scales: Entry | None) -> Told | None:
    """The one width that gives groups of a usual size, if there is only one."""
    if scales is None or not scales.shape or not scales.shape[-1]:
        return None
    fits = [bits for bits in (2, 3, 4, 5, 6, 8) if _group_of(packed, scales, bits) in _GROUPS]
    return (fits[0], "the scales' shape") if len(fits) == 1 else None


def _affine_width(packed: Entry, scales: Entry, biases: Entry, around: Neighbours) -> Told | None:
    """Bits of affine codes from zero points: bias / scale of a group around zero is -2^(bits - 1) to 1 - 2^bits."""
    kinds = {"F16": ("<f2", 2), "F32": ("<f4", 4), "BF16": ("bf16", 2)}
    if scales.dtype not in kinds or biases.dtype != scales.dtype or scales.shape != biases.shape:
        return None
    kind, width = kinds[scales.dtype]
    n = min(scales.end - scales.start, SAMPLE_BYTES) // width * width

    def numbers(entry: Entry) -> NDArray[np.float32]:
        raw = around.peek(entry, n)
        if kind == "bf16":
            return (raw.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
        return raw.view(kind).astype(np.float32)

    step, zero = numbers(scales), numbers(biases)
    used = np.isfinite(step) & np.isfinite(zero) & (step != 0)
    if not used.any():
        return None
    offset = float(np.median(np.abs(zero[used] / step[used])))
    for bits in (2, 3, 4, 5, 6, 8):
        if 2 ** (bits - 1) - 0.75 <= offset < 2**bits - 0.5 and _group_of(packed, scales, bits) in _GROUPS:
            return bits, "biases over scales"
    return None


def _content(entry: Entry, around: Neighbours) -> Told | None:
    """Width from a sample of the bytes, see `narrower`."""
    bits = narrower(around.peek(entry, min(entry.end - entry.start, SAMPLE_BYTES)), _HELD[entry.dtype] // 8)
    return None if bits is None else (bits, "the content: its fields are distributed alike")
