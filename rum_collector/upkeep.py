"""What a collector does besides answering: looks after its folder, asks which versions are out, sends on.

In the event loop that counts, so that nothing is moved while something is counted into it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

from rum_collector._http import Client, Unreachable
from rum_collector.known import versions_in
from rum_collector.reception import Reception
from rum_collector.settings import Settings
from rum_collector.words import BeaconOutcome

__all__ = ["Upkeep"]

SWEEP_SECONDS: Final = 1.0
"""How often slow bodies are looked for."""
SWEEPS_PER_LOOK: Final = 5
"""After so many sweeps the folder is looked after: a third of the shortest usual scrape interval."""
ASK_SECONDS: Final = 15.0
"""The usual scrape interval: a new version is known before its first scrape is judged."""
FLUSH_SECONDS: Final = 3.0
"""How long the end waits for what is still to be sent on."""
SCRAPED: Final = "scraped"
"""A file that the worker touches that has answered a scrape: any of them answers for all."""

_logger = logging.getLogger("rum_collector")


class Upkeep:
    """The background work of one process."""

    def __init__(self, settings: Settings, reception: Reception) -> None:
        self._settings = settings
        self._reception = reception
        self._pid = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._counted_at_scrape = 0.0

    def runs_here(self, pid: int) -> bool:
        """Return whether it was started in this process."""
        return self._pid == pid

    def start(self) -> None:
        """Start in the running loop; does nothing where it runs already."""
        loop = asyncio.get_running_loop()
        if self._pid == os.getpid() and self._loop is loop:
            return
        self._pid, self._loop = os.getpid(), loop
        self._rounds = 0
        self._timer = loop.call_later(SWEEP_SECONDS, self._tick)
        if self._settings.version_urls:
            self._run(self._ask_again_and_again())
        if self._reception.forwarder is not None:
            self._run(self._reception.forwarder.run())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def _tick(self) -> None:
        self._reception.deadlines.sweep()
        self._rounds += 1
        try:
            if self._rounds % SWEEPS_PER_LOOK == 0:
                self.look()
        except Exception:
            self._reception.ingest.instruments.failed("upkeep")
            _logger.exception("the folder of the counts could not be looked after")
        if self._loop is not None:
            self._timer = self._loop.call_later(SWEEP_SECONDS, self._tick)

    def look(self) -> None:
        """Do one round of looking after the folder."""
        counting = self._reception.ingest.counting
        dropped, counting.dropped = counting.dropped, set()
        self._reception.parts.counts.look(dropped)

    async def _ask_again_and_again(self) -> None:
        async with Client() as client:
            while True:
                await self.ask(client)
                await asyncio.sleep(ASK_SECONDS)

    async def ask(self, client: Client) -> None:
        """Ask everybody once which versions are out; where nobody answers, what was said last holds."""
        for url in self._settings.version_urls:
            try:
                found = versions_in(await client.get_text(url))
            except Unreachable as problem:
                self._reception.ingest.instruments.failed("versions")
                _logger.warning("%s", problem)
                continue
            self._reception.ingest.known.found(url, found, time.monotonic())

    async def stop(self) -> None:
        """End, and send on what still waits."""
        if self._timer is not None:
            self._timer.cancel()
        forwarder = self._reception.forwarder
        if forwarder is not None:
            forwarder.end()
        running = [task for task in self._tasks if not task.done()]
        if running and forwarder is not None:
            await asyncio.wait(running[-1:], timeout=FLUSH_SECONDS)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._tasks.clear()
        self._loop = None
        self._pid = 0

    def scraped(self, counted: float) -> None:
        """Take down that a scrape was answered, with what was `counted` before it was written."""
        self._counted_at_scrape = counted
        path = self._scraped_path()
        if path is not None:
            try:
                path.touch()
            except OSError as error:
                self._reception.ingest.instruments.failed("scrape")
                _logger.warning("%s cannot be touched: %s", path, error)

    def scraped_at(self) -> float:
        """Return when any worker has answered a scrape, in Unix seconds; 0: none, or nothing tells."""
        path = self._scraped_path()
        try:
            return 0.0 if path is None else path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def has_news(self) -> bool:
        """Return whether something was counted since this process has answered a scrape."""
        return self.counted() > self._counted_at_scrape

    def counted(self) -> float:
        """Return how many bodies this process has counted."""
        beacons = self._reception.ingest.instruments.counter("beacons")
        return sum(beacons.cell(outcome.value).value for outcome in BeaconOutcome)

    def _scraped_path(self) -> Path | None:
        folder = self._reception.parts.folder
        return None if folder is None else folder / SCRAPED
