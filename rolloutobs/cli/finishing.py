"""What the gate does with a decision: it tells it, writes the reports, and acts.

In this order: a report that cannot be written takes neither the verdict nor the action along.
"""

from __future__ import annotations

import asyncio
import os
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rolloutobs.analysis.model import Decision
from rolloutobs.analysis.report import Report, exit_code, to_json, to_text
from rolloutobs.cli.acting import PAGE, Action, notify, run_command
from rolloutobs.cli.options import write
from rolloutobs.cli.terminal import painter
from rolloutobs.settings import Settings

if TYPE_CHECKING:
    from rolloutobs.cli.events import Events
    from rolloutobs.cli.keeping import StateFile

__all__ = ["Finisher", "say"]


class Finisher:
    """Tells, writes and acts, once for each decision.

    Args:
        arguments: the command line.
        state: where it is noted which decisions have been acted on; ``None``: nowhere.
    """

    def __init__(self, arguments: Namespace, state: StateFile | None) -> None:
        self._arguments = arguments
        self._state = state
        self._acted: set[str] = set()
        self._unwritten: OSError | None = None
        self._events = _events()

    def finish(self, report: Report, rollout: str = "") -> bool:
        """Tell, write, act, and send events; return whether the decision is carried out.

        Args:
            report: what was decided.
            rollout: in whose trace it belongs; empty: in none.
        """
        sys.stdout.write(to_text(report, painter(sys.stdout)))
        sys.stdout.flush()
        self._write(report)
        done = self._act(report)
        if self._events and not self._events.send(report):
            say("the verdict could not be sent as log events")
        if rollout and not _span(report, rollout):
            say("the verdict could not be sent as a span")
        return done

    def code(self, report: Report) -> int:
        """Return the exit code of a decision that was carried out.

        Raises:
            OSError: a report could not be written.
        """
        if self._unwritten:
            raise self._unwritten
        code = exit_code(report.decision)
        if self._arguments.dry_run:
            say(f"dry run: would exit with {code}")
            return 0
        return code

    def _write(self, report: Report) -> None:
        """Write the reports, and remember the first error, after trying both."""
        wanted: list[tuple[Path | None, Callable[[Report], str]]] = [(self._arguments.json, to_json)]
        if self._arguments.html:
            from rolloutobs.analysis.page import to_html

            wanted.append((self._arguments.html, to_html))
        for path, render in wanted:
            if path is None:
                continue
            try:
                write(path, render(report))
            except OSError as error:
                self._unwritten = self._unwritten or error

    def _act(self, report: Report) -> bool:
        """Run the command and notify, and say what became of it.

        A gate that was stopped has not decided to hold. A decision is acted on once: not again by a gate that
        goes on from a state, nor at the end of a bake that changed nothing.
        """
        stopped = (report.bake or report).interrupted
        if stopped and report.decision is Decision.HOLD and not report.is_page:
            state = self._arguments.state
            say("stopped, undecided" + (f"; go on with --state {state}" if state else ""))
            return True
        decision = PAGE if report.is_page else report.decision.value
        self._acted |= set(self._state.acted if self._state else ())
        action = Action.wanted(self._arguments, decision)
        done = True
        if decision in self._acted:
            if report.bake is None and self._state:
                say(f"{decision} was acted on before, as {self._state.path} says")
                return True
        elif action.command:
            ran = asyncio.run(run_command(action, report))
            say(ran.text)
            done = ran.good
        if action.url:
            say(asyncio.run(notify(action, report)).text)
        if done and decision not in self._acted and (action.command or action.url):
            self._acted.add(decision)
            if self._state and not action.dry_run:
                self._note(self._state, decision)
        return done

    def _note(self, state: StateFile, decision: str) -> None:
        try:
            state.note(decision)
        except OSError as error:
            say(f"that it was acted on cannot be written, a gate after this one will act again: {error}")


def _events() -> Events | None:
    """Return what sends events; OpenTelemetry is loaded only where it is configured."""
    if not Settings.from_env(os.environ).export_logs:
        return None
    from rolloutobs.cli.events import events

    return events()


def _span(report: Report, rollout: str) -> bool:
    """Send the verdict as a span, where that is configured; return whether it was taken."""
    if not Settings.from_env(os.environ).export_traces:
        return True
    from rolloutobs.cli.spans import send_span

    return send_span(report, rollout)


def say(text: str) -> None:
    """Print a line to stderr, as the program."""
    print(f"rolloutobs: {text}", file=sys.stderr, flush=True)
