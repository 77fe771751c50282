"""Fetch what a submission refers to: the files of ``delivery: reference``, from its hub source into its folder.

The manifest is the partner's and the hub is anybody's, so both are held to account before and while bytes come: the
manifest by the rules that concern names, source and limits (S01, S05, S06, S11), the hub's file list by the
manifest's sizes and hashes, every block by `linepress.sources.hub` (commit, range, content tag) and by a running
sha256. A file stands under its name only when it is whole and its sha256 is the manifest's; until then it is a part
in `PARTS_FOLDER`, named by its sha256, from which a later call goes on. Nothing is opened through a link.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from linepress.errors import LinepressError, SourceError
from linepress.sources.hub import PIECE_BYTES, HubFile, hub_endpoint, is_offline, list_files
from linepress.submission.check import content
from linepress.submission.check.ledger import Ledger, name_of
from linepress.submission.check.limits import MANIFEST_NAME, PARTS_FOLDER, Limits
from linepress.submission.check.manifest import FileEntry, Manifest, parse_manifest
from linepress.submission.check.rules.identity import check_source
from linepress.submission.check.rules.names import check_names
from linepress.submission.check.tree import open_root

DEFAULT_BUDGET_BYTES = 64 << 30
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_PART = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_HF = "hf://"
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}\Z")
Progress = Callable[[str, int, int], None]


@dataclass
class Fetched:
    """What `fetch` did.

    Attributes
    ----------
    source, revision : str
        Where the files came from.
    fetched, kept : list of str
        Files fetched now; files that were there already, whole and right.
    received_bytes, resumed_bytes : int
        Bytes that came over the network; bytes that an earlier call had left in parts.
    """

    source: str
    revision: str
    fetched: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    received_bytes: int = 0
    resumed_bytes: int = 0


def fetch(
    folder: Path,
    *,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    token: bool = False,
    limits: Limits | None = None,
    progress: Progress = lambda path, done, of: None,
) -> Fetched:
    """Bring the referenced files into ``folder``.

    Parameters
    ----------
    folder : Path
        A submission with ``delivery: reference``.
    budget_bytes : int
        Most bytes that may be received; more is refused before the first is asked for.
    token : bool
        Ask with this machine's hub token. Otherwise as nobody: a partner's manifest must not reach what only we may.
    limits : Limits | None
    progress : callable
        Called with path, bytes had and bytes in all.

    Raises `LinepressError` where the folder or the manifest forbids it (exit status 4), `SourceError` where the hub
    does not give what the manifest says (3).
    """
    limits = limits or Limits()
    root = open_root(folder)
    try:
        manifest = _manifest(root, limits)
        repo_id, revision = manifest.source.uri.removeprefix(_HF), str(manifest.source.revision)
        done = Fetched(manifest.source.uri, revision)
        wanted: list[FileEntry] = []
        for entry in manifest.files:
            if _is_there(root, entry):
                done.kept.append(entry.path)
            else:
                wanted.append(entry)
        if wanted:
            with _parts(root) as parts:
                _within(wanted, parts, root, budget_bytes)
                files = _listed(repo_id, revision, wanted, token)
                for entry in wanted:
                    _one(root, parts, entry, files[entry.path], done, progress)
        _forget_parts(root)
        return done
    finally:
        os.close(root)


def _manifest(root: int, limits: Limits) -> Manifest:
    """The manifest, held to the rules that must hold before anything is asked for or written."""
    try:
        descriptor = os.open(MANIFEST_NAME, _READ, dir_fd=root)
    except OSError as error:
        raise LinepressError(f"{MANIFEST_NAME} cannot be opened ({error.strerror}); give a folder of pack") from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise LinepressError(f"{MANIFEST_NAME} is no regular file; give a folder that linepress pack wrote")
        raw = file.read(limits.manifest_bytes + 1)
    manifest = parse_manifest(raw, limits)
    if manifest.delivery != "reference":
        raise LinepressError(
            f"{MANIFEST_NAME} says delivery: files, so there is nothing to fetch; submit it as it is"
        )
    ledger = Ledger(("S05", "S06", "S10", "S11"))
    check_source(manifest, ledger)
    check_names([], [entry.path for entry in manifest.files], ledger)
    _check_sizes(manifest, limits, ledger)
    for finding in ledger.findings():
        if finding.verdict == "FAIL":
            raise LinepressError(
                f"{finding.rule}: {finding.reasons[0]}; nothing was fetched, see linepress explain {finding.rule}"
            )
    return manifest


def _check_sizes(manifest: Manifest, limits: Limits, ledger: Ledger) -> None:
    caps = {"safetensors": limits.file_bytes, "json": limits.json_bytes, "text": limits.text_bytes}
    if len(manifest.files) > limits.files:
        ledger.fail("S06", f"{len(manifest.files)} files, over {limits.files}")
    if sum(entry.bytes for entry in manifest.files) > limits.total_bytes:
        ledger.fail("S06", f"the files together are over {limits.total_bytes} B")
    paths = [entry.path for entry in manifest.files]
    if len(set(paths)) != len(paths) or MANIFEST_NAME in paths:
        ledger.fail("S05", "the manifest lists a file twice, or itself")
    for entry in manifest.files:
        if entry.bytes > caps[entry.format]:
            ledger.fail("S06", f"{name_of(entry.path)} has {entry.bytes} B, over {caps[entry.format]} B")
        if entry.path.count("/") >= limits.depth:
            ledger.fail("S06", f"{name_of(entry.path)} is over {limits.depth} levels deep")
        if not _SHA256.match(entry.sha256):
            ledger.fail("S10", f"{name_of(entry.path)}: sha256 {name_of(entry.sha256)} is not 64 hex digits")


def _is_there(root: int, entry: FileEntry) -> bool:
    """Whether the file stands in the folder and is the manifest's; one that is not is never written over."""
    try:
        with _in_folder(root, entry.path, make=False) as (folder, name):
            descriptor = os.open(name, _READ, dir_fd=folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LinepressError(
            f"{name_of(entry.path)} cannot be opened in the folder ({error.strerror}; links are not followed);"
            " remove what stands in its place and fetch again"
        ) from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        right = stat.S_ISREG(status.st_mode) and status.st_size == entry.bytes
        if not right or hashlib.file_digest(file, "sha256").hexdigest() != entry.sha256:
            raise LinepressError(
                f"{name_of(entry.path)} is in the folder and is not the manifest's file; remove it and fetch again"
            )
    return True


def _within(wanted: list[FileEntry], parts: int, root: int, budget_bytes: int) -> None:
    """Refuse what the budget or the disk cannot hold, before anything is asked for."""
    left = 0
    for entry in wanted:
        try:
            had = os.stat(_part_name(entry), dir_fd=parts, follow_symlinks=False).st_size
        except FileNotFoundError:
            had = 0
        left += max(entry.bytes - had, 0)
    if left > budget_bytes:
        raise LinepressError(
            f"{left} B are still to be fetched, over the budget of {budget_bytes} B; give --budget {left}"
        )
    disk = os.fstatvfs(root)
    if left > disk.f_bavail * disk.f_frsize:
        raise LinepressError(
            f"{left} B are still to be fetched and {disk.f_bavail * disk.f_frsize} B are free on the disk; make room"
        )


def _listed(repo_id: str, revision: str, wanted: list[FileEntry], token: bool) -> dict[str, HubFile]:
    """The hub's word on the wanted files, which must be the manifest's before any byte of them is asked for."""
    uri = f"{_HF}{repo_id}@{revision}"
    if is_offline():
        raise SourceError(f"{uri} cannot be asked in offline mode; unset HF_HUB_OFFLINE and fetch again")
    deep = any("/" in entry.path for entry in wanted)
    try:
        commit, files = list_files(
            hub_endpoint(), repo_id, "model", revision, uri=uri, recursive=deep, token=None if token else False
        )
    except SourceError as error:
        if not token and "HF_TOKEN" in str(error):
            raise SourceError(f"{error} (asked without a token: --use-token sends yours)") from None
        raise
    if commit != revision:
        raise SourceError(f"{uri}: the hub answered with another commit ({commit}); use another hub")
    for entry in wanted:
        file = files.get(entry.path)
        if file is None:
            raise SourceError(f"{uri} has no file {name_of(entry.path)}; ask the partner for the right revision")
        if file.size_bytes != entry.bytes or (not _GIT_SHA1.match(file.tag) and file.tag != entry.sha256):
            raise SourceError(
                f"{uri}: {name_of(entry.path)} has {file.size_bytes} B or a sha256 other than the manifest's"
                f" ({entry.bytes} B, {entry.sha256[:12]}…); ask the partner to pack it again"
            )
    return files


def _one(root: int, parts: int, entry: FileEntry, file: HubFile, done: Fetched, progress: Progress) -> None:
    """Fetch one file into its part, and give it its name when it is whole and right."""
    part = _part_name(entry)
    descriptor = os.open(part, _PART, 0o600, dir_fd=parts)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise LinepressError(f"{PARTS_FOLDER}/{part} is no file of one name; remove {PARTS_FOLDER}")
        had = status.st_size if status.st_size <= entry.bytes else 0
        os.ftruncate(descriptor, had)
        right = _fill(descriptor, entry, file, had, done, progress)
        if not right and had:
            # What an earlier call (or somebody else) left was not this file: once more, from its first byte.
            os.ftruncate(descriptor, 0)
            had, right = 0, _fill(descriptor, entry, file, 0, done, progress)
        if not right:
            os.unlink(part, dir_fd=parts)
            raise SourceError(
                f"{file}: its sha256 is not the manifest's for {name_of(entry.path)}; nothing of it was kept, ask the"
                " partner to pack it again"
            )
        _check_head(os.pread(descriptor, content.HEAD_BYTES, 0), entry, file)
        os.fchmod(descriptor, 0o644)
        os.fsync(descriptor)
    except SourceError:
        if not os.fstat(descriptor).st_size:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=parts)
        raise
    finally:
        os.close(descriptor)
    try:
        with _in_folder(root, entry.path, make=True) as (folder, name):
            os.rename(part, name, src_dir_fd=parts, dst_dir_fd=folder)
    except OSError as error:
        raise LinepressError(
            f"{name_of(entry.path)} cannot be put into the folder ({error.strerror}; links are not followed); remove"
            " what stands in its way and fetch again"
        ) from None
    done.fetched.append(entry.path)
    done.resumed_bytes += had


