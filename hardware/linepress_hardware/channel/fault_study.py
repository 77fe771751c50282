"""A damaged channel read through its port: what the master is told, what the log keeps, how many values are gone.

The same faults (by seed) hit the plain and the compressed memory over the same physical bytes; every line of the
sample is then read once. Faults land on what is stored, so a smaller footprint catches fewer of a given number per
device: the number of faults here is per memory, not per byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np

from linepress_hardware.channel.axi import Op, Parity, Transactions
from linepress_hardware.channel.ecc import Code
from linepress_hardware.channel.evaluate import Study
from linepress_hardware.channel.faults import FAULT_KINDS, OUTCOMES, FaultOutcome, inject
from linepress_hardware.channel.port import AxiPort, BadMemory
from linepress_hardware.channel.ras import RasPolicy, Response, Severity
from linepress_hardware.channel.translation import StaticLayout, plain_layout
from linepress_hardware.errors import ConfigurationError


@dataclass(frozen=True)
class FaultReport:
    """What reading every line of the sample gave.

    Attributes
    ----------
    lines : int
    okay, slverr : int
        Responses.
    poisoned : int
        Lines returned with poison.
    wrong : int
        Lines returned as good that are not.
    values_lost : int
        Values of the lines that are poisoned, refused or wrong; on the plain channel the values of the bad words.
    logged_corrected, logged_deferred, logged_uncorrected, logged_critical : int
    records, records_dropped : int
        Records held by the log, and errors that found no room.
    """

    lines: int
    okay: int
    slverr: int
    poisoned: int
    wrong: int
    values_lost: int
    logged_corrected: int
    logged_deferred: int
    logged_uncorrected: int
    logged_critical: int
    records: int
    records_dropped: int


def bad_memory(outcome: FaultOutcome, code: Code, entry_bytes: int) -> BadMemory:
    """The damage of a campaign as addresses; a metadata entry is lost where its word was not set right."""
    of_metadata = outcome.kind[outcome.fault] == FAULT_KINDS.index("metadata")
    data = np.flatnonzero(~of_metadata)
    order = data[np.argsort(outcome.granule[data], kind="stable")]
    lost = of_metadata & (outcome.outcome != OUTCOMES.index("corrected"))
    entries = np.unique(outcome.granule[lost] * code.data_bytes // max(1, entry_bytes))
    return BadMemory(
        outcome.granule[order] * code.data_bytes,
        code.data_bytes,
        outcome.outcome[order],
        outcome.syndrome[order],
        entries.astype(np.int64),
    )


def fault_study(
    study: Study,
    code: Code,
    faults: Mapping[str, int],
    *,
    value_bytes: int = 2,
    policy: RasPolicy | None = None,
    seed: int = 0,
) -> dict[str, FaultReport]:
    """``compressed`` and ``plain`` reports of one campaign; offline subjects of one tile."""
    if study.inline:
        raise ConfigurationError("a fault study reads data compressed offline; give a subject without an InlineSpec")
    tile = study.subject.layout.start_bytes.shape[0]
    layout = replace(study.subject.layout, lines=tile)
    reports: dict[str, FaultReport] = {}
    for name, backing in (("compressed", layout), ("plain", plain_layout(tile, study.config.line_bytes))):
        entry = backing.entry_bytes(study.config)
        chosen = dict(faults) if entry else {k: v for k, v in faults.items() if k != "metadata"}
        stored = int(backing.length_bytes.sum()) * (tile // backing.start_bytes.shape[0])
        words = max(1, stored // code.data_bytes)
        entries = -(-backing.pages // backing.pages_per_entry(study.config))
        outcome = inject(
            code, chosen, granules=words, metadata_granules=entries * entry // code.data_bytes, seed=seed
        )
        bad = bad_memory(outcome, code, entry)
        reports[name] = _read_all(study, backing, bad, value_bytes, policy or RasPolicy())
    return reports


def _read_all(
    study: Study, backing: StaticLayout, bad: BadMemory, value_bytes: int, policy: RasPolicy
) -> FaultReport:
    n = backing.lines
    config = study.config
    port = AxiPort(study.memory, backing, config, policy=policy)
    width = config.axi_beat_bytes
    reads = Transactions(
        np.full(n, Op.READ, np.int8),
        np.arange(n, dtype=np.uint64) * np.uint64(config.line_bytes),
        np.full(n, config.line_bytes // width, np.int32),
        np.full(n, width, np.int32),
        np.ones(n, np.int8),
        (np.arange(n) % config.axi_ids).astype(np.int32),
        np.zeros(n),
        np.ones(n, np.bool_),
        np.zeros(n, np.bool_),
        np.full(n, Parity.GOOD, np.int8),
        np.zeros(n, np.bool_),
    )
    answers = port.submit(reads, bad)
    lost = answers.poison | answers.wrong | (answers.resp == Response.SLVERR)
    plain = backing.entry_bytes(config) == 0
    uncorrected = int((bad.outcome != OUTCOMES.index("corrected")).sum())
    values = (
        uncorrected * bad.word_bytes // value_bytes if plain else int(lost.sum()) * config.line_bytes // value_bytes
    )
    log = port.log
    return FaultReport(
        lines=n,
        okay=answers.count(Response.OKAY),
        slverr=answers.count(Response.SLVERR),
        poisoned=int(answers.poison.sum()),
        wrong=int(answers.wrong.sum()),
        values_lost=values,
        logged_corrected=log.by_severity[Severity.CORRECTED],
        logged_deferred=log.by_severity[Severity.DEFERRED],
        logged_uncorrected=log.by_severity[Severity.UNCORRECTED],
        logged_critical=log.by_severity[Severity.CRITICAL],
        records=len(log.records),
        records_dropped=log.dropped,
    )


def as_rows(reports: Mapping[str, FaultReport]) -> list[dict[str, object]]:
    """One plain row a memory."""
    return [{"channel": name, **asdict(report)} for name, report in reports.items()]
