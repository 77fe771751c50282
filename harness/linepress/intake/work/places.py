"""Where things of a submission lie, and how its files get there from the upload."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from linepress.errors import LinepressError
from linepress.intake.settings import Settings
from linepress.intake.store.uploads import part_path
from linepress.submission.check.ledger import name_of

Row = dict[str, Any]
BLOCK_BYTES = 1 << 20
TIMEOUT_S = 60.0
RESUMES = 5


class HubError(LinepressError):
    """A hub reference that cannot be followed: the partner's to mend."""


class Place:
    """The work folder of one submission."""

    def __init__(self, settings: Settings, row: Row) -> None:
        self.settings = settings
        self.row = row
        self.path = (settings.work / str(row["id"])).absolute()
        self.files = self.path / "in" / str(row["partner"]) / str(row["name"])
        self.suite = self.path / "suite.yaml"
        self.run = self.path / "run"
        self.log = self.path / "log.txt"

    def write_log(self, text: str) -> None:
        """Add lines to the partner's log."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text.rstrip("\n") + "\n")

    def assemble(self, files: Sequence[Row]) -> None:
        """Bring the files together under their own names; a second call after a crash goes on where the first was.

        Raises `HubError` for what the hub does not give, `OSError` where the disk fails.
        """
        self.files.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in files:
            # The name was judged when it was declared (rule S05): relative, no '..', one meaning everywhere.
            target = self.files / str(file["path"])
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = part_path(self.settings, str(self.row["id"]), int(file["number"]))
            if file["from_hub"]:
                self._fetch(file, part, target)
            elif part.exists():
                part.replace(target)
            elif not target.exists() and not file["bytes"]:
                target.touch(mode=0o600)
            elif not target.exists():
                raise OSError(f"{file['number']}.part of submission {self.row['id']} is gone")

    def _fetch(self, file: Row, part: Path, target: Path) -> None:
        """One file from the hub, without any token of ours: a partner must not read what only we may."""
        if target.exists():
            return
        part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        why = ""
        for _ in range(RESUMES):
            have = part.stat().st_size if part.exists() else 0
            if have >= file["bytes"]:
                break
            why = self._stream(file, part, have)
        have = part.stat().st_size if part.exists() else 0
        if not file["bytes"]:
            part.touch(mode=0o600)
        elif have != file["bytes"]:
            raise HubError(f"{name_of(file['path'])}: the hub gave {have} of {file['bytes']} B ({why or 'too many'})")
        digest = hashlib.sha256()
        with part.open("rb") as source:
            while block := source.read(BLOCK_BYTES):
                digest.update(block)
            os.fsync(source.fileno())
        if digest.hexdigest() != file["sha256"]:
            part.unlink()
            raise HubError(f"{name_of(file['path'])}: the hub's file has another sha256 than the declared one")
        part.replace(target)

    def _stream(self, file: Row, part: Path, have: int) -> str:
        """Append what one request gives, never more than declared; says why it ended early."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
        from huggingface_hub.utils import build_hf_headers, get_session  # type: ignore[attr-defined]

        repo = str(self.row["hub_uri"]).removeprefix("hf://")
        endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
        url = hf_hub_url(repo, str(file["path"]), revision=str(self.row["hub_revision"]), endpoint=endpoint)
        headers = {**build_hf_headers(token=False), "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        try:
            with get_session().stream(
                "GET", url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True
            ) as answer:
                if answer.status_code != (206 if have else 200):
                    return f"status {answer.status_code}"
                with part.open("ab") as out:
                    for block in answer.iter_raw():
                        have += len(block)
                        if have > file["bytes"]:
                            return f"it sent more than the declared {file['bytes']} B"
                        out.write(block)
        except HTTPError as error:
            return type(error).__name__
        return ""

    def forget_files(self) -> None:
        """Delete the partner's files; log, verdict and report stay."""
        shutil.rmtree(self.settings.uploads / str(self.row["id"]), ignore_errors=True)
        shutil.rmtree(self.path / "in", ignore_errors=True)

    def forget(self) -> None:
        """Delete everything."""
        self.forget_files()
        shutil.rmtree(self.path, ignore_errors=True)


def tensor_files(files: Sequence[Row]) -> list[str]:
    """Paths of the files that hold tensors, by what the check found in them."""
    return sorted(str(file["path"]) for file in files if file["kind"] == "safetensors")
