"""A comparison in words: the same lines for the terminal and for Markdown.

Marks: ``!`` new failure, ``+`` worse, ``-`` better, ``~`` not significant, ``x`` not comparable, ``*`` recovered.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from linepress.compare.derived import Aggregate
from linepress.compare.exact import CHANGED, EQUAL, WORSE, Exact
from linepress.compare.noise import noise
from linepress.compare.outcomes import Change
from linepress.compare.pairs import Incomparable
from linepress.compare.sampled import SAME, Speed
from linepress.compare.verdict import Comparison, counted

MARKS = {"new failure": "!", "recovered": "*", "missing": "x"}
MOST_LISTED = 12


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table: its mark and its cells."""

    mark: str
    cells: tuple[str, ...]


def header(found: Comparison) -> list[str]:
    """Where both runs come from, and what is the same."""
    source = found.source
    a, b = source.base, source.new
    same = source.same
    suite = f"suite {b['suite']} v{b['suite_version']}"
    if not same["suite"]:
        suite = f"suite {a['suite']} v{a['suite_version']} ≠ {b['suite']} v{b['suite_version']}"
        if (a["suite"], a["suite_version"]) == (b["suite"], b["suite_version"]):
            suite += f" (sha {str(a['suite_sha256'])[:10]} ≠ {str(b['suite_sha256'])[:10]})"
    else:
        suite += f" = v{a['suite_version']}"
    words = [f"base {_commit(a)}", f"new {_commit(b)}", suite]
    words += [f"{name} {'same' if same[name] else 'DIFFERS'}" for name in ("host", "data", "packages")]
    found_lines = ["   ".join(words), f"base {a['path']}   new {b['path']}   {found.cases:,} cases compared"]
    if source.noted:
        found_lines.append("differs: " + "; ".join(map(str, source.noted)))
    found_lines += [f"warning: {sentence}" for sentence in source.unfinished]
    return found_lines


def failure_lines(found: Comparison) -> list[Line]:
    """New failures, recoveries and missing results, the worst first; long lists are cut and counted."""
    result = []
    for kind in ("new failure", "missing", "recovered"):
        own = [change for change in found.changes if change.kind == kind]
        result += [_change(change) for change in own[:MOST_LISTED]]
        if len(own) > MOST_LISTED:
            by_variant = Counter(change.variant or change.stage for change in own[MOST_LISTED:])
            rest = ", ".join(f"{variant} {n:,}" for variant, n in by_variant.most_common(6))
            result.append(Line(MARKS[kind], (f"… and {len(own) - MOST_LISTED:,} more: {rest}",)))
    if found.outcomes.still_failing:
        result.append(Line("", (f"{counted(found.outcomes.still_failing, 'case')} failed in both runs",)))
    return result


def lossless_lines(found: Comparison) -> list[Line]:
    """Variants whose count of lossless cases changed, or is not all."""
    result = []
    for variant, (before, after) in found.outcomes.lossless.items():
        if before != after or after[0] < after[1]:
            mark = "!" if after[0] / max(after[1], 1) < before[0] / max(before[1], 1) else ""
            tail = "new failure" if mark else ""
            result.append(
                Line(mark, (variant, "lossless", f"{before[0]}/{before[1]}", f"{after[0]}/{after[1]}", tail))
            )
    return result


def exact_lines(found: Comparison) -> list[Line]:
    """Exact figures that changed, the worse ones first."""
    changed = [one for one in found.exact if one.mark != EQUAL]
    changed.sort(key=lambda one: (one.mark != WORSE, one.mark == CHANGED))
    return [_exact(one) for one in changed]


def equal_line(found: Comparison) -> str:
    """How much did not change."""
    same = [one for one in found.exact if one.mark == EQUAL]
    figures = sum(one.equal for one in found.exact)
    rest = sum(figure.equal for figure in found.derived.figures)
    text = f"equal: {figures:,} exact figures of {len({one.variant for one in found.exact})} variants"
    return text + (f", {rest:,} modelled figures" if rest else "") + ("" if same or figures else " (none)")


def modelled_lines(found: Comparison) -> list[Line]:
    """Figures of channel, system and fabric that changed."""
    changed = sorted((f for f in found.derived.figures if f.mark != EQUAL), key=lambda f: f.mark != WORSE)
    return [_figure(figure) for figure in changed]


