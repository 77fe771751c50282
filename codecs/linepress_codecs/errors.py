"""The errors a codec raises; each message is one sentence that names the thing and how to mend it."""

from __future__ import annotations


class CodecError(ValueError):
    """Base of every error raised by this package."""


class SpecError(CodecError):
    """A codec, packing or option that does not exist or has a value out of range."""


class UnsupportedFormatError(CodecError):
    """The codec does not take this element format or line size."""


class CorruptDataError(CodecError):
    """A payload or table that no encoder wrote.

    Attributes
    ----------
    line : int | None
        Index of the line in which the damage was noticed, None where it lies in the tables or header.
    """

    def __init__(self, what: str, line: int | None = None) -> None:
        where = "tables" if line is None else f"line {line}"
        super().__init__(f"{where}: {what}")
        self.what = what
        self.line = line

    def at(self, line: int) -> CorruptDataError:
        """The same damage reported for another line index, as when a line was decoded alone."""
        return CorruptDataError(self.what, line=None if self.line is None else line)

    def __reduce__(self) -> tuple[type[CorruptDataError], tuple[str, int | None]]:
        return CorruptDataError, (self.what, self.line)
