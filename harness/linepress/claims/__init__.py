"""Published claims and the verdict that a run gives each: reproduced, not reproduced, not checkable."""

from __future__ import annotations

from linepress.claims.evaluate import verdicts
from linepress.claims.model import Claim, ClaimSet, Verdict, load_claims

__all__ = ["Claim", "ClaimSet", "Verdict", "load_claims", "verdicts"]