def speed_lines(found: Comparison) -> list[Line]:
    """Every speed that was judged, the changed ones first; the others by name."""
    if found.sampled.why_not:
        return []
    judged = [speed for speed in found.sampled.speeds if speed.effect is not None]
    judged.sort(key=lambda speed: "+-~".index(speed.mark))
    result = [_speed(speed, found.options.min_effect_pct, bool(found.sampled.how)) for speed in judged]
    controls = [speed for speed in found.sampled.speeds if speed.control and not speed.reason]
    others = [speed for speed in found.sampled.speeds if speed.reason and not speed.control]
    if others:
        names = _grouped(others)
        least_ms = 1e3 * noise().shortest_round_s
        words = (
            f"not judged, fewer than {noise().fewest_tensors} tensors with rounds of {least_ms:g} ms or more: {names}"
        )
        result.append(Line(SAME, (words,)))
    if controls:
        result.append(Line("", (f"controls: {_grouped(controls)}",)))
    return result


def _grouped(speeds: Sequence[Speed]) -> str:
    """``raw encode measure, zstd decode``."""
    metrics: dict[str, list[str]] = {}
    for speed in speeds:
        metrics.setdefault(speed.variant, []).append(speed.metric)
    return ", ".join(f"{variant} {' '.join(own)}" for variant, own in metrics.items())


def incomparable_lines(found: Comparison) -> list[Line]:
    """What was not compared, naming the field."""
    result = []
    if found.sampled.why_not and found.sampled.speeds:
        result.append(Line("x", (f"speeds: {found.sampled.why_not}",)))
    merged = _merged(found.incomparable)
    result += [Line("x", (text,)) for text in merged[:MOST_LISTED]]
    if len(merged) > MOST_LISTED:
        result.append(Line("x", (f"… and {len(merged) - MOST_LISTED:,} more fields",)))
    for words, tally in (("only in base", found.outcomes.dropped), ("only in new", found.outcomes.added)):
        for variant, n in list(tally.items())[:MOST_LISTED]:
            result.append(Line("x", (f"{variant}, {words}   {counted(n, 'case')}",)))
    return result


def _merged(found: Sequence[Incomparable]) -> list[str]:
    """One sentence for each field of a variant, and one for variants that differ alike."""
    by_field: dict[tuple[str, str], list[Incomparable]] = {}
    for one in found:
        by_field.setdefault((one.variant, one.field), []).append(one)
    alike: dict[str, list[str]] = {}
    for (variant, field), ones in by_field.items():
        others = f" and {len(ones) - 1:,} more" if len(ones) > 1 else ""
        cases = counted(sum(one.cases for one in ones), "case")
        alike.setdefault(f"{field} {ones[0].base} → {ones[0].new}{others}   {cases}", []).append(variant)
    return [
        f"{', '.join(variants[:3])}{f' and {len(variants) - 3} more variants' if len(variants) > 3 else ''}, {text}"
        + (" each" if len(variants) > 1 else "")
        for text, variants in alike.items()
    ]


def closing(found: Comparison) -> list[str]:
    """Geometric means and the gate."""
    result = []
    if found.sampled.geomean:
        words = ", ".join(f"{metric} {times(factor)}" for metric, factor in found.sampled.geomean.items())
        result.append(f"geometric mean over variants: {words}")
    if found.sampled.drift is not None and not found.sampled.why_not:
        result.append(
            f"machine: control codecs {times(found.sampled.drift)} ({found.sampled.controls} series), taken away "
            "from every speed"
        )
    elif found.sampled.speeds and not found.sampled.why_not and not found.sampled.how:
        result.append(
            "machine: no control codec (zstd, lz4, snappy, deflate) long enough to time; its own drift widens every "
            "interval"
        )
    for gate in found.gates:
        if not gate.passed:
            value = "–" if gate.value is None else f"{gate.value:.6g}"
            rule = gate.rule.replace("_", " ")
            result.append(f"gate {gate.name}: {gate.metric} = {value}, {rule} {gate.threshold:g}   {gate.next_step}")
    result.append(gate_line(found))
    return result


def gate_line(found: Comparison) -> str:
    """``gate: FAIL (1 new failure, 1 speed regression > 3 %)``."""
    if found.passed:
        return "gate: PASS, but blind on speed" if found.blind else "gate: PASS"
    reasons = [*found.failures, *(f"undecided: {reason}" for reason in found.undecided)]
    return f"gate: FAIL ({', '.join(reasons)})"


def covered(found: Comparison) -> str:
    """How much a verdict rests on: cases, and the changes of speed that these two runs could have shown."""
    timed = [speed for speed in found.sampled.speeds if not speed.control]
    judged = [speed for speed in timed if speed.judged(found.options.min_effect_pct)]
    seen = [speed.visible_pct for speed in judged if speed.visible_pct is not None]
    least = min((speed.visible_pct for speed in timed if speed.visible_pct is not None), default=None)
    cases = f"{found.cases:,} case{'' if found.cases == 1 else 's'} compared"
    if not seen:
        why = found.sampled.why_not or (
            "too few tensors with rounds long enough"
            if least is None
            else f"the least change that could have been seen is {least:.2g} %"
        )
        return f"{cases}; no speed judged ({why})"
    low, high = (f"{value:.2g}" for value in (min(seen), max(seen)))
    span = f"{low} %" if low == high else f"{low} to {high} %, by codec"
    return f"{cases}; {len(seen)} of {len(timed)} speeds judged, each would have shown a change of {span}"


