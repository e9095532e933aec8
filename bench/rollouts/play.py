"""One cell of the tables: many rollouts of one world, each under every policy."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.rollouts.cells import Cell
from bench.rollouts.course import Course, Totals
from bench.rollouts.forged import FORGED, TRUSTS, policy_of, view_ticks
from bench.rollouts.oracle import extra_rate, known_bound, oracle, two_sample_bound
from bench.rollouts.rules import RULES
from bench.simulate import SCENARIOS, World, bake_of, like_the_study, ticks
from rolloutobs.analysis.model import Decision, Tick
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.verdict import Engine

__all__ = ["ORACLE", "OURS", "play"]

OURS, ORACLE = "rolloutobs", "oracle"


def play(cell: Cell, rps: float, runs: int, seed: int) -> dict[str, Any]:
    """Return what came out of `runs` rollouts: per policy how often it rolled back and promoted, when, and
    the mean of extra failed requests. Rollbacks count from the beginning of the fault.
    """
    began = time.process_time()
    if cell.group == "forged":
        return {**_forged(cell, runs, seed), "cpu_seconds": round(time.process_time() - began, 1)}
    world = replace(SCENARIOS[cell.scenario], rps=rps)
    policy = like_the_study()
    if cell.group == "bake":
        policy = bake_of(policy)
    courses: dict[str, list[Course]] = {}
    failures: dict[str, list[tuple[float, float]]] = {}
    requests: list[float] = []
    for i in range(runs):
        timeline = list(ticks(world, np.random.default_rng(seed * 100_000 + i)))
        totals = Totals.of(timeline)
        ends = {OURS: _engine(policy, timeline)}
        if cell.group in ("good", "worse"):
            ends |= {name: rule(totals) for name, rule in RULES.items()}
        if cell.yardstick:
            ends[ORACLE] = oracle(totals, world, policy.alpha)
        for name, course in ends.items():
            courses.setdefault(name, []).append(course)
            if cell.yardstick:
                failures.setdefault(name, []).append(_extra(course, totals, world))
        back = ends[OURS].rollback
        if back is not None:
            judged = (totals.ends > policy.warmup_seconds) & (totals.ends <= back)
            requests.append(float(totals.canary[judged].sum()))
    result: dict[str, Any] = {
        "runs": runs,
        "policies": {name: _summary(each, world) for name, each in courses.items()},
        "cpu_seconds": round(time.process_time() - began, 1),
    }
    for name, found in failures.items():
        result["policies"][name] |= _means(found)
    if cell.yardstick:
        result["bounds"] = {
            "known": round(known_bound(world, policy.alpha), 1),
            "two_sample": round(two_sample_bound(world, policy), 1),
            "judged_requests": float(np.median(requests)) if requests else None,
        }
    return result


def _forged(cell: Cell, runs: int, seed: int) -> dict[str, Any]:
    """Return the same of page views, per whom the policy trusts."""
    courses = {
        trust: [
            _engine(
                policy_of(trust),
                view_ticks(FORGED[cell.scenario], trust, np.random.default_rng(seed * 100_000 + i)),
            )
            for i in range(runs)
        ]
        for trust in TRUSTS
    }
    return {"runs": runs, "policies": {trust: _summary(each, World()) for trust, each in courses.items()}}


def _engine(policy: Policy, timeline: Iterable[Tick]) -> Course:
    """Return what our engine says; it goes on after a promotion, as if that had not been obeyed."""
    engine, promoted = Engine(policy), None
    for tick in timeline:
        decision = engine.update(tick)
        if tick.end <= 0:
            continue
        if decision is Decision.ROLLBACK:
            return Course(tick.end, promoted)
        if decision is Decision.PROMOTE and promoted is None:
            promoted = tick.end
    return Course(None, promoted)


def _extra(course: Course, totals: Totals, world: World) -> tuple[float, float]:
    """Return the extra failed requests up to the first verdict, and with a promotion obeyed to the end."""
    rate, end = extra_rate(world), course.end
    until = totals.ends <= (math.inf if end is None else end)
    extra = rate * float(totals.canary[until & (totals.ends > world.onset)].sum())
    later = world.rps * (world.seconds - end) if course.promotes and end is not None else 0.0
    return extra, extra + rate * later


def _means(found: Sequence[tuple[float, float]]) -> Mapping[str, float]:
    first, obeyed = np.mean(np.array(found), axis=0)
    return {"extra": round(float(first), 3), "obeyed": round(float(obeyed), 3)}


def _summary(courses: Sequence[Course], world: World) -> dict[str, Any]:
    """Return the rollbacks, and the promotions that came first: percent and the median of the seconds."""
    back = [course.rollback - world.onset for course in courses if course.rollback is not None]
    forth = [course.promote for course in courses if course.promotes and course.promote is not None]
    return {"rollback": _part(back, len(courses)), "promote": _part(forth, len(courses))}


def _part(times: Sequence[float], runs: int) -> list[float | None]:
    return [round(100.0 * len(times) / runs, 1), float(np.median(times)) if times else None]
