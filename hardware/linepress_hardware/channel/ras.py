"""Error records and the policy that turns an error into a response, a poison bit and a log entry.

Register layout after the Arm RAS supplement (unverified, from memory of its text): record n has ERR<n>STATUS at
64 n + 0x10, ERR<n>ADDR at 64 n + 0x18 and ERR<n>MISC0 at 64 n + 0x20. STATUS: V bit 30, AV 31, UE 29, OF 27, MV 26,
CE 25:24 (2 = corrected), DE 23, PN 22 (poison), IERR 15:8 (here `Source`), SERR 7:0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from linepress_hardware.errors import ConfigurationError


class Severity(IntEnum):
    """How bad an error is, mildest first."""

    CORRECTED = 0
    DEFERRED = 1
    """Uncorrected but contained: the data carries poison."""
    UNCORRECTED = 2
    CRITICAL = 3
    """Uncorrected metadata: a page is lost, the interrupt goes to the system."""


class Source(IntEnum):
    """Where an error was found (IERR)."""

    DATA = 1
    METADATA = 2
    PARITY = 3
    CAPACITY = 4
    PROTOCOL = 5


class Response(IntEnum):
    """RRESP and BRESP encodings of AXI."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


RECORD_BYTES = 64
STATUS, ADDR, MISC0 = 0x10, 0x18, 0x20
SERR = {Source.DATA: 12, Source.METADATA: 12, Source.PARITY: 14, Source.CAPACITY: 20, Source.PROTOCOL: 13}
"""Primary error codes: 12 data value from external memory, 13 address or control, 14 data bus, 20 resource."""


@dataclass
class ErrorRecord:
    """One record: the first error at an address and source, and how often it came again."""

    address: int
    syndrome: int
    severity: Severity
    source: Source
    count: int = 1
    overflow: bool = False


@dataclass
class ErrorLog:
    """A fixed number of records; repeats of an address count up, a record lost for want of room sets overflow.

    A worse error at the same address raises the record's severity. When all records are taken a worse error replaces
    the oldest mildest one, as the supplement's overwrite rule does, and sets its overflow flag.
    """

    capacity: int
    records: list[ErrorRecord] = field(default_factory=list)
    dropped: int = 0
    by_severity: dict[Severity, int] = field(default_factory=lambda: dict.fromkeys(Severity, 0))

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ConfigurationError(f"an error log of {self.capacity} records logs nothing; give it at least one")

    @property
    def overflow(self) -> bool:
        return self.dropped > 0

    @property
    def critical_interrupt(self) -> bool:
        """ERI line: any critical error since reset."""
        return self.by_severity[Severity.CRITICAL] > 0

    @property
    def fault_interrupt(self) -> bool:
        """FHI line: any error since reset."""
        return any(self.by_severity.values())

    def log(self, address: int, syndrome: int, severity: Severity, source: Source) -> None:
        self.by_severity[severity] += 1
        for record in self.records:
            if record.address == address and record.source == source:
                record.count += 1
                if severity > record.severity:
                    record.severity, record.syndrome = severity, syndrome
                return
        new = ErrorRecord(address, syndrome, severity, source)
        if len(self.records) < self.capacity:
            self.records.append(new)
            return
        self.dropped += 1
        mildest = min(range(len(self.records)), key=lambda k: self.records[k].severity)
        if self.records[mildest].severity < severity:
            new.overflow = True
            self.records[mildest] = new
        else:
            self.records[mildest].overflow = True

    def read(self, offset: int) -> tuple[int, Response]:
        """A 64-bit register of the log as the host reads it; DECERR outside the records, SLVERR where unaligned."""
        if offset < 0 or offset >= self.capacity * RECORD_BYTES:
            return 0, Response.DECERR
        if offset % 8:
            return 0, Response.SLVERR
        index, register = divmod(offset, RECORD_BYTES)
        if index >= len(self.records):
            return 0, Response.OKAY
        record = self.records[index]
        if register == STATUS:
            return self._status(record), Response.OKAY
        if register == ADDR:
            return record.address, Response.OKAY
        if register == MISC0:
            return (record.count & 0xFFFF) | (record.syndrome & 0xFFFFFFFF) << 32, Response.OKAY
        return 0, Response.OKAY

    def clear(self, index: int) -> Response:
        """Write-one-to-clear of ERR<index>STATUS.V."""
        if not 0 <= index < self.capacity:
            return Response.DECERR
        if index < len(self.records):
            del self.records[index]
        return Response.OKAY

    @staticmethod
    def _status(record: ErrorRecord) -> int:
        value = 1 << 31 | 1 << 30 | 1 << 26 | int(record.source) << 8 | SERR[record.source]
        value |= int(record.overflow) << 27
        if record.severity == Severity.CORRECTED:
            value |= 2 << 24
        elif record.severity == Severity.DEFERRED:
            value |= 1 << 23 | 1 << 22
        else:
            value |= 1 << 29
        return value


@dataclass(frozen=True)
class RasPolicy:
    """What an uncorrected read answers: poison with OKAY (``poison``), or SLVERR on the beat."""

    poison: bool = True

    def on_data_error(self) -> tuple[Response, bool, Severity]:
        """Response, poison bit and severity of an uncorrected data read."""
        if self.poison:
            return Response.OKAY, True, Severity.DEFERRED
        return Response.SLVERR, False, Severity.UNCORRECTED

    def on_metadata_error(self) -> tuple[Response, bool, Severity]:
        """Nothing of the page can be found: SLVERR and a critical interrupt, whatever the policy."""
        return Response.SLVERR, False, Severity.CRITICAL
