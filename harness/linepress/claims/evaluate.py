"""Verdicts: every claim of the file, checked against one run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from linepress.claims import hardware_checks as hardware
from linepress.claims import run_checks as run
from linepress.claims.finding import Finding, missing
from linepress.claims.model import (
    NOT_CHECKABLE,
    NOT_REPRODUCED,
    REPRODUCED,
    Claim,
    ClaimSet,
    Uncheckable,
    Verdict,
    load_claims,
)
from linepress.records import RunStore
from linepress.records.frame import Frame
from linepress.records.measured import measure_frame
from linepress.records.place import RunPlace
from linepress.tables import format as fmt
from linepress_hardware.errors import HardwareError

_RUN_CHECKS: dict[str, Callable[[Any, run.Records], Finding]] = {
    "codec_ratio": run.codec_ratio,
    "codec_advantage": run.codec_advantage,
    "card_latency": run.card_latency,
    "card_engines": run.card_engines,
    "block_time": run.block_time,
    "channel_gain": run.channel_gain,
}
_HARDWARE_CHECKS: dict[str, Callable[[Any], Finding]] = {
    "roofline_table": hardware.roofline_table,
    "roofline_bound": hardware.roofline_bound,
    "decode_dominates": hardware.decode_dominates,
    "product": hardware.product,
    "rack_table": hardware.rack_table,
    "round_trip": hardware.round_trip,
    "mesh_growth": hardware.mesh_growth,
    "largest_mesh": hardware.largest_mesh,
    "in_network_gain": hardware.in_network_gain,
    "compressed_messages": hardware.compressed_messages,
    "energy_per_bit": hardware.energy_per_bit,
}


def verdicts(run_dir: RunPlace | str | RunStore, claims: ClaimSet | None = None) -> list[Verdict]:
    """A verdict on every claim, in the order of the file.

    Parameters
    ----------
    run_dir
        A run folder, a place in a store, or a store that is open.
    claims
        The claims to check; by default the shipped ``claims.yaml``.

    Raises
    ------
    RecordError
        The folder is not a run of this schema version.
    """
    store = RunStore.open(run_dir)
    known = load_claims() if claims is None else claims
    records = run.Records(
        measure_frame(store.table("measure"), store.manifest), Frame.from_arrow(store.table("channel"))
    )
    return [judge(claim, known, look(claim, records)) for claim in known.claims]


def look(claim: Claim, records: run.Records) -> Finding:
    """Run the check of one claim. A model that refuses the check's numbers makes the claim not checkable."""
    check = claim.check
    if isinstance(check, Uncheckable):
        return missing(check.reason, "not checked")
    if check.by in _RUN_CHECKS:
        return _RUN_CHECKS[check.by](check, records)
    try:
        return _HARDWARE_CHECKS[check.by](check)
    except HardwareError as error:
        return missing(f"the model refuses the check: {error}", check.by)


def judge(claim: Claim, known: ClaimSet, finding: Finding) -> Verdict:
    """Compare a finding with the claimed figure."""
    claimed = claim.claimed
    bound = _bound_text(finding, claimed.unit if claimed else "")
    measured = fmt.with_unit(finding.value, claimed.unit) if claimed and math.isfinite(finding.value) else ""
    if claimed is None or not finding.judged or not math.isfinite(finding.value):
        verdict, reason = NOT_CHECKABLE, finding.reason or "the check gave no figure"
        if measured and finding.detail:
            reason += f"; {finding.detail}"
    else:
        holds = claimed.holds(finding.value)
        verdict = REPRODUCED if holds else NOT_REPRODUCED
        reason = _reason(claim, finding, measured, holds)
    return Verdict(
        claim_id=claim.id,
        title=claim.title,
        group=claim.group,
        claim_source=known.source_text(claim),
        quote=claim.quote,
        metric=claim.metric,
        claimed=claimed.text() if claimed else "",
        measured=measured,
        bound=bound,
        tolerance=claimed.tolerance_text() if claimed else "",
        verdict=verdict,
        reason=reason,
        checked_by=finding.checked_by,
        unit=claimed.unit if claimed else "",
        claimed_low=claimed.low if claimed else None,
        claimed_high=claimed.top if claimed else None,
        measured_value=finding.value if math.isfinite(finding.value) else None,
        bound_value=finding.bound if math.isfinite(finding.bound) else None,
    )


def _bound_text(finding: Finding, unit: str) -> str:
    if not math.isfinite(finding.bound):
        return ""
    text = fmt.with_unit(finding.bound, unit)
    return f"{text} ({finding.bound_text})" if finding.bound_text else text


def _reason(claim: Claim, finding: Finding, measured: str, holds: bool) -> str:
    assert claim.claimed is not None
    text = f"{measured} against {claim.claimed.text()} claimed"
    if not holds and math.isfinite(finding.bound) and claim.claimed.relation == "at_least":
        needed = claim.claimed.low - claim.claimed.tolerance
        if max(finding.bound, finding.value) < needed:
            text += f"; the bound of {fmt.with_unit(finding.bound, claim.claimed.unit)} lies below the claim too"
        else:
            text += "; the bound would allow it, what was measured does not reach it"
    return f"{text}; {finding.detail}" if finding.detail else text
