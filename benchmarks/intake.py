"""Intake service: 200 uploads at once with a kill -9 in the middle, pages at 10,000 submissions, a fuzz of its API.

``python -m benchmarks.intake [--uploads N] [--submissions N] [--fuzz N] [--only uploads|pages|fuzz]``

Targets: none of 200 concurrent uploads loses an acknowledged byte, status and list page under 100 ms at the worst of
100 requests with 10,000 submissions, no request that the description allows (or nearly allows) ends in a 5xx. The
bound beside the uploads is the disk's own: the same chunks written and flushed one after another, each with a flushed
commit of a row, without any service.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from linepress.intake.client import CHUNK_BYTES as SEND_BYTES
from linepress.intake.client import Client
from linepress.intake.settings import Settings
from linepress.intake.store import states
from linepress.intake.store.database import Database, events, submissions
from linepress_kit.intake_server import Answer, IntakeServer

RESULTS = Path(__file__).parent / "results"
CHUNK_BYTES = 128 << 10
CHUNKS = 4
LARGE_BYTES = 256 << 20
PAGE_TARGET_S = 0.1
PAGE_ROUNDS = 100
Row = dict[str, Any]


def content(number: int) -> bytes:
    """The bytes of one upload, different for each."""
    block = hashlib.sha256(number.to_bytes(8, "little")).digest()
    return block * (CHUNK_BYTES * CHUNKS // len(block))


def declare(server: IntakeServer, token: str, name: str, data: bytes) -> Row:
    """A submission of one tensor file."""
    files = [
        {"path": "manifest.yaml", "bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()},
        {"path": "model.safetensors", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()},
    ]
    answer = server.request("POST", "/v1/submissions", token, {"name": name, "files": files})
    if answer.status != 201:
        raise RuntimeError(answer.text)
    found: Row = answer.json
    return found


def uploads(base: Path, count: int) -> Row:
    """``count`` partners' programs upload at once; in the middle the service is killed and started again."""
    server = IntakeServer(
        base / "uploads", ("--no-runner", "--set", "requests_per_s=100000", "--set", "burst=100000")
    )
    server.start()
    token = server.add_partner("acme")
    acknowledged, lost, seconds = [0] * count, [0] * count, [0.0] * count
    ids = [""] * count
    half = threading.Semaphore(0)

    def upload(i: int) -> None:
        data = content(i)
        start_s = time.monotonic()
        made = _patient(lambda: declare(server, token, f"m{i}", data))
        path = made["files"][1]["upload"]
        ids[i] = made["id"]
        while acknowledged[i] < len(data):
            at = acknowledged[i]
            try:
                answer = server.patch(path, token, at, data[at : at + CHUNK_BYTES])
            except OSError:
                there = int(_patient(lambda: _ok(server.request("HEAD", path, token))).headers["upload-offset"])
                lost[i] += max(0, at - there)
                acknowledged[i] = there
                continue
            if answer.status in (204, 409):
                acknowledged[i] = int(answer.headers["upload-offset"])
            else:
                time.sleep(0.05)
            if acknowledged[i] == CHUNK_BYTES:
                half.release()
        seconds[i] = time.monotonic() - start_s

    threads = [threading.Thread(target=upload, args=(i,)) for i in range(count)]
    start_s = time.monotonic()
    for thread in threads:
        thread.start()
    for _ in range(count // 2):
        half.acquire()
    server.kill()
    down_s = time.monotonic()
    server.start()
    down_s = time.monotonic() - down_s
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - start_s
    wrong = sum((server.data / "uploads" / ids[i] / "1.part").read_bytes() != content(i) for i in range(count))
    server.stop()
    return {
        "uploads": count,
        "bytes": count * CHUNK_BYTES * CHUNKS,
        "seconds": took_s,
        "down_s": down_s,
        "MBps": count * CHUNK_BYTES * CHUNKS / took_s / 1e6,
        "acknowledged_bytes_lost": sum(lost),
        "files_wrong": wrong,
        "slowest_upload_s": max(seconds),
        "bound": disk_bound(base, count * CHUNKS),
    }


def large(base: Path) -> Row:
    """One upload in the requests of ``linepress send``, beside hashing, writing and flushing the same bytes."""
    server = IntakeServer(base / "large")
    server.start()
    token = server.add_partner("acme")
    folder = base / "packed" / "large"
    folder.mkdir(parents=True)
    data = content(0) * (LARGE_BYTES // (CHUNK_BYTES * CHUNKS))
    (folder / "manifest.yaml").write_bytes(b"")
    (folder / "model.safetensors").write_bytes(data)
    client = Client(server.url, token)
    start_s = time.monotonic()
    sent = client.send(folder)
    took_s = time.monotonic() - start_s
    whole = (server.data / "uploads" / sent["id"] / "1.part").read_bytes() == data
    server.stop()
    start_s = time.monotonic()
    for _ in range(3):  # declared, checked by the client and by the service
        hashlib.sha256(data).digest()
    with (base / "bound-large").open("wb") as file:
        for at in range(0, len(data), SEND_BYTES):
            file.write(data[at : at + SEND_BYTES])
            file.flush()
            os.fsync(file.fileno())
    bound_s = time.monotonic() - start_s
    return {
        "bytes": len(data),
        "MBps": len(data) / took_s / 1e6,
        "bound_MBps": len(data) / bound_s / 1e6,
        "whole": whole,
    }


def disk_bound(base: Path, chunks: int) -> Row:
    """The same chunks without a service: write, flush, commit with ``synchronous=FULL``, one after another."""
    chunks = min(chunks, 200)
    data = content(0)[:CHUNK_BYTES]
    db = sqlite3.connect(base / "bound.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE t (n INTEGER)")
    start_s = time.monotonic()
    for number in range(chunks):
        with (base / f"bound-{number}").open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        db.execute("INSERT INTO t VALUES (?)", (number,))
    took_s = time.monotonic() - start_s
    db.close()
    return {"chunks": chunks, "MBps": chunks * CHUNK_BYTES / took_s / 1e6}


def pages(base: Path, count: int) -> Row:
    """Times of the pages with ``count`` submissions of one partner, half of them validated."""
    server = IntakeServer(base / "pages", ("--no-runner", "--set", "requests_per_s=100000", "--set", "burst=100000"))
    server.start()
    token = server.add_partner("acme")
    last = declare(server, token, "m", b"x")["id"]
    db = Database(Settings(data=server.data).url)
    with db.write() as conn:
        template = dict(conn.execute(submissions.select().where(submissions.c.id == last)).mappings().one())
        rows = []
        for i in range(count - 1):
            validated = {"state": states.VALIDATED, "data_format": "bf16", "packed_ratio": 1.2 + i / (4 * count)}
            more = validated if i % 2 else {"state": states.REJECTED}
            created = {"id": f"s{i:024d}", "created_at": template["created_at"] - i}
            rows.append({**template, **created, "idempotency_key": None, **more})
        conn.execute(submissions.insert(), [{"data_format": None, "packed_ratio": None, **row} for row in rows])
        steps = [
            {
                "submission": row["id"],
                "at": row["created_at"],
                "from_state": None,
                "to_state": state,
                "actor": "linepress",
                "reason": "",
            }
            for row in rows
            for state in (states.UPLOADING, states.RECEIVED, row["state"])
        ]
        conn.execute(events.insert(), steps)
    db.close()
    browser = server.sign_in(token)
    middle = rows[count // 2]["id"]
    paths = {
        "status": f"/submissions/{middle}",
        "list": "/submissions",
        "leaderboard": "/leaderboard",
        "api status": f"/v1/submissions/{middle}",
    }
    out: Row = {"submissions": count, "load": os.getloadavg()[0]}
    samples: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(PAGE_ROUNDS):
        for name, path in paths.items():
            start_s = time.perf_counter()
            answer = server.request("GET", path, token if path.startswith("/v1") else None, headers=browser)
            samples[name].append(time.perf_counter() - start_s)
            _ok(answer)
    server.stop()
    for name, found in samples.items():
        found.sort()
        out[name] = {"p50_s": statistics.median(found), "worst_s": found[-1], "samples_s": found}
    return out


def fuzz(base: Path, examples: int) -> Row:
    """Requests made from the service's own description, right and nearly right; findings are what must not happen."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    limits = ("requests_per_s=100000", "burst=100000", "failures_per_minute=100000")
    server = IntakeServer(base / "fuzz", ("--no-runner", *(word for one in limits for word in ("--set", one))))
    server.start()
    token = server.add_partner("acme", quota_bytes=1 << 50)
    own = declare(server, token, "m", b"x" * 100)["id"]
    description = server.request("GET", "/v1/openapi.json").json
    operations = [
        (method.upper(), path, operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    findings: list[Row] = []
    seen: dict[str, int] = {}
    text = st.text(max_size=40)
    words = st.sampled_from(
        [own, "manifest.yaml", "model.safetensors", "smoke", "hbm3", "0" * 40, "0" * 64, "0", "1"]
    )
    scalar = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), text, words)
    anything = st.recursive(
        scalar,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
        max_leaves=12,
    )
    body = near(description, {"$ref": "#/components/schemas/NewSubmission"}, anything, words)
    right = {
        "name": "m",
        "files": [{"path": "manifest.yaml", "bytes": 1, "sha256": "0" * 64}],
        "hub": None,
        "publish": True,
    }
    changes = st.dictionaries(st.one_of(st.sampled_from(sorted(right)), text), anything, max_size=1)
    body = st.one_of(body, changes.map(lambda change: {**right, **change}))

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def once(data: st.DataObject) -> None:
        method, path, operation = data.draw(st.sampled_from(operations))
        for name in re.findall(r"{(\w+)}", path):
            path = path.replace(f"{{{name}}}", quote(data.draw(st.one_of(words, text.filter(bool))), safe=""))
        query = "&".join(
            f"{p['name']}={quote(str(data.draw(scalar)))}"
            for p in operation.get("parameters", [])
            if p["in"] == "query" and data.draw(st.booleans())
        )
        headers = {
            p["name"]: data.draw(
                st.one_of(st.integers(-5, 10**20).map(str), st.text(st.characters(codec="latin-1"), max_size=60))
            )
            .replace("\r", "")
            .replace("\n", "")
            for p in operation.get("parameters", [])
            if p["in"] == "header" and data.draw(st.booleans())
        }
        sent: Any = None
        if "requestBody" in operation:
            kind = next(iter(operation["requestBody"]["content"]))
            headers["Content-Type"] = data.draw(st.sampled_from([kind, kind, kind, "text/plain", ""]))
            made = data.draw(st.one_of(body, anything)) if kind == "application/json" else None
            sent = data.draw(st.binary(max_size=300)) if made is None else _json(made)
        who = data.draw(st.sampled_from([token, token, token, None, "lpk_x"]))
        where = path + (f"?{query}" if query else "")
        try:
            answer = server.request(method, where, who, sent, headers)
        except (ValueError, OSError) as error:
            # The client's own library refuses some headers; a connection that breaks is a finding.
            if isinstance(error, OSError):
                findings.append({"request": f"{method} {where}", "what": repr(error)})
            return
        seen[f"{answer.status}"] = seen.get(f"{answer.status}", 0) + 1
        if problem := breach(answer, operation):
            findings.append({"request": f"{method} {where}", "headers": headers, "body": repr(sent), "what": problem})

    once()
    alive = server.request("GET", "/v1/me", token).status == 200
    log = (server.data / "server.log").read_text(encoding="utf-8")
    server.stop()
    return {
        "requests": sum(seen.values()),
        "by_status": dict(sorted(seen.items())),
        "alive": alive,
        "tracebacks": log.count("Traceback"),
        "findings": findings,
    }


def near(description: Row, schema: Row, anything: Any, words: Any) -> Any:
    """Values of a JSON schema that hold up, or nearly: a part of them is replaced by anything."""
    from hypothesis import strategies as st

    def of(part: Row, depth: int) -> Any:
        if "$ref" in part:
            return of(description["components"]["schemas"][part["$ref"].rpartition("/")[2]], depth)
        if "anyOf" in part:
            return st.one_of(*[of(one, depth) for one in part["anyOf"]])
        kind = part.get("type")
        if kind == "object":
            fields = {name: wild(of(one, depth + 1)) for name, one in part.get("properties", {}).items()}
            needed = {name: fields[name] for name in part.get("required", [])}
            return st.fixed_dictionaries(needed, optional={k: v for k, v in fields.items() if k not in needed})
        if kind == "array":
            return st.lists(of(part["items"], depth + 1), max_size=4)
        if kind == "string":
            pattern = part.get("pattern")
            made = st.from_regex(pattern, fullmatch=True) if pattern else st.text(max_size=30)
            return st.one_of(made, words)
        if kind == "integer":
            return st.integers(part.get("minimum", -1) - 1, 2**64)
        return st.booleans() if kind == "boolean" else st.none()

    def wild(strategy: Any) -> Any:
        return st.one_of(strategy, strategy, strategy, strategy, strategy, strategy, anything)

    return of(schema, 0)


MALFORMED = b"Invalid HTTP request received."
"""What the HTTP server itself says to bytes that are no HTTP, before the service hears of them."""


def breach(answer: Answer, operation: Row) -> str:
    """What an answer must not be; empty when it holds up."""
    if answer.status == 400 and answer.body == MALFORMED:
        return ""
    if answer.status >= 500 and answer.status != 507:
        return f"status {answer.status}: {answer.body[:200]!r}"
    if str(answer.status) not in operation["responses"] and answer.status not in (404, 405, 408, 415, 460):
        return f"status {answer.status} is not described"
    if answer.status >= 400 and answer.body:
        try:
            found = answer.json
        except ValueError:
            return f"status {answer.status} without JSON: {answer.body[:200]!r}"
        if set(found) != {"code", "error"} or not str(found["error"]).isprintable():
            return f"refusal that is none: {answer.body[:200]!r}"
    if "content-security-policy" not in answer.headers:
        return "no security headers"
    return ""


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "replace")


def _ok(answer: Answer) -> Answer:
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}: {answer.text[:300]}")
    return answer


def _patient(call: Callable[[], Any], seconds: float = 60.0) -> Any:
    """``call()`` again while the service is away."""
    end_s = time.monotonic() + seconds
    while True:
        try:
            return call()
        except OSError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.1)


def main(argv: list[str]) -> int:
    """Run the parts; 1 when a target is missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.intake")
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--submissions", type=int, default=10_000)
    parser.add_argument("--fuzz", type=int, default=1500)
    parser.add_argument("--only", choices=("uploads", "pages", "fuzz"))
    options = parser.parse_args(argv)
    out: Row = {}
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        if options.only in (None, "uploads"):
            found = out["uploads"] = uploads(base, options.uploads)
            print(
                f"{found['uploads']} uploads at once, {found['bytes'] / 1e6:.0f} MB in {found['seconds']:.1f} s "
                f"({found['MBps']:.1f} MB/s; the disk alone, one writer: {found['bound']['MBps']:.1f} MB/s), killed "
                f"once (down {found['down_s']:.1f} s): {found['acknowledged_bytes_lost']} acknowledged B lost, "
                f"{found['files_wrong']} files wrong"
            )
            bad += ["uploads"] * bool(found["acknowledged_bytes_lost"] or found["files_wrong"])
            one = out["large"] = large(base)
            print(
                f"one upload of {one['bytes'] / 1e6:.0f} MB: {one['MBps']:.0f} MB/s (three hashes, writing and "
                f"flushing alone: {one['bound_MBps']:.0f} MB/s)"
            )
            bad += ["large upload"] * (not one["whole"])
        if options.only in (None, "pages"):
            found = out["pages"] = pages(base, options.submissions)
            for name in ("status", "list", "leaderboard", "api status"):
                times = found[name]
                print(
                    f"{name} at {found['submissions']:,} submissions: p50 {1e3 * times['p50_s']:.1f} ms, worst of "
                    f"{PAGE_ROUNDS} {1e3 * times['worst_s']:.1f} ms (status and list: under "
                    f"{1e3 * PAGE_TARGET_S:.0f} ms; load {found['load']:.1f})"
                )
            bad += [f"{name} page" for name in ("status", "list") if found[name]["worst_s"] > PAGE_TARGET_S]
        if options.only in (None, "fuzz"):
            found = out["fuzz"] = fuzz(base, options.fuzz)
            print(
                f"fuzz: {found['requests']} requests, by status {found['by_status']}, "
                f"{len(found['findings'])} findings, {found['tracebacks']} tracebacks"
            )
            for finding in found["findings"][:10]:
                print(f"  {finding['request'][:150]}: {finding['what'][:300]}")
            bad += ["fuzz"] * bool(found["findings"] or found["tracebacks"] or not found["alive"])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "intake.json").write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    if bad:
        sys.stderr.write(f"missed: {', '.join(bad)}\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
