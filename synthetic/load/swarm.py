"""Starts Locust as child processes and reads what they leave.

Belongs here: processes, their environment and their files. Never imports Locust.
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from rolloutobs.errors import ConfigurationError, MissingExtraError
from rolloutobs.semconv import ATTR_SYNTHETIC_TYPE
from synthetic.load.orders import ENVIRONMENT_VARIABLE, Orders
from synthetic.load.results import LoadError, LoadResult, parse_report

__all__ = ["OWN_SERVICE", "Plan", "Role", "run_load", "run_worker"]

OWN_SERVICE = "rolloutobs-load"
"""The generator's own ``service.name``, whatever the environment says: in a pod of the app, telemetry of a
locustfile must not pass for the app's."""
_PATHS = Path(__file__).with_name("paths.py")
_GUARD = Path(__file__).with_name("guard.py")
_GRACE_SECONDS = 15.0
"""How long Locust may take to end after SIGTERM, beside what is under way."""
_START_SECONDS = 60.0
"""How long Locust may take to start and to end, beside its time, on a busy machine."""
_LOOK_SECONDS = 1.0


class Role(StrEnum):
    """What the processes of this machine do."""

    ALONE = "alone"
    MASTER = "master"
    WORKER = "worker"


@dataclass(frozen=True, slots=True)
class Plan:
    """A load, and how it is spread over processes."""

    orders: Orders
    locustfile: Path | None
    """``None``: users who ask for `Orders.paths`; of a worker: the master's."""
    host: str
    users: int
    """On each target: the most tasks at the same time."""
    role: Role = Role.ALONE
    processes: int = 1
    """Of the role `ALONE`: above 1, so many workers and a master of their own."""
    expect_workers: int = 0
    wait_seconds: float = 60.0
    """How long a master waits for its workers."""
    address: tuple[str, int] = ("127.0.0.1", 5557)
    """Where the master listens, or is."""

    @property
    def seconds(self) -> float:
        """How long tasks begin; infinite where only a count ends the load."""
        if self.orders.phases:
            return sum(phase.seconds for phase in self.orders.phases)
        return math.inf if self.orders.seconds is None else self.orders.seconds


async def run_load(
    plan: Plan, stop: asyncio.Event, on_progress: Callable[[LoadResult], None] = lambda _: None
) -> LoadResult:
    """Run a load; `stop` ends it early with what it has so far.

    Args:
        plan: what to do, of the role `ALONE` or `MASTER`.
        stop: told from outside.
        on_progress: told every second what there is so far.

    Raises:
        ConfigurationError: there is no such locustfile, or Locust is not installed.
        LoadError: Locust failed.
    """
    _require(plan)
    with tempfile.TemporaryDirectory(prefix="rolloutobs-load-") as folder:
        spread = plan.processes if plan.role is Role.ALONE and plan.processes > 1 else 0
        if spread:
            address = ("127.0.0.1", _free_port())
            plan = replace(plan, role=Role.MASTER, expect_workers=spread, address=address)
        helper = replace(plan, role=Role.WORKER)
        workers = [_Child(helper, f"worker-{number}", Path(folder)) for number in range(spread)]
        ended = asyncio.Event()
        running = [asyncio.create_task(worker.run(ended)) for worker in workers]
        lead = _Child(plan, plan.role.value, Path(folder), on_progress)
        try:
            await lead.run(stop)
        finally:
            ended.set()
            await asyncio.gather(*running, return_exceptions=True)
        return lead.result(stopped=stop.is_set())


async def run_worker(plan: Plan, stop: asyncio.Event) -> None:
    """Make requests for a master until it is done, or until `stop`.

    Raises:
        ConfigurationError: Locust is not installed.
        LoadError: Locust failed, or no master came.
    """
    _require(plan)
    with tempfile.TemporaryDirectory(prefix="rolloutobs-load-") as folder:
        worker = _Child(plan, plan.role.value, Path(folder))
        await worker.run(stop)
        if not stop.is_set():
            worker.require_success()


