"""One submission that passes and one that fails for every rule, made of real bytes.

``linepress explain S07 --make FOLDER`` writes them, and the tests hold every rule against both. The failing one of
S01 to S16 breaks that rule on purpose; those of S17 to S21 break the checking itself where the rule is about that.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linepress.submission.box import sandbox
from linepress.submission.check.limits import MANIFEST_NAME
from linepress.submission.hashes import sha256_of
from linepress.submission.pack import Terms, pack
from linepress.submission.report import render_page
from linepress.submission.scanners import Scanner

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
TERMS = Terms("Apache-2.0", "validation@partner.example", "hf://partner/tiny", "0123456789abcdef" * 2 + "01234567")


def safetensors_bytes(header: bytes, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Length, header and body, with a length other than the header's where ``length`` is given."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header + body


def header_of(entries: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> bytes:
    """JSON header padded with spaces to eight bytes; entries as they stand."""
    document = {**({"__metadata__": dict(metadata)} if metadata else {}), **entries}
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-len(text) % 8)


def build(tensors: Mapping[str, tuple[str, list[int], bytes]], metadata: Mapping[str, str] | None = None) -> bytes:
    """A true file of (dtype, shape, bytes) by name, in the order given."""
    entries: dict[str, Any] = {}
    body = b""
    for name, (dtype, shape, data) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    return safetensors_bytes(header_of(entries, metadata), body)


@dataclass(frozen=True)
class Fixture:
    """A submission.

    Attributes
    ----------
    says : str
        What is right or wrong with it.
    make : callable
        Takes an empty folder, returns the submission's folder in it.
    options : dict
        Further arguments of `check_submission`.
    """

    says: str
    make: Callable[[Path], Path]
    options: dict[str, Any] = field(default_factory=dict)


def weights(seed: int = 0, n: int = 256) -> bytes:
    """``n`` bf16 weights, the same for the same seed."""
    import ml_dtypes
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(seed))
    return bytes((rng.standard_normal(n) * 0.02).astype(ml_dtypes.bfloat16).tobytes())


def model_files() -> dict[str, bytes]:
    """A model of two shards with index, configuration and licence."""
    shards = [
        build({"a.weight": ("BF16", [16, 16], weights(1)), "mask": ("BOOL", [4], b"\x00\x01\x01\x00")}),
        build({"b.weight": ("BF16", [8, 32], weights(2))}),
    ]
    index = {
        "metadata": {"total_size": 512 + 4 + 512},
        "weight_map": {"a.weight": SHARDS[0], "mask": SHARDS[0], "b.weight": SHARDS[1]},
    }
    config = {"architectures": ["LlamaForCausalLM"], "hidden_size": 16, "num_hidden_layers": 1}
    return {
        SHARDS[0]: shards[0],
        SHARDS[1]: shards[1],
        INDEX: json.dumps(index).encode(),
        "config.json": json.dumps(config).encode(),
        "LICENSE": b"Apache License, Version 2.0\nhttps://www.apache.org/licenses/LICENSE-2.0\n",
    }


def submission(base: Path, files: dict[str, bytes] | None = None, variants: tuple[str, ...] = ()) -> Path:
    """A packed submission ``base/submissions/partner/tiny`` of ``files`` (default `model_files`)."""
    model = base / "model"
    for name, data in (model_files() if files is None else files).items():
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(data)
    return pack(model, "partner", base / "submissions", TERMS, name="tiny", variants=variants).folder


def resign(folder: Path) -> None:
    """Bring size and sha256 of the manifest's files up to date, as a partner who means it would."""
    manifest = folder / MANIFEST_NAME
    lines = manifest.read_text(encoding="utf-8").splitlines()
    out = []
    for line in lines:
        if line.startswith('  - {path: "'):
            path, _, rest = line.removeprefix('  - {path: "').partition('"')
            form = rest.rpartition('format: "')[2].partition('"')[0]
            if (folder / path).is_file():
                size = (folder / path).stat().st_size
                line = (
                    f'  - {{path: "{path}", bytes: {size}, sha256: "{sha256_of(folder / path)}", format: "{form}"}}'
                )
        out.append(line)
    manifest.write_text("\n".join(out) + "\n", encoding="utf-8")


