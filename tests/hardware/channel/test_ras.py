"""Error records: first error kept, repeats counted, overflow flagged, read back over registers."""

from __future__ import annotations

import pytest

from linepress_hardware.channel.ras import (
    ADDR,
    MISC0,
    RECORD_BYTES,
    STATUS,
    ErrorLog,
    RasPolicy,
    Response,
    Severity,
    Source,
)
from linepress_hardware.errors import ConfigurationError


def test_repeats_count_and_a_worse_error_raises_the_record() -> None:
    log = ErrorLog(4)
    log.log(0x40, 0x11, Severity.CORRECTED, Source.DATA)
    log.log(0x40, 0x22, Severity.DEFERRED, Source.DATA)
    log.log(0x40, 0x33, Severity.CORRECTED, Source.DATA)
    assert len(log.records) == 1
    record = log.records[0]
    assert (record.count, record.severity, record.syndrome) == (3, Severity.DEFERRED, 0x22)
    assert not log.overflow


def test_a_full_log_flags_overflow_and_keeps_the_worst() -> None:
    log = ErrorLog(2)
    for address in (0, 64):
        log.log(address, 1, Severity.CORRECTED, Source.DATA)
    log.log(128, 2, Severity.CORRECTED, Source.DATA)
    assert log.overflow
    assert log.dropped == 1
    assert [r.address for r in log.records] == [0, 64]
    assert log.records[0].overflow
    log.log(192, 3, Severity.UNCORRECTED, Source.DATA)
    assert sorted(r.address for r in log.records) == [64, 192]
    assert sum(log.by_severity.values()) == 4


def test_registers() -> None:
    log = ErrorLog(2)
    log.log(0x1234, 0xAB, Severity.CORRECTED, Source.DATA)
    log.log(0x5678, 0xCD, Severity.CRITICAL, Source.METADATA)
    status, response = log.read(STATUS)
    assert response == Response.OKAY
    assert status >> 30 & 1 == 1  # V
    assert status >> 24 & 3 == 2  # CE
    assert status >> 29 & 1 == 0  # UE
    assert log.read(ADDR) == (0x1234, Response.OKAY)
    assert log.read(MISC0) == (1 | 0xAB << 32, Response.OKAY)
    status, _ = log.read(RECORD_BYTES + STATUS)
    assert status >> 29 & 1 == 1
    assert status >> 8 & 0xFF == Source.METADATA
    assert log.read(2 * RECORD_BYTES) == (0, Response.DECERR)
    assert log.read(-8) == (0, Response.DECERR)
    assert log.read(STATUS + 4) == (0, Response.SLVERR)
    assert log.read(0) == (0, Response.OKAY)
    assert log.clear(0) == Response.OKAY
    assert log.read(ADDR) == (0x5678, Response.OKAY)
    assert log.read(RECORD_BYTES + STATUS) == (0, Response.OKAY)
    assert log.clear(9) == Response.DECERR
    assert log.critical_interrupt
    assert log.fault_interrupt


def test_deferred_errors_carry_the_poison_bit() -> None:
    log = ErrorLog(1)
    log.log(0, 0, Severity.DEFERRED, Source.DATA)
    status, _ = log.read(STATUS)
    assert status >> 23 & 1 == 1
    assert status >> 22 & 1 == 1


def test_policies() -> None:
    assert RasPolicy().on_data_error() == (Response.OKAY, True, Severity.DEFERRED)
    assert RasPolicy(poison=False).on_data_error() == (Response.SLVERR, False, Severity.UNCORRECTED)
    assert RasPolicy().on_metadata_error() == (Response.SLVERR, False, Severity.CRITICAL)
    with pytest.raises(ConfigurationError, match="logs nothing"):
        ErrorLog(0)
