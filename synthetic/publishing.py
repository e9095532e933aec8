"""Tells what pairs come to: to people at once, to files after each pair, to Prometheus when it asks.

Belongs here: one place that a finished pair goes through. What cannot be written is said and counted, and
never changes what the pairs say.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from synthetic.metrics import CheckMetrics
from synthetic.report import Summary, pair_line, pair_text, write_json
from synthetic.result import ExitCode, Pair, PairVerdict

__all__ = ["Publisher"]

log = logging.getLogger(__name__)


class Publisher:
    """Takes in pairs and tells of them.

    Args:
        given: the command's options: which files are wanted.
        metrics: counts them.
        out: where people read; ``None``: stdout.
    """

    def __init__(self, given: argparse.Namespace, metrics: CheckMetrics, out: TextIO | None = None) -> None:
        self.summary = Summary(given.app, given.error_rate)
        self._metrics = metrics
        self._out = sys.stdout if out is None else out
        self._files: list[tuple[Path, Callable[[Path], None]]] = []
        if given.json is not None:
            self._files.append((given.json, self._json))

    def publish(self, pair: Pair) -> None:
        """Tell of a pair."""
        self._metrics.publish(pair)
        self.summary.add(pair)
        number, named = self.summary.total, len(self.summary.counts) > 1
        terse = number > 1 and pair.verdict is PairVerdict.PASS
        print((pair_line if terse else pair_text)(number, pair, named=named), file=self._out, flush=True)
        self._write()

    def close(self) -> ExitCode:
        """Write everything for the last time, tell the end of the story, and return the exit code: that of
        the pairs, but 2 where a report could not be written and the canary did not fail."""
        written = self._write()
        print(self.summary.text(), file=self._out, flush=True)
        code = self.summary.code
        return code if written or code is ExitCode.PRODUCT else ExitCode.INFRASTRUCTURE

    def _write(self) -> bool:
        """Write every file; return whether all could be."""
        written = True
        for path, write in self._files:
            try:
                write(path)
            except OSError as problem:
                # A full disk does not end a check that Prometheus scrapes.
                written = False
                self._metrics.count_internal_error("report")
                log.warning("%s could not be written: %s", path, problem)
        return written

    def _json(self, path: Path) -> None:
        write_json(path, self.summary.as_dict())
