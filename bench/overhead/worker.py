"""A process that holds subjects and measures a slice of one when told.

A process of its own keeps what a subject patches, and the variables it needs, away from the others. One line
of JSON is a command, one line the answer; whatever else is printed goes to standard error.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
from typing import Any, TextIO

from bench.overhead.subject import Built, Subject, UnavailableError, failures
from bench.overhead.tables import subjects
from bench.overhead.traffic import CASES, Caller

__all__ = ["Bench", "main"]

SEEDS = 60


class Bench:
    """The subjects of one process."""

    def __init__(self, found: list[Subject], collect_garbage: bool) -> None:
        self._subjects = {subject.name: subject for subject in found}
        self._built: dict[str, Built] = {}
        self._requests: dict[str, int] = {}
        self._collect_garbage = collect_garbage
        self.unavailable: dict[str, str] = {}
        self._seeds: dict[str, int] = {}
        for name, subject in self._subjects.items():
            try:
                self._built[name] = subject.build()
                self._requests[name] = 0
            except UnavailableError as error:
                self.unavailable[name] = str(error)

    async def calibrate(self, name: str, case: str, requests: int) -> int:
        """Find the seed with which a slice of `requests` samples the share it should; return that seed.

        By chance 20 +- 4 of 200 requests are sampled at 10 %, and the first decile would show the slices with
        the fewest. A tool that draws from elsewhere than `random` keeps its chance.
        """
        subject, built = self._subjects[name], self._built[name]
        exact = subject.share not in (0.0, 1.0) and built.recorded is not None
        for seed in range(SEEDS if exact else 1):
            before = built.recorded() if exact and built.recorded is not None else 0.0
            self._seeds[name] = seed
            await self.slice(name, case, requests)
            after = built.recorded() if exact and built.recorded is not None else 0.0
            if after - before == round(requests * subject.share):
                break
        return self._seeds[name]

    async def slice(self, name: str, case: str, requests: int) -> tuple[float, float]:
        """Return CPU seconds per request, of the thread and of the process."""
        built = self._built[name]
        built.settle()
        gc.collect()
        random.seed(self._seeds.get(name, 0))
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
            failed = failures((await Caller(3).get(built.app, built.scrape)).decode())
            if failed:
                return failed
        return subject.missing(None if built.recorded is None else built.recorded(), asked)

    def close(self) -> None:
        """Remove what the subjects have left behind."""
        for built in self._built.values():
            built.close()


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
            work = {"slice": bench.slice, "calibrate": bench.calibrate, "check": bench.check}[what]
            answer({"value": loop.run_until_complete(work(**command))})
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
    bench = Bench(found, collect_garbage == "gc")
    try:
        _serve(bench, sys.stdin, answers)
    finally:
        bench.close()
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    # Agents of other tools register exits that wait for servers which are not there.
    sys.stdout.flush()
    os._exit(code)