def edit(folder: Path, old: str, new: str) -> None:
    """Replace text of the manifest that must be there once or more."""
    manifest = folder / MANIFEST_NAME
    text = manifest.read_text(encoding="utf-8")
    if old not in text:
        raise ValueError(f"{old!r} is not in the manifest")
    manifest.write_text(text.replace(old, new), encoding="utf-8")


def declare(folder: Path, name: str, form: str) -> None:
    """Add a file of the folder to the manifest."""
    entry = f'  - {{path: {json.dumps(name)}, bytes: 0, sha256: "{"0" * 64}", format: "{form}"}}'
    edit(folder, "files:\n", f"files:\n{entry}\n")
    resign(folder)


def with_file(name: str, data: bytes, form: str = "text") -> Callable[[Path], Path]:
    """A submission with one more file, declared and hashed."""

    def make(base: Path) -> Path:
        folder = submission(base)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        declare(folder, name, form)
        return folder

    return make


def with_shard(data: bytes) -> Callable[[Path], Path]:
    """A submission whose second shard is ``data``, hashed as such."""

    def make(base: Path) -> Path:
        folder = submission(base)
        (folder / SHARDS[1]).write_bytes(data)
        resign(folder)
        return folder

    return make


def with_edit(old: str, new: str) -> Callable[[Path], Path]:
    """A submission whose manifest says ``new`` for ``old``."""

    def make(base: Path) -> Path:
        folder = submission(base)
        edit(folder, old, new)
        return folder

    return make


