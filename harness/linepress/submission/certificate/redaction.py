"""What a certificate keeps to itself: host names, cluster addresses and absolute paths of the machine that ran it.

The same run gives the same text: the host that started it becomes ``operator``, further ones ``operator-2`` … in the
order of their names, an address of a cluster ``cluster``, and an absolute path becomes relative to the run, to its
parent or the submission, or else its last part. Columns that verifying or re-running reads are left alone. The hash
of the suite that is signed stays that of the text that was run, which may have held such a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

OPERATOR = "operator"
CLUSTER = "cluster"
NOTE = "host names, cluster addresses and absolute paths of the issuing machine"
KEPT_COLUMNS = frozenset(
    (
        *("content_sha256", "elements", "raw_bytes", "lines", "payload_bits", "table_bytes", "metadata_bytes"),
        *(
            "packed_bytes",
            "lossless",
            "case_key",
            "status",
            "tensor",
            "variant",
            "cast",
            "packings",
            "seed",
            "run_id",
        ),
    )
)
"""Never changed: what verifying and re-running read. Names of tensors are the partner's own words."""
HOST_COLUMNS = ("host", "error", "extra")
"""Columns of text that our own machines write about themselves; a host's name elsewhere is only a word."""
_NO_HOSTS_IN = ("suite", "packages", "seeds", "counts", "parts", "status")
_LOCAL_ADDRESSES = (None, "", "local", "auto")
_PATH = re.compile(r"""(?:(?<=file://)|(?<![\w./~-]))/(?!/)[^\s'"`,;:()\[\]{}<>|&]+""")
_HOSTS_CELL = re.compile(r"(<dt>(?:[^<]*\b)?hosts?</dt>\s*<dd[^>]*>)(.*?)(</dd>)", re.DOTALL)


class Redaction:
    """The names of one run and what stands for them.

    Parameters
    ----------
    manifest : mapping
        ``manifest.json`` of the run.
    folders : iterable of Path
        Folders whose inside may be told, as relative paths.
    hosts : iterable of str
        Host names of the rows.
    """

    def __init__(self, manifest: Mapping[str, Any], folders: Iterable[Path], hosts: Iterable[str] = ()) -> None:
        own = (manifest.get("machine") or {}).get("host")
        others = {*hosts, *(session.get("host") for session in manifest.get("sessions") or ())} - {own, None, ""}
        names = [*([own] if own else []), *sorted(str(host) for host in others)]
        self.names = {
            host: OPERATOR if number == 1 else f"{OPERATOR}-{number}" for number, host in enumerate(names, 1)
        }
        resolved = (manifest.get("arguments") or {}).get("resolved") or {}
        for address in ((manifest.get("cluster") or {}).get("address"), resolved.get("ray_address")):
            if address not in _LOCAL_ADDRESSES:
                self.names.setdefault(str(address), CLUSTER)
        spellings = {spelling for folder in folders for spelling in (folder.absolute(), folder.resolve())}
        self._folders = sorted((str(folder) for folder in spellings if folder.name), key=len, reverse=True)
        longest_first = sorted(self.names, key=len, reverse=True)
        self._hosts = re.compile(
            r"(?<![\w.-])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![\w-]|\.\w)"
            if longest_first
            else r"(?!)"
        )
        self.changed: dict[str, str] = {}

    def paths(self, text: str) -> str:
        """``text`` without absolute paths."""
        out = text
        for folder in self._folders:
            out = out.replace(f"{folder}/", "")
        if out.startswith("/") and "\n" not in out and ": " not in out:
            out = PurePosixPath(out).name  # the whole value is one path, spaces and all
        out = _PATH.sub(lambda found: PurePosixPath(found[0]).name, out)
        if out != text:
            self.changed[text] = out
        return out

    def text(self, text: str) -> str:
        """``text`` without absolute paths, host names and cluster addresses."""
        out = self._hosts.sub(lambda found: self.names[found[0]], self.paths(text))
        if out != text:
            self.changed[text] = out
        return out

    def document(self, value: Any, with_hosts: bool = True) -> Any:
        """A JSON value with every text in it redacted; names of keys stay."""
        if isinstance(value, str):
            return self.text(value) if with_hosts else self.paths(value)
        if isinstance(value, Mapping):
            return {key: self.document(inner, with_hosts and key not in _NO_HOSTS_IN) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.document(inner, with_hosts) for inner in value]
        return value

    def table(self, table: pa.Table) -> pa.Table:
        """A table with its columns of text redacted, but for `KEPT_COLUMNS`."""
        import pyarrow as pa

        for at, column in enumerate(table.schema):
            if column.name in KEPT_COLUMNS or not (
                pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
            ):
                continue
            change = self.text if column.name in HOST_COLUMNS else self.paths
            values = table.column(at).to_pylist()
            new = {value: change(value) for value in set(values) if value is not None}
            if any(value != redacted for value, redacted in new.items()):
                cells = [None if value is None else new[value] for value in values]
                table = table.set_column(at, column, pa.array(cells, column.type))
        return table

    def page(self, page: str) -> str:
        """The report of the run with the texts that were changed elsewhere, and its list of hosts, changed alike."""
        new = {
            escape(text): escape(redacted)
            for text, redacted in self.changed.items()
            if text not in self.names  # a bare word could be any word of the page
            for escape in (_escaped, str)
        }
        if new:
            anywhere = "|".join(re.escape(text) for text in sorted(new, key=len, reverse=True))
            page = re.sub(rf"(?<![\w<./~-])(?:{anywhere})(?![\w-])", lambda found: new[found[0]], page)
        for folder in self._folders:
            page = page.replace(_escaped(f"{folder}/"), "")
        return _HOSTS_CELL.sub(lambda cell: cell[1] + self._hosts.sub(self._named, cell[2]) + cell[3], page)

    def _named(self, found: re.Match[str]) -> str:
        return self.names[found[0]]


def _escaped(text: str) -> str:
    """As the templates of the report escape it."""
    from markupsafe import escape

    return str(escape(text))


def hosts_of(tables: Iterable[pa.Table]) -> set[str]:
    """Hosts that wrote rows."""
    return {
        str(host)
        for table in tables
        if "host" in table.column_names
        for host in table.column("host").unique().to_pylist()
        if host
    }
