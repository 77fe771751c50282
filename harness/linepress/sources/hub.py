"""``hf://org/name@revision[/subfolder]``: tensors of a hub repository, streamed by byte range.

The revision is resolved to its 40-hex commit once, and everything is read at that commit. File list and headers come
first (one request a shard where the header fits in `HEADER_GUESS_BYTES`); tensor bytes come when a worker asks, in
pieces that resume where a connection broke. Only safetensors and JSON are ever read. Every answer is held against
what the file list said: commit, size and content tag; an answer that disagrees ends the reading with an error.

``hf://datasets/org/name@revision`` names a dataset repository; ``?local=true`` reads a snapshot on disk, fetched
first, instead of streaming. ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` mean what they mean to
huggingface_hub; offline, the snapshot in its cache is read.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import numpy as np

from linepress.errors import SourceError
from linepress.sources.base import Source, TensorRef
from linepress.sources.bytes import Bytes, check_range
from linepress.sources.safetensors.folder import Part, beside_index, duplicates, open_folder, parts_of
from linepress.sources.safetensors.header import Header, header_length, parse_header
from linepress.sources.safetensors.reader import (
    INDEX_NAME,
    MAX_INDEX_BYTES,
    check_index,
    parse_index,
    refs_of,
)
from linepress.sources.snapshot.format import check_snapshot, is_snapshot
from linepress.sources.sniff import CONVERT, kind_of_head
from linepress.sources.text import shown

HEADER_GUESS_BYTES = 100_000
PIECE_BYTES = 8 << 20
HEADER_WORKERS = 8
TRIES = 5
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 16.0
EXAMPLE = "hf://meta-llama/Llama-3.1-8B-Instruct@main"

_URI = re.compile(
    r"^hf://(?P<kind>datasets/)?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>refs/(?:pr/\d+|convert/[^/]+|heads/[^/]+|tags/[^/]+)|[^/]+))?(?:/(?P<folder>[^?#]*))?$"
)
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_RETRIED = (408, 429, 500, 502, 503, 504)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository at a commit, as its file list describes it."""

    endpoint: str
    repo_id: str
    repo_type: str
    commit: str
    path: str
    size_bytes: int
    tag: str
    """sha256 of a large file, git blob id of a small one: what the server's content tag must be."""
    token: bool | None = None
    """False: ask as nobody; None: with the token of this machine, if there is one."""

    def __str__(self) -> str:
        return f"{self.repo_id}@{self.commit[:12]}/{self.path}"

    def read(self, start: int, end: int) -> Bytes:
        """Bytes ``start … end`` of the file, in pieces."""
        out = np.empty(end - start, dtype=np.uint8)
        for at in range(start, end, PIECE_BYTES):
            stop = min(at + PIECE_BYTES, end)
            self._piece(at, out[at - start : stop - start])
        return out

    def _piece(self, start: int, out: Bytes) -> None:
        """Fill ``out`` from byte ``start``, resuming after a broken connection, with growing waits."""
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # whichever client it runs on

        view, done, wait_s = out.data, 0, FIRST_WAIT_S
        for attempt in range(1, TRIES + 1):
            why = ""
            try:
                for block in self._stream(start + done, start + len(out)):
                    view[done : done + len(block)] = block
                    done += len(block)
                if done == len(out):
                    return
                why = f"it sent {done} of {len(out)} B"
            except _AgainError as error:
                why = str(error)
            except HTTPError as error:
                why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if attempt < TRIES:
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        raise SourceError(f"{self}: no complete answer in {TRIES} tries ({why}); check the network and run again")

    def _stream(self, start: int, end: int) -> Any:
        """The bytes of one ranged request, checked against the file list before any is handed on."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils import build_hf_headers, get_session  # type: ignore[attr-defined]

        url = hf_hub_url(
            self.repo_id, self.path, repo_type=self.repo_type, revision=self.commit, endpoint=self.endpoint
        )
        headers = {
            **build_hf_headers(token=self.token),
            "Range": f"bytes={start}-{end - 1}",
            "Accept-Encoding": "identity",
        }
        with get_session().stream("GET", url, headers=headers, timeout=30, follow_redirects=True) as answer:
            if answer.status_code in _RETRIED:
                raise _AgainError(f"status {answer.status_code}")
            if answer.status_code >= 400:
                answer.read()
                _explain(lambda: _raise_for_status(answer), f"{self.repo_id}@{self.commit}")
            self._same_content(answer, start, end)
            left = end - start
            for block in answer.iter_raw():
                if len(block) > left:
                    raise SourceError(f"{self}: the server sent more than the {end - start} B asked; use another hub")
                left -= len(block)
                yield block

    def _same_content(self, answer: Any, start: int, end: int) -> None:
        whole = start == 0 and end == self.size_bytes
        if answer.status_code != 206 and not (whole and answer.status_code == 200):
            raise SourceError(
                f"{self}: the server answered {answer.status_code} to a range; use a mirror that serves ranges"
            )
        if answer.status_code == 206:
            said = answer.headers.get("Content-Range", "").replace(" ", "")
            if said not in (f"bytes{start}-{end - 1}/{self.size_bytes}", f"bytes{start}-{end - 1}/*"):
                raise SourceError(
                    f"{self}: asked for bytes {start}-{end - 1} of {self.size_bytes}, the server answered "
                    f"{shown(answer.headers.get('Content-Range', 'without a range'))};"
                    " the file changed or the mirror lies"
                )
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise SourceError(f"{self}: the server packs its answers although asked not to; use another hub")
        for hop in (*answer.history, answer):
            commit = hop.headers.get("X-Repo-Commit")
            if commit is not None and commit != self.commit:
                raise SourceError(f"{self}: the server answered from commit {shown(commit)}; run again")
            # after a redirect to storage, the storage's own ETag means nothing: the hub's linked tag is the one
            tag = hop.headers.get("X-Linked-Etag") or (None if answer.history else hop.headers.get("ETag"))
            if tag is not None and tag.removeprefix("W/").strip('"') != self.tag:
                raise SourceError(f"{self}: its content changed since the file list was read; run again")


class _AgainError(Exception):
    """An answer worth asking for again."""


@dataclass(frozen=True, slots=True)
class HubBytes:
    """Bytes ``start … end`` of a hub file."""

    file: HubFile
    start: int
    end: int

    @property
    def n_bytes(self) -> int:
        return self.end - self.start

    @property
    def identity(self) -> str:
        f = self.file
        return f"hub:{f.repo_type}:{f.repo_id}:{f.commit}:{f.path}:{f.tag}:{self.start}-{self.end}"

    @property
    def local(self) -> bool:
        return False

    def read(self, start_byte: int, end_byte: int) -> Bytes:
        check_range(start_byte, end_byte, self.n_bytes, str(self.file))
        return self.file.read(self.start + start_byte, self.start + end_byte)


def list_files(
    endpoint: str,
    repo_id: str,
    repo_type: str,
    revision: str,
    folder: str = "",
    *,
    uri: str,
    recursive: bool = False,
    token: bool | None = None,
) -> tuple[str, dict[str, HubFile]]:
    """The 40-hex commit of a revision and its files in ``folder``, by their path from there.

    ``uri`` is what errors call it; without ``recursive`` folders below are left out. Raises `SourceError`.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    what = f"{repo_id}@{revision}"
    api = HfApi(endpoint=endpoint, token=token)
    info = _explain(lambda: api.repo_info(repo_id, revision=revision, repo_type=repo_type), what)
    commit = str(info.sha or "")
    if not _COMMIT.match(commit):
        raise SourceError(f"{uri}: the hub gave {shown(commit)} for a commit; use a hub or mirror that gives 40 hex")
    listed = _explain(
        lambda: list(
            api.list_repo_tree(repo_id, folder or None, recursive=recursive, revision=commit, repo_type=repo_type)
        ),
        what,
    )
    prefix = f"{folder}/" if folder else ""
    files: dict[str, HubFile] = {}
    for entry in listed:
        if isinstance(entry, RepoFile) and entry.path.startswith(prefix):
            tag = entry.lfs.sha256 if entry.lfs else entry.blob_id
            name = entry.path[len(prefix) :]
            files[name] = HubFile(endpoint, repo_id, repo_type, commit, entry.path, int(entry.size), tag, token)
    return commit, files