def receive(
    descriptor: int,
    n_bytes: int,
    sha256: str,
    file: HubFile,
    had: int = 0,
    head: Callable[[bytes], None] = lambda head: None,
    progress: Callable[[int, int], None] = lambda new, at: None,
) -> bool:
    """Receive what a part lacks, hashing all of it; whether its sha256 is the one that was declared.

    Parameters
    ----------
    descriptor : int
        Of the part, open to be read and written.
    n_bytes, sha256
        Of the whole file, as declared.
    file : HubFile
    had : int
        Bytes that the part holds already.
    head : callable
        Is shown the beginning, before more is asked for, and raises `SourceError` for what is not wanted.
    progress : callable
        Called with the bytes that came and the bytes had by now.
    """
    digest = hashlib.sha256()
    at = 0
    while at < had and (block := os.pread(descriptor, min(PIECE_BYTES, had - at), at)):
        digest.update(block)
        at += len(block)
    while at < n_bytes:
        # the first request is small: content that is refused is not fetched to its end
        stop = min(at + (PIECE_BYTES if at else content.HEAD_BYTES), n_bytes)
        piece = memoryview(file.read(at, stop).data)
        if not at:
            head(bytes(piece))
        digest.update(piece)
        new = len(piece)
        while len(piece):
            n = os.pwrite(descriptor, piece, at)
            piece, at = piece[n:], at + n
        progress(new, at)
    return digest.hexdigest() == sha256


