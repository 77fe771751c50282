"""Where two runs come from, and which differences between them make their speeds incomparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from linepress.compare.data import Side, labels

SPEED_FIELDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cpu", ("machine", "cpu")),
    ("cores", ("machine", "usable_cores")),
    ("workers", ("cluster", "cores")),
    ("nodes", ("cluster", "nodes")),
    ("chunk size, B", ("suite", "resolved", "chunk_bytes")),
)
"""What must be equal for speeds to be compared: another processor or another load beside a case is another clock."""

NOTED_FIELDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("operating system", ("machine", "os")),
    ("Python", ("machine", "python")),
)
"""Differences that are said, and left to the reader: they may be what is being compared."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not the same: ``field base -> new``."""

    field: str
    base: str
    new: str

    def __str__(self) -> str:
        return f"{self.field} {self.base} → {self.new}"


@dataclass(slots=True)
class Provenance:
    """Header of a comparison.

    Attributes
    ----------
    base, new : dict
        Run id, path, commit, dirty, suite, suite version and hash, host, created_at, status.
    same : dict
        suite, host, data, packages -> whether equal.
    speed : list of Difference
        Why speeds cannot be compared; empty when they can.
    noted : list of Difference
        Further differences.
    unfinished : list of str
        Sentences about runs that have not ended.
    """

    base: dict[str, Any]
    new: dict[str, Any]
    same: dict[str, bool]
    speed: list[Difference] = field(default_factory=list)
    noted: list[Difference] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)

    @property
    def same_suite(self) -> bool:
        """Whether both runs planned the same: then a case that one of them lacks is missing."""
        return self.same["suite"]


def provenance(base: Side, new: Side, hosts_alike: bool) -> Provenance:
    """Compare the manifests of two runs."""
    a, b = base.manifest, new.manifest
    packages = _packages(a, b)
    hosts = [_hosts(side) for side in (base, new)]
    host_same = hosts[0] == hosts[1]
    found = Provenance(
        base=_describe(base),
        new=_describe(new),
        same={
            "suite": _at(a, ("suite", "sha256")) == _at(b, ("suite", "sha256")),
            "host": host_same,
            "data": _revisions(a) == _revisions(b),
            "packages": not packages,
        },
        speed=_differences(a, b, SPEED_FIELDS),
        noted=[*_differences(a, b, NOTED_FIELDS), *packages],
    )
    if not host_same and not hosts_alike:
        found.speed.insert(0, Difference("host", _named(hosts[0]), _named(hosts[1])))
    for label, side in (("base", base), ("new", new)):
        status = str(side.manifest.get("status") or "unknown")
        if status != "complete":
            found.unfinished.append(f"{label} run is {status}; give its command again to complete it")
    return found


def changed_packages(provenance: Provenance) -> set[str]:
    """Names of the packages whose versions differ."""
    return {d.field for d in provenance.noted}


def _describe(side: Side) -> dict[str, Any]:
    manifest = side.manifest
    git = manifest.get("git") or {}
    return {
        "run_id": manifest.get("run_id", side.path.name),
        "path": str(side.path),
        "commit": git.get("commit"),
        "dirty": bool(git.get("dirty")),
        "suite": _at(manifest, ("suite", "name")),
        "suite_version": _at(manifest, ("suite", "version")),
        "suite_sha256": _at(manifest, ("suite", "sha256")),
        "host": _at(manifest, ("machine", "host")),
        "created_at": manifest.get("created_at"),
        "status": manifest.get("status"),
    }


def _at(manifest: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = manifest
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _differences(
    a: Mapping[str, Any], b: Mapping[str, Any], fields: tuple[tuple[str, tuple[str, ...]], ...]
) -> list[Difference]:
    pairs = [(words, _at(a, path), _at(b, path)) for words, path in fields]
    return [Difference(words, _text(x), _text(y)) for words, x, y in pairs if x != y]


def _packages(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    before, after = (manifest.get("packages") or {} for manifest in (a, b))
    names = sorted({*before, *after})
    return [Difference(n, _text(before.get(n)), _text(after.get(n))) for n in names if before.get(n) != after.get(n)]


def _hosts(side: Side) -> tuple[str, ...]:
    """Hosts that did the cases; the driver's where none is recorded."""
    found = {str(host) for host in side.table["host"].unique().to_pylist() if host}
    return tuple(sorted(found)) or (str(_at(side.manifest, ("machine", "host")) or "unknown"),)


def _revisions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    named = labels(manifest)
    return {
        named[str(source["uri"])]: source.get("revision")
        for source in manifest.get("sources") or []
        if isinstance(source, Mapping) and source.get("uri")
    }


def _named(hosts: tuple[str, ...]) -> str:
    return hosts[0] if len(hosts) == 1 else f"{hosts[0]} and {len(hosts) - 1} more"


def _text(value: Any) -> str:
    return "unknown" if value is None else str(value)
