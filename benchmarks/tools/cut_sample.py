"""Cut the bundled sample from the full tensors: ``python -m benchmarks.tools.cut_sample FOLDER [OUT]``.

Deterministic: the same input files give the same bytes. Whole rows are taken from the start of each weight, whole
layers from the cache, so that every line of the sample is a line of the model.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cut:
    """One file of the sample.

    Attributes
    ----------
    origin, origin_sha256 : str
        The file it is cut from, and what it must be.
    name : str
        The file to write.
    rows : Mapping
        Tensor name -> how many of its first rows to take; 0 takes all.
    """

    origin: str
    origin_sha256: str
    name: str
    rows: Mapping[str, int]


CUTS = (
    Cut(
        "smollm2-135m-instruct-layers-bf16.safetensors",
        "cf73c22b3e841e48c437ed0b9d943206c2e9e3d062f6b03767a60e8b6ce76468",
        "smollm2-135m-instruct-mlp-bf16.safetensors",
        {
            "model.layers.14.mlp.down_proj.weight": 144,
            "model.layers.14.mlp.gate_proj.weight": 384,
            "model.layers.14.mlp.up_proj.weight": 384,
        },
    ),
    Cut(
        "smollm2-135m-instruct-kv-handbook-512.safetensors",
        "59b45d94f217cd1b6a993fc0fa60a263f4be44de207afcd987ddcf2b818face2",
        "smollm2-135m-instruct-kv-handbook-512.safetensors",
        {f"{kind}_cache_tensor_{layer}": 0 for kind in ("key", "value") for layer in (4, 20)},
    ),
    Cut(
        "smollm2-135m-instruct-kv-pycode-512.safetensors",
        "9bca52bc20acc7b9483d817e7a4959cd2832ffa7729648afc00bd7df26620d7b",
        "smollm2-135m-instruct-kv-pycode-512.safetensors",
        {f"{kind}_cache_tensor_20": 0 for kind in ("key", "value")},
    ),
    Cut(
        "whisper-tiny-layers-bf16.safetensors",
        "618c351f7a7a2d1b2195f69a6edffd0c8c2b3981ce5f9c9d691e70d426f725aa",
        "whisper-tiny-bf16.safetensors",
        {
            "encoder.layer_0.self_attention.linear_0.weight": 576,
            "encoder.layer_0.self_attention.linear_1.weight": 0,
            "encoder.layer_0.ffn.linear_0.weight": 512,
            "encoder.layer_0.ffn.layer_norm.gamma": 0,
            "decoder.layer_1.attention.linear_0.weight": 0,
        },
    ),
)


def cut(raw: bytes, rows: Mapping[str, int]) -> bytes:
    """The safetensors file of ``rows`` of the tensors of the file ``raw``; raises ValueError if one is not there."""
    n = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + n])
    metadata = dict(header.pop("__metadata__", {}))
    out: dict[str, object] = {}
    body = bytearray()
    for name, count in sorted(rows.items()):
        if name not in header:
            raise ValueError(f"no tensor {name!r} in the file; it has {', '.join(sorted(header)[:3])}, …")
        shape, (start, end) = list(header[name]["shape"]), header[name]["data_offsets"]
        take = count or shape[0]
        row_bytes = (end - start) // shape[0]
        data = raw[8 + n + start : 8 + n + start + take * row_bytes]
        if take != shape[0]:
            metadata[f"rows of {name}"] = f"0:{take} of {shape[0]}"
        out[name] = {
            "dtype": header[name]["dtype"],
            "shape": [take, *shape[1:]],
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps({"__metadata__": dict(sorted(metadata.items())), **out}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(body)


def main(argv: list[str]) -> int:
    """Write the sample's files from ``argv[0]`` to ``argv[1]`` (this package's data folder by default)."""
    if not 1 <= len(argv) <= 2:
        sys.stderr.write("usage: python -m benchmarks.tools.cut_sample FOLDER [OUT]\n")
        return 4
    folder = Path(argv[0])
    out = Path(argv[1]) if len(argv) == 2 else Path(__file__).parent / "data"
    out.mkdir(parents=True, exist_ok=True)
    for one in CUTS:
        raw = (folder / one.origin).read_bytes()
        found = hashlib.sha256(raw).hexdigest()
        if found != one.origin_sha256:
            sys.stderr.write(
                f"{one.origin} has sha256 {found}, not {one.origin_sha256}; use the file named in README\n"
            )
            return 1
        data = cut(raw, one.rows)
        (out / one.name).write_bytes(data)
        sys.stdout.write(f"{hashlib.sha256(data).hexdigest()}  {one.name}  {len(data)} B\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