def _fill(descriptor: int, entry: FileEntry, file: HubFile, had: int, done: Fetched, progress: Progress) -> bool:
    def count(new: int, at: int) -> None:
        done.received_bytes += new
        progress(entry.path, at, entry.bytes)

    return receive(
        descriptor, entry.bytes, entry.sha256, file, had, lambda head: _check_head(head, entry, file), count
    )


def unwanted(head: bytes, n_bytes: int) -> str | None:
    """What a file is, by its beginning, that no submission takes; None when nothing is recognised."""
    archive = content.archive_of(head, b"", n_bytes, lambda offset, n: head[offset : offset + n])
    return archive or content.refused_of(head, n_bytes)


def _check_head(head: bytes, entry: FileEntry, file: HubFile) -> None:
    if not head:
        return
    reason = unwanted(head, entry.bytes)
    if reason is None and (entry.format == "safetensors") != content.looks_safetensors(head, entry.bytes):
        reason = f"not {entry.format}"
    if reason is None and entry.format == "json" and head.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] not in b"{[":
        reason = "not JSON"
    if reason is not None:
        raise SourceError(
            f"{file}: {name_of(entry.path)} is {reason}; it was not fetched, ask the partner for safetensors"
        )


def _part_name(entry: FileEntry) -> str:
    return f"{entry.sha256}.part"


@contextmanager
def _parts(root: int) -> Iterator[int]:
    """Descriptor of the folder of parts, made when it is not there, held by one fetch at a time."""
    try:
        with _in_folder(root, f"{PARTS_FOLDER}/x", make=True) as (parts, _):
            try:
                fcntl.flock(parts, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LinepressError(
                    "another linepress fetch is at work in this folder; wait until it ends"
                ) from None
            try:
                yield parts
            finally:
                # left behind only while it holds a part
                with suppress(OSError):
                    os.rmdir(PARTS_FOLDER, dir_fd=root)
    except (FileExistsError, NotADirectoryError) as error:
        raise LinepressError(f"{PARTS_FOLDER} is no folder ({error.strerror}); remove it and fetch again") from None


def _forget_parts(root: int) -> None:
    """Remove the folder of parts with the parts of files that are no longer wanted."""
    try:
        parts = os.open(PARTS_FOLDER, _FOLDER, dir_fd=root)
    except OSError:
        return
    try:
        with os.scandir(parts) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(".part")]
        for name in names:
            os.unlink(name, dir_fd=parts)
        os.rmdir(PARTS_FOLDER, dir_fd=root)
    except OSError as error:
        raise LinepressError(
            f"{PARTS_FOLDER} holds something else than parts ({error.strerror}); remove it before linepress submit"
        ) from None
    finally:
        os.close(parts)


@contextmanager
def _in_folder(root: int, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
    """Descriptor of the folder that ``path`` lies in, and its last name; no component is a link."""
    *folders, name = path.split("/")
    descriptor = os.dup(root)
    try:
        for part in folders:
            if make:
                # there already, or a link: the open below tells which
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=descriptor)
            deeper = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = deeper
        yield descriptor, name
    finally:
        os.close(descriptor)
