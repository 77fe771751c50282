"""Our readers against other people's: ``python -m benchmarks.differential [--headers N] [--manifests N] [--seed N]``;
counts and every disagreement in ``results/differential.json``, exit status 1 when there is one.

Mutations of headers, manifests, archives and GGUF files, each shown to both. A disagreement is:

- the streaming reader of safetensors headers against the Rust library: ours takes what it refuses, or reads other
  tensors; or ours finds the format itself broken (S07) where it takes the file;
- the manifest's loader against itself, over what it wrote: any exception but `ManifestError`, another manifest; and
  against ruamel.yaml (pure Python, YAML 1.2): ours takes what it refuses, or reads another value;
- the end-of-ZIP check against `zipfile`: an archive that opens and is not called one;
- the reader of GGUF against the ``gguf`` package: ours takes what it cannot read, or reads other tensors.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import re
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from linepress.errors import SourceError
from linepress.sources import open_source
from linepress.sources.safetensors.stream import HeaderError, HeaderLimitError, Tensors, read_tensors
from linepress.submission.check.content import HEAD_BYTES, TAIL_BYTES, archive_of
from linepress.submission.check.manifest import MAX_DEPTH, ManifestError
from linepress.suite.yaml12 import parse_yaml
from linepress_kit.gguf_files import build_gguf
from linepress_kit.oracles import judge_manifest

RESULTS = Path(__file__).parent / "results" / "differential.json"
DATA = bytes(4)
HEADERS = (
    b'{"w":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
    b'{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}  ',
    (
        b'{"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]},"a":{"dtype":"I8","shape":[],"data_offsets":[0,1]},'
        b'"c":{"dtype":"F4","shape":[2],"data_offsets":[1,2]},"z":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    ),
)
SCRAPS = (
    *(bytes([c]) for c in b'{}[],:"\\0123456789 \n\t\r-.eE\x00\xff'), b"null", b"true", b"\\u0061", b"\\ud800",
    b'"w"', b'"x":1,', b"\xc3", b"\xf0\x9f\x98\x80", b"1e3", b"-0", b"9223372036854775808", b"18446744073709551616",
    b'"dtype":"U8",', b'"__metadata__":{},', b'"__metadata__":null,', b"PK\x05\x06", b"[0,0]", b'"BOOL"', b"\\/",
)  # fmt: skip
YAML_SCRAPS = (
    *(bytes([c]) for c in b"#&*!|>%@`?'~<+_\x7f"), b"- ", b": ", b"\n  ", b"\n- ", b" #", b"? ", b"yes", b"0x1F",
    b"0o17", b".inf", b".nan", b"1_000", b"12:30:45", b"2001-01-01", b"---\n", b"...\n", b"<<: ", b"&a ", b"*a",
    b"!!str ", b"\\x1b", b"\\U0010FFFF", b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"%YAML 1.1\n", b"'",
    b"|\n  ", b">-\n  ",
)  # fmt: skip
MANIFESTS = (
    b"""\
schema_version: 1
submitter: "a"
name: "m"
kind: "model"
contact: "a@b.example"
source: {uri: "upload", revision: null}
licence: {spdx: "MIT", redistribution: true, gated: false, waiver: null}
files:
  - {path: "m.safetensors", bytes: 72, sha256: "00ff", format: "safetensors"}
declares: {tensors: 1, tensor_bytes: 8, dtypes: {BF16: 1}}
expected: []
""",
    b"""\
schema_version: 1
submitter: a
name: m
kind: snapshot
contact: a@b.example
source:
  uri: hf://a/b
  revision: '00ff'
licence:
  spdx: MIT
  redistribution: true
  gated: false
files:
- path: m
  bytes: 72
  sha256: ff
  format: text
declares:
  tensors: 1
  tensor_bytes: 0x8
  dtypes: {}
