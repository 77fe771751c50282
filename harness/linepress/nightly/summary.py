"""The summary of a night as Markdown, and its way to a webhook."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from linepress.errors import LinepressError
from linepress.tables.markdown import as_markdown, escape_markdown
from linepress.tables.ratios import headline_table

TRIES = 3
TIMEOUT_S = 10.0
WAIT_S = 1.0
MOST_STEPS = 10


def markdown(summary: Mapping[str, Any]) -> str:
    """One page, the verdict first: what a reader needs in a minute."""
    commit = str(summary.get("commit") or "no commit")[:10] + (" (dirty)" if summary.get("dirty") else "")
    out = [
        f"# {escape_markdown(summary['suite'])}: {summary['verdict']}",
        "",
        f"{escape_markdown(str(summary['compare']))}",
        "",
        f"- run `{summary['run_id']}` of {summary['created_at']}, commit {commit}",
        f"- baseline {'`' + str(summary['baseline']) + '`' if summary['baseline'] else 'none yet'}",
    ]
    if summary.get("compared"):
        out.append(f"- {escape_markdown(str(summary['compared']))}")
    out += [f"- {escape_markdown(reason)}" for reason in summary["reasons"]]
    if summary.get("accepted"):
        out.append(f"- accepted as the new level: {escape_markdown(summary['accepted'])}")
    for stage, counts in summary["counts"].items():
        tally = ", ".join(f"{counts[state]:,} {state}" for state in ("ok", "failed", "skipped"))
        out.append(f"- {stage}: {tally} of {counts['planned']:,} planned")
    for gate in summary["gates"]:
        if not gate["passed"]:
            value = "–" if gate["value"] is None else f"{gate['value']:.6g}"
            out.append(
                f"- gate {gate['gate']} FAIL: {gate['metric']} = {value}, {gate['rule'].replace('_', ' ')} "
                f"{gate['threshold']:g}. {escape_markdown(gate['next_step'] or '')}"
            )
    if summary["claims"]:
        out.append("- claims: " + ", ".join(f"{n} {word}" for word, n in summary["claims"].items()))
    for step in summary["steps"][:MOST_STEPS]:
        name = escape_markdown(f"{step['data']}, {step['variant']}, {step['figure']}")
        out.append(f"- step: {name} {step['before']:.4g} → {step['after']:.4g} ({step['change_pct']:+.3g} %)")
    if len(summary["steps"]) > MOST_STEPS:
        out.append(f"- … and {len(summary['steps']) - MOST_STEPS} more steps, see the report")
    out += ["", *as_markdown(headline_table({"": summary["headline"]}))]
    for word in ("report", "record", "mlflow"):
        if summary.get(word):
            out += ["", f"{word}: `{summary[word]}`"]
    return "\n".join(out) + "\n"


class WebhookError(LinepressError):
    """The webhook did not take the summary; the night itself is not affected."""


def post(url: str, summary: Mapping[str, Any]) -> None:
    """Send ``{"text": Markdown, "summary": {…}}`` as JSON; raises `WebhookError` after three tries.

    The error names the host only: the path of a webhook is often its secret.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WebhookError("the webhook is not an http or https address; give one with --webhook")
    body = json.dumps({"text": markdown(summary), "summary": dict(summary)}, ensure_ascii=False).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    said = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(WAIT_S * attempt)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                return
        except urllib.error.HTTPError as error:
            said = f"answered {error.code}"
            if 400 <= error.code < 500:
                break
        except (OSError, ValueError) as error:
            said = str(getattr(error, "reason", error)) or type(error).__name__
    raise WebhookError(f"webhook at {parts.hostname}: {said}; the summary is in the run folder, post it by hand")


def failed_summary(suite: str, sentence: str) -> dict[str, Any]:
    """Summary of a night that did not get as far as a record: for the webhook, so that silence is never good news."""
    return {
        "suite": suite,
        "run_id": "none",
        "created_at": "now",
        "commit": None,
        "dirty": False,
        "verdict": "ERROR",
        "compare": sentence,
        "baseline": None,
        "reasons": [],
        "counts": {},
        "gates": [],
        "claims": {},
        "steps": [],
        "headline": [],
    }
