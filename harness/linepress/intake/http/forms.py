"""What a partner may send as JSON; unknown keys are errors, every text and list has a bound."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from linepress.submission.check.ledger import Ledger, name_of
from linepress.submission.check.limits import MANIFEST_NAME
from linepress.submission.check.rules.identity import SLUG
from linepress.submission.check.rules.names import check_names, name_problem

MOST_FILES = 4096
MOST_BYTES = 4 << 40
Slug = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
Part = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class Strict(BaseModel):
    """Base of every body."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NewFile(Strict):
    """A file that will be uploaded, or fetched from the hub: its path in the submission, size in bytes, sha256."""

    path: Annotated[str, Field(min_length=1, max_length=1024)]
    bytes: Annotated[int, Field(ge=0, le=MOST_BYTES)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @field_validator("path")
    @classmethod
    def _harmless(cls, path: str) -> str:
        problem = name_problem(path)
        if problem is not None:
            raise ValueError(f"{name_of(path)} {problem}")
        return path


class HubReference(Strict):
    """Where the service fetches every file but the manifest: a hub repository at a commit."""

    uri: Annotated[
        str, Field(max_length=300, pattern=r"^hf://[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
    ]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class NewSubmission(Strict):
    """A submission to be: ``manifest.yaml`` is one of the files. Hardware and suite are names the service offers."""

    name: Slug
    files: Annotated[list[NewFile], Field(min_length=1, max_length=MOST_FILES)]
    suite: Part = "smoke"
    memories: Annotated[list[Part], Field(max_length=4)] = []
    accelerators: Annotated[list[Part], Field(max_length=4)] = []
    hub: HubReference | None = None
    publish: bool = False

    @model_validator(mode="after")
    def _whole(self) -> NewSubmission:
        if not SLUG.match(self.name):
            raise ValueError("name is not lower-case letters, digits, '.' and '-' (at most 64)")
        paths = [file.path for file in self.files]
        if paths.count(MANIFEST_NAME) != 1:
            raise ValueError(f"{MANIFEST_NAME} must be one of the files")
        if len(set(paths)) != len(paths):
            raise ValueError("a path is given twice")
        ledger = Ledger(("S05",))
        check_names(paths, [], ledger)
        if ledger.failed("S05"):
            raise ValueError(ledger.findings()[0].reasons[0])
        folders = {path[:at] for path in paths for at, c in enumerate(path) if c == "/"}
        if clash := sorted(folders.intersection(paths)):
            raise ValueError(f"{name_of(clash[0])} is a file and a folder")
        if self.hub is not None and len(self.files) < 2:
            raise ValueError("a hub reference needs the files that shall be fetched")
        return self


class SubmissionState(BaseModel):
    """A submission as the API shows it; sizes in bytes, times in seconds since 1970 UTC."""

    id: str
    name: str
    state: Literal["uploading", "received", "checked", "queued", "running", "validated", "rejected", "withdrawn"]
    meaning: str
    reason: str
    suite: str
    memories: list[str]
    accelerators: list[str]
    hub: str | None
    publish: bool
    total_bytes: int
    created_at: float
    updated_at: float
    files: list[FileState] = []
    journal: list[Step] = []
    links: dict[str, str] = {}


class FileState(BaseModel):
    """One declared file; ``offset`` bytes of it are acknowledged and on the disk."""

    path: str
    bytes: int
    sha256: str
    offset: int
    from_hub: bool
    upload: str


class Step(BaseModel):
    """One transition."""

    at: float
    from_state: str | None
    to_state: str
    actor: str
    reason: str


class SubmissionPage(BaseModel):
    """A page of submissions; ``next`` is empty at the end."""

    submissions: list[SubmissionState]
    next: str


class Problem(BaseModel):
    """Every refusal: a word for programs, one sentence for people."""

    code: str
    error: str


SubmissionState.model_rebuild()