def _require(plan: Plan) -> None:
    if plan.locustfile is not None and not plan.locustfile.is_file():
        raise ConfigurationError(
            f"the locustfile {str(plan.locustfile)!r} does not exist; give its path from here"
        )
    if importlib.util.find_spec("locust") is None:
        raise MissingExtraError("synthetic", "a load", "locust")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class _Child:
    """One Locust process and its files."""

    def __init__(
        self,
        plan: Plan,
        name: str,
        folder: Path,
        on_progress: Callable[[LoadResult], None] = lambda _: None,
    ) -> None:
        self._plan = plan
        self._name = name
        self._report = folder / f"{name}.json"
        self._log = folder / f"{name}.log"
        self._on_progress = on_progress
        self._code: int | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Run Locust to its end, or until `stop`."""
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
            await self._wait(process, stop)
        finally:
            await _end(process, self._plan.orders.grace_seconds)
            self._code = process.returncode

    async def _wait(self, process: asyncio.subprocess.Process, stop: asyncio.Event) -> None:
        """Wait for the end of the process or for `stop`, and tell what there is meanwhile."""
        plan = self._plan
        ended, told = asyncio.create_task(process.wait()), asyncio.create_task(stop.wait())
        loop = asyncio.get_running_loop()
        slack = plan.orders.grace_seconds + plan.wait_seconds + _START_SECONDS
        until = math.inf if plan.role is Role.WORKER else loop.time() + plan.seconds + slack
        try:
            while not ended.done() and not told.done() and loop.time() < until:
                await asyncio.wait((ended, told), timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if self._report.is_file() and not ended.done():
                    self._on_progress(self.result(stopped=False))
        finally:
            ended.cancel()
            told.cancel()

    def _argv(self) -> Sequence[str]:
        plan, (host, port) = self._plan, self._plan.address
        users = str(max(plan.users, plan.expect_workers))
        file = f"{plan.locustfile},{_GUARD}" if plan.locustfile else str(_PATHS)
        common = (sys.executable, "-m", "locust", "--headless", "--only-summary")
        if plan.role is Role.WORKER:
            # Without a file of its own it gets its master's.
            own = file if plan.locustfile else "-"
            return (*common, "-f", own, "--worker", "--master-host", host, "--master-port", str(port))
        lead = (
            "-f", file, "--host", plan.host, "--users", users, "--spawn-rate", users,
            "--stop-timeout", f"{plan.orders.grace_seconds:g}",
            # Failed requests are the measurement, not a failure of Locust.
            "--exit-code-on-error", "0",
        )  # fmt: skip
        if plan.role is Role.ALONE:
            return (*common, *lead)
        return (
            *common, *lead, "--master", "--master-bind-host", host, "--master-bind-port", str(port),
            "--expect-workers", str(plan.expect_workers),
            "--expect-workers-max-wait", str(max(1, round(plan.wait_seconds))),
        )  # fmt: skip

    def _environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment without LOCUST_* variables, which would change what the options say, and
        with an identity of its own."""
        kept = {name: value for name, value in environ.items() if not name.startswith("LOCUST_")}
        orders = self._plan.orders
        is_worker = self._plan.role is Role.WORKER
        orders = Orders() if is_worker else replace(orders, report=str(self._report))
        kept["OTEL_SERVICE_NAME"] = OWN_SERVICE
        kept["OTEL_RESOURCE_ATTRIBUTES"] = f"service.name={OWN_SERVICE},{ATTR_SYNTHETIC_TYPE}=test"
        return {**kept, ENVIRONMENT_VARIABLE: replace(orders, parent=os.getpid()).as_json()}

    def result(self, *, stopped: bool) -> LoadResult:
        """Return what Locust has counted.

        Raises:
            LoadError: it left nothing that can be read.
        """
        if stopped and not self._report.is_file():
            raise LoadError("stopped before the load had begun")
        if self._code not in (None, 0) or not self._report.is_file():
            raise LoadError(f"Locust ({self._name}) ended with exit code {self._code}:\n{self._last_words()}")
        orders = self._plan.orders
        text = self._report.read_text(encoding="utf-8")
        try:
            return parse_report(text, orders.targets, stopped=stopped, is_open=bool(orders.phases))
        except LoadError as problem:
            raise LoadError(f"{problem}\n{self._last_words()}".rstrip()) from problem

    def require_success(self) -> None:
        """Raise unless Locust ended in order.

        Raises:
            LoadError: it did not.
        """
        if self._code != 0:
            raise LoadError(f"Locust ({self._name}) ended with exit code {self._code}:\n{self._last_words()}")

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"  | {line}" for line in lines[-15:])


async def _end(process: asyncio.subprocess.Process, grace_seconds: float) -> None:
    """End a process that still runs: SIGTERM, on which Locust writes its results, then SIGKILL."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(grace_seconds + _GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
