"""The tables of schema version 1, as linepress made them before it knew steps. Nothing to do."""

from __future__ import annotations

revision = "1"
down_revision = None


def upgrade() -> None:
    """The tables are there."""