expected:
- {file: m, tensor: w, variant: raw, payload_bits: 1, packed_bytes: 1}
""",
    b"schema_version: " + b"9" * 310,
)
DOCUMENTS = (
    b"a: 1\nb: [x, 'y', {z: 2.5}]\nc:\n  - d\n  - e: |\n      text\n      more\nf: >-\n  folded\n  text\n",
    b"- 'it''s'\n- \"a\\tb\"\n- {k: v, \"q\": [null, true, -0.5e3]}\n- ~\n# comment\n- plain text: with: colons\n",
)
Mutate = Callable[[bytes], bytes]
Outcome = tuple[str, bool]


def mutator(rng: random.Random, scraps: Sequence[bytes]) -> Mutate:
    """One to three places cut, replaced or grown."""

    def mutate(data: bytes) -> bytes:
        out = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(out) + 1)
            out[at : at + rng.randrange(4)] = rng.choice(scraps) * rng.randrange(2)
        return bytes(out)

    return mutate


def header(raw: bytes) -> Outcome:
    """``(how both judged it, whether they disagree)``."""
    left = [raw]
    own = Tensors()
    broken = ""
    try:
        read_tensors(lambda: left.pop() if left else b"", len(DATA), out=own)
    except HeaderError as error:
        broken = error.rule
    except HeaderLimitError:
        return "over our limits", False
    try:
        theirs = safetensors.deserialize(len(raw).to_bytes(8, "little") + raw + DATA)
    except safetensors.SafetensorError:
        return ("both refuse", False) if broken or own.strict else ("ours alone takes", True)
    if broken:
        # Where a rule that we alone have is broken too, the two may read on from different places.
        return ("theirs alone takes, S08 is broken too", False) if own.strict else (f"theirs alone: {broken}", True)
    if own.strict:
        return "theirs alone takes, S08", False
    read = {name: (entry["dtype"], tuple(entry["shape"]), len(entry["data"])) for name, entry in theirs}
    mine = {name: (own.dtypes[i], own.shapes[i], own.ends[i] - own.begins[i]) for i, name in enumerate(own.names)}
    return ("both take alike", False) if read == mine else ("both take, otherwise", True)


def manifest(raw: bytes) -> Outcome:
    """As `header`, of a manifest."""
    verdict, breaches = judge_manifest(raw)
    return verdict, bool(breaches)


def yaml_document(raw: bytes) -> Outcome:
    """As `header`, of a document of YAML: the grammar; which plain words are numbers is the schema's matter."""
    from ruamel.yaml import YAML

    try:
        ours = parse_yaml(raw.decode(), Path("case.yaml"), ManifestError, MAX_DEPTH).data
    except (ManifestError, UnicodeDecodeError):
        return "ours refuses", False
    try:
        theirs = YAML(typ="base", pure=True).load(raw.decode())
    except Exception as error:
        # ruamel.yaml has no tab within a plain scalar or behind | and >, and no value right behind the colon of a
        # quoted key in a list, nor a line of fewer spaces before a block's first; YAML 1.2 has all of it.
        spaced = re.sub(rb'":(?=\S)', b'": ', re.sub(rb"(?m)^ +$", b"", raw.replace(b"\t", b" ")))
        if spaced != raw:
            return yaml_document(spaced)
        return f"ours alone takes: {type(error).__name__}", True
    return ("both take alike", False) if _alike(ours, theirs) else ("both take, otherwise", True)