def hub_endpoint() -> str:
    """Where the hub is, by ``HF_ENDPOINT``."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids asking."""
    from huggingface_hub import constants

    return bool(constants.is_offline_mode())


class HubSource(Source):
    """The safetensors of one folder of a repository at a commit."""

    def __init__(self, uri: str, endpoint: str, repo_id: str, repo_type: str, revision: str, folder: str) -> None:
        self.uri = uri
        self.revision, files = list_files(endpoint, repo_id, repo_type, revision, folder, uri=uri)
        self._read(files, folder)

    def _read(self, files: dict[str, HubFile], folder: str) -> None:
        index = files.get(INDEX_NAME)
        weight_map: dict[str, str] | None = None
        if index is not None:
            if index.size_bytes > MAX_INDEX_BYTES:
                raise SourceError(f"{index} is over {MAX_INDEX_BYTES} B; it is not a shard index")
            weight_map = parse_index(index.read(0, index.size_bytes).tobytes(), str(index))
            names, qualified = sorted(set(weight_map.values())), False
            for name in names:
                if name not in files:
                    raise SourceError(f"{self.uri}: shard {name}, which the index names, is not in the repository")
        else:
            parts = parts_of(files, self.uri)
            names, qualified = [name for part in parts for name in part.files], len(parts) > 1
        if not names:
            pickles = [n for n in sorted(files) if n.endswith((".bin", ".pt", ".pth", ".ckpt"))]
            where = f"{self.uri} (folder {folder or '/'})"
            if pickles:
                raise SourceError(f"{where} holds only pickles ({pickles[0]}), which are never loaded; {CONVERT}")
            gguf = [n for n in sorted(files) if n.lower().endswith(".gguf")]
            if gguf:
                raise SourceError(
                    f"{where} holds GGUF only ({len(gguf)} files, such as {gguf[0]}), of which "
                    f"one is read at a time; name it: {self.uri.partition('?')[0]}/{gguf[0]}"
                )
            raise SourceError(f"{where} holds no .safetensors file; name the folder that does")
        with ThreadPoolExecutor(HEADER_WORKERS) as pool:
            headers = list(pool.map(_read_header, [files[name] for name in names]))
        self._left_out: dict[str, str] = {}
        if weight_map is not None:
            beside = beside_index(files, names)
            self._left_out = dict.fromkeys(beside, f"{INDEX_NAME} does not name it")
        self._tensors: list[TensorRef] = []
        self._skipped: dict[str, str] = {}
        self._metadata: dict[str, str] = {}
        self._files: list[dict[str, object]] = []
        owner: dict[str, str] = {}
        if qualified:
            names, headers, qualified = self._without_copies(parts, files, dict(zip(names, headers, strict=True)))
        for name, header in zip(names, headers, strict=True):
            self._add(files[name], name, header, f"{Path(name).stem}/" if qualified else "", owner)
        if weight_map is not None:
            check_index(weight_map, owner, str(index))

    def _without_copies(
        self, parts: list[Part], files: dict[str, HubFile], headers: dict[str, Header]
    ) -> tuple[list[str], list[Header], bool]:
        """Names, headers and whether names need their file, without files that hold another's weights again."""
        opened = []
        for part in parts:
            owner: dict[str, str] = {}
            for name in part.files:
                self._add(files[name], name, headers[name], "", owner)
            opened.append(self._tensors)
            self._tensors, self._skipped, self._metadata, self._files = [], {}, {}, []
        copies = duplicates(parts, opened)
        for i, of in copies.items():
            self._left_out |= dict.fromkeys(parts[i].files, f"the same weights as {parts[of].files[0]}")
        kept = [part for i, part in enumerate(parts) if i not in copies]
        names = [name for part in kept for name in part.files]
        return names, [headers[name] for name in names], len(kept) > 1

    def _add(self, file: HubFile, name: str, header: Header, prefix: str, owner: dict[str, str]) -> None:
        if is_snapshot(header):
            check_snapshot(header, str(file))
        for entry in header.entries:
            if prefix + entry.name in owner:
                raise SourceError(
                    f"{self.uri}: tensor {shown(entry.name)} is in {owner[prefix + entry.name]} and in {name}; "
                    "the repository contradicts itself"
                )
            owner[prefix + entry.name] = name

        def locate(start: int, end: int) -> HubBytes:
            return HubBytes(file, start, end)

        tensors, skipped = refs_of(header, uri=self.uri, revision=self.revision, locate=locate, prefix=prefix)
        self._tensors += tensors
        self._skipped |= skipped
        self._metadata |= header.metadata
        self._files.append(
            {"file": file.path, "size_bytes": file.size_bytes, "tag": file.tag, "header_sha256": header.sha256}
        )

    def tensors(self) -> list[TensorRef]:
        return list(self._tensors)

    def skipped(self) -> dict[str, str]:
        return dict(self._skipped)

    def left_out(self) -> dict[str, str]:
        return dict(self._left_out)

    def provenance(self) -> dict[str, object]:
        return {
            "uri": self.uri,
            "kind": "hub",
            "revision": self.revision,
            "files": self._files,
            "metadata": self._metadata,
        }


