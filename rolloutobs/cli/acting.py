"""What the gate does about its verdict where no controller does: a command, a notification.

Each is done once, within a time limit, and what became of it is said. Neither gets a shell that this program
filled in: a command sees the verdict on its stdin and in its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rolloutobs.analysis._http import Http, Retries, base_url, host_of
from rolloutobs.analysis.report import Report, to_json
from rolloutobs.errors import SourceError

__all__ = ["PAGE", "Action", "Outcome", "environment", "notify", "run_command"]

PAGE: Final = "page"
"""What is done in the place of a rollback that is unsafe."""
_NOTIFY_ATTEMPTS: Final = 4
_KILLED: Final = 5.0
"""Seconds between asking a command to end and ending it."""


@dataclass(frozen=True, slots=True)
class Action:
    """What to do at the end."""

    command: str = ""
    url: str = ""
    limit_seconds: float = 60.0
    """For the command; for the notification, all attempts together."""
    dry_run: bool = False

    @classmethod
    def wanted(cls, arguments: Namespace, decision: str) -> Action:
        """Return what the command line wants for `decision`, or for ``page``.

        Raises:
            ConfigurationError: the URL is not an address.
        """
        url = base_url(arguments.notify) if arguments.notify else ""
        command = getattr(arguments, f"on_{decision}") or (arguments.on_hold if decision == PAGE else "")
        return cls(command or "", url, arguments.act_timeout, arguments.dry_run)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an action."""

    good: bool
    text: str


def environment(report: Report) -> dict[str, str]:
    """Return the verdict as variables of the environment; the JSON report on stdin has all of it."""
    verdict = report.verdict
    return {
        "ROLLOUTOBS_VERDICT": report.decision.value,
        "ROLLOUTOBS_VERDICT_REASON": report.reason,
        "ROLLOUTOBS_VERDICT_DECIDED_BY": report.decided_by,
        "ROLLOUTOBS_VERDICT_APP": report.app,
        "ROLLOUTOBS_VERDICT_OWNER": report.rails.owner,
        "ROLLOUTOBS_VERDICT_PAGE": "true" if report.is_page else "false",
        "ROLLOUTOBS_VERDICT_CANARY_VERSION": verdict.canary_version,
        "ROLLOUTOBS_VERDICT_STABLE_VERSION": verdict.stable_version,
    }


async def run_command(action: Action, report: Report, environ: Mapping[str, str] = os.environ) -> Outcome:
    """Run the command in a shell, its output to stderr, and return how it ended.

    It gets a process group of its own, which is ended when its time is over.
    """
    if action.dry_run:
        return Outcome(good=True, text=f"dry run: would run {action.command!r}")
    try:
        process = await asyncio.create_subprocess_shell(
            action.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=sys.stderr.fileno(),
            stderr=sys.stderr.fileno(),
            env={**environ, **environment(report)},
            start_new_session=True,
        )
    except OSError as error:
        return Outcome(good=False, text=f"{action.command!r} cannot be started: {error}")
    try:
        async with asyncio.timeout(action.limit_seconds):
            # A command that does not read its stdin is a good one too.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await process.communicate(to_json(report).encode())
            code = await process.wait()
    except TimeoutError:
        await _end(process)
        return Outcome(good=False, text=f"{action.command!r} was ended after {action.limit_seconds:g} s")
    return Outcome(good=code == 0, text=f"{action.command!r} exited with {code}")


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILLED):
                await process.wait()
                return


async def notify(action: Action, report: Report) -> Outcome:
    """Post the JSON report; try again while nobody answers or the server is busy."""
    if action.dry_run:
        return Outcome(good=True, text=f"dry run: would post the verdict to {host_of(action.url)}")
    retries = Retries(_NOTIFY_ATTEMPTS, first_seconds=1.0)
    async with Http(action.limit_seconds, trust_env=True, retries=retries) as http:
        try:
            await http.post(action.url, to_json(report))
        except SourceError as error:
            return Outcome(good=False, text=f"{host_of(action.url)} was not notified: {error}")
    return Outcome(good=True, text=f"{host_of(action.url)} was notified")
