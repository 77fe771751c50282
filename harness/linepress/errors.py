"""The error the command line turns into one sentence and an exit code."""

from __future__ import annotations

EXIT_OK = 0
EXIT_GATE_FAILED = 1
EXIT_CASES_FAILED = 2
EXIT_NOTHING_MEASURED = 3
EXIT_USAGE = 4
EXIT_STORE_REFUSES = 5
"""The place of a record cannot be reached or refuses it: no verdict on anything, and the same command tries again."""
EXIT_INTERRUPTED = 130


class LinepressError(Exception):
    """Something the user can mend. The message is one sentence: the thing, what is wrong, how to mend it."""

    exit_code = EXIT_USAGE


class SourceError(LinepressError):
    """A file, repository or tensor that cannot be read as what it claims to be."""

    exit_code = EXIT_NOTHING_MEASURED


class SuiteError(LinepressError):
    """A suite that does not say something runnable; the message gives file and line."""


class RecordError(LinepressError):
    """A run folder that cannot be used: of another suite, another schema version, or damaged."""
