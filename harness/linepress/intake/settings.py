"""What an operator can set, with safe defaults: loopback only, small limits, everything kept for a stated time."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from linepress.errors import LinepressError

DAY_S = 86_400.0
PRIVATE_KEY = "signing-key.pem"
PUBLIC_KEY = f"{PRIVATE_KEY}.pub"


class IntakeError(LinepressError):
    """Something the operator of the service can mend."""


class Settings(BaseModel):
    """Settings of one service.

    Attributes
    ----------
    data : Path
        Folder of everything the service keeps: uploads, work folders and, by default, the database.
    database_url : str
        SQLAlchemy URL; empty for SQLite in ``data``.
    suites : tuple of str
        Suites a partner may ask for: names of packaged suites or paths of YAML files. Codecs, packings, hardware and
        seeds are the suite's, sources the partner's files.
    allowed_hosts : tuple of str
        Host headers answered; others get 400 (DNS rebinding).
    secure_cookies : bool
        Whether browsers must send the session over TLS only. Set it behind a TLS proxy.
    json_bytes : int
        Largest body of any request that is not an upload, in bytes.
    chunk_bytes : int
        Bytes of an upload held in memory before they are written.
    header_s, body_s : float
        How long the head of a request, and a body that is not an upload, may take to come.
    idle_s, upload_Bps : float
        Longest silence within an upload request, and the least mean rate past it, in bytes per second, before it is
        ended and what came is kept.
    connections : int
        Connections that one address may hold at a time; a trusted proxy's are not counted.
    hub_Bps : float
        Least mean rate at which a hub has to give a submission's files, in bytes per second; with `hub_grace_s`, it
        sets the time that a whole reference may take.
    hub_grace_s : float
        Time for the hub to begin, in seconds.
    fetches : int
        References fetched at a time; never two of one partner.
    busy_s : float
        How long a request waits for a locked database before it is answered with 503.
    files, file_bytes, submission_bytes : int
        Most files of a submission, largest file, largest sum, in bytes.
    disk_reserve_bytes : int
        Free bytes that no upload may use up.
    requests_per_s, burst : float, int
        Rate limit of a token unless the partner has its own.
    failures_per_minute : float
        Wrong tokens an address may show before it has to wait.
    session_s : float
        Life of a browser session.
    workers : int
        Cores of a validation run.
    check_timeout_s, run_timeout_s : float
        Longest check and longest run; past it the verdict is undecided, which is a refusal.
    run_memory_bytes : int
        Memory of a run: of all its processes together where cgroup v2 is delegated to the service, else of each.
    attempts : int
        Times a check or run that broke (not: that said no) is tried.
    lease_s : float
        Silence after which another runner takes a submission over.
    keep_files_s, keep_results_s, abandon_s : float
        How long after the verdict the partner's files and the results are kept, and how long an upload without
        progress is.
    ray_address : str or None
        Cluster that runs join; a local one else.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Path
    database_url: str = ""
    suites: tuple[str, ...] = ("smoke",)
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    secure_cookies: bool = False
    json_bytes: PositiveInt = 2 << 20
    chunk_bytes: PositiveInt = 1 << 20
    header_s: PositiveFloat = 15.0
    body_s: PositiveFloat = 30.0
    idle_s: PositiveFloat = 60.0
    upload_Bps: PositiveFloat = 1000.0
    connections: PositiveInt = 256
    hub_Bps: PositiveFloat = 100_000.0
    hub_grace_s: PositiveFloat = 60.0
    fetches: PositiveInt = 4
    busy_s: PositiveFloat = 4.0
    files: PositiveInt = 1024
    file_bytes: PositiveInt = 64 << 30
    submission_bytes: PositiveInt = 256 << 30
    disk_reserve_bytes: int = Field(default=1 << 30, ge=0)
    requests_per_s: PositiveFloat = 50.0
    burst: PositiveInt = 400
    failures_per_minute: PositiveFloat = 30.0
    session_s: PositiveFloat = 8 * 3600.0
    workers: PositiveInt = 1
    check_timeout_s: PositiveFloat = 3600.0
    run_timeout_s: PositiveFloat = 12 * 3600.0
    run_memory_bytes: PositiveInt = 16 << 30
    attempts: PositiveInt = 3
    lease_s: PositiveFloat = 60.0
    keep_files_s: PositiveFloat = 30 * DAY_S
    keep_results_s: PositiveFloat = 730 * DAY_S
    abandon_s: PositiveFloat = 7 * DAY_S
    ray_address: str | None = None

    @property
    def url(self) -> str:
        """Database URL, the default filled in."""
        return self.database_url or f"sqlite:///{self.data.absolute() / 'intake.db'}"

    @property
    def uploads(self) -> Path:
        """Folder of files that are still coming in."""
        return self.data / "uploads"

    @property
    def work(self) -> Path:
        """Folder of one folder a submission: its files, suite, run, logs and verdict."""
        return self.data / "work"

    def prepare(self) -> None:
        """Make the folders, for the service's own user only; raises `IntakeError` where that is not possible."""
        try:
            for folder in (self.data, self.uploads, self.work):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise IntakeError(
                f"{self.data}: cannot be made ({error.strerror}); give a folder of this user with --data"
            ) from None
