"""Where things of a submission lie, and how its files get there from the upload."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from typing import Any

from linepress.intake.settings import Settings
from linepress.intake.store.uploads import part_path
from linepress.intake.work import hub

Row = dict[str, Any]


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

    def absent(self, files: Sequence[Row]) -> list[Row]:
        """Files of the hub reference that are not here yet."""
        return [file for file in files if file["from_hub"] and not (self.files / str(file["path"])).exists()]

    def fetch(self, files: Sequence[Row], stopped: Callable[[], bool]) -> None:
        """Bring the files of the hub reference to where uploads lie; a second call goes on where the first was.

        Raises as `linepress.intake.work.hub.fetch` does.
        """
        absent = self.absent(files)
        if absent:
            folder = part_path(self.settings, str(self.row["id"]), 0).parent
            hub.fetch(self.settings, self.row, absent, folder.absolute(), stopped)

    def assemble(self, files: Sequence[Row]) -> None:
        """Bring the files together under their own names; a second call after a crash goes on where the first was.

        Raises `OSError` where the disk fails.
        """
        self.files.mkdir(parents=True, exist_ok=True, mode=0o700)
        for file in files:
            # The name was judged when it was declared (rule S05): relative, no '..', one meaning everywhere.
            target = self.files / str(file["path"])
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = part_path(self.settings, str(self.row["id"]), int(file["number"]))
            if target.exists():
                part.unlink(missing_ok=True)  # what came after the file was whole is not the file
            elif part.exists() and part.stat().st_size == file["bytes"]:
                part.replace(target)
            elif part.exists():
                have = part.stat().st_size
                raise OSError(f"{part.name} of submission {self.row['id']} has {have} of {file['bytes']} B")
            elif not file["bytes"]:
                target.touch(mode=0o600)
            else:
                raise OSError(f"{file['number']}.part of submission {self.row['id']} is gone")

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
