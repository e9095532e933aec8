"""Tells what pairs come to: to people at once, to files after each pair, to Prometheus when it asks.

Belongs here: one place that a finished pair goes through. What cannot be written is said and counted, and
never changes what the pairs say.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from synthetic.junit import junit_xml
from synthetic.metrics import CheckMetrics
from synthetic.page import html_page, markdown
from synthetic.pushing import Pusher
from synthetic.report import Summary, pair_line, pair_text, write_json, write_text
from synthetic.result import ExitCode, Pair, PairVerdict

__all__ = ["Publisher"]

log = logging.getLogger(__name__)


class Publisher:
    """Takes in pairs and tells of them.

    Args:
        given: the command's options: which files are wanted.
        metrics: counts them.
        senders: each sends the metrics somewhere; see `synthetic.pushing`.
        named: whether each pair is told with its check's name: there are several.
    """

    def __init__(
        self,
        given: argparse.Namespace,
        metrics: CheckMetrics,
        senders: Sequence[Callable[[], None]] = (),
        *,
        named: bool,
    ) -> None:
        self.summary = Summary(given.app, given.error_rate)
        self._metrics = metrics
        self._named = named
        self._links = given.html.resolve().parent if given.html is not None else Path()
        wanted = ((given.json, self._json), (given.junit, self._junit), (given.html, self._html))
        self._files = [(path, write) for path, write in wanted if path is not None]
        self._markdown: Path | None = given.summary
        self._pusher = Pusher(senders, lambda: metrics.count_internal_error("push"))

    def publish(self, pair: Pair) -> None:
        """Tell of a pair."""
        self._metrics.publish(pair)
        self.summary.add(pair)
        number = self.summary.total
        terse = number > 1 and pair.verdict is PairVerdict.PASS
        self._say((pair_line if terse else pair_text)(number, pair, named=self._named))
        self._write(self._files)
        self._pusher.push()

    def close(self) -> ExitCode:
        """Write everything for the last time, tell the end of the story, and return the exit code: that of
        the pairs, but 2 where a report could not be written and the canary did not fail."""
        last = [] if self._markdown is None else [(self._markdown, self._append)]
        written = self._write([*self._files, *last])
        self._pusher.close()
        self._say(self.summary.text())
        code = self.summary.code
        return code if written or code is ExitCode.PRODUCT else ExitCode.INFRASTRUCTURE

    def _say(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError as problem:
            # Whoever read has gone (a pipe), or the disk is full: neither is a reason to stop checking.
            self._metrics.count_internal_error("report")
            log.warning("stdout could not be written: %s", problem)
            # Python would end with a code of its own if it could not write what is left, either.
            # Source: https://docs.python.org/3/library/signal.html#note-on-sigpipe
            with suppress(OSError), Path(os.devnull).open("w") as nothing:
                os.dup2(nothing.fileno(), sys.stdout.fileno())

    def _write(self, files: Sequence[tuple[Path, Callable[[Path], None]]]) -> bool:
        """Write `files`; return whether all could be."""
        written = True
        for path, write in files:
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

    def _junit(self, path: Path) -> None:
        write_text(path, junit_xml(self.summary))

    def _html(self, path: Path) -> None:
        write_text(path, html_page(self.summary, _picture, _names, self._links))

    def _append(self, path: Path) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(markdown(self.summary))


def _names(folder: str) -> list[str]:
    try:
        return [path.name for path in Path(folder).iterdir()]
    except OSError:
        return []


def _picture(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError:
        # Newer failures have taken its place, or it could not be kept.
        return None
