"""Tables of the service and transactions over them: SQLite by default, PostgreSQL by URL.

A transaction that has returned is on the disk: SQLite runs in WAL mode with ``synchronous=FULL``, which flushes the
log at each commit (https://www.sqlite.org/pragma.html#pragma_synchronous). Times are seconds since 1970 UTC.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, OperationalError

from linepress.intake.settings import IntakeError
from linepress.intake.store import migrations

_VERSION = "schema_version"
_WRITE = "linepress_write"
_ROW = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows itself for INTEGER only

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String(64), primary_key=True), Column("value", Text, nullable=False))

partners = Table(
    "partners",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("contact", String(320), nullable=False),
    Column("quota_bytes", BigInteger, nullable=False),
    Column("requests_per_s", Float),
    Column("burst", Integer),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("partner", ForeignKey("partners.id"), nullable=False, index=True),
    Column("digest", String(64), nullable=False),
    Column("scopes", String(200), nullable=False),
    Column("label", String(100), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("token", ForeignKey("tokens.id"), nullable=False),
    Column("expires_at", Float, nullable=False),
)

submissions = Table(
    "submissions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("partner", ForeignKey("partners.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("suite", String(100), nullable=False),
    Column("memories", Text, nullable=False),
    Column("accelerators", Text, nullable=False),
    Column("hub_uri", String(300)),
    Column("hub_revision", String(40)),
    Column("publish", Boolean, nullable=False),
    Column("idempotency_key", String(128)),
    Column("request_sha256", String(64), nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_owner", String(200)),
    Column("lease_until", Float),
    Column("files_gone_at", Float),
    Column("data_format", String(32)),
    Column("packed_ratio", Float),
    UniqueConstraint("partner", "idempotency_key"),
    Index("submissions_by_partner", "partner", "created_at", "id"),
    Index("submissions_by_state", "state", "created_at"),
    Index("submissions_by_use", "partner", "state", "files_gone_at", "total_bytes"),
    Index("submissions_by_rank", "suite", "data_format", "state", "packed_ratio"),
)

files = Table(
    "files",
    metadata,
    Column("submission", ForeignKey("submissions.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("path", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("from_hub", Boolean, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("updated_at", Float, nullable=False),
)

waivers = Table(
    "waivers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("partner", ForeignKey("partners.id"), nullable=False, index=True),
    Column("rule", String(8), nullable=False),
    Column("reason", Text, nullable=False),
    Column("granted_by", String(100), nullable=False),
    Column("granted_at", Float, nullable=False),
    Column("revoked_at", Float),
)

events = Table(
    "events",
    metadata,
    Column("id", _ROW, primary_key=True),
    Column("submission", ForeignKey("submissions.id"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("from_state", String(16)),
    Column("to_state", String(16), nullable=False),
    Column("actor", String(100), nullable=False),
    Column("reason", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _ROW, primary_key=True),
    Column("at", Float, nullable=False, index=True),
    Column("partner", String(64), nullable=False),
    Column("actor", String(100), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(200), nullable=False),
    Column("outcome", String(100), nullable=False),
    Column("address", String(64), nullable=False),
    Column("chain", String(64), nullable=False, server_default=""),
)

names = Table(
    "names",
    metadata,
    Column("partner", ForeignKey("partners.id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("content", String(64), nullable=False),
    Column("submission", String(40), nullable=False),
    Column("at", Float, nullable=False),
)


class Database:
    """Connections to one database; `read` and `write` are transactions.

    A database that stays locked for ``busy_s`` raises `OperationalError`: whoever asked is to ask again.
    """

    def __init__(self, url: str, busy_s: float = 4.0) -> None:
        self.engine = _engine(url, busy_s)
        self._sqlite = self.engine.dialect.name == "sqlite"
        self._writing = threading.Lock()
        self._prepare()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write; on the disk when the block has ended without an exception."""
        if not self._sqlite:
            with self.engine.begin() as connection:
                yield connection
            return
        # SQLite has one writer: waiting here is fair, waiting on its file lock is polling.
        options = {_WRITE: True}
        with self._writing, self.engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """End every connection."""
        self.engine.dispose()

    def lacking(self) -> list[str]:
        """Tables and columns that this linepress needs and the database has not; empty when it is whole."""
        with self.read() as connection:
            seen = inspect(connection)
            there = set(seen.get_table_names())
            missing = [table.name for table in metadata.sorted_tables if table.name not in there]
            for table in metadata.sorted_tables:
                if table.name in there:
                    have = {str(column["name"]) for column in seen.get_columns(table.name)}
                    missing += [f"{table.name}.{column.name}" for column in table.columns if column.name not in have]
        return missing

    def _prepare(self) -> None:
        try:
            with self.write() as connection:
                self._bring_up(connection)
        except IntegrityError:
            pass  # another service made the same tables at the same moment
        except OperationalError as error:
            raise IntakeError(f"database cannot be opened ({error.orig}); check the URL and its folder") from None
        if missing := self.lacking():
            raise IntakeError(
                f"database lacks {', '.join(missing[:5])}; restore it from a backup, or give another --data"
            )

    def _bring_up(self, connection: Connection) -> None:
        """Make the tables of a new database, take those of an older one to where this linepress is."""
        if "meta" not in inspect(connection).get_table_names():
            metadata.create_all(connection)
            migrations.stamp(connection, migrations.newest())
            connection.execute(insert(meta).values(key=_VERSION, value=migrations.newest()))
            return
        # Said in a row as well, and in version 1 only there.
        found = str(connection.execute(select(meta.c.value).where(meta.c.key == _VERSION)).scalar())
        if found not in migrations.known():
            raise IntakeError(
                f"database is of schema version {found}, this linepress has {migrations.newest()}; start it with the "
                "linepress that wrote it, or give another --data"
            )
        if migrations.current(connection) is None:
            migrations.stamp(connection, found)
        if found != migrations.newest():
            migrations.upgrade(connection)


def _engine(url: str, busy_s: float) -> Engine:
    try:
        if not url.startswith("sqlite:"):
            return create_engine(url, pool_pre_ping=True)
        engine = create_engine(
            url, connect_args={"check_same_thread": False, "timeout": busy_s}, pool_size=16, max_overflow=64
        )
    except (ArgumentError, NoSuchModuleError) as error:
        raise IntakeError(f"database URL not understood ({error}); write postgresql+psycopg://…") from None
    except ModuleNotFoundError as error:
        raise IntakeError(f"database driver {error.name} is missing; pip install 'linepress[postgres]'") from None

    @event.listens_for(engine, "connect")
    def _connected(dbapi: Any, record: object) -> None:
        dbapi.isolation_level = None  # the driver would else begin transactions of its own choosing
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            dbapi.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        write = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
