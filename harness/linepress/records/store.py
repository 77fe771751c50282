"""The folder of one run: Parquet parts written atomically, read back as whole tables.

Layout of a run folder::

    manifest.json                  what was run, where, with what; counts by state; sha256 of every part
    suite.yaml                     the suite as resolved
    tables/<table>/part-000001.parquet …
    failures.jsonl                 one line per failed case as it happened
    report/index.html

Part numbers order the parts; a later part supersedes an earlier one case by case, except that nothing supersedes a
case recorded as ok. So a run that was killed between any two system calls reads back with each case once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from linepress.errors import RecordError
from linepress.records.files import damaged, footer_rows, write_atomically
from linepress.records.index import INDEX_COLUMNS, STATES, Index, States, build_index, state_numbers
from linepress.records.place import RunPlace, StorePath, place_of
from linepress.records.remote import RemoteCopy
from linepress.records.schema import ADDED, SCHEMA_VERSION, TABLES, schema

if TYPE_CHECKING:
    from linepress.records.fetched import FetchedRecord

MANIFEST = "manifest.json"
CASE_TABLES = ("measure", "channel", "system", "fabric", "pages")
_MAPPINGS = ("suite", "git", "machine", "packages", "arguments", "counts", "parts", "compact")
_PART_DIGITS = 6
_COMPACT_ROWS = 4_000
_PLAIN = frozenset((int, float, str, bool, bytes, type(None)))


def read_manifest(place: RunPlace) -> dict[str, Any]:
    """``manifest.json`` of a run, in a folder or a store; raises `RecordError` for a place without one, a damaged one
    or another schema version."""
    file = place / MANIFEST
    if isinstance(place, Path) and not place.is_dir():
        raise RecordError(f"{place}: there is no such run folder; `linepress runs list` shows the runs")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(
            f"{place}: not a run folder (no {MANIFEST}); `linepress runs list {place.parent}` shows the runs"
        ) from None
    except OSError as error:
        raise RecordError(f"{file}: cannot be read ({error.strerror or error}); check its permissions") from None
    except ValueError as error:
        raise RecordError(f"{file}: damaged ({error}); run the suite again into another folder with --out") from None
    if not isinstance(manifest, dict) or "schema_version" not in manifest:
        raise RecordError(f"{file}: not the manifest of a run; give the folder that `linepress run` printed")
    version = manifest["schema_version"]
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{place}: record of schema version {version}, this linepress reads version {SCHEMA_VERSION}; run the "
            "suite again into another folder, or read it with the linepress that wrote it "
            f"({(mapping_in(manifest, 'packages') or {}).get('linepress', 'version unknown')})"
        )
    for field in _MAPPINGS:
        if mapping_in(manifest, field) is None:
            raise RecordError(f"{file}: damaged ({field} is no mapping); run the suite again into another folder")
    return manifest


def mapping_in(manifest: Mapping[str, Any], field: str) -> dict[str, Any] | None:
    """A mapping of a manifest, empty where it is not given; None where something else stands in its place."""
    found = manifest.get(field) or {}
    return found if isinstance(found, dict) else None


class RunStore:
    """One run folder, open for reading or writing.

    Attributes
    ----------
    path : Path
        The run folder.
    manifest : dict
        The content of ``manifest.json``, see `linepress.run.manifest`.
    copy : RemoteCopy | None
        Where every written file is carried on to.
    fetched : FetchedRecord | None
        Where files are brought from when they are read, for a run in a store.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.manifest = manifest
        self.copy: RemoteCopy | None = None
        self.fetched: FetchedRecord | None = None
        self._remove_leftovers()

    @classmethod
    def open(cls, run: RunPlace | str | RunStore) -> RunStore:
        """The run in a folder or behind a URI, or the store itself; raises `RecordError` unless it is a run of this
        schema version.

        Of a run in a store, `path` is a copy in the cache that fills as tables are read; what is written there goes
        to the store with `carry`.
        """
        if isinstance(run, RunStore):
            return run
        place = place_of(run)
        manifest = read_manifest(place)
        if isinstance(place, Path):
            return cls(place, manifest)
        from linepress.records.fetched import FetchedRecord

        fetched = FetchedRecord(place, manifest)
        store = cls(fetched.folder, manifest)
        store.fetched, store.copy = fetched, RemoteCopy(str(place), fetched.folder)
        return store

    @classmethod
    def create(cls, path: Path, manifest: dict[str, Any]) -> RunStore:
        """A new run folder with this manifest; raises `RecordError` if it already holds a run."""
        if (path / MANIFEST).exists():
            raise RecordError(f"{path}: already holds a run; choose another folder with --out")
        store = cls(path, {"schema_version": SCHEMA_VERSION, "parts": {}, **manifest})
        store.save_manifest()
        return store

    @property
    def run_id(self) -> str:
        return str(self.manifest.get("run_id", self.path.name))

    @property
    def place(self) -> RunPlace:
        """Where the run is for those who look for it: its URI if it is in a store, else its folder."""
        return self.path if self.copy is None else StorePath(self.copy.uri)

    def fetch(self, *names: str) -> None:
        """Have these files and folders of the run (all without a name) in `path`; a local run has them already."""
        if self.fetched is not None:
            self.fetched.fetch(*names)

    def carry(self, *files: Path) -> None:
        """Files of `path` that others wrote go to the store, where the run is in one."""
        if self.copy is not None:
            self.copy.carry(*files)

    def save_manifest(self) -> None:
        """Write ``manifest.json`` as it now stands in memory."""
        text = json.dumps(self.manifest, indent=2, ensure_ascii=False, sort_keys=False)
        write_atomically(self.path / MANIFEST, text.encode() + b"\n")
        self._carry_on(self.path / MANIFEST)

    def _carry_on(self, path: Path) -> None:
        if self.copy is not None:
            self.copy.put(path)
            self.copy.push()

    # reading

    def parts(self, table: str) -> list[Path]:
        """Part files of a table, in the order in which they were written."""
        _check_name(table)
        if self.fetched is not None:
            return self.fetched.parts(table)
        return sorted((self.path / "tables" / table).glob("part-*.parquet"))

    def table(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """All current rows of a table, each case once, in part order; the empty table where nothing was recorded.

        ``failures`` is derived from the failed rows of the case tables, so it holds what failed and has not been
        mended by a later resume.
        """
        _check_name(table)
        if table == "failures":
            return self._failures(columns)
        wanted = schema(table)
        names = list(wanted.names) if columns is None else list(columns)
        loaded = self._load(table, sorted({*names, "case_key", "status"}))
        if loaded is None:
            return pa.schema([wanted.field(name) for name in names], metadata=wanted.metadata).empty_table()
        return (loaded if self._is_compact(table) else loaded.filter(_current(loaded))).select(names)

    def rows(self, table: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """`table` as a list of dicts, maps as dicts."""
        return [dict(row) for row in self.table(table, columns).to_pylist(maps_as_pydicts="strict")]

    def statuses(self, table: str, order: Mapping[str, int] | None = None) -> Mapping[str, str]:
        """Case key -> status of the current rows; with ``order`` of its cases only, in little memory."""
        if order is not None:
            return States(order, self._index(table, order))
        current = self.table(table, ["case_key", "status"])
        return dict(zip(current["case_key"].to_pylist(), current["status"].to_pylist(), strict=True))

    def counts(self, table: str) -> dict[str, int]:
        """Status -> number of cases whose current rows have it."""
        if not self._is_compact(table):
            return self._index(table).counts()
        found: dict[str, int] = {}
        for part in self.parts(table):
            rows = _read_part(part, table, ["row", "status"])
            for entry in pc.value_counts(rows.filter(pc.equal(rows["row"], 0))["status"]).to_pylist():
                found[entry["values"]] = found.get(entry["values"], 0) + entry["counts"]
        return found

    def count_stored(self, table: str) -> int:
        """Rows stored of a table, superseded ones included; reads footers only."""
        if self.fetched is not None:
            return self.fetched.count_rows(table)
        return sum(footer_rows(part, part) for part in self.parts(table))

    def _is_compact(self, table: str) -> bool:
        """Whether the parts are those that `compact` left, so that every row stands."""
        left = self.manifest.get("compact", {}).get(table)
        return left is not None and left == [part.name for part in self.parts(table)]

    def _load(self, table: str, names: list[str]) -> pa.Table | None:
        pieces = []
        for number, part in enumerate(self.parts(table)):
            piece = _read_part(part, table, names)
            pieces.append(piece.append_column("_part", pa.array(np.full(len(piece), number))))
        return pa.concat_tables(pieces) if pieces else None

    def _failures(self, columns: Sequence[str] | None) -> pa.Table:
        wanted = schema("failures")
        found = []
        for table in CASE_TABLES:
            for rows in self._batches(table, list(schema(table).names), "failed"):
                for row in rows.to_pylist():
                    own = {name: row[name] for name in wanted.names if name in row}
                    found.append({**own, "stage": table, "label": label_of(table, row)})
        result = pa.Table.from_pylist(found, schema=wanted)
        return result if columns is None else result.select(list(columns))

    # writing

    def append(self, table: str, rows: Iterable[Mapping[str, Any]]) -> Path | None:
        """Write rows as a new part; all rows of a case must come in one call. None when there are no rows."""
        return self._append(table, to_table(table, rows, self.run_id))

    def _append(self, table: str, found: pa.Table) -> Path | None:
        if len(found) == 0:
            return None
        existing = self.parts(table)
        number = 1 + (int(existing[-1].stem.removeprefix("part-")) if existing else 0)
        return self._write_part(table, number, found)

    def replace(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Make ``rows`` the whole content of a derived table (claims, gates, failures); nothing changes if it is."""
        before = self.parts(table)
        wanted = to_table(table, rows, self.run_id)
        stored = [_read_part(part, table, list(wanted.schema.names)) for part in before]
        if (pa.concat_tables(stored) if stored else schema(table).empty_table()).equals(wanted):
            return
        self._append(table, wanted)
        self._drop(before)
        self.save_manifest()

    def batches(self, table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The current rows part by part, so that a reader needs memory for one part only."""
        return self._batches(table, columns, None)

    def _batches(self, table: str, columns: Sequence[str], status: str | None) -> Iterator[pa.Table]:
        parts = self.parts(table)
        index = None if self._is_compact(table) else self._index(table)
        for number, part in enumerate(parts):
            if index is None:
                if status is None or pc.any(pc.equal(_read_part(part, table, ["status"])["status"], status)).as_py():
                    found = _read_part(part, table, list(columns) if status is None else [*{*columns, "status"}])
                    yield found if status is None else found.filter(pc.equal(found["status"], status)).select(columns)
                continue
            wanted = index.part == number
            if status is not None:
                wanted &= index.state == STATES.index(status)
            if status is None or wanted.any():
                yield _read_part(part, table, list(columns)).take(pa.array(index.at[wanted]))

    def compact(self, table: str, order: Mapping[str, int], drop_others: bool = False) -> None:
        """Few parts with the current rows of a table, sorted by the place of their case in ``order``, then by row.

        Cases that are not in ``order`` go last, or away with ``drop_others``. Memory is bounded by one output part.
        Nothing changes when the table is in this state already. A crash in between leaves both states, which read
        the same.
        """
        before = self.parts(table)
        if not before:
            return
        index = self._index(table, order)
        if drop_others:
            index = index.take(index.place < index.known)
        ordering = index.by_place()
        n_parts = -(-len(index) // _COMPACT_ROWS)
        n_before = self.count_stored(table)
        if len(before) == n_parts and len(index) == n_before and np.array_equal(ordering, np.arange(len(index))):
            self.manifest.setdefault("compact", {})[table] = [part.name for part in before]
            return
        number = 1 + int(before[-1].stem.removeprefix("part-"))
        written = [
            self._write_part(table, number + k, self._gather(before, table, index.take(some)))
            for k, some in enumerate(np.split(ordering, range(_COMPACT_ROWS, len(ordering), _COMPACT_ROWS)))
            if len(some)
        ]
        self.manifest.setdefault("compact", {})[table] = [part.name for part in written]
        self._drop(before)
        pa.default_memory_pool().release_unused()

    def _gather(self, parts: Sequence[Path], table: str, wanted: Index) -> pa.Table:
        """The rows of ``wanted``, in its order."""
        names = list(schema(table).names)
        pieces = []
        positions = []
        for number in np.unique(wanted.part):
            mask = wanted.part == number
            pieces.append(_read_part(parts[number], table, names).take(pa.array(wanted.at[mask])))
            positions.append(np.flatnonzero(mask))
        back = np.argsort(np.concatenate(positions))
        return pa.concat_tables(pieces).take(pa.array(back))

    def _index(self, table: str, order: Mapping[str, int] | None = None) -> Index:
        """Where every current row lies; parts are read one by one."""
        return build_index((_read_part(part, table, list(INDEX_COLUMNS)) for part in self.parts(table)), order)

    def verify(self) -> None:
        """Raise `RecordError` naming the first part that is not, or no longer, what was written."""
        self.fetch("tables")
        for name, digest in self.manifest.get("parts", {}).items():
            part = self.path / name
            if not part.exists():
                raise RecordError(f"{part}: part of the record is gone; put it back, or run anew with --fresh")
            if hashlib.sha256(part.read_bytes()).hexdigest() != digest:
                raise RecordError(
                    f"{part}: differs from what was written (sha256); put it back, or run anew with --fresh"
                )

    def _write_part(self, table: str, number: int, rows: pa.Table) -> Path:
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        data = sink.getvalue().to_pybytes()
        path = self.path / "tables" / table / f"part-{number:0{_PART_DIGITS}d}.parquet"
        write_atomically(path, data)
        self.manifest.setdefault("parts", {})[str(path.relative_to(self.path))] = hashlib.sha256(data).hexdigest()
        self._carry_on(path)
        return path

    def _drop(self, parts: Iterable[Path]) -> None:
        # The manifest forgets a part before the part goes, so that a crash in between leaves no dangling name.
        names = list(parts)
        for part in names:
            self.manifest.get("parts", {}).pop(str(part.relative_to(self.path)), None)
        self.save_manifest()
        for part in names:
            part.unlink(missing_ok=True)
            if self.copy is not None:
                self.copy.drop(part)
        if self.copy is not None:
            self.copy.push()

    def _remove_leftovers(self) -> None:
        """Delete temporary files of writers that no longer exist."""
        for leftover in self.path.glob("tables/*/.*.tmp"):
            owner = leftover.name.split(".")[-2]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                leftover.unlink(missing_ok=True)


def _check_name(table: str) -> None:
    if table not in TABLES:
        raise RecordError(f"no table {table!r} in a run; tables are {', '.join(TABLES)}")


def _read_part(part: Path, table: str, names: list[str]) -> pa.Table:
    """Columns of one part; raises `RecordError` naming a part that cannot be read."""
    wanted = pa.schema([schema(table).field(name) for name in names])
    try:
        file = pq.ParquetFile(part)
        later = [name for name in names if (table, name) in ADDED and name not in file.schema_arrow.names]
        found = file.read(columns=[name for name in names if name not in later])
        for name in later:
            found = found.append_column(wanted.field(name), pa.nulls(file.metadata.num_rows, wanted.field(name).type))
        return found.select(names).cast(wanted)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise damaged(part, error) from None


def _current(loaded: pa.Table) -> pa.Array:
    """Which rows of a table loaded with its part numbers stand."""
    cases = pc.dictionary_encode(loaded["case_key"].combine_chunks())
    cases = cases.combine_chunks() if isinstance(cases, pa.ChunkedArray) else cases
    case, parts = cases.indices.to_numpy(zero_copy_only=False), loaded["_part"].to_numpy()
    later = int(parts.max(initial=0)) + 1
    best = np.full(len(cases.dictionary), -1, np.int64)
    np.maximum.at(best, case, parts + np.where(state_numbers(loaded["status"]) == STATES.index("ok"), later, 0))
    return pa.array(best[case] % later == parts)


def to_table(table: str, rows: Iterable[Mapping[str, Any]], run_id: str) -> pa.Table:
    """Rows as an Arrow table of the table's schema; unknown columns go into ``extra`` as JSON.

    Raises `RecordError` naming the column whose value does not have the column's type.
    """
    wanted = schema(table)
    known = set(wanted.names)
    listed = []
    for row in rows:
        own = {name: plain(value) for name, value in row.items() if name in known and name != "extra"}
        other = {name: plain(value) for name, value in row.items() if name not in known}
        extra = row.get("extra") or {}
        other.update(json.loads(extra) if isinstance(extra, str) else extra)
        own["run_id"] = run_id
        own["extra"] = json.dumps(other, ensure_ascii=False, default=str) if other else None
        own.setdefault("row", 0)
        listed.append(own)
    columns = []
    for field in wanted:
        values = [row.get(field.name) for row in listed]
        if field.type == pa.string():
            values = [v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
        try:
            columns.append(pa.array(values, field.type, from_pandas=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise RecordError(f"table {table}, column {field.name}: a value is not {field.type} ({error})") from None
    return pa.Table.from_arrays(columns, schema=wanted)


def plain(value: Any) -> Any:
    """Numpy scalars and arrays as Python values, recursively."""
    if type(value) in _PLAIN or (type(value) is list and all(type(item) in _PLAIN for item in value)):
        return value  # most values are plain already, and a histogram has hundreds of them
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def label_of(table: str, row: Mapping[str, Any]) -> str:
    """A case in words, for failures and logs."""
    names = {
        "measure": ("variant", "tensor", "cast"),
        "channel": ("codec", "data", "format", "memory", "packing", "workload"),
        "system": ("codec", "format", "packing", "model", "accelerator", "scenario"),
        "fabric": ("codec", "accelerator", "topology", "operation", "devices", "size_bytes"),
        "pages": ("contract", "codec", "granularity", "source"),
    }[table]
    return "  ".join(str(row[name]) for name in names if row.get(name) not in (None, ""))
