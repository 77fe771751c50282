"""How the controller behaves: page policy, refresh, queues. One frozen object, printable and parsed from a spec."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from linepress_hardware.dram.standards import Standard
from linepress_hardware.errors import ConfigurationError

PAGES = ("open", "closed", "adaptive", "timeout")
REFRESHES = ("standard", "all_bank", "per_bank", "none")


@dataclass(frozen=True, slots=True)
class Policy:
    """Controller policy; FR-FCFS over two queues.

    Attributes
    ----------
    page : str
        ``open`` leaves rows open; ``closed`` precharges with every access; ``adaptive`` precharges with the last
        queued access to the row; ``timeout`` leaves them open and precharges what was not used for ``close_ns``.
    refresh : str
        ``all_bank`` (one command per scope every tREFI), ``per_bank`` (banks in turn), ``none``, or ``standard``:
        per bank where the standard has it, else all banks.
    read_queue, write_queue : int
        Entries, in atoms, shared by the pseudo channels.
    drain_high, drain_low : float
        Writes are drained when more than this share of the write queue is full (or no read waits), until less
        than ``drain_low`` is left and a read waits.
    close_ns : float
        Time after its last access at which ``timeout`` closes a row.
    """

    page: str = "open"
    refresh: str = "standard"
    read_queue: int = 32
    write_queue: int = 32
    drain_high: float = 0.8
    drain_low: float = 0.2
    close_ns: float = 200.0

    def __post_init__(self) -> None:
        if self.page not in PAGES:
            raise ConfigurationError(f"policy page {self.page!r} is not one of {', '.join(PAGES)}")
        if self.refresh not in REFRESHES:
            raise ConfigurationError(f"policy refresh {self.refresh!r} is not one of {', '.join(REFRESHES)}")
        for name in ("read_queue", "write_queue"):
            if not 1 <= getattr(self, name) <= 4096:
                raise ConfigurationError(f"policy {name} = {getattr(self, name)} must be 1 to 4096 atoms")
        if not 0 <= self.close_ns <= 1e6:
            raise ConfigurationError(f"policy close_ns = {self.close_ns:g} must be 0 to 1,000,000 ns")
        if not 0 <= self.drain_low < self.drain_high <= 1:
            raise ConfigurationError(
                f"policy drain_low {self.drain_low:g}, drain_high {self.drain_high:g}: need 0 ≤ low < high ≤ 1"
            )

    def on(self, standard: Standard) -> Policy:
        """This policy with its refresh named; raises `ConfigurationError` for a refresh the standard lacks."""
        if self.refresh == "per_bank" and not standard.per_bank_refresh:
            raise ConfigurationError(
                f"policy {self}: {standard.name} has no per-bank refresh here; use all_bank or none"
            )
        if self.refresh != "standard":
            return self
        return replace(self, refresh="per_bank" if standard.per_bank_refresh else "all_bank")

    def __str__(self) -> str:
        """The page policy and whatever is not default, as `parse_policy` reads it."""
        default = Policy(page=self.page)
        extra = [
            f"{f.name}={getattr(self, f.name)}"
            for f in fields(self)
            if getattr(self, f.name) != getattr(default, f.name)
        ]
        return ":".join([self.page, *extra])


def parse_policy(spec: str | Policy | None) -> Policy:
    """A policy from ``open``, ``closed:refresh=per_bank:read_queue=64``, …; None is the default."""
    if spec is None:
        return Policy()
    if isinstance(spec, Policy):
        return spec
    head, *rest = spec.split(":")
    values: dict[str, str | int | float] = {"page": head}
    default = Policy()
    kinds: dict[str, type[str] | type[int] | type[float]] = {
        f.name: type(getattr(default, f.name)) for f in fields(Policy)
    }
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or key not in kinds or key == "page":
            known = ", ".join(k for k in kinds if k != "page")
            raise ConfigurationError(f"policy {spec!r}: {part!r} is not key=value with a key of {known}")
        try:
            values[key] = kinds[key](value)
        except ValueError:
            raise ConfigurationError(f"policy {spec!r}: {key}={value} is not a {kinds[key].__name__}") from None
    return Policy(**values)  # type: ignore[arg-type]