def open_hub(uri: str, endpoint: str | None = None, local: bool = False) -> Source:
    """The source of a ``hf://`` URI; ``local`` (or offline mode) reads a snapshot on disk instead of streaming.

    The token is taken where huggingface_hub takes it (``HF_TOKEN`` or its login file) and never enters a record.
    """
    found = _URI.match(uri.partition("?")[0])
    if not found:
        raise SourceError(f"{uri} is not hf://org/name@revision[/folder]; for example {EXAMPLE}")
    folder = unquote(found["folder"] or "").strip("/")
    if ".." in folder.split("/"):
        raise SourceError(f"{uri}: a folder inside the repository has no '..'; for example {EXAMPLE}")
    base = (endpoint or hub_endpoint()).rstrip("/")
    revision = unquote(found["revision"] or "main")
    repo_type = "dataset" if found["kind"] else "model"
    offline = is_offline()
    if local or offline or folder.lower().endswith(".gguf"):  # GGUF is read from disk only
        return _snapshot(uri, base, found["repo"], repo_type, revision, folder, offline)
    return HubSource(uri, base, found["repo"], repo_type, revision, folder)


def _snapshot(
    uri: str, endpoint: str, repo_id: str, repo_type: str, revision: str, folder: str, offline: bool
) -> Source:
    """The repository's snapshot in the hub client's cache, fetched first unless offline."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    single = folder.lower().endswith(".gguf")
    prefix = f"{folder}/" if folder else ""
    try:
        path = _explain(
            lambda: snapshot_download(
                repo_id,
                repo_type=repo_type,
                revision=revision,
                endpoint=endpoint,
                allow_patterns=([_all_parts(folder)] if single else [f"{prefix}*.safetensors", f"{prefix}*.json"]),
                local_files_only=offline,
            ),
            f"{repo_id}@{revision}",
        )
    except LocalEntryNotFoundError:
        raise SourceError(
            f"{uri} is not in the local cache, and "
            + ("offline mode is on; unset HF_HUB_OFFLINE" if offline else "the hub did not answer; check the network")
        ) from None
    commit = Path(path).name
    if not _COMMIT.match(commit):
        raise SourceError(f"{uri}: the local snapshot {path} is not of a 40-hex commit; fetch it again")
    if single:
        from linepress.sources.gguf.parts import open_gguf

        file = Path(path) / folder
        if not file.is_file():
            raise SourceError(f"{uri}: the repository has no file {shown(folder)}; check its name")
        return open_gguf(uri, file).at_revision(commit)
    return open_folder(uri, Path(path) / folder).at_revision(commit)


def _all_parts(name: str) -> str:
    """A pattern for a GGUF file, and for every part of its model where it is one of several."""
    return re.sub(r"-\d{5,}(-of-\d{5,}\.gguf)$", r"-*\1", re.sub(r"([\[\]*?])", r"[\1]", name), flags=re.IGNORECASE)


def _read_header(file: HubFile) -> Header:
    """The checked header of a remote file: one request where it fits in the first guess, two otherwise."""
    if file.size_bytes < 8:
        header_length(b"", file.size_bytes, str(file))
    head = file.read(0, min(HEADER_GUESS_BYTES, file.size_bytes))
    kind = kind_of_head(head[:64].tobytes(), file.size_bytes, str(file))
    if kind != "safetensors":
        raise SourceError(f"{file} is called .safetensors but is {kind}; the repository is mistaken")
    n = header_length(head[:8].tobytes(), file.size_bytes, str(file))
    if 8 + n > len(head):
        head = np.concatenate([head, file.read(len(head), 8 + n)])
    return parse_header(head[8 : 8 + n].tobytes(), file.size_bytes, str(file))


def _raise_for_status(answer: Any) -> None:
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    hf_raise_for_status(answer)


def _explain(call: Callable[[], T], what: str) -> T:
    """``call()``, with the hub client's errors as one sentence each; transport errors are tried again first."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    wait_s = FIRST_WAIT_S
    for attempt in range(1, TRIES + 1):
        try:
            return call()
        except LocalEntryNotFoundError:
            raise
        except GatedRepoError:
            sentence = "is gated; accept its terms on its page and set HF_TOKEN to a token of that account"
        except RepositoryNotFoundError:
            sentence = "does not exist on this hub or is private; check its name, or set HF_TOKEN"
        except RevisionNotFoundError:
            sentence = "has no such revision; name a branch, tag or 40-hex commit"
        except EntryNotFoundError:
            sentence = "has no such file or folder; check its name"
        except OfflineModeIsEnabled:
            sentence = "cannot be asked in offline mode; unset HF_HUB_OFFLINE"
        except HFValidationError as error:
            sentence = f"is not a repository name ({str(error).splitlines()[0]}); for example {EXAMPLE}"
        except HfHubHTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in _RETRIED and attempt < TRIES:
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                continue
            sentence = f"cannot be read: the hub answered {status}; check HF_TOKEN and HF_ENDPOINT, and try again"
        except (ValueError, KeyError, TypeError):
            sentence = "was answered by something that does not speak as the hub does; check HF_ENDPOINT"
        except HTTPError as error:
            if attempt < TRIES:
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
                continue
            sentence = f"cannot be reached ({type(error).__name__}); check the network and HF_ENDPOINT"
        raise SourceError(f"{what} {sentence}") from None
    raise SourceError(f"{what} cannot be read in {TRIES} tries; try again")
