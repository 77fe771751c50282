"""The verdict on a run in one word, the same in every face: report, MLflow, terminal, list of runs, webhook.

A night has the verdict of its comparison; any other run that of its gates and cases.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from linepress.errors import EXIT_CASES_FAILED, EXIT_GATE_FAILED, EXIT_NOTHING_MEASURED
from linepress.records.found import BLIND, SUMMARY
from linepress.records.store import RunStore

PASS, FAIL, ACCEPTED, INCOMPLETE = "PASS", "FAIL", "ACCEPTED", "INCOMPLETE"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a run came to.

    Attributes
    ----------
    word : str
        PASS, FAIL, ACCEPTED, INCOMPLETE or `BLIND`.
    reasons : tuple of str
        Why, where it is not a plain PASS.
    baseline, accepted : str
        Of a night: what it was compared with, and the reason given for taking worse figures.
    """

    word: str
    reasons: tuple[str, ...] = ()
    baseline: str = ""
    accepted: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self.word in (PASS, ACCEPTED, BLIND)

    @property
    def sentence(self) -> str:
        """The word and why: ``FAIL: 1 new failure``."""
        why = [*self.reasons, *([f"accepted: {self.accepted}"] if self.accepted else [])]
        return f"{self.word}: {'; '.join(why)}" if why else self.word


def standing(store: RunStore) -> Standing:
    """Of a run as it is recorded now."""
    manifest = store.manifest
    if manifest.get("status") != "complete":
        return Standing(INCOMPLETE, (f"the run is {manifest.get('status')}",))
    try:
        night = json.loads((store.path / SUMMARY).read_text(encoding="utf-8"))
        return Standing(
            str(night["verdict"]),
            tuple(map(str, night.get("reasons") or ())),
            str(night.get("baseline") or ""),
            str(night.get("accepted") or ""),
        )
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no night
    code = manifest.get("exit_code")
    if code == EXIT_NOTHING_MEASURED:
        return Standing(FAIL, ("nothing was measured",))
    reasons = []
    broken = [str(gate["gate"]) for gate in store.rows("gates", ["gate", "passed"]) if not gate["passed"]]
    if broken or code == EXIT_GATE_FAILED:
        reasons.append(f"gate {', '.join(broken)} failed")
    failed = sum(int(count.get("failed") or 0) for count in (manifest.get("counts") or {}).values())
    if failed or code == EXIT_CASES_FAILED:
        reasons.append(f"{failed:,} case{'' if failed == 1 else 's'} failed")
    return Standing(FAIL, tuple(reasons)) if reasons else Standing(PASS)
