"""The tables of `docs/verdict.md`, from what was kept of the runs: no simulation.

Each function returns one table in Markdown; `everything` all of them for which there is something.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.rollouts.cells import CELLS, RPS, Cell, of

__all__ = ["RESULTS", "bounds", "cases", "everything", "extra", "forged", "promoted", "rolled_back", "size"]

RESULTS = Path(__file__).parents[1] / "results" / "rollouts.json"
_OURS, _ORACLE = "rolloutobs", "oracle"
_POLICIES = (_OURS, "Flagger", "ratio at once", "ratio for 5 min", "Kayenta", "repeated z")
_ABSENT = "-"
_Found = Mapping[str, Any]


def kept() -> _Found:
    """Return the published runs."""
    found: _Found = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def rolled_back(group: str, found: _Found | None = None) -> str:
    """Return how often each policy rolls the canaries of a group back, and when."""
    return _by_policy(group, _POLICIES, lambda policy: _part(policy["rollback"]), found)


def promoted(found: _Found | None = None) -> str:
    """Return how often each policy promotes first, and when; the repeated z-test never does."""
    known = kept() if found is None else found
    rows = [
        [
            cell.title,
            "yes" if cell.beyond else "",
            *_values(cell, known, _POLICIES[:-1], lambda policy: _part(policy["promote"])),
        ]
        for cell in (*of("good"), *of("worse"))
        if cell.scenario in known
    ]
    return _markdown(["canary", "beyond a margin", *_POLICIES[:-1]], rows)


def extra(found: _Found | None = None) -> str:
    """Return the extra failed requests until the first verdict as multiples of the oracle's, at 100 and 1000
    requests a second; in brackets with promotions obeyed, where that differs."""
    known = kept() if found is None else found
    rows = []
    for cell in CELLS:
        if not cell.yardstick or cell.scenario not in known:
            continue
        traffics = _traffics(cell, known, ("100", "1000"))
        ours = [f"{each['policies'][_ORACLE]['extra']:.3g}" for each in traffics]
        rows.append([cell.title, " / ".join(ours), *(_multiples(traffics, name) for name in _POLICIES)])
    return _markdown(["canary", "oracle, requests", *_POLICIES], rows)


def bounds(found: _Found | None = None) -> str:
    """Return the median of canary requests that our rollbacks used after warm-up, beside the two bounds."""
    known = kept() if found is None else found
    columns = ("10", "100", "1000")
    rows = []
    for cell in CELLS:
        if not cell.yardstick or cell.scenario not in known:
            continue
        traffics = [known[cell.scenario].get(rps) for rps in columns]
        theory = next(each["bounds"] for each in traffics if each is not None)
        rows.append(
            [
                cell.title,
                f"{theory['known']:.0f}",
                f"{theory['two_sample']:.0f}",
                *(_used(each) for each in traffics),
            ]
        )
    return _markdown(["canary", "stable known", "two samples", *(f"{rps} rps" for rps in columns)], rows)


def _used(traffic: Any) -> str:
    """Return "446 (6.1x, 4.6x)"; where hardly any rollout was rolled back, those that were say little."""
    if traffic is None or traffic["policies"][_OURS]["rollback"][0] < 80.0:
        return _ABSENT
    theory, used = traffic["bounds"], traffic["bounds"]["judged_requests"]
    if not used:
        return "in the warm-up"
    return f"{used:,.0f} ({used / theory['known']:.1f}x, {used / theory['two_sample']:.1f}x)"


def cases(group: str, found: _Found | None = None) -> str:
    """Return how our own verdicts end in a group: rolled back / promoted first."""
    known = kept() if found is None else found
    cells = [cell for cell in of(group) if cell.scenario in known]
    columns = sorted({rps for cell in cells for rps in cell.rps})
    rows = []
    for cell in cells:
        row = [cell.title]
        for rps in columns:
            traffic = known[cell.scenario].get(f"{rps:g}")
            ours = None if traffic is None else traffic["policies"][_OURS]
            row.append(_ABSENT if ours is None else f"{_part(ours['rollback'])} / {_part(ours['promote'])}")
        rows.append(row)
    return _markdown(["canary", *(f"{rps:g} rps" for rps in columns)], rows)


def forged(found: _Found | None = None) -> str:
    """Return how forged and real errors of pages end, by whose views may roll back."""
    known = kept() if found is None else found
    rows = [
        [cell.title, *(_part(each["rollback"]) for each in _forged_policies(cell, known))]
        for cell in of("forged")
        if cell.scenario in known
    ]
    return _markdown(["canary", "no tokens (they hold)", "views with a token", "everybody's"], rows)


def _forged_policies(cell: Cell, known: _Found) -> list[Any]:
    (traffic,) = known[cell.scenario].values()
    return [traffic["policies"][trust] for trust in ("unsigned", "signed", "anyone")]


def size(found: _Found | None = None) -> str:
    """Return how many rollouts there are behind the tables, and what they took."""
    known = kept() if found is None else found
    traffics = [each for scenario in known.values() for each in scenario.values()]
    minutes = sum(each["cpu_seconds"] for each in traffics) / 60.0
    return f"{sum(each['runs'] for each in traffics):,} rollouts, {minutes:.0f} minutes of one core"


def everything(found: _Found) -> str:
    """Return all tables for which something was found."""
    groups = {cell.group for cell in CELLS if cell.scenario in found}
    return "\n\n".join(_tables(groups, found))


def _tables(groups: set[str], found: _Found) -> Iterator[str]:
    for group in ("good", "worse"):
        if group in groups:
            yield rolled_back(group, found)
    if groups & {"good", "worse"}:
        yield promoted(found)
    if any(cell.yardstick and cell.scenario in found for cell in CELLS):
        yield extra(found)
        yield bounds(found)
    for group in dict.fromkeys(cell.group for cell in CELLS):
        if group in groups - {"good", "worse", "forged"}:
            yield cases(group, found)
    if "forged" in groups:
        yield forged(found)


def _by_policy(
    group: str, policies: Sequence[str], tell: Callable[[_Found], str], found: _Found | None
) -> str:
    known = kept() if found is None else found
    rows = [
        [cell.title, *_values(cell, known, policies, tell)] for cell in of(group) if cell.scenario in known
    ]
    return _markdown(["canary", *policies], rows)


def _values(
    cell: Cell, known: _Found, policies: Sequence[str], tell: Callable[[_Found], str]
) -> Iterator[str]:
    """Yield per policy what it does at each traffic, "1 / 2 / 3 / 4"."""
    traffics = [known[cell.scenario].get(f"{rps:g}") for rps in RPS]
    for name in policies:
        told = (_ABSENT if each is None else tell(each["policies"][name]) for each in traffics)
        yield " / ".join(told)


def _traffics(cell: Cell, known: _Found, wanted: Sequence[str]) -> list[Any]:
    return [known[cell.scenario][rps] for rps in wanted if rps in known[cell.scenario]]


def _multiples(traffics: Sequence[Any], name: str) -> str:
    told = []
    for traffic in traffics:
        oracle, policy = traffic["policies"][_ORACLE]["extra"], traffic["policies"][name]
        first, obeyed = policy["extra"] / oracle, policy["obeyed"] / oracle
        same = f"{obeyed:.2g}" == f"{first:.2g}"
        told.append(_digits(first) if same else f"{_digits(first)} ({_digits(obeyed)})")
    return " / ".join(told)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 10.0 else f"{value:.2g}"


def _part(part: Sequence[float | None]) -> str:
    """Return "84 @1080": percent, and the median of the seconds where a fifth or more did."""
    percent, at = part
    if percent is None or not percent:
        return "0"
    return f"{percent:g}" if at is None or percent < 20.0 else f"{percent:g} @{at:.0f}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
