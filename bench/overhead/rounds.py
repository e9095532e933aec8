"""How subjects are compared: interleaved slices in random order, the first decile over the rounds.

Workers are pinned to one processor, one slice runs at a time, and the CPU time of the thread is taken, not
the wall time. Other work on the machine only ever adds to a slice, so the first decile over the rounds is
compared with that of the bare app; the median is shown beside it. A slice that samples a tenth of its
requests samples the same tenth in every round.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from bench.overhead.own import BARE, FLOOR
from bench.overhead.subject import Subject

__all__ = ["Plan", "Row", "measure", "processors"]


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    rounds: int
    requests: int
    """Per slice."""
    collect_garbage: bool = False
    """Whether the garbage collector runs inside of slices; else between them only."""
    series: int = 10_000
    """Of the scrape."""


@dataclass(frozen=True)
class Row:
    """What a subject adds to the bare app, per request."""

    subject: str
    added_us: float
    """First decile over the rounds, above the bare app's: CPU time of the serving thread."""
    median_us: float
    """The same of the medians."""
    process_us: float
    """First decile of all threads' CPU time: with what an agent does in the background."""
    ratio: float
    """``added_us`` to FLOOR's."""


def processors() -> tuple[str, str]:
    """Return the processors for what is measured and for who asks; the same one where there is only one."""
    if not hasattr(os, "sched_getaffinity"):
        return "any", "any"
    allowed = sorted(os.sched_getaffinity(0))
    return str(allowed[-1]), str(allowed[0])


class _Worker:
    def __init__(self, home: str, env: dict[str, str], collect_garbage: bool) -> None:
        command = [sys.executable, "-m", "bench.overhead.worker", home, processors()[0]]
        command.append("gc" if collect_garbage else "nogc")
        # The same hash seed everywhere: dictionaries are laid out alike.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "0", **env},
        )
        self._home = home
        self.unavailable: dict[str, str] = {}

    def wait(self) -> None:
        """Wait until the subjects are made."""
        self.unavailable = self._answer()["unavailable"]

    def ask(self, do: str, **arguments: Any) -> Any:
        """Return the answer to a command.

        Raises:
            RuntimeError: the worker failed.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()["value"]

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise RuntimeError(f"{self._home}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def _workers(subjects: Sequence[Subject], collect_garbage: bool) -> Iterator[dict[str, _Worker]]:
    with ExitStack() as stack:
        homes: dict[str, _Worker] = {}
        for subject in subjects:
            if subject.home not in homes:
                worker = _Worker(subject.home, dict(subject.env), collect_garbage)
                stack.callback(worker.close)
                homes[subject.home] = worker
        for worker in homes.values():
            worker.wait()
        yield homes


def measure(subjects: Sequence[Subject], cases: Sequence[str], plan: Plan) -> dict[str, list[Row]]:
    """Return the rows of each case, in the order of `subjects`, which begin with the bare app.

    A subject that cannot be measured here is reported on standard error and left out.

    Raises:
        RuntimeError: a subject fails, or its telemetry did not record what it was asked.
    """
    with _workers(subjects, plan.collect_garbage) as workers:
        here = []
        for subject in subjects:
            reason = workers[subject.home].unavailable.get(subject.name)
            if reason is None:
                here.append(subject)
            else:
                print(f"not measured: {subject.name}: {reason}", file=sys.stderr)
        results = {case: _case(here, workers, case, plan) for case in cases}
        for subject in here:
            wrong = workers[subject.home].ask("check", name=subject.name)
            if wrong:
                raise RuntimeError(f"{subject.name}: telemetry did not work: {wrong}")
    return results


def _case(subjects: Sequence[Subject], workers: dict[str, _Worker], case: str, plan: Plan) -> list[Row]:
    used: dict[str, list[tuple[float, float]]] = {subject.name: [] for subject in subjects}

    def run(subject: Subject) -> tuple[float, float]:
        thread, process = workers[subject.home].ask(
            "slice", name=subject.name, case=case, requests=plan.requests
        )
        return thread * 1e6, process * 1e6

    for subject in subjects:
        workers[subject.home].ask("calibrate", name=subject.name, case=case, requests=plan.requests)
    for _ in range(plan.rounds):
        for subject in random.sample(list(subjects), len(subjects)):
            used[subject.name].append(run(subject))
    return _rows(used)


def _rows(used: dict[str, list[tuple[float, float]]]) -> list[Row]:
    thread = {name: [pair[0] for pair in pairs] for name, pairs in used.items()}
    low = {name: first_decile(values) for name, values in thread.items()}
    middle = {name: statistics.median(values) for name, values in thread.items()}
    whole = {name: first_decile([pair[1] for pair in pairs]) for name, pairs in used.items()}
    unit = low[FLOOR] - low[BARE]
    return [
        Row(
            name,
            low[name] - low[BARE],
            middle[name] - middle[BARE],
            whole[name] - whole[BARE],
            (low[name] - low[BARE]) / unit,
        )
        for name in used
        if name != BARE
    ]


def first_decile(values: Sequence[float]) -> float:
    """Return the first decile; of one value, that value."""
    return statistics.quantiles(values, n=10)[0] if len(values) > 1 else values[0]
