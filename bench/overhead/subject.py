"""What is measured: an app made in a worker process, and the proof that its telemetry worked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["App", "Built", "Framework", "Subject", "UnavailableError", "failures"]

FAILURES = "rolloutobs_internal_errors_total"
App = Callable[[Any, Any, Any], Awaitable[None]]


def failures(scrape: str) -> str:
    """Return what an exposition of ours says about telemetry that failed; empty: nothing did.

    Failing is quick, so figures with failures are worth nothing.
    """
    lines = [line for line in scrape.splitlines() if line.startswith(FAILURES + "{")]
    if not lines:
        return f"there is no {FAILURES}"
    return "; ".join(line for line in lines if float(line.rpartition(" ")[2]))


class UnavailableError(Exception):
    """This subject cannot be measured here; the message says why."""


class Framework(StrEnum):
    STARLETTE = "starlette"
    FASTAPI = "fastapi"


def _nothing() -> None:
    """Settle nothing."""


@dataclass(frozen=True)
class Built:
    """A subject that is ready to be called."""

    app: App
    recorded: Callable[[], float] | None = None
    """How many requests (or spans) the telemetry has recorded; ``None``: it records none by design."""
    settle: Callable[[], None] = _nothing
    """Flushes queues; called between slices, so that none is ever full (dropping is quick)."""
    close: Callable[[], None] = _nothing
    """Removes what it has left behind."""
    scrape: str | None = None
    """Path of the app's own ``/metrics``, to be searched for failures; ``None``: it has none."""


@dataclass(frozen=True)
class Subject:
    """One row of a table."""

    name: str
    make: Callable[[], Built]
    framework: Framework = Framework.STARLETTE
    env: Mapping[str, str] = field(default_factory=dict)
    """Of its process, set before anything is imported."""
    process: str = ""
    """Subjects of the same name share a process; empty: a process of its own."""
    share: float = 1.0
    """Share of requests that must have been recorded at the end; 0: nothing to prove."""

    def build(self) -> Built:
        """Return the subject, ready to be called.

        Raises:
            UnavailableError: a tool that it needs is not installed.
        """
        try:
            return self.make()
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("bench", "rolloutobs"):
                raise
            raise UnavailableError(str(error)) from error

    def missing(self, recorded: float | None, asked: int) -> str:
        """Return what is wrong with the number of requests that were recorded; empty: nothing."""
        if not self.share:
            return ""
        if recorded is None:
            return "nothing proves that it recorded anything"
        # A tenth of 1000 requests is 100 +- 38 by chance, at four standard deviations.
        least = asked * self.share * (1.0 if self.share == 1.0 else 0.5)
        if recorded >= least:
            return ""
        return f"{recorded:.0f} recorded of {asked} requests, at least {least:.0f} were expected"

    @property
    def home(self) -> str:
        """Which process it lives in."""
        return self.process or f"{self.framework}: {self.name}"
