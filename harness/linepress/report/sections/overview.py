"""The first screen: is the run whole, what did it find, where does it come from; and the headline table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from linepress.records.found import BLIND
from linepress.records.standing import standing
from linepress.records.summary import KIND_TITLES, best_line_variant, best_on_another_text
from linepress.report.model import Plot, Section
from linepress.report.view import RunView
from linepress.tables import format as fmt
from linepress.tables.model import Facts, Note
from linepress.tables.ratios import FIGURES, headline_table, listed

if TYPE_CHECKING:
    from linepress.claims import Verdict
    from linepress.records.frame import Frame
    from linepress.report.plots.system import ClaimMark


def verdict(view: RunView) -> Section:
    """One line a stage, the best ratios with their bounds, gates, claims; then where all of it comes from."""
    section = Section("verdict", "Verdict")
    section.parts.append(_state(view))
    section.parts.append(Facts(tuple(_findings(view))))
    section.parts.append(Facts(tuple(_provenance(view))))
    figure = _claims_figure(view)
    if figure is not None:
        section.parts.append(figure)
    return section


def headline(view: RunView) -> Section:
    """All variants by data class."""
    section = Section(
        "headline",
        "Ratios, bounds and speeds",
        "The payload ratio counts coded bits alone, line headers included. The packed ratio counts all that memory "
        "must hold: size classes or offsets, tags, and the tables of the codec. Both are sums over all tensors "
        "(byte-weighted). The bound is the entropy that a codec of the stated class cannot beat.",
        short="Headline",
    )
    groups, leading = {}, set()
    for data, found in view.summaries.items():
        best = best_line_variant(found)
        if best is not None:
            leading.add((data.label, best.variant))
        size = fmt.bytes_si(max((s.raw_bytes for s in found), default=0))
        groups[f"{data.label} – {size}"] = [s.row(data) for s in found]
    if not groups:
        section.parts.append(Note("Nothing was measured in this run.", "bad"))
        return section
    section.parts.append(
        headline_table(
            groups,
            FIGURES,
            lambda row: (row["label"], row["variant"]) in leading,
            "All codecs by sort of data; the best line codec by packed ratio is marked",
        )
    )
    return section


def _state(view: RunView) -> Note:
    parts, bad = [], False
    for table, by_status in view.counts().items():
        total = sum(by_status.values())
        if not total:
            continue
        text = f"{table}: {fmt.count(by_status['ok'])} of {fmt.count(total)} ok"
        if by_status["failed"]:
            text += f", {fmt.count(by_status['failed'])} failed"
            bad = True
        if by_status["skipped"]:
            text += f", {fmt.count(by_status['skipped'])} skipped"
        parts.append(text)
    lost = int(np.count_nonzero(view.measure.real("lossless") == 0.0))
    if lost:
        parts.append(f"{fmt.count(lost)} case{'s were' if lost > 1 else ' was'} NOT lossless")
        bad = True
    gates = view.gates.real("passed")
    if len(gates):
        failed = int(np.count_nonzero(gates != 1.0))
        bad |= failed > 0
        parts.append(f"gates: {len(gates) - failed} of {len(gates)} hold")
    missing = _still_planned(view.manifest)
    if missing:
        parts.append(f"{fmt.count(missing)} planned cases have no record yet; the same command resumes the run")
    if parts and view.verdicts:
        refuted = sum(v.verdict == "not reproduced" for v in view.verdicts)
        parts.append(f"claims: {refuted} of {len(view.verdicts)} not reproduced")
    if not parts:
        return Note("Nothing is recorded in this run yet.", "bad")
    found = standing(view.store)
    style = "bad" if bad or missing or not found.good else "warn" if found.word == BLIND else "good"
    return Note(f"{found.sentence}. " + ". ".join(parts) + ".", style)


def _still_planned(manifest: Any) -> int:
    """Planned cases of an unfinished run that have neither succeeded, failed nor been skipped."""
    left = 0
    for by_state in (manifest.get("counts") or {}).values():
        if isinstance(by_state, dict):
            done = sum(int(by_state.get(state) or 0) for state in ("ok", "failed", "skipped"))
            left += max(0, int(by_state.get("planned") or 0) - done)
    return left


def _findings(view: RunView) -> list[tuple[str, str, str]]:
    pairs: list[tuple[str, str, str]] = []
    other = best_on_another_text(view.store)
    if other is not None:
        ratio, own_ratio = (fmt.ratio(other[key]) for key in ("ratio", "own_text_ratio"))
        text = f"{ratio} payload, with tables of its own text {own_ratio} – {other['codec']}, {other['contract']}"
        pairs.append(("KV cache, tables of another text", text, ""))
    for data, found in view.summaries.items():
        best = best_line_variant(found)
        if best is None:
            continue
        text = f"{fmt.ratio(best.payload_ratio)} payload, {fmt.ratio(best.packed_ratio)} packed"
        if np.isfinite(best.bound_ratio):
            text += f"; bound {fmt.ratio(best.bound_ratio)}"
        own = other is not None and data.title == KIND_TITLES["key"]
        pairs.append((f"{data.label}, of its own text" if own else data.label, f"{text} – {best.variant}", ""))
    pairs += _gains(view)
    tally = {v: sum(x.verdict == v for x in view.verdicts) for v in ("reproduced", "not reproduced", "not checkable")}
    if view.verdicts:
        pairs.append(("claims", ", ".join(f"{n} {word}" for word, n in tally.items()), ""))
    return pairs


def _gains(view: RunView) -> list[tuple[str, str, str]]:
    pairs = []
    channel = view.channel.equal(status="ok")
    for data, word in (("weights", "weights"), ("kv", "KV")):
        rows = channel.equal(data=data)
        gain = rows.real("gain_sequential")
        if np.isfinite(gain).any():
            best = int(np.nanargmax(gain))
            wide = {name: rows.real(f"gain_{name}_half_width_pct")[best] for name in ("sequential", "random")}
            known = {name: f" ± {pct:.1f} %" if np.isfinite(pct) else "" for name, pct in wide.items()}
            text = (
                f"{fmt.ratio(gain[best], 2)}{known['sequential']} × sequential bandwidth "
                f"(closed form {fmt.ratio(rows.real('closed_form_gain_sequential')[best], 2)} ×), "
                f"{fmt.ratio(rows.real('gain_random')[best], 2)}{known['random']} × random, "
                f"{fmt.ratio(rows.real('effective_capacity_ratio')[best], 2)} × capacity – "
                f"{rows.text('memory')[best]}, {rows.text('packing')[best]}"
            )
            pairs.append((f"channel, {word}", text, ""))
    system = view.system.equal(status="ok")
    speedup = system.real("speedup")
    if np.isfinite(speedup).any():
        best = int(np.nanargmax(speedup))
        text = (
            f"{fmt.ratio(speedup[best], 2)} × tokens/s{_closed_speedup(system, best)} – "
            f"{system.text('model')[best]} on {system.text('accelerator')[best]}, {system.text('scenario')[best]}"
        )
        pairs.append(("system", text, ""))
    return pairs


def _closed_speedup(system: Frame, row: int) -> str:
    """Speed-up of the closed forms, plain over compressed time of a decode step; empty where a record lacks it."""
    plain_s = system.real("closed_form_plain_time_s")[row]
    time_s = system.real("closed_form_time_s")[row]
    return f" (closed form {fmt.ratio(plain_s / time_s, 2)} ×)" if time_s > 0 and np.isfinite(plain_s) else ""


def claim_marks(found: list[Verdict]) -> list[ClaimMark]:
    """The claims about ratios that were measured, as marks of one plot."""
    from linepress.report.plots.system import ClaimMark

    return [
        ClaimMark(
            v.title,
            v.claimed_low if v.claimed_low is not None else float("nan"),
            v.claimed_high if v.claimed_high is not None else float("nan"),
            v.measured_value,
            v.bound_value if v.bound_value is not None else float("nan"),
            v.verdict,
        )
        for v in found
        if v.unit == "ratio" and v.measured_value is not None and 0.3 <= v.measured_value <= 4
    ]


def _claims_figure(view: RunView) -> Plot | None:
    from linepress.report.plots import system as plots
    from linepress.report.plots.style import inline_svg

    marks = claim_marks(view.verdicts)
    if not marks:
        return None
    title = "Published ratios, as measured here"
    drawn = plots.claims(marks)
    alt = "; ".join(f"{m.label}: claimed {m.claimed_low:.2f}, measured {m.measured:.3f}" for m in marks)
    return Plot(
        "claims-figure",
        inline_svg(drawn, "claims", title, alt),
        title,
        alt,
        "One row a claim. Diamond: the published figure. Dot: this run, green where it agrees within the tolerance. "
        "Bar: the bound. A diamond right of the bar cannot be reached by any codec of that class on this data.",
    )


def _provenance(view: RunView) -> list[tuple[str, str, str]]:
    m = view.manifest
    suite, git = m.get("suite") or {}, m.get("git") or {}
    pairs: list[tuple[str, str, str]] = [("run", view.store.run_id, "")]
    if isinstance(suite, dict) and suite:
        text = " ".join(str(suite[k]) for k in ("name", "version") if suite.get(k) is not None)
        digest = str(suite.get("sha256") or suite.get("hash") or "")
        pairs.append(("suite", f"{text} (sha256 {digest[:12]})" if digest else text, ""))
    elif suite:
        pairs.append(("suite", str(suite), ""))
    if isinstance(git, dict) and git.get("commit"):
        dirty = bool(git.get("dirty"))
        pairs.append(
            (
                "code",
                f"{str(git['commit'])[:12]} ({'uncommitted changes' if dirty else 'clean'})",
                "warn" if dirty else "",
            )
        )
    for key, label in (("created_at", "started"), ("updated_at", "last written")):
        if m.get(key):
            pairs.append((label, str(m[key]).replace("T", " ").replace("+00:00", " UTC"), ""))
    machine = m.get("machine") or {}
    if machine.get("cpu"):
        memory = fmt.bytes_si(machine.get("memory_bytes"))
        pairs.append(("machine", f"{machine['cpu']}, {machine.get('usable_cores', '?')} cores, {memory}", ""))
    packages = m.get("packages") or {}
    shown = [f"{name} {packages[name]}" for name in ("linepress", "numpy", "numba", "ray") if name in packages]
    if shown:
        pairs.append(("packages", ", ".join(shown), ""))
    hosts = [h for h in dict.fromkeys(view.measure.unique("host")) if h]
    if hosts:
        pairs.append(("hosts", listed(hosts), ""))
    return pairs
