"""Processes of the demo: started with a log each, waited for, and stopped whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2

__all__ = ["Processes", "StartError", "free_ports"]


class StartError(RuntimeError):
    """A process of the demo did not come up."""


def free_ports(number: int) -> list[int]:
    """Return `number` ports of the loopback interface that nobody listens on now."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Processes:
    """Children of the demo, each in a process group of its own; `stop` ends all of them.

    Use as ``async with Processes(folder) as processes``.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Processes:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        # Shielded, so that a second Ctrl-C does not leave half of them behind.
        await asyncio.shield(self.stop(*self._running))

    async def start(
        self, name: str, argv: Sequence[str], environ: Mapping[str, str], *, log: bool = True
    ) -> asyncio.subprocess.Process:
        """Start `argv` with `environ` on top of this process's own environment.

        Args:
            name: what to call it; also names its log file.
            argv: the command.
            environ: additional variables.
            log: write its output to the log (True) or to this terminal (False).
        """
        starting = asyncio.ensure_future(self._start(name, argv, environ, log))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # A Ctrl-C just now: the child is on its way, and has to be known to be stopped.
            await starting
            raise

    async def _start(
        self, name: str, argv: Sequence[str], environ: Mapping[str, str], log: bool
    ) -> asyncio.subprocess.Process:
        output = (self._logs / f"{name}.log").open("wb") if log else None
        try:
            self._running[name] = process = await asyncio.create_subprocess_exec(
                *argv,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environ},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT if log else None,
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()
        return process

    async def wait_for_http(self, name: str, url: str, seconds: float = 60.0) -> None:
        """Wait until `url` answers with a 2xx.

        Raises:
            StartError: the process `name` ended, or nothing answered in time; the log's end is told.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        async with httpx2.AsyncClient(timeout=2.0) as client:
            while asyncio.get_running_loop().time() < deadline:
                if self._running[name].returncode is not None:
                    break
                try:
                    if (await client.get(url)).is_success:
                        return
                except httpx2.TransportError:
                    pass
                await asyncio.sleep(0.1)
        raise StartError(f"{name} did not come up at {url}; its log ends with:\n{self.log_end(name)}")

    def log_end(self, name: str, lines: int = 15) -> str:
        """Return the last lines of a process's log."""
        text = (self._logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    async def stop(self, *names: str) -> None:
        """Stop these processes and all that they started: SIGTERM, and SIGKILL after five seconds."""
        processes = [self._running.pop(name) for name in names if name in self._running]
        for process in processes:
            _signal_group(process.pid, signal.SIGTERM)
        await asyncio.gather(*(_end(process) for process in processes))


async def _end(process: asyncio.subprocess.Process) -> None:
    try:
        await asyncio.wait_for(process.wait(), 5.0)
    except TimeoutError:
        pass
    # What a child left behind in its group (a browser, Locust's workers) goes too.
    _signal_group(process.pid, signal.SIGKILL)
    await process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass
