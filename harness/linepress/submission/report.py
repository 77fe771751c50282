"""What a check says: the document of ``--json``, and a page for a browser in which a partner's text is only text."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from html.parser import HTMLParser
from typing import Any

from jinja2 import Environment, StrictUndefined

from linepress.submission.check.ledger import Finding, exit_code

VERDICTS = {0: "accepted", 1: "refused", 2: "undecided, refused until decided", 3: "nothing to check"}

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{{ title }}</title>
<style>
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.35rem .6rem;
border-bottom:1px solid #ddd;overflow-wrap:anywhere}.PASS{color:#10632b}.FAIL{color:#a1121b;font-weight:600}
.UNDECIDED{color:#7a4a00;font-weight:600}
@media(prefers-color-scheme:dark){body{color:#eee;background:#161616}td,th{border-color:#444}.PASS{color:#7fd79a}
.FAIL{color:#ff8d8d}.UNDECIDED{color:#f0c070}}
</style></head>
<body>
<h1>{{ title }}</h1>
<p>{{ summary }}</p>
<table>
<thead><tr><th scope="col">Rule</th><th scope="col">Verdict</th><th scope="col">Why</th></tr></thead>
<tbody>
{% for f in findings %}
<tr><td>{{ f.rule }}</td><td class="{{ f.verdict }}">{{ f.verdict }}</td><td>{{ f.reasons | join('; ') }}\
{% if f.more %} (and {{ f.more }} more){% endif %}</td></tr>
{% endfor %}
</tbody></table>
<h2>Files</h2>
<table>
<thead><tr><th scope="col">File</th><th scope="col">Bytes</th><th scope="col">sha256</th></tr></thead>
<tbody>
{% for f in files %}
<tr><td>{{ f.path }}</td><td>{{ f.bytes }}</td><td>{{ f.sha256 }}</td></tr>
{% endfor %}
</tbody></table>
</body></html>
"""


@dataclass
class Report:
    """The outcome of a check.

    Attributes
    ----------
    folder : str
    findings : list of Finding
        S01 to S21 in order; empty when there was nothing to check.
    manifest : dict | None
    manifest_sha256 : str
    files : list of dict
        ``path``, ``bytes``, ``sha256``, ``kind``.
    tensors, tensor_bytes : int
    isolation : dict
        How the checking process was shut in, and its peak memory in bytes.
    scans : list of dict
    seconds : float
        Wall time.
    """

    folder: str
    findings: list[Finding] = field(default_factory=list)
    manifest: dict[str, Any] | None = None
    manifest_sha256: str = ""
    files: list[dict[str, Any]] = field(default_factory=list)
    tensors: int = 0
    tensor_bytes: int = 0
    isolation: dict[str, Any] = field(default_factory=dict)
    scans: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 accepted, 1 refused, 2 undecided, 3 nothing to check."""
        return exit_code(self.findings) if self.findings else 3

    @property
    def verdict(self) -> str:
        return VERDICTS[self.exit_code]

    def document(self) -> dict[str, Any]:
        """Plain data for ``--json`` and for the certificate."""
        return {
            "folder": self.folder,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "findings": [{**asdict(f), "reasons": list(f.reasons)} for f in self.findings],
            "manifest_sha256": self.manifest_sha256,
            "files": self.files,
            "tensors": self.tensors,
            "tensor_bytes": self.tensor_bytes,
            "isolation": self.isolation,
            "scans": self.scans,
            "seconds": self.seconds,
        }


def render_page(document: dict[str, Any], name: str) -> str:
    """A self-contained HTML page of `Report.document`; every value is escaped."""
    counts = dict.fromkeys(("PASS", "FAIL", "UNDECIDED"), 0)
    for finding in document["findings"]:
        counts[finding["verdict"]] += 1
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page: str = environment.from_string(_PAGE).render(
        title=f"Submission {name}: {document['verdict']}",
        summary=f"{summary}; {document['tensors']} tensors, {document['tensor_bytes']} B",
        findings=document["findings"],
        files=document["files"],
    )
    return page


class _Skeleton(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.parts.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.parts.append((f"/{tag}", ()))

    def handle_comment(self, data: str) -> None:
        self.parts.append(("!", ()))

    def handle_pi(self, data: str) -> None:
        self.parts.append(("?", ()))


def skeleton(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """Tags and names of attributes of a page, in order: what a browser would build of it, without the text."""
    parser = _Skeleton()
    parser.feed(page)
    parser.close()
    return parser.parts


def harmless(value: Any) -> Any:
    """``value`` with every text that is not a verdict replaced by ``x``."""
    if isinstance(value, dict):
        return {key: item if key == "verdict" else harmless(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [harmless(item) for item in value]
    return "x" if isinstance(value, str) else value
