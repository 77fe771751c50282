"""The mirror of a run in MLflow. The record in Parquet never depends on it."""

from __future__ import annotations

from collections.abc import Callable

from linepress.errors import EXIT_CASES_FAILED, LinepressError
from linepress.records.store import RunStore

__all__ = ["MirrorError", "mirror_run", "sync_run"]


class MirrorError(LinepressError):
    """MLflow cannot be reached or refuses; the record is whole and can be mirrored later."""

    exit_code = EXIT_CASES_FAILED


def sync_run(store: RunStore) -> tuple[bool, str]:
    """Bring MLflow up to date: (whether anything was sent, where it is); raises `MirrorError` when it cannot."""
    from linepress.tracking.mirror import Mirroring, State, exclusive, fingerprint, shown_store, tracking_uri

    store.fetch()
    uri, target = tracking_uri(), fingerprint(store)
    known = State.load(store.path, uri)
    if known.fingerprint == target:
        return False, f"{shown_store(uri)} run {known.runs.get('parent', '')}"
    try:
        with exclusive(uri):
            return True, f"{shown_store(uri)} run {Mirroring(store, uri).run(target)}"
    except _failures() as error:
        sentence = " ".join(str(error).split())[:300]
        raise MirrorError(
            f"MLflow at {shown_store(uri)} cannot be written ({sentence}); start it or set MLFLOW_TRACKING_URI, then "
            f"`linepress sync {store.place}`"
        ) from error


def mirror_run(store: RunStore, say: Callable[[str], None]) -> str:
    """`sync_run` for a run that goes on without MLflow: the outcome in words, a warning told through ``say``."""
    try:
        sent, where = sync_run(store)
    except MirrorError as error:
        say(f"warning: {error}")
        return f"not mirrored; catch up with: linepress sync {store.place}"
    return where if sent else f"{where} (up to date)"


def _failures() -> tuple[type[Exception], ...]:
    """What MLflow raises when its store is away, full, locked or of another version."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, CommandError, OSError)
