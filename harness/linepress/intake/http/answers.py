"""Refusals that a partner sees: a status, a code for programs, one sentence for people."""

from __future__ import annotations


class RefusedError(Exception):
    """A request that cannot be granted.

    Attributes
    ----------
    status : int
        HTTP status.
    code : str
        Stable word for programs.
    text : str
        One sentence: what is wrong, how to mend it.
    headers : dict
        Further headers of the answer.
    """

    def __init__(self, status: int, code: str, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.text = text
        self.headers = headers or {}


def unknown_submission() -> RefusedError:
    """The same answer for a submission that is not there and for one of another partner."""
    return RefusedError(404, "not_found", "there is no such submission of yours; see the list of submissions")
