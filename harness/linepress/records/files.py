"""Single files of a record: written whole or not at all, and the rows that a part's footer states."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from linepress.errors import EXIT_CASES_FAILED, RecordError


class RecordWriteError(RecordError):
    """The record cannot be written (disk full, folder gone); what was recorded before stays whole."""

    exit_code = EXIT_CASES_FAILED


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``path`` so that a reader or a crash sees the old file or the new one, never a part of either.

    Raises `RecordWriteError` where the system refuses; the old file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise RecordWriteError(
            f"{path}: cannot be written ({error.strerror or error}); make room or mend the folder and give the same "
            "command again, everything recorded so far is kept"
        ) from error


def footer_rows(part: object, source: Any) -> int:
    """Rows of the Parquet file ``source`` (a path or an open file) from its footer; errors name it as ``part``.

    Raises `RecordError` for a damaged one.
    """
    try:
        return int(pq.ParquetFile(source).metadata.num_rows)
    except pa.ArrowException as error:
        raise damaged(part, error) from None


def damaged(part: object, error: Exception) -> RecordError:
    """What is said of a part that cannot be read."""
    return RecordError(
        f"{part}: damaged part ({error}); delete this file and give the same command again to measure its cases anew"
    )


def finite(value: Any) -> Any:
    """``value`` with numpy scalars as Python numbers and non-finite floats as None."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float) and value not in (float("inf"), float("-inf")) and value == value:
        return value
    return None if isinstance(value, float) else value
