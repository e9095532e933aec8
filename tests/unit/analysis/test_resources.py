"""Memory and CPU: compared at the same age, and memory that runs out. They hold and never roll back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from rolloutobs.analysis.model import Decision, PairCount, PodCount, PodUse, Tick, Verdict
from rolloutobs.analysis.policy import OnFailure, Policy, Resources
from rolloutobs.analysis.resources import Process
from rolloutobs.analysis.verdict import Engine
from rolloutobs.errors import ConfigurationError

MIB = 2.0**20
ROOT = (("method", "GET"), ("route", "/"))
Memory = Callable[[float], float]


def told(
    memory: Memory,
    *,
    stable: Memory = lambda age: 200 * MIB,
    stable_age: float = 0.0,
    cpu: tuple[float, float] = (0.5, 0.5),
    requests: tuple[float, float] = (600.0, 600.0),
    ticks: int = 48,
    **settings: object,
) -> Verdict:
    """A canary that is good in all that is counted, with one process of its own and two of stable."""
    policy = Policy(resources=Resources(**settings)).only("errors")  # type: ignore[arg-type]
    engine = Engine(policy)
    for i in range(-40, ticks):
        end, canary = 15.0 * (i + 1), i >= 0
        uses = [
            PodUse(pod, False, end + stable_age, 15.0, stable(end + stable_age), 15.0 * cpu[1], requests[1])
            for pod in ("a", "b")
            if end + stable_age > 0
        ]
        if canary:
            uses.append(PodUse("c", True, end, 15.0, memory(end), 15.0 * cpu[0], requests[0]))
        engine.update(
            Tick(
                end - 15.0,
                end,
                counts={"errors": {ROOT: PairCount(0, 600 * canary, 1, 1200)}},
                stable_pods={"errors": {"a": PodCount(1, 600), "b": PodCount(0, 600)}},
                by_pod_age=True,
                uses=tuple(uses),
                canary_version="1.2.0",
                stable_version="1.1.0",
            )
        )
    return engine.verdict()


def test_as_much_as_stable_is_promoted_and_shown() -> None:
    verdict = told(lambda age: 210 * MIB)
    assert verdict.decision is Decision.PROMOTE
    memory, cpu = verdict.resources
    assert (memory.resource, memory.same_age, memory.above) == ("memory", True, False)
    assert (memory.canary, memory.stable) == (210 * MIB, 200 * MIB)
    assert (cpu.resource, cpu.canary, cpu.stable) == ("cpu", 0.5, 0.5)


def test_much_more_memory_at_the_same_age_holds_and_never_rolls_back() -> None:
    verdict = told(lambda age: 800 * MIB)
    assert verdict.decision is Decision.HOLD
    assert (
        "a process of canary 1.2.0 uses 800 MiB of memory at an age of 12 min where no process of stable "
        "1.1.0 uses more than 200 MiB of memory"
    ) in verdict.reason
    assert told(lambda age: 800 * MIB, on_failure=OnFailure.LOG).decision is Decision.PROMOTE


def test_stable_is_looked_at_in_its_youth_and_not_in_its_old_age() -> None:
    def grows(age: float) -> float:
        return 100 * MIB + age * MIB

    # Old processes use more than the young canary, which uses three times what they did when they were young.
    young = told(lambda age: 3 * grows(age), stable=grows)
    assert young.resources[0].same_age
    assert young.resources[0].above
    older = told(lambda age: 3 * grows(age), stable=grows, stable_age=7200.0)
    assert not older.resources[0].same_age
    assert not older.resources[0].above
    assert older.decision is Decision.PROMOTE


def test_more_than_an_older_process_holds_and_says_that_it_is_older() -> None:
    verdict = told(lambda age: 800 * MIB, stable_age=7200.0)
    assert verdict.decision is Decision.HOLD
    assert "uses more than 200 MiB of memory (stable 1.1.0's are older)" in verdict.reason


def test_cpu_of_a_busier_process_is_no_reason_but_cpu_per_request_is() -> None:
    assert told(lambda age: 200 * MIB, cpu=(1.5, 0.5), requests=(1800.0, 600.0)).decision is Decision.PROMOTE
    verdict = told(lambda age: 200 * MIB, cpu=(1.5, 0.5))
    assert verdict.decision is Decision.HOLD
    assert "uses 1.5 cores at an age of 12 min" in verdict.reason


def test_memory_that_reaches_its_limit_within_the_hour_holds() -> None:
    def leaks(age: float) -> float:
        return 200 * MIB + 0.1 * age * MIB

    limit = 512 * MIB
    verdict = told(leaks, memory_limit_bytes=limit, memory_ratio=10.0)
    assert verdict.decision is Decision.HOLD
    assert "memory of canary 1.2.0 grows steadily" in verdict.reason
    assert "reaches its limit of 512 MiB of memory in about 42 min" in verdict.reason
    # Without a limit nobody knows, far from it there is time, and what stable does is not the canary's.
    assert told(leaks, memory_ratio=10.0).decision is Decision.PROMOTE
    assert told(leaks, memory_limit_bytes=64 * limit, memory_ratio=10.0).decision is Decision.PROMOTE
    assert told(leaks, stable=leaks, memory_limit_bytes=limit).decision is Decision.PROMOTE


def test_noise_is_no_leak() -> None:
    rng = np.random.default_rng(3)
    noisy = told(lambda age: 200 * MIB + rng.normal(0, 5 * MIB), memory_limit_bytes=256 * MIB)
    assert noisy.decision is Decision.PROMOTE


def test_nothing_known_holds_nothing() -> None:
    verdict = told(lambda age: 800 * MIB, ticks=10)
    assert verdict.resources == ()
    assert not any("memory" in text for text in verdict.holds)


def test_the_slope_is_that_of_theil_and_sen() -> None:
    rng, process = np.random.default_rng(1), Process()
    ages, memory = 15.0 * np.arange(1, 101), rng.normal(1e8, 1e6, 100) + 1e4 * np.arange(100)
    for age, used in zip(ages, memory, strict=True):
        process.add(age, PodUse("c", True, age, 15.0, used, None, 0.0))
    expected = stats.theilslopes(memory, ages).slope
    assert process.slope(0.0, 1500.0) == pytest.approx(expected, rel=1e-9)


def test_a_day_of_ticks_does_not_grow_and_a_new_process_begins_anew() -> None:
    process = Process()
    for i in range(5760):
        process.add(15.0 * i, PodUse("c", True, 15.0 * (i + 1), 15.0, 1e8, 1.5, 10.0))
    assert len(process.points) <= 240
    level = process.level(0.0, 86400.0)
    assert level is not None
    assert level.cores == pytest.approx(0.1)
    process.add(90000.0, PodUse("c", True, 5.0, 15.0, 5e7, None, 0.0))
    assert process.points[:, 0].tolist() == [5.0]


def test_it_cannot_be_told_to_roll_back() -> None:
    with pytest.raises(ConfigurationError, match="resources: on_failure is 'rollback'; use 'pause' or 'log'"):
        Policy.from_mapping({"resources": {"on_failure": "rollback"}})