def _alike(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(_alike(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_alike, ours, theirs))
    return ours == theirs if isinstance(ours, str) else isinstance(theirs, str) and not isinstance(ours, dict | list)


def archive(raw: bytes) -> Outcome:
    """As `header`, of what may be a ZIP."""
    ours = archive_of(raw[:HEAD_BYTES], raw[-TAIL_BYTES:], len(raw), lambda at, n: raw[at : at + n]) is not None
    try:
        with zipfile.ZipFile(io.BytesIO(raw)):
            theirs = True
    except Exception:
        theirs = False
    return f"ours {'an archive' if ours else 'none'}, zipfile {'opens' if theirs else 'refuses'}", theirs and not ours


def gguf_of(folder: Path) -> Callable[[bytes], Outcome]:
    """As `header`, of GGUF files; both read from a file."""
    from gguf import GGUFReader

    path = folder / "case.gguf"

    def judge(raw: bytes) -> Outcome:
        path.write_bytes(raw)
        try:
            source = open_source(str(path))
        except SourceError:
            return "ours refuses", False
        if source.provenance()["kind"] != "gguf":
            return "no GGUF", False
        mine = {t.name: t.n_bytes for t in source.tensors()} | dict.fromkeys(source.skipped(), 0)
        try:
            theirs = {str(t.name): int(t.n_bytes) for t in GGUFReader(path).tensors}
        except Exception as error:
            # A type that nobody knows yet is skipped by ours and said, and ends the package's reading.
            if any(why.startswith("unknown ggml type") for why in source.skipped().values()):
                return "ours skips a type that nobody knows", False
            return f"ours alone takes: {type(error).__name__}", True
        alike = mine.keys() == theirs.keys() and all(mine[n] in (0, theirs[n]) for n in mine)
        return ("both take alike", False) if alike else ("both take, otherwise", True)

    return judge


def run(what: str, seeds: Sequence[bytes], scraps: Sequence[bytes], judge: Any, n: int, seed: int) -> dict[str, Any]:
    """``n`` mutations of ``seeds``."""
    rng = random.Random(seed)
    mutate = mutator(rng, scraps)
    counts: Counter[str] = Counter()
    findings: list[dict[str, str]] = []
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    for _ in range(n):
        raw = mutate(rng.choice(seeds))
        try:
            outcome, wrong = judge(raw)
        except Exception as error:
            outcome, wrong = f"raised {type(error).__name__}", True
        counts[outcome] += 1
        if wrong and len(findings) < 1000:
            findings.append({"outcome": outcome, "hex": raw.hex()})
    seconds, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    rates = f"{n / seconds:.0f} a second ({n / cpu_s:.0f} a second of a core)"
    print(f"{what}: {n} cases, {rates}, {len(findings)} disagreements", flush=True)
    for outcome, count in counts.most_common():
        print(f"  {outcome:<44} {count}")
    return {"cases": n, "seconds": seconds, "cpu_s": cpu_s, "counts": dict(counts), "disagreements": findings}


def main(argv: Sequence[str] | None = None) -> int:
    """Run all four."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--headers", type=int, default=1_000_000)
    parser.add_argument("--manifests", type=int, default=1_000_000)
    parser.add_argument("--yaml", type=int, default=20_000)
    parser.add_argument("--archives", type=int, default=200_000)
    parser.add_argument("--ggufs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(argv)
    found: dict[str, Any] = {"seed": asked.seed}
    found["headers"] = run("safetensors headers", HEADERS, SCRAPS, header, asked.headers, asked.seed)
    with tempfile.TemporaryDirectory() as base:
        scraps = [*SCRAPS, *YAML_SCRAPS]
        found["manifests"] = run("manifests", MANIFESTS, scraps, manifest, asked.manifests, asked.seed)
        found["yaml"] = run("YAML", DOCUMENTS, scraps, yaml_document, asked.yaml, asked.seed)
        zips = []
        for names, comment in ((0, b""), (1, b""), (3, b"comment"), (1, b"PK\x05\x06" + bytes(18))):
            out = io.BytesIO(bytes(40))
            with zipfile.ZipFile(out, "a") as made:
                for number in range(names):
                    made.writestr(f"{number}.py", b"import os\n")
                made.comment = comment
            zips += [out.getvalue(), out.getvalue() + b"\0"]
        found["archives"] = run("archives", zips, [*SCRAPS, b"\0", b"\0\0"], archive, asked.archives, asked.seed)
        try:
            judge = gguf_of(Path(base))
        except ModuleNotFoundError:
            print("GGUF: left out, the package gguf is not installed (extra capture)")
        else:
            values = np.arange(64, dtype=np.float32)
            tensors = [("a.weight", [32], 0, values[:32].tobytes()), ("b", [16, 2], 0, values[32:].tobytes())]
            file = build_gguf(tensors)
            found["ggufs"] = run("GGUF", [file], [*SCRAPS, b"\0", b"\1"], judge, asked.ggufs, asked.seed)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**found, "cores": os.cpu_count()}, indent=1) + "\n")
    return 1 if any(part["disagreements"] for part in found.values() if isinstance(part, dict)) else 0


if __name__ == "__main__":
    raise SystemExit(main())