def _then(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(base: Path) -> Path:
        folder = submission(base)
        change(folder)
        return folder

    return make


def _link(folder: Path) -> None:
    target = folder / "LICENSE"
    target.unlink()
    target.symlink_to("/etc/hostname")


def _index_outside(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_bytes())
    index["weight_map"]["b.weight"] = "../../etc/passwd"
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    resign(folder)


def _config_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    config["auto_map"] = {"AutoModel": "modeling.Evil"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    resign(folder)


def _other_bytes(folder: Path) -> None:
    data = bytearray((folder / SHARDS[1]).read_bytes())
    data[-1] ^= 1
    (folder / SHARDS[1]).write_bytes(bytes(data))


def _other_owner(base: Path) -> Path:
    folder = submission(base)
    taken = folder.parent.with_name("somebody-else")
    folder.parent.rename(taken)
    return taken / folder.name


def _with_results(base: Path) -> Path:
    return submission(base, variants=("huffman",))


def _with_wrong_results(base: Path) -> Path:
    folder = _with_results(base)
    text = (folder / MANIFEST_NAME).read_text(encoding="utf-8")
    at = text.index("payload_bits: ") + len("payload_bits: ")
    end = text.index(",", at)
    edit(folder, text[at - 14 : end], f"payload_bits: {int(text[at:end]) - 1}")
    return folder


def _never_ends(request: dict[str, Any], timeout_s: float) -> sandbox.Answer:
    return sandbox.ask(request, 0.5, (sys.executable, "-I", "-c", "import time; time.sleep(60)"))


def _unescaped(request: dict[str, Any], timeout_s: float) -> sandbox.Answer:
    answer = sandbox.ask(request, timeout_s)
    if answer.document is not None and "findings" in answer.document:
        answer.document["findings"][0]["reasons"] = ["a name with \x1b[2J in it"]
    return answer


def _unescaped_page(document: dict[str, Any], name: str) -> str:
    first = document["files"][0]["path"]
    return render_page(document, name).replace("</body>", f"<p>{'<b>' if first != 'x' else ''}{first}</p></body>")


def _scanner(code: int) -> Scanner:
    said = "print('Eicar-Test-Signature FOUND')" if code else "pass"
    return Scanner("example", (sys.executable, "-c", f"{said}; raise SystemExit({code})"), (0,), (1,), (3,))


PASSES = Fixture("two shards with index, configuration and licence, as packed", submission)

_HOLE = safetensors_bytes(
    header_of({"b.weight": {"dtype": "BF16", "shape": [8, 32], "data_offsets": [2, 514]}}), b"\0\0" + weights(2)
)
_TWICE = safetensors_bytes(
    b'{"b.weight":{"dtype":"F64","shape":[9],"data_offsets":[0,72]},'
    b'"b.weight":{"dtype":"BF16","shape":[8,32],"data_offsets":[0,512]}}',
    weights(2),
)

FIXTURES: dict[str, tuple[Fixture, Fixture]] = {
    "S01": (PASSES, Fixture("a manifest with a key twice", with_edit('suite: "smoke"', 'suite: "a"\nsuite: "b"'))),
    "S02": (PASSES, Fixture("a pickle called LICENSE.txt", with_file("LICENSE.txt", b"\x80\x04\x95\x00N."))),
    "S03": (PASSES, Fixture("a file that is not declared", _then(lambda f: (f / "extra.txt").write_text("hello\n")))),
    "S04": (PASSES, Fixture("LICENSE is a symbolic link to /etc/hostname", _then(_link))),
    "S05": (PASSES, Fixture("a file called .hidden", with_file(".hidden", b"text\n"))),
    "S06": (
        PASSES,
        Fixture("a header that claims 2^40 bytes", with_shard((1 << 40).to_bytes(8, "little") + b"{" + bytes(99))),
    ),
    "S07": (PASSES, Fixture("a hole of two bytes before the tensor", with_shard(_HOLE))),
    "S08": (PASSES, Fixture("two tensors with one name; the library takes the last", with_shard(_TWICE))),
    "S09": (PASSES, Fixture("the index maps a tensor to ../../etc/passwd", _then(_index_outside))),
    "S10": (PASSES, Fixture("one bit of a shard is not what the manifest hashed", _then(_other_bytes))),
    "S11": (PASSES, Fixture("the revision is a branch", with_edit(TERMS.revision or "", "main"))),
    "S12": (
        PASSES,
        Fixture("the licence forbids redistribution", with_edit("redistribution: true", "redistribution: false")),
    ),
    "S13": (PASSES, Fixture("config.json has auto_map", _then(_config_code))),
    "S14": (PASSES, Fixture("three tensors, four declared", with_edit("tensors: 3", "tensors: 4"))),
    "S15": (
        PASSES,
        Fixture(
            "the last tensor ends in the directory of a ZIP",
            with_shard(build({"b.weight": ("BF16", [8, 32], weights(2)[:-22] + b"PK\x05\x06" + bytes(18))})),
        ),
    ),
    "S16": (PASSES, Fixture("the folder of another submitter", _other_owner)),
    "S17": (
        Fixture("results as measured", _with_results),
        Fixture("results with one bit less than measured", _with_wrong_results),
    ),
    "S18": (
        Fixture("a scanner that objects to nothing", submission, {"scanners": (_scanner(0),)}),
        Fixture("a scanner that objects", submission, {"scanners": (_scanner(1),)}),
    ),
    "S19": (PASSES, Fixture("a checking process that never ends", submission, {"ask": _never_ends})),
    "S20": (
        Fixture(
            "a tensor with a terminal escape in its name",
            with_shard(build({"b\x1b[2J": ("BF16", [8, 32], weights(2))})),
        ),
        Fixture("a checking process that does not escape", submission, {"ask": _unescaped}),
    ),
    "S21": (
        Fixture("a file called <img src=x onerror=alert(1)>", with_file("<img src=x onerror=alert(1)>", b"text\n")),
        Fixture("a page that does not escape", submission, {"render": _unescaped_page}),
    ),
}
"""Rule -> the submission that passes it and the one that fails it (S19's is undecided: it cannot be told)."""


def make_hard_link(folder: Path) -> None:
    """Give LICENSE a second name outside the submission."""
    os.link(folder / "LICENSE", folder.parent / "elsewhere")
