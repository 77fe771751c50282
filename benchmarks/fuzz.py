"""Fuzzing what is hostile: ``python -m benchmarks.fuzz [--seconds S] [--examples N] [--seed N]``; samples in
``results/fuzz.json``, every new finding as a file in ``results/findings/``.

1. Bytes: seeded mutations of whole safetensors files (length, header and data) and of manifests, judged by
   `linepress_kit.oracles`: the readers agree, only typed errors, one verdict wherever pieces end.
2. HTTP: schemathesis on the service's own OpenAPI description, over a real service on loopback: once as it comes, and
   once aimed at a submission that exists. Needs the extra ``fuzz``, or ``--schemathesis PROGRAM`` of another
   environment; without either this part is left out, and said so.

What is worth keeping goes to ``tests/data/findings/``, where a test replays it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from linepress.submission.check.manifest import write_manifest
from linepress.submission.fixtures import build
from linepress.submission.pack import Terms, pack
from linepress_kit.intake_server import IntakeServer
from linepress_kit.oracles import judge_manifest, judge_safetensors

RESULTS = Path(__file__).parent / "results"
SLOW_S = 2.0
Judge = Callable[[bytes], tuple[str, list[str]]]
NOT_CHECKED = "positive_data_acceptance"
"""The schema cannot say everything (a cursor is one of ours, manifest.yaml is among the files), so a refusal of
what the schema allows is no finding; a 5xx, or an answer that the description does not have, is."""
UNKNOWN_HEADER = "in header - object with unexpected properties"
"""HTTP wants headers that nobody knows to be ignored (RFC 9110, section 5.1), schemathesis wants them refused."""
HOOKS = """
import schemathesis
@schemathesis.serializer("application/offset+octet-stream")
def octets(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
"""
_SCRAPS = {
    "safetensors": [
        *(bytes([c]) for c in b'{}[],:"\\0123456789 \n\t-.eE\x00\x7f\x80\xff'),
        *(b"null", b"true", b"\\u0061", b"\\ud800", b'"w"', b'"x":1,', b"\xc3", b"\xf0\x9f\x98\x80", b"1e3", b"-0"),
        *(b"9223372036854775808", b"18446744073709551616", b'"dtype":"U8",', b'"__metadata__":{},', b"PK\x05\x06"),
    ],
    "manifest": [
        *(bytes([c]) for c in b"{}[],:\"'#&*!|>%@`-?\\0123456789 \n\t\r\x00\x7f\x80\xff~"),
        *(b"null", b"yes", b"0x1F", b"0o17", b"1e3", b".inf", b".nan", b"1_000", b"12:30:45", b"---\n", b"...\n"),
        *(b"<<: *a", b"&a ", b"*a", b"!!python/object:os.system ", b"? ", b"\\x1b", b"\\ud800", b"\\U0010FFFF"),
        *(b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"18446744073709551616", b"2001-01-01", b"%YAML 1.1\n"),
    ],
}


def seeds() -> dict[str, list[bytes]]:
    """What mutations start from, by parser."""
    plain = build({"w": ("U8", [4], b"\x00\x01\x02\x03")})
    odd = build(
        {"a": ("BF16", [1, 2], b"abcd"), "z": ("F32", [0], b""), "s": ("I8", [], b"x"), "t": ("BOOL", [2], b"\0\1")},
        {"format": "pt", "é": "x"},
    )
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "m.safetensors").write_bytes(odd)
        terms = Terms("MIT", "bench@example.org", "hf://acme/m", "0123456789abcdef" * 2 + "01234567", reference=True)
        manifest = pack(base / "m.safetensors", "acme", base / "out", terms).manifest
    flow = write_manifest(manifest).encode()
    block = json.dumps(manifest.model_dump(), indent=1).encode()
    return {"safetensors": [plain, odd], "manifest": [flow, block]}


def mutated(rng: np.random.Generator, seed: bytes, scraps: Sequence[bytes]) -> bytes:
    """One to four changes: bits, scraps put in or over, stretches taken out, repeated or exchanged, the end cut."""
    data = bytearray(seed)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(data) + 1))
        n = int(rng.integers(0, 9))
        kind = int(rng.integers(6))
        if kind == 0 and at < len(data):
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at : at + n] = scraps[int(rng.integers(len(scraps)))]
        elif kind == 2:
            data[at:at] = scraps[int(rng.integers(len(scraps)))] * int(rng.integers(1, 4))
        elif kind == 3:
            del data[at : at + n * n]
        elif kind == 4:
            data[at:at] = data[at : at + n * n]
        elif rng.integers(4) == 0:
            del data[at:]
    return bytes(data)


def fitted(data: bytes, rng: np.random.Generator) -> bytes:
    """Half of the time, the length before a mutated header set to where its last ``}`` is: else few get past it."""
    end = data.rfind(b"}")
    if end > 8 and rng.integers(2):
        return (end - 7).to_bytes(8, "little") + data[8:]
    return data


def fuzz_bytes(kind: str, judge: Judge, seconds: float, seed: int) -> dict[str, Any]:
    """Mutate for a while; every breach, exception and slow case is a finding."""
    rng = np.random.Generator(np.random.PCG64(seed))
    starts, counts = seeds()[kind], Counter[str]()
    findings: dict[str, tuple[bytes, str]] = {}
    if any(judge(start) != ("taken", []) for start in starts):
        raise RuntimeError(f"a seed of {kind} is not taken: every mutation would be refused for a reason of its own")
    slowest_s, slowest = 0.0, b""
    end_s = time.perf_counter() + seconds
    while (start_s := time.perf_counter()) < end_s:
        data = mutated(rng, starts[int(rng.integers(len(starts)))], _SCRAPS[kind])
        if kind == "safetensors":
            data = fitted(data, rng)
        try:
            said, problems = judge(data)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            said, problems = (
                "raised",
                [f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}: {error}"],
            )
        took_s = time.perf_counter() - start_s
        if took_s > slowest_s:
            slowest_s, slowest = took_s, data
        if took_s > SLOW_S:
            problems = [*problems, f"took over {SLOW_S:.0f} s"]
        counts[said] += 1
        for problem in problems:
            known = findings.get(problem[:60])
            if known is None or len(data) < len(known[0]):
                findings[problem[:60]] = (data, problem)
    for data, _ in findings.values():
        keep(f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}.bin", data)
    total = sum(counts.values())
    print(f"{kind}: {total} cases in {seconds:.0f} s, seed {seed}, {dict(counts)}, slowest {1e3 * slowest_s:.0f} ms")
    print(f"  findings: {len(findings)}")
    for data, problem in list(findings.values())[:20]:
        print(f"    {problem[:200]}\n      {data[:160]!r}")
    return {
        "cases": total,
        "counts": dict(counts),
        "seed": seed,
        "slowest_s": slowest_s,
        "slowest": slowest.hex(),
        "findings": [{"bytes": data.hex(), "what": problem} for data, problem in findings.values()],
    }


def keep(name: str, data: bytes) -> None:
    """Write a finding to the results."""
    folder = RESULTS / "findings"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def fuzz_http(program: str, examples: int, seed: int) -> dict[str, Any]:
    """schemathesis over a service of its own, as it comes and aimed at a submission that exists."""
    limits = ("requests_per_s=100000", "burst=100000", "failures_per_minute=100000")
    out: dict[str, Any] = {"findings": [], "requests": 0}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "hooks.py").write_text(HOOKS, encoding="utf-8")
        options = ("--no-runner", *(word for one in limits for word in ("--set", one)))
        with IntakeServer(base / "data", options) as server:
            token = server.add_partner("acme", quota_bytes=1 << 50)
            body = {"name": "m", "files": [{"path": "manifest.yaml", "bytes": 4, "sha256": "0" * 64}]}
            own = server.request("POST", "/v1/submissions", token, body).json["id"]
            for aimed in (False, True):
                config = f'[parameters]\n"path.submission" = "{own}"\n"path.number" = 0\n' if aimed else ""
                (base / "schemathesis.toml").write_text(config, encoding="utf-8")
                report = base / f"report-{aimed}.ndjson"
                command = [
                    *(program, "--config-file", str(base / "schemathesis.toml"), "run"),
                    *(f"{server.url}/v1/openapi.json", "--header", f"Authorization: Bearer {token}"),
                    *("--seed", str(seed), "--max-examples", str(examples), "--exclude-checks", NOT_CHECKED),
                    *("--continue-on-failure", "--generation-database", "none", "--request-timeout", "20"),
                    *("--report", "ndjson", "--report-ndjson-path", str(report), "--no-color"),
                    *(("--exclude-method", "DELETE") if aimed else ()),
                ]
                environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(base)}
                done = subprocess.run(command, cwd=base, env=environment, capture_output=True, text=True, check=False)
                if not report.is_file():
                    raise RuntimeError(f"schemathesis did not run: {(done.stdout + done.stderr)[-600:]}")
                requests, findings, ignored = _events(report)
                out["requests"] += requests
                out["findings"] += findings
                print(f"http{', aimed at a submission' * aimed}: {requests} requests, {len(findings)} findings")
                # a phase that broke off for another reason than a finding did not look everywhere
                if "\nErrors:" in done.stdout or (done.returncode and not findings and not ignored):
                    out["findings"].append(
                        {"what": f"schemathesis ended with {done.returncode}: {done.stdout[-600:]}"}
                    )
            out["alive"] = server.request("GET", "/v1/me", token).status == 200
            out["tracebacks"] = (base / "data" / "server.log").read_text(encoding="utf-8").count("Traceback")
    for finding in out["findings"][:20]:
        print(f"    {finding['what'][:200]}: {finding.get('method', '')} {finding.get('path', '')}")
    for finding in out["findings"]:
        text = json.dumps(finding, indent=1).encode()
        keep(f"http-{hashlib.sha256(text).hexdigest()[:12]}.json", text)
    return out


def _events(report: Path) -> tuple[int, list[dict[str, Any]], int]:
    """Requests in an event log, one finding for each failed check at each operation, and failures left alone."""
    requests = ignored = 0
    findings: dict[tuple[str, str], dict[str, Any]] = {}
    for line in report.read_text(encoding="utf-8").splitlines():
        event = json.loads(line).get("ScenarioFinished")
        if event is None:
            continue
        recorder = event["recorder"]
        requests += len(recorder.get("interactions", {}))
        for case, checks in recorder.get("checks", {}).items():
            for check in checks:
                if check["status"] != "failure":
                    continue
                if UNKNOWN_HEADER in check["failure_info"]["failure"]["message"]:
                    ignored += 1
                    continue
                sent = recorder["interactions"][case]["request"]
                failure = check["failure_info"]["failure"]
                found = {
                    "what": f"{failure['title']}: {failure['message']}",
                    "operation": recorder["label"],
                    "method": sent["method"],
                    "path": "/" + sent["uri"].split("/", 3)[3],
                    "headers": {k: v[0] for k, v in sent["headers"].items() if k.lower() != "authorization"},
                    "token": any(k.lower() == "authorization" for k in sent["headers"]),
                    "body": (sent.get("body") or {}).get("$base64"),
                }
                findings.setdefault((recorder["label"], f"{check['name']} {failure['message'][:40]}"), found)
    return requests, list(findings.values()), ignored


def main(argv: Sequence[str] | None = None) -> int:
    """Run both parts; 1 when there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each of the two parsers")
    parser.add_argument("--examples", type=int, default=25, help="most cases an operation and phase")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("safetensors", "manifest", "http"))
    beside = Path(sys.executable).with_name("schemathesis")
    parser.add_argument("--schemathesis", default=str(beside) if beside.is_file() else shutil.which("schemathesis"))
    chosen = parser.parse_args(argv)
    out: dict[str, Any] = {}
    judges: dict[str, Judge] = {"safetensors": judge_safetensors, "manifest": judge_manifest}
    for kind, judge in judges.items():
        if chosen.only in (None, kind):
            out[kind] = fuzz_bytes(kind, judge, chosen.seconds, chosen.seed)
    if chosen.only in (None, "http"):
        if chosen.schemathesis:
            out["http"] = fuzz_http(chosen.schemathesis, chosen.examples, chosen.seed)
        else:
            print("http: left out, schemathesis is not installed; pip install -e '.[fuzz]' -c constraints.txt")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "fuzz.json").write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    http = out.get("http", {"alive": True, "tracebacks": 0})
    bad = any(part["findings"] for part in out.values()) or http["tracebacks"] or not http["alive"]
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
