"""Synthetic checks of the gate: before it watches, and beside it while it does.

They are the command ``rolloutobs-synthetic``, in processes of their own: a browser that falls takes no
verdict along.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Final

from rolloutobs.errors import ConfigurationError, SourceError

if TYPE_CHECKING:
    from rolloutobs.analysis.report import Override

__all__ = ["add_synthetic", "checks_beside", "first_pairs"]

_EVERY: Final = "30s"
"""Often enough for a rollout of half an hour, and seldom enough not to load the machine."""
_END_SECONDS: Final = 15.0
"""A browser has to be closed."""


def add_synthetic(parser: ArgumentParser) -> None:
    """Add the options."""
    checks = parser.add_argument_group("synthetic checks")
    checks.add_argument(
        "--synthetic",
        metavar="JOURNEY",
        help="walk this journey on both tracks every 30s while watching, and take its pairs as a signal; "
        "options of rolloutobs-synthetic serve stand in the same quotes, e.g. 'journeys/ --stable URL "
        "--canary URL'; a gate that reads from Prometheus needs it to scrape them (:9300)",
    )
    checks.add_argument(
        "--first-pairs",
        type=int,
        default=3,
        metavar="N",
        help="judge no user traffic until so many pairs of each journey have passed; a canary that fails "
        "what stable passes is rolled back at once (default: %(default)s; 0: begin at once)",
    )


def first_pairs(arguments: Namespace) -> Override | None:
    """Run the first pairs to their end; return the decision if there is one already, ``None`` to go on.

    Raises:
        ConfigurationError: the options are wrong.
        SourceError: the checks could not run, or blame nobody.
    """
    from rolloutobs.analysis.model import Decision
    from rolloutobs.analysis.report import Override

    decisions = {
        1: (Decision.ROLLBACK, "the canary failed a journey that stable passed"),
        3: (Decision.HOLD, "it is not proven that the canary answered"),
    }
    if arguments.first_pairs < 0:
        raise ConfigurationError(f"--first-pairs is {arguments.first_pairs}; use 0 or more")
    if not arguments.synthetic or not arguments.first_pairs or arguments.override:
        return None
    if arguments.state and arguments.state.exists():
        # They have passed: a gate that goes on was watching already.
        return None
    code, stopped = _run([*_command(arguments, "run"), "--count", str(arguments.first_pairs)])
    if stopped:
        decision = (Decision.HOLD, "stopped before the first pairs had passed")
    elif code == 0:
        return None
    elif code in decisions:
        decision = decisions[code]
    else:
        raise SourceError("the synthetic checks could not run, or failed on both tracks; see above")
    return Override(*decision, "by synthetic checks", is_person=False)


@contextlib.contextmanager
def checks_beside(arguments: Namespace) -> Iterator[Namespace]:
    """Run the checks while the block runs; yield arguments with their address among those to scrape.

    Raises:
        ConfigurationError: they do not start.
    """
    if not arguments.synthetic:
        yield arguments
        return
    listen = [] if arguments.prometheus else ["--listen", "127.0.0.1:0"]
    command = [*_command(arguments, "serve", "--every", _EVERY), *listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603 - our own
        said, _, url = _out(child).readline().strip().partition(" at ")
        reader = threading.Thread(target=_pass_on, args=(_out(child), arguments.quiet), daemon=True)
        reader.start()
        try:
            if said != "metrics":
                raise ConfigurationError("the synthetic checks do not start; see above")
            scrape = arguments.scrape if arguments.prometheus else [*(arguments.scrape or ()), url]
            yield Namespace(**{**vars(arguments), "scrape": scrape})
        finally:
            _end(child)
            reader.join(_END_SECONDS)


def _command(arguments: Namespace, *words: str) -> list[str]:
    if not arguments.app:
        raise ConfigurationError("--synthetic needs --app: which app is it that the journey walks on?")
    try:
        given = shlex.split(arguments.synthetic)
    except ValueError as problem:
        raise ConfigurationError(f"--synthetic is {arguments.synthetic!r}: {problem}") from None
    return [sys.executable, "-m", "synthetic", *words, "--app", arguments.app, *given]


def _run(command: Sequence[str]) -> tuple[int, bool]:
    """Run a command, its output among our progress; return its exit code, and whether it was stopped."""
    stopped = False
    with subprocess.Popen(command, stdout=sys.stderr.fileno()) as child:  # noqa: S603 - our own

        def stop(*_: object) -> None:
            nonlocal stopped
            stopped = True
            child.terminate()

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            return child.wait(), stopped
        finally:
            for number in numbers:
                signal.signal(number, before[number])


def _out(child: subprocess.Popen[str]) -> IO[str]:
    if child.stdout is None:
        raise RuntimeError("the checks were started without a pipe")
    return child.stdout


def _pass_on(lines: IO[str], quiet: bool) -> None:
    for line in lines:
        if not quiet:
            sys.stderr.write(line)


def _end(child: subprocess.Popen[str]) -> None:
    child.terminate()
    try:
        child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
