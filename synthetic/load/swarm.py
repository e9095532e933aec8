"""Starts Locust as child processes, one per track, at the same time, and reads what they measured.

Belongs here: processes, their environment and their files. Never imports Locust.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rolloutobs.errors import ConfigurationError, MissingExtraError
from synthetic.load.orders import ENVIRONMENT_VARIABLE, Orders
from synthetic.load.results import LoadError, TrackLoad, parse_child
from synthetic.target import Target

__all__ = ["Plan", "run_load", "run_users"]

_STOP_SECONDS = 5
"""How long Locust lets requests that are under way end when its time is up: cutting them off would leave out
the slowest."""
_GRACE_SECONDS = 10.0
"""How long Locust may take to end after SIGTERM."""
_START_SECONDS = 60.0
"""How long Locust may take to start and to end, beside its time, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A load on each target."""

    locustfile: Path
    duration_seconds: float
    users: int
    rate: float | None = None
    """Tasks that arrive per second and target; ``None``: users follow the locustfile's own ``wait_time``."""


async def run_load(
    plan: Plan, stable: Target, canary: Target, stop: asyncio.Event
) -> tuple[TrackLoad, TrackLoad]:
    """Run the plan on both tracks at the same time; `stop` ends both early with what they have so far.

    Raises:
        ConfigurationError: there is no such locustfile, or Locust is not installed.
        LoadError: Locust failed, or a track got no request at all.
    """
    _require(plan)
    with tempfile.TemporaryDirectory(prefix="rolloutobs-load-") as folder:
        try:
            async with asyncio.TaskGroup() as tasks:
                both = [
                    tasks.create_task(_Child(plan, target.url, target, Path(folder)).run(stop))
                    for target in (stable, canary)
                ]
        except* LoadError as group:
            raise LoadError("; ".join(str(each) for each in group.exceptions)) from None
    return both[0].result(), both[1].result()


async def run_users(plan: Plan, host: str, stop: asyncio.Event) -> TrackLoad:
    """Run the plan at one host as plain users: not marked, not proven.

    Raises:
        ConfigurationError: there is no such locustfile, or Locust is not installed.
        LoadError: Locust failed, or made no request at all.
    """
    _require(plan)
    with tempfile.TemporaryDirectory(prefix="rolloutobs-users-") as folder:
        return await _Child(plan, host, None, Path(folder)).run(stop)


def _require(plan: Plan) -> None:
    if not plan.locustfile.is_file():
        raise ConfigurationError(
            f"the locustfile {str(plan.locustfile)!r} does not exist; give its path from here"
        )
    if importlib.util.find_spec("locust") is None:
        raise MissingExtraError("synthetic", "a load", "locust")


class _Child:
    """One Locust process and its files."""

    def __init__(self, plan: Plan, host: str, target: Target | None, folder: Path) -> None:
        self._plan = plan
        self._host = host
        self._target = target
        name = "users" if target is None else target.track.value
        self._name = name
        self._stats = folder / f"{name}-stats"
        self._report = folder / f"{name}-report.json"
        self._log = folder / f"{name}.log"

    async def run(self, stop: asyncio.Event) -> TrackLoad:
        """Run Locust to its end, or until `stop`, and return what it measured.

        Raises:
            LoadError: it failed.
        """
        with self._log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *self._argv(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env=self._environment(os.environ),
                # Ctrl-C reaches us alone, and we end Locust in order.
                start_new_session=True,
            )
        try:
            stopped = await self._wait(process, stop)
        finally:
            await _end(process)
        return self._read(process.returncode, stopped)

    async def _wait(self, process: asyncio.subprocess.Process, stop: asyncio.Event) -> bool:
        """Wait for the end of the process or for `stop`; return whether it was the latter."""
        ended = asyncio.create_task(process.wait())
        told = asyncio.create_task(stop.wait())
        try:
            limit = self._plan.duration_seconds + _STOP_SECONDS + _START_SECONDS
            await asyncio.wait((ended, told), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            return not ended.done() and told.done()
        finally:
            ended.cancel()
            told.cancel()

    def _argv(self) -> Sequence[str]:
        seconds = max(1, round(self._plan.duration_seconds))
        return (
            sys.executable, "-m", "locust", "-f", str(self._plan.locustfile), "--headless", "--only-summary",
            "--host", self._host, "--users", str(self._plan.users), "--spawn-rate", str(self._plan.users),
            "--run-time", f"{seconds}s", "--stop-timeout", str(_STOP_SECONDS),
            # Failed requests are the measurement, not a failure of Locust.
            "--exit-code-on-error", "0", "--json-file", str(self._stats),
        )  # fmt: skip

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment without LOCUST_* variables, which would change what the options say."""
        kept = {name: value for name, value in environ.items() if not name.startswith("LOCUST_")}
        rate = self._plan.rate
        target = self._target
        orders = Orders(
            report=str(self._report),
            marked=target is not None,
            track="" if target is None else target.track.value,
            version=None if target is None else target.version,
            tasks_per_user_second=None if rate is None else rate / self._plan.users,
            parent=os.getpid(),
        )
        return {**kept, ENVIRONMENT_VARIABLE: orders.as_json()}

    def _read(self, code: int | None, stopped: bool) -> TrackLoad:
        # Locust appends the suffix itself.
        stats = self._stats.with_name(f"{self._stats.name}.json")
        if code != 0 or not stats.is_file():
            raise LoadError(f"Locust ({self._name}) ended with exit code {code}:\n{self._last_words()}")
        report = self._report.read_text(encoding="utf-8") if self._report.is_file() else ""
        try:
            return parse_child(stats.read_text(encoding="utf-8"), report, self._target, stopped)
        except LoadError as problem:
            raise LoadError(f"{self._name}: {problem}\n{self._last_words()}".rstrip()) from problem

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  | {line}" for line in lines[-15:])


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process that still runs: SIGTERM, on which Locust writes its results, then SIGKILL."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS + _GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