def times(factor: float) -> str:
    """A time factor in words: ``1.17x slower``."""
    if math.isclose(factor, 1.0, abs_tol=0.0005):
        return "1.000x"
    return f"{factor:.3f}x slower" if factor > 1 else f"{1 / factor:.3f}x faster"


def _commit(run: dict[str, Any]) -> str:
    commit = str(run["commit"] or "")
    return f"{commit[:7]} ({'dirty' if run['dirty'] else 'clean'})" if commit else "no commit"


def _change(change: Change) -> Line:
    where = "" if change.stage == "measure" else f"{change.stage}: "
    detail = f"   {change.detail}" if change.detail else ""
    moved = f"{change.before} → {change.after}"
    words = {"missing": "no result"}.get(change.kind, change.kind)
    return Line(MARKS[change.kind], (f"{where}{change.case}", f"{words} ({moved}){detail}"))


def _exact(one: Exact) -> Line:
    if one.base is None or one.new is None:
        return Line("", (one.variant, one.metric, "", "", f"changed in {counted(one.worse, 'tensor')}"))
    change = "" if one.change_pct is None else f"{one.change_pct:+.3g} %"
    word = {"+": "worse", "-": "improved"}.get(one.mark, "")
    tally = f"{one.better:,} tensors better, {one.worse:,} worse, {one.equal:,} equal"
    return Line(one.mark, (one.variant, one.metric, *_sizes(one.base, one.new), f"{change}  {word}   {tally}"))


def _figure(figure: Aggregate) -> Line:
    tally = f"{figure.better:,} rows better, {figure.worse:,} worse, {figure.equal:,} equal"
    spans = [f"worst -{figure.worst_pct:.3g} %: {figure.examples[0]}" if figure.worst_pct else ""]
    spans.append(f"best +{figure.best_pct:.3g} %" if figure.best_pct else "")
    return Line(figure.mark, (figure.stage, figure.metric, "", "", f"{tally}   {'  '.join(s for s in spans if s)}"))


def _speed(speed: Speed, min_effect_pct: float, in_turn: bool) -> Line:
    rates = tuple("–" if rate is None else f"{rate:.3g} GB/s" for rate in (speed.base_GBps, speed.new_GBps))
    unit = "timings" if in_turn else "tensors"
    n = f"n = {speed.tensors:,} {unit} × {speed.rounds} + {speed.rounds} rounds"
    if speed.effect is None or speed.factor is None:
        return Line(speed.mark, (speed.variant, speed.metric, *rates, speed.reason))
    low, high = math.exp(speed.effect.low), math.exp(speed.effect.high)
    if speed.factor < 1:
        low, high = 1 / high, 1 / low
    interval = f"95 % CI [{low:.3f}, {high:.3f}]"
    if speed.mark == SAME:
        visible = speed.visible_pct or 0.0
        hidden = f"; noise hides changes under {visible:.0f} %" if visible > 2 * min_effect_pct else ""
        tail = (
            f"not significant (minimum effect {min_effect_pct:g} %{hidden})   {times(speed.factor)}  {interval}   {n}"
        )
    else:
        tail = f"{times(speed.factor)}   p = {speed.effect.p:.2g}   {interval}   {n}"
    return Line(speed.mark, (speed.variant, speed.metric, *rates, tail))


def _sizes(base: float, new: float) -> tuple[str, str]:
    """Two sizes in one unit with as many digits as tell them apart."""
    factor, unit = next(
        ((f, u) for f, u in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if max(base, new) >= f), (1.0, "B")
    )
    for digits in range(3, 13):
        shown = tuple(f"{value / factor:,.{digits}f} {unit}" for value in (base, new))
        if shown[0] != shown[1] or base == new:
            return shown[0], shown[1]
    return f"{base:,.0f} B", f"{new:,.0f} B"


def aligned(lines: Sequence[Line]) -> Iterable[str]:
    """Lines as text with their columns aligned; the last cell of each is left ragged."""
    widths: dict[int, int] = {}
    for line in lines:
        for k, cell in enumerate(line.cells[:-1]):
            widths[k] = max(widths.get(k, 0), len(cell))
    for line in lines:
        cells = [cell.ljust(widths[k]) for k, cell in enumerate(line.cells[:-1])]
        yield f"{line.mark or ' '} " + "   ".join([*cells, line.cells[-1]]).rstrip()
