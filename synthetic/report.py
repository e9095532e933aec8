"""How results are told: text for people, JSON for machines, and the artifacts of failed runs.

Belongs here: rendering of frozen results and the folder of artifacts. Decides nothing.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from synthetic.journey import StepResult
from synthetic.pairing import Pairing
from synthetic.result import CheckOutcome, ExitCode, Fault, Pair, PairVerdict, TrackRun, exit_code
from synthetic.vitals import PageVitals, told

__all__ = [
    "Artifacts",
    "Summary",
    "pair_as_dict",
    "pair_line",
    "pair_text",
    "reason",
    "run_as_dict",
    "sentence",
    "vitals_line",
    "write_json",
    "write_text",
]

_SENTENCES = {
    PairVerdict.PASS: "the canary passed",
    PairVerdict.FLAKY: "passed on retry: flaky, and no proof against the canary by itself",
    PairVerdict.CANARY_FAILED: "the canary failed what stable passed at the same moment",
    PairVerdict.BOTH_FAILED: "both tracks failed: a shared dependency or the journey itself, not the canary",
    PairVerdict.INCONCLUSIVE: "inconclusive: it is not proven who answered",
    PairVerdict.ERROR: "the check could not run",
}


def sentence(pair: Pair) -> str:
    """Return what a pair means."""
    if pair.verdict is PairVerdict.PASS and pair.stable.outcome is CheckOutcome.FAIL:
        return "the canary passed what stable failed at the same moment"
    return _SENTENCES[pair.verdict]


def reason(run: TrackRun) -> str:
    """Return why a run is not a pass; empty when it is one."""
    if run.outcome is CheckOutcome.INCONCLUSIVE:
        return run.proof.detail
    failed = next((step for step in run.steps if step.error), None)
    if failed is not None:
        # What a step noticed of a browser that died or hung is not what was wrong.
        why = run.error if run.fault is Fault.HARNESS and run.error else failed.error
        return f"{failed.name}: {why}"
    return run.error


def pair_line(number: int, pair: Pair, *, named: bool = False) -> str:
    """Return a pair as one line, with its check's name where there are several."""
    sides = ", ".join(
        f"{run.target.track} {run.version} {run.outcome} {run.seconds:.2f} s" for run in pair.runs
    )
    return f"pair {number}{f' of {pair.check}' * named}: {sides}: {sentence(pair)}"


def pair_text(number: int, pair: Pair, *, named: bool = False) -> str:
    """Return a pair as text: one line per track and step, and what it means."""
    lines = [f"pair {number}{f' of {pair.check}' * named} ({pair.first} first)"]
    for run in pair.runs:
        lines.append(
            f"  {run.target.track:<8} {run.version:<12} {run.outcome.upper():<13} {run.seconds:7.2f} s"
        )
        lines += [_step_line(step) for step in run.steps]
        lines += [f"    {vitals_line(page)}" for page in run.pages if page.values]
        if why := reason(run):
            lines.append(f"    why: {why}")
        if run.outcome is not CheckOutcome.PASS:
            lines += [f"    the page said: {run.page_error}"] if run.page_error else []
            lines += [f"    trace {run.trace_id}"] if run.trace_id else []
            lines += [f"    artifacts in {run.artifacts}"] if run.artifacts else []
    lines.append(f"  => {sentence(pair)}")
    return "\n".join(lines)


def _step_line(step: StepResult) -> str:
    return f"    {'FAIL' if step.error else 'ok':<5} {step.seconds:7.2f} s  {step.name}"


def vitals_line(page: PageVitals) -> str:
    """Return what was measured of a page as one line."""
    values = (f"{vital} {told(vital, value)}" for vital, value in page.values.items())
    return f"page {page.path}: {', '.join(values)}"


def run_as_dict(run: TrackRun) -> dict[str, Any]:
    """Return a run as plain data; times in seconds, ``ended`` in unix seconds."""
    return {
        "url": run.target.url,
        "track": run.target.track.value,
        "version": run.version,
        "expected_version": run.target.version,
        "outcome": run.outcome.value,
        "reason": reason(run),
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
        "pages": [
            {"step": page.step, "path": page.path} | {v.value: round(x, 4) for v, x in page.values.items()}
            for page in run.pages
        ],
        "trace_id": run.trace_id,
        "artifacts": run.artifacts,
    }


