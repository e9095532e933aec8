"""Reads counters straight from the ``/metrics`` of each process: no Prometheus is needed."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from rolloutobs.analysis._http import Access, Http, base_url
from rolloutobs.analysis.exposition import Exposition
from rolloutobs.analysis.model import Reading, Sample
from rolloutobs.analysis.sides import AS_EXPOSED, Shape
from rolloutobs.errors import ConfigurationError, SourceError

__all__ = ["ScrapeSource", "ScrapeTargets"]

_ACCEPT: Final = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"
"""Text first: it is shorter, and of OpenMetrics nothing more would be used."""
_DNS: Final = "dns:"


@dataclass(frozen=True, slots=True)
class ScrapeTargets:
    """Where the processes are."""

    addresses: Sequence[str] = ()
    """A bare ``host:port`` means ``http://host:port/metrics``. With ``dns:`` in front every address of the
    name is a target, and the name is resolved before each reading (a headless service); where it has both
    IPv4 and IPv6 addresses, those of one family."""
    file: Path | None = None
    """More of them, one a line, or in the JSON of Prometheus's file discovery; read again when it changes."""


@dataclass(slots=True)
class _Found:
    """What is known of one place that gives addresses, as long as it gives nothing better."""

    urls: tuple[str, ...] = ()
    failed: str = ""
    changed: object = None


@dataclass(slots=True)
class _Known:
    """Targets found so far."""

    file: _Found = field(default_factory=_Found)
    names: dict[str, _Found] = field(default_factory=dict)


class ScrapeSource:
    """A `Source` that asks every target at once, each with its own time limit.

    Args:
        targets: addresses, or addresses with a file of more.
        metrics: names of the samples to read (`Ticker.metrics`).
        timeout_seconds: for one answer; a slower target has failed this time.
        clock: unix time.
        access: how to be let in; the same for every target.
        shape: which series, on which side, and in which unit.

    Raises:
        ConfigurationError: there is no target, one is not an address, or the file or a certificate cannot be
            read.
    """

    def __init__(
        self,
        targets: Sequence[str] | ScrapeTargets,
        metrics: Iterable[str],
        *,
        timeout_seconds: float = 5.0,
        clock: Callable[[], float] = time.time,
        access: Access | None = None,
        shape: Shape = AS_EXPOSED,
    ) -> None:
        places = targets if isinstance(targets, ScrapeTargets) else ScrapeTargets(tuple(targets))
        if not places.addresses and places.file is None:
            raise ConfigurationError("there is nothing to scrape; give at least one address")
        self._fixed = _urls(a for a in places.addresses if not a.startswith(_DNS))
        self._names = _urls(a.removeprefix(_DNS) for a in places.addresses if a.startswith(_DNS))
        self._file = places.file
        self._known = _Known()
        self._reread()
        if self._known.file.failed:
            raise ConfigurationError(self._known.file.failed)
        self._wanted, self._app = tuple(metrics), shape.app
        self._parsers: dict[str, Exposition] = {}
        self._clock, self._shape = clock, shape
        self._timeout_seconds = timeout_seconds
        self._http = Http(timeout_seconds, access=access)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def read(self) -> Reading:
        """Return the counters of every target that answered in time; the others are in `Reading.failed`.

        A name that cannot be resolved, or a file that cannot be read any more, has failed as well; what was
        last known of it is asked all the same.
        """
        at = self._clock()
        urls, failed = await self._targets()
        self._parsers = {u: self._parsers.get(u) or Exposition(self._wanted, self._app) for u in urls}
        answers = await asyncio.gather(*(self._read_one(url) for url in self._parsers))
        targets: dict[str, tuple[Sample, ...]] = {}
        for url, answer in zip(self._parsers, answers, strict=True):
            if isinstance(answer, SourceError):
                failed[url] = str(answer)
            else:
                targets[url] = answer
        return self._shape.applied(Reading(at, targets, failed))

    async def _read_one(self, url: str) -> tuple[Sample, ...] | SourceError:
        try:
            return self._parsers[url].parse(await self._http.get(url, accept=_ACCEPT))
        except SourceError as error:
            return error

    # --- where ----------------------------------------------------------------------------------------------

    async def _targets(self) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return every target, each once, and which places could not give theirs."""
        self._reread()
        places = {str(self._file): self._known.file} if self._file is not None else {}
        await asyncio.gather(*(self._resolve(name) for name in self._names))
        places.update({f"{_DNS}{name}": found for name, found in self._known.names.items()})
        urls = dict.fromkeys((*self._fixed, *(url for found in places.values() for url in found.urls)))
        return tuple(urls), {name: found.failed for name, found in places.items() if found.failed}

    def _reread(self) -> None:
        if self._file is None:
            return
        found = self._known.file
        try:
            status = self._file.stat()
            changed = (status.st_mtime_ns, status.st_size, status.st_ino)
            if changed != found.changed or found.failed:
                found.urls = _urls(_listed(self._file.read_text(encoding="utf-8")))
                found.changed = changed
            found.failed = ""
        except (OSError, ValueError, ConfigurationError) as error:
            found.failed = f"the targets in {str(self._file)!r} cannot be read: {error}"

    async def _resolve(self, name: str) -> None:
        found = self._known.names.setdefault(name, _Found())
        parts = urlsplit(name)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answers = await asyncio.get_running_loop().getaddrinfo(
                    parts.hostname, port, type=socket.SOCK_STREAM
                )
        except (OSError, TimeoutError) as error:
            found.failed = f"the name cannot be resolved: {str(error) or 'no answer in time'}"
            return
        found.failed = ""
        found.urls = tuple(
            parts._replace(netloc=_netloc(host, port)).geturl()
            for host in _of_one_family({str(answer[4][0]) for answer in answers})
        )


def _urls(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(base_url(address, "/metrics") for address in addresses)


def _of_one_family(hosts: Iterable[str]) -> list[str]:
    """Return the addresses of the family that has more of them, of IPv4 where they are as many.

    A pod of a dual-stack cluster has one of each: counted twice, its requests would be twice the evidence.
    """
    found = sorted(hosts)
    six = [host for host in found if ":" in host]
    four = [host for host in found if ":" not in host]
    return six if len(six) > len(four) else four


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listed(text: str) -> list[str]:
    """Return the addresses in a file: one a line (``#`` begins a comment), or JSON of file discovery.

    Source: https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
    """
    if text.lstrip()[:1] == "[":
        groups: list[Any] = json.loads(text)
        if not all(isinstance(group, Mapping) and isinstance(group.get("targets"), list) for group in groups):
            raise ValueError("a group lacks its list of targets")
        return [str(address) for group in groups for address in group["targets"]]
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]
