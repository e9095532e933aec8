"""A process that holds subjects and measures a slice of one when told: `python -m bench.overhead.worker HOME`.

A process of its own keeps what a subject patches, and the variables it needs, away from the others. One line
of JSON is a command, one line the answer; whatever else is printed goes to standard error.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from typing import Any, TextIO

from bench.overhead.subject import Built, Subject, Unavailable
from bench.overhead.tables import subjects
from bench.overhead.traffic import CASES, Caller

__all__ = ["Bench", "main"]

FAILURES_METRIC = "rolloutobs_internal_errors_total"


class Bench:
    """The subjects of one process."""

    def __init__(self, found: list[Subject], collect_garbage: bool) -> None:
        self._subjects = {subject.name: subject for subject in found}
        self._built: dict[str, Built] = {}
        self._requests: dict[str, int] = {}
        self._collect_garbage = collect_garbage
        self.unavailable: dict[str, str] = {}
        for name, subject in self._subjects.items():
            try:
                self._built[name] = subject.make()
                self._requests[name] = 0
            except (Unavailable, ImportError) as error:
                self.unavailable[name] = str(error)

    async def slice(self, name: str, case: str, requests: int) -> tuple[float, float]:
        """Return CPU seconds per request, of the thread and of the process."""
        built = self._built[name]
        built.settle()
        gc.collect()
        if not self._collect_garbage:
            gc.disable()
        try:
            used = await CASES[case].slice(built.app, requests)
        finally:
            gc.enable()
        if not CASES[case].unsampled:
            self._requests[name] += requests
        return used

    async def check(self, name: str) -> str:
        """Return what is wrong with the telemetry of a subject: failing is quick. Empty: nothing."""
        subject, built, asked = self._subjects[name], self._built[name], self._requests[name]
        if built.scrape is not None:
            text = (await Caller(3).get(built.app, built.scrape)).decode()
            failed = [line for line in text.splitlines() if line.startswith(FAILURES_METRIC + "{")]
            if not failed:
                return f"no {FAILURES_METRIC} in {built.scrape}"
            if any(float(line.rpartition(" ")[2]) for line in failed):
                return "; ".join(failed)
        if subject.share and built.recorded is None:
            return "nothing proves that it recorded anything"
        if subject.share and built.recorded is not None:
            recorded = built.recorded()
            # A tenth of 1000 requests is 100 +- 38 by chance, at four standard deviations.
            least = asked * subject.share * (1.0 if subject.share == 1.0 else 0.5)
            if recorded < least:
                return f"{recorded:.0f} recorded of {asked} requests, at least {least:.0f} were expected"
        return ""


def _serve(bench: Bench, commands: TextIO, answers: TextIO) -> None:
    loop = asyncio.new_event_loop()

    def answer(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    answer({"unavailable": bench.unavailable})
    for line in commands:
        command = json.loads(line)
        what = command.pop("do")
        try:
            work = bench.slice(**command) if what == "slice" else bench.check(**command)
            answer({"value": loop.run_until_complete(work)})
        except Exception as error:
            answer({"error": f"{command.get('name')}: {type(error).__name__}: {error}"})
            raise
    loop.close()


def main(argv: list[str]) -> int:
    home, processor, collect_garbage = argv
    if hasattr(os, "sched_setaffinity") and processor != "any":
        os.sched_setaffinity(0, {int(processor)})
    # What a subject prints must not become an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    found = [subject for subject in subjects() if subject.home == home]
    _serve(Bench(found, collect_garbage == "gc"), sys.stdin, answers)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # Agents of other tools register exits that wait for servers which are not there.
    sys.stdout.flush()
    os._exit(code)
