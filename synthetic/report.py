"""How results are told: text for people, JSON for machines, and the artifacts of failed runs.

Belongs here: rendering of frozen results and the folder of artifacts. Decides nothing.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthetic.journey import StepResult
from synthetic.result import CheckOutcome, ExitCode, Pair, PairVerdict, TrackRun

__all__ = ["Artifacts", "Summary", "pair_line", "pair_text", "run_as_dict", "write_json"]

_SENTENCES = {
    PairVerdict.PASS: "the canary passed",
    PairVerdict.CANARY_FAILED: "the canary failed what stable passed at the same moment",
    PairVerdict.BOTH_FAILED: "both tracks failed: a shared dependency or the journey itself, not the canary",
    PairVerdict.INCONCLUSIVE: "inconclusive: it is not proven who answered",
    PairVerdict.ERROR: "the check could not run",
}


def _sentence(pair: Pair) -> str:
    if pair.verdict is PairVerdict.PASS and pair.stable.outcome is CheckOutcome.FAIL:
        return "the canary passed what stable failed at the same moment"
    return _SENTENCES[pair.verdict]


def _reason(run: TrackRun) -> str:
    """Return why a run is not a pass; empty when it is one."""
    if run.outcome is CheckOutcome.INCONCLUSIVE:
        return run.proof.detail
    failed = next((step for step in run.steps if step.error), None)
    if failed is not None:
        return f"{failed.name}: {failed.error}"
    return run.error


def pair_line(number: int, pair: Pair) -> str:
    """Return a pair as one line."""
    sides = ", ".join(
        f"{run.target.track} {run.version} {run.outcome} {run.seconds:.2f} s" for run in pair.runs
    )
    return f"pair {number}: {sides}: {_sentence(pair)}"


def pair_text(number: int, pair: Pair) -> str:
    """Return a pair as text: one line per track and step, and what it means."""
    lines = [f"pair {number} ({pair.first} first)"]
    for run in pair.runs:
        lines.append(
            f"  {run.target.track:<8} {run.version:<12} {run.outcome.upper():<13} {run.seconds:7.2f} s"
        )
        lines += [_step_line(step) for step in run.steps]
        if reason := _reason(run):
            lines.append(f"    why: {reason}")
        if run.outcome is not CheckOutcome.PASS:
            lines += [f"    the page said: {run.page_error}"] if run.page_error else []
            lines += [f"    trace {run.trace_id}"] if run.trace_id else []
            lines += [f"    artifacts in {run.artifacts}"] if run.artifacts else []
    lines.append(f"  => {_sentence(pair)}")
    return "\n".join(lines)


def _step_line(step: StepResult) -> str:
    return f"    {'FAIL' if step.error else 'ok':<5} {step.seconds:7.2f} s  {step.name}"


def run_as_dict(run: TrackRun) -> dict[str, Any]:
    """Return a run as plain data; times in seconds, ``ended`` in unix seconds."""
    return {
        "url": run.target.url,
        "track": run.target.track.value,
        "version": run.version,
        "expected_version": run.target.version,
        "outcome": run.outcome.value,
        "reason": _reason(run),
        "page_error": run.page_error,
        "fault": run.fault.value,
        "identity": run.proof.proven.value,
        "seconds": round(run.seconds, 4),
        "ended": run.ended,
        "steps": [
            {"name": s.name, "outcome": "fail" if s.error else "pass", "seconds": round(s.seconds, 4)}
            | ({"error": s.error} if s.error else {})
            for s in run.steps
        ],
        "trace_id": run.trace_id,
        "artifacts": run.artifacts,
    }


class Summary:
    """All pairs so far as counts, and the last hundred of them in full."""

    def __init__(self, app: str, check: str) -> None:
        self._app = app
        self._check = check
        self.counts: Counter[PairVerdict] = Counter()
        self._last: deque[Pair] = deque(maxlen=100)

    def add(self, pair: Pair) -> None:
        """Take in a pair."""
        self.counts[pair.verdict] += 1
        self._last.append(pair)

    def as_dict(self, code: ExitCode) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "app": self._app,
            "check": self._check,
            "exit_code": int(code),
            "result": code.name.lower(),
            "counts": {verdict.value: self.counts[verdict] for verdict in PairVerdict},
            "pairs": [
                {
                    "started": pair.started,
                    "first": pair.first.value,
                    "verdict": pair.verdict.value,
                    "stable": run_as_dict(pair.stable),
                    "canary": run_as_dict(pair.canary),
                }
                for pair in self._last
            ],
        }

    def line(self, code: ExitCode) -> str:
        """Return the end of the story in one line."""
        total = sum(self.counts.values())
        told = ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items())
        return f"{self._check}: {code.name.lower()} after {total} pair{'s' * (total != 1)} ({told or 'none'})"


def write_json(path: Path, content: object) -> None:
    """Replace `path` by `content` as JSON in one move, so that a reader never sees half of it.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


class Artifacts:
    """The folder of what failed runs leave; the oldest of this process go when there are more than `keep`."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep
        self._mine: deque[Path] = deque()

    def save(self, check: str, run: TrackRun, console: Sequence[str], screenshot: bytes | None) -> str:
        """Write one failed run into a folder of its own and return the folder's path.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        moment = datetime.fromtimestamp(run.ended, UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
        name = re.sub(r"[^\w.-]+", "-", f"{check}-{moment}-{run.target.track}")
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        self._mine.append(folder)
        while len(self._mine) > self._keep:
            shutil.rmtree(self._mine.popleft(), ignore_errors=True)
        write_json(folder / "run.json", run_as_dict(run))
        (folder / "console.txt").write_text("".join(f"{line}\n" for line in console), encoding="utf-8")
        if screenshot is not None:
            (folder / "screenshot.png").write_bytes(screenshot)
        return str(folder)
