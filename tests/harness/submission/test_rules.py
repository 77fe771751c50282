"""Every rule against its passing and its failing fixture, through the whole check with its sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from linepress.submission.check.ledger import RULES
from linepress.submission.fixtures import FIXTURES, PASSES
from linepress.submission.report import Report
from linepress.submission.rulebook import rule_called, rules
from linepress.submission.submit import check_submission


def verdicts(report: Report) -> dict[str, str]:
    return {finding.rule: finding.verdict for finding in report.findings}


def test_every_rule_has_words_and_fixtures() -> None:
    assert tuple(rules()) == RULES == tuple(FIXTURES)
    assert rule_called("7").id == rule_called("s07").id == "S07"


def test_what_pack_writes_passes_every_rule(tmp_path: Path) -> None:
    report = check_submission(PASSES.make(tmp_path))
    assert set(verdicts(report).values()) == {"PASS"}, [f.line for f in report.findings]
    assert report.exit_code == 0
    assert (report.tensors, report.tensor_bytes) == (3, 1028)


@pytest.mark.threat("a rule broken, each of S01–S21 with one submission that passes and one that fails")
@pytest.mark.parametrize("rule", [rule for rule in RULES if FIXTURES[rule][0] is not PASSES])
def test_the_passing_fixture_passes_its_rule(rule: str, tmp_path: Path) -> None:
    fixture = FIXTURES[rule][0]
    assert verdicts(check_submission(fixture.make(tmp_path), **fixture.options))[rule] == "PASS"


@pytest.mark.threat("a rule broken, each of S01–S21 with one submission that passes and one that fails")
@pytest.mark.parametrize("rule", RULES)
def test_the_failing_fixture_fails_its_rule_and_every_rule_is_told(rule: str, tmp_path: Path) -> None:
    fixture = FIXTURES[rule][1]
    report = check_submission(fixture.make(tmp_path), **fixture.options)
    assert tuple(verdicts(report)) == RULES
    assert verdicts(report)[rule] == ("UNDECIDED" if rule == "S19" else "FAIL")
    assert report.exit_code == (2 if rule == "S19" else 1)
    assert all(reason.isprintable() for finding in report.findings for reason in finding.reasons)
