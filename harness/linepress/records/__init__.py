"""The record of a run: Parquet tables with a versioned schema, and ``manifest.json``."""

from __future__ import annotations

from linepress.records.schema import SCHEMA_VERSION, TABLES, schema
from linepress.records.store import RunStore

__all__ = ["SCHEMA_VERSION", "TABLES", "RunStore", "schema"]
