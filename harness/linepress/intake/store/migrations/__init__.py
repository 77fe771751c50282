"""Steps of the database's schema, by alembic: ``versions`` holds one module a step, `upgrade` walks them."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def newest() -> str:
    """The revision that this linepress has."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def current(connection: Connection) -> str | None:
    """The revision of a database; None for one from before there were any."""
    return MigrationContext.configure(connection).get_current_revision()


def known() -> set[str]:
    """Every revision that this linepress knows."""
    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def stamp(connection: Connection, revision: str) -> None:
    """Note that a database is of ``revision``."""
    command.stamp(_config(connection), revision)


def upgrade(connection: Connection) -> None:
    """Bring a database to the newest revision, within the caller's transaction."""
    command.upgrade(_config(connection), "head")