class Summary:
    """All pairs so far as counts and evidence, and the last hundred of them in full."""

    def __init__(self, app: str, error_rate: float | None = None) -> None:
        self._app = app
        self._error_rate = error_rate
        self.counts: dict[str, Counter[PairVerdict]] = {}
        self.evidence: dict[str, Pairing] = {}
        self.last: deque[Pair] = deque(maxlen=100)

    @property
    def app(self) -> str:
        """The app under test."""
        return self._app

    @property
    def total(self) -> int:
        """How many pairs there were."""
        return sum(counts.total() for counts in self.counts.values())

    @property
    def code(self) -> ExitCode:
        """The exit code of everything so far."""
        return self._code(list(self.counts))

    def _code(self, checks: Sequence[str]) -> ExitCode:
        verdicts = {verdict for check in checks for verdict in self.counts[check]}
        if self._error_rate is None:
            return exit_code(verdicts)
        # Several checks share what may be wrong by chance. Source: Bonferroni.
        share = self._error_rate / max(1, len(self.evidence))
        convinced = any(self.evidence[check].nats >= math.log(1.0 / share) for check in checks)
        return exit_code(verdicts, needs_evidence=not convinced)

    def add(self, pair: Pair) -> None:
        """Take in a pair."""
        self.counts.setdefault(pair.check, Counter())[pair.verdict] += 1
        self.evidence.setdefault(pair.check, Pairing()).add(pair)
        self.last.append(pair)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "app": self._app,
            "exit_code": int(self.code),
            "result": self.code.name.lower(),
            "checks": {
                check: {
                    "counts": {verdict.value: counts[verdict] for verdict in PairVerdict},
                    "evidence": self.evidence[check].as_dict(),
                }
                for check, counts in self.counts.items()
            },
            "pairs": [pair_as_dict(pair) for pair in self.last],
        }

    def text(self) -> str:
        """Return the end of the story: one line for each check, and its evidence."""
        if not self.counts:
            return f"{self.code.name.lower()} after 0 pairs"
        lines = []
        for check, counts in self.counts.items():
            total = counts.total()
            told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
            pairs = f"{total} pair{'s' * (total != 1)}"
            lines.append(f"{check}: {self._code([check]).name.lower()} after {pairs} ({told})")
            lines += [f"  {line}" for line in self.evidence[check].lines()]
        if len(self.counts) > 1:
            lines.append(f"all: {self.code.name.lower()}")
        return "\n".join(lines)


def pair_as_dict(pair: Pair) -> dict[str, Any]:
    """Return a pair as plain data; ``started`` in unix seconds."""
    return {
        "check": pair.check,
        "started": pair.started,
        "first": pair.first.value,
        "verdict": pair.verdict.value,
        "retries": pair.retries,
        "stable": run_as_dict(pair.stable),
        "canary": run_as_dict(pair.canary),
    }


def write_json(path: Path, content: object) -> None:
    """Replace `path` by `content` as JSON in one move, so that a reader never sees half of it.

    Raises:
        OSError: it cannot be written.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in one move.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


class Artifacts:
    """The folder of what failed runs leave; the oldest go when there are more than `keep` of them.

    A subfolder with a ``run.json`` is one, whichever process left it: checks that a CronJob starts share it.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def save(self, check: str, run: TrackRun, files: Mapping[str, bytes]) -> str:
        """Write one failed run into a folder of its own and return the folder's path.

        Raises:
            OSError: the disk is full, or the folder cannot be written; nothing of it is left then.
        """
        moment = datetime.fromtimestamp(run.ended, UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
        name = re.sub(r"[^\w.-]+", "-", f"{check}-{moment}-{run.target.track}")
        folder = self._folder / name
        # Room first: a disk full of old failures takes the new one, and a clock that went back does not make
        # it the oldest of them.
        self._make_room(self._keep - 1)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            write_json(folder / "run.json", run_as_dict(run))
            for file, content in files.items():
                (folder / file).write_bytes(content)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return str(folder)

    def _make_room(self, left: int) -> None:
        """Remove all but `left`, the oldest first, by the moment in their names."""
        kept = [path.parent for path in self._folder.glob("*/run.json")]
        kept.sort(key=lambda path: "-".join(path.name.rsplit("-", 2)[1:]))
        for path in kept[: max(0, len(kept) - left)]:
            shutil.rmtree(path, ignore_errors=True)
