"""The only door to the Kubernetes API: lists and watches, and what its refusals mean."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import httpx2

from rolloutobs.cluster.access import Connection
from rolloutobs.cluster.resources import VERBS, Resource
from rolloutobs.errors import ClusterError

__all__ = ["OPENED", "AbsentError", "Api", "BrokenError", "BusyError", "ExpiredError", "ForbiddenError"]

PAGE: Final = 500
"""Objects in one answer of a list. Source: client-go, ``pager.defaultPageSize``."""
OPENED: Final = "OPENED"
"""In place of the word of a line: the server has taken the watch, and may have nothing to say for minutes."""
_MAX_LINE: Final = 16 * 1024 * 1024
"""Bytes; etcd takes objects of 1.5 MB."""
_TIMEOUT_SECONDS: Final = 30.0
_MARGIN_SECONDS: Final = 15.0
"""By so much a watch may outlive the time that the server was asked to end it at."""


class ExpiredError(ClusterError):
    """The resource version is too old, or the list has changed too much to go on: list again."""


class AbsentError(ClusterError):
    """There is no such resource: its CRD is not installed."""


class ForbiddenError(ClusterError):
    """A right is missing; the message says which."""


class BrokenError(ClusterError):
    """There is no connection, or it broke off."""


class BusyError(ClusterError):
    """The server asks to come back later.

    Attributes:
        wait_seconds: when; ``None``: it has not said.
    """

    def __init__(self, message: str, wait_seconds: float | None) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


class Api:
    """Reads the Kubernetes API.

    Args:
        connection: where it is and how to be let in.
        timeout_seconds: for the headers of an answer, and for a page of a list.
    """

    def __init__(self, connection: Connection, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self._connection = connection
        self._timeout = timeout_seconds
        self._client = httpx2.AsyncClient(
            base_url=connection.server,
            verify=connection.context(),
            proxy=connection.proxy or None,
            trust_env=False,
            timeout=httpx2.Timeout(timeout_seconds),
            limits=httpx2.Limits(max_connections=100),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def pages(self, resource: Resource, namespace: str) -> AsyncGenerator[tuple[list[Any], str], None]:
        """Yield the objects of a resource, page by page, and the version that a watch goes on from.

        Raises:
            ClusterError: it cannot be read; which of its kinds says what to do about it.
        """
        query = {"limit": str(PAGE)}
        while True:
            async with self._open(resource, namespace, query, self._timeout) as response:
                body = await response.aread()
            answer = _parsed(body)
            meta = answer.get("metadata") or {}
            yield answer.get("items") or [], str(meta.get("resourceVersion", ""))
            if not meta.get("continue"):
                return
            query["continue"] = meta["continue"]

    async def watch(
        self, resource: Resource, namespace: str, version: str, seconds: float
    ) -> AsyncGenerator[tuple[str, Mapping[str, Any]], None]:
        """Yield word and object of each line of a watch until the server ends it, and `OPENED` before them.

        Args:
            resource: what to watch.
            namespace: where; empty: everywhere.
            version: go on from here.
            seconds: when the server shall end it. One that is silent for longer is given up.

        Raises:
            ClusterError: as `pages` does, and where the connection breaks off.
        """
        query = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": f"{max(round(seconds), 1)}",
        }
        silence = seconds + _MARGIN_SECONDS
        async with self._open(resource, namespace, query, silence) as response:
            yield OPENED, {}
            async for line in _lines(response):
                event = _parsed(line)
                word, plain = event.get("type", ""), event.get("object") or {}
                if word == "ERROR":
                    raise _refusal(int(plain.get("code", 500)), plain, resource, namespace, {})
                yield word, plain

    @asynccontextmanager
    async def _open(
        self, resource: Resource, namespace: str, query: Mapping[str, str], read_seconds: float
    ) -> AsyncIterator[httpx2.Response]:
        timeout = httpx2.Timeout(self._timeout, read=read_seconds)
        try:
            response = await self._send(resource.path(namespace), query, timeout, is_again=False)
            if response.status_code == 401:
                # Service account tokens are renewed every hour, and this one may have been read just before.
                await response.aclose()
                response = await self._send(resource.path(namespace), query, timeout, is_again=True)
            try:
                if response.status_code != 200:
                    raise await _refused(response, resource, namespace)
                yield response
            finally:
                await response.aclose()
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
            what = str(error).strip() or type(error).__name__
            raise BrokenError(f"{self._connection.server}: {what}") from None

    async def _send(
        self, path: str, query: Mapping[str, str], limits: httpx2.Timeout, *, is_again: bool
    ) -> httpx2.Response:
        token = await asyncio.to_thread(self._connection.token, is_again)
        headers = {"accept": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        request = self._client.build_request("GET", path, params=query, headers=headers, timeout=limits)
        async with asyncio.timeout(self._timeout):
            return await self._client.send(request, stream=True)


async def _lines(response: httpx2.Response) -> AsyncIterator[bytes]:
    """Yield whole lines; half a line at the end was cut off and comes again."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
        if len(rest) > _MAX_LINE:
            raise ClusterError(f"a line of a watch is longer than {_MAX_LINE} bytes")


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise ClusterError(f"the API server's answer is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ClusterError(f"the API server's answer is {type(found).__name__}, not an object")
    return found


async def _refused(response: httpx2.Response, resource: Resource, namespace: str) -> ClusterError:
    body = await response.aread()
    try:
        status = json.loads(body)
    except ValueError:
        # An unknown group is answered with a line of text.
        status = {"message": body.decode("utf-8", errors="replace").strip()[:200]}
    plain = status if isinstance(status, dict) else {}
    return _refusal(response.status_code, plain, resource, namespace, response.headers)


def _refusal(
    code: int, status: Mapping[str, Any], resource: Resource, namespace: str, headers: Mapping[str, str]
) -> ClusterError:
    """Return what a refusal means. Source: Kubernetes API conventions, "Response Status Kind"."""
    message = str(status.get("message") or "")
    where = f"in namespace {namespace!r}" if namespace else "in all namespaces"
    if code == 410:
        return ExpiredError(message or "the resource version has expired")
    if code == 404:
        return AbsentError(f"{resource.right} is not installed: {message}")
    if code == 403:
        verbs = " and ".join(VERBS)
        return ForbiddenError(f"missing right: {verbs} {resource.right} {where} ({message})")
    if code == 401:
        return ClusterError("the API server does not accept our credentials (401); see kubectl auth whoami")
    if code in (429, 500, 502, 503, 504):
        wait = headers.get("retry-after") or (status.get("details") or {}).get("retryAfterSeconds")
        seconds = float(str(wait)) if str(wait or "").isdigit() else None
        return BusyError(f"the API server answers {code}: {message}", seconds)
    return ClusterError(f"the API server answers {code} to {resource.right} {where}: {message}")
