"""What is measured: an app made in a worker process, and the proof that its telemetry worked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["App", "Built", "Framework", "Subject", "Unavailable"]

App = Callable[[Any, Any, Any], Awaitable[None]]


class Unavailable(Exception):
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

    @property
    def home(self) -> str:
        """Which process it lives in."""
        return self.process or f"{self.framework}: {self.name}"
