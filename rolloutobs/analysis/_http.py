"""The analysis's only door to the network: bounded requests that fail in one plain sentence."""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import httpx2

from rolloutobs.errors import ConfigurationError, SourceError

__all__ = ["Access", "Answer", "Http", "Retries", "base_url", "host_of"]

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Of a decompressed answer; 2,000 series take 0.3 MB, so this is room for 400,000."""
MAX_CONNECTIONS: Final = 100
BUSY: Final = frozenset({429, 502, 503, 504})
"""Statuses that may be another one a moment later. Source: RFC 9110, 15.6, and RFC 6585, 4."""
REFUSED: Final = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Access:
    """How to be let in; the default is to need nothing."""

    token: str = field(default="", repr=False)
    """Sent as ``Authorization: Bearer``."""
    token_file: Path | None = None
    """Holds the token; read for every request, for tokens in files get renewed."""
    user: str = ""
    """For basic authentication, with `password`."""
    password: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Sent as they are, such as Mimir's ``X-Scope-OrgID``."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's, as PEM."""
    cert_file: Path | None = None
    """Our own certificate, as PEM; the key too unless `key_file` has it."""
    key_file: Path | None = None

    def authorization(self) -> dict[str, str]:
        """Return the headers to send.

        Raises:
            SourceError: the file of the token cannot be read.
        """
        token = self.token
        if self.token_file is not None:
            try:
                token = self.token_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SourceError(f"cannot read the token in {str(self.token_file)!r}: {error}") from None
        if token:
            return {**self.headers, "authorization": f"Bearer {token}"}
        if self.user:
            pair = f"{self.user}:{self.password}".encode()
            return {**self.headers, "authorization": f"Basic {b64encode(pair).decode('ascii')}"}
        return dict(self.headers)

    def context(self) -> ssl.SSLContext:
        """Return what certificates are checked with.

        Raises:
            ConfigurationError: a file cannot be read, or is not PEM.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(repr(str(f)) for f in (self.ca_file, self.cert_file, self.key_file) if f)
            raise ConfigurationError(f"cannot use the certificates in {files}: {error}") from None
        return context


@dataclass(frozen=True, slots=True)
class Retries:
    """When to ask again after a refused connection or a server that is busy; slow answers are not asked for
    again."""

    attempts: int = 1
    first_seconds: float = 0.25
    """The longest first wait; it doubles each time. Each wait is a random part of it, so that many gates do
    not come back at once.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("full jitter")
    """

    def wait(self, attempt: int) -> float:
        """Return how long to wait after the failed `attempt`, counted from 1, in seconds."""
        return random.uniform(0.0, self.first_seconds * 2.0 ** (attempt - 1))


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server has said, whatever it is."""

    status: int
    text: str
    retry_after_seconds: float = 0.0
    """How long it wants to be left alone; 0: it does not say."""


class _BusyError(SourceError):
    """Worth another attempt."""


class Http:
    """A client that answers with text or raises `SourceError`; one connection per target is kept alive.

    Args:
        timeout_seconds: for a whole answer, headers and body, attempts and waits.
        trust_env: use proxies from the environment; not for targets, which are addressed one by one.
        access: how to be let in.
        retries: when to ask again.

    Raises:
        ConfigurationError: a certificate cannot be used.
    """

    def __init__(
        self,
        timeout_seconds: float,
        *,
        trust_env: bool = False,
        access: Access | None = None,
        retries: Retries | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._access = access or Access()
        self._retries = retries or Retries()
        limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
        self._client = httpx2.AsyncClient(
            timeout=timeout_seconds,
            limits=limits,
            trust_env=trust_env,
            follow_redirects=True,
            verify=self._access.context(),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def get(
        self, url: str, *, accept: str, params: Mapping[str, str] | None = None, any_status: bool = False
    ) -> str:
        """Return the body of `url` as text.

        Args:
            url: where to ask.
            accept: the media types wanted.
            params: the query.
            any_status: return the body of an error answer too, for APIs that explain themselves in it.

        Raises:
            SourceError: no answer in time, a status other than 200, or a body that is too long.
        """
        request = self._client.build_request("GET", url, headers={"accept": accept}, params=params)
        return await self._attempts(request, any_status)

    async def post(self, url: str, body: str, content_type: str = "application/json") -> str:
        """Send `body` and return the answer's.

        Raises:
            SourceError: no answer in time, or a status that is not 2xx.
        """
        request = self._client.build_request(
            "POST", url, headers={"content-type": content_type}, content=body.encode()
        )
        return await self._attempts(request, any_status=False)

    async def exchange(
        self, method: str, url: str, *, params: Sequence[tuple[str, str]] = (), body: str = ""
    ) -> Answer:
        """Send JSON once and return the answer, whatever its status: for APIs whose statuses mean something.

        Raises:
            SourceError: no answer in time, or one that is too long.
        """
        headers = {"accept": "application/json", **self._access.authorization()}
        if body:
            headers["content-type"] = "application/json"
        request = self._client.build_request(
            method, url, headers=headers, params=list(params) or None, content=body.encode()
        )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._client.send(request, stream=True)
                try:
                    after = response.headers.get("retry-after", "")
                    seconds = float(after) if after.isascii() and after.isdigit() else 0.0
                    return Answer(response.status_code, await _body(response), seconds)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx2.TimeoutException):
            raise SourceError(f"no answer within {self._timeout_seconds:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise SourceError(f"{type(error).__name__}: {_cause(error)}") from None

    async def _attempts(self, request: httpx2.Request, any_status: bool) -> str:
        # The last failure explains more than that time ran out while waiting to ask again.
        busy: _BusyError | None = None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                for attempt in range(1, self._retries.attempts):
                    try:
                        return await self._send(request, any_status, last=False)
                    except _BusyError as error:
                        busy = error
                    await asyncio.sleep(self._retries.wait(attempt))
                return await self._send(request, any_status, last=True)
        except (TimeoutError, httpx2.TimeoutException):
            raise SourceError(str(busy or f"no answer within {self._timeout_seconds:g} s")) from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise SourceError(f"{type(error).__name__}: {_cause(error)}") from None

    async def _send(self, request: httpx2.Request, any_status: bool, *, last: bool) -> str:
        request.headers.update(self._access.authorization())
        try:
            response = await self._client.send(request, stream=True)
        except httpx2.ConnectError as error:
            raise _BusyError(f"cannot connect: {_cause(error)}") from None
        try:
            self._judge(response, any_status, last)
            return await _body(response)
        finally:
            await response.aclose()

    @staticmethod
    def _judge(response: httpx2.Response, any_status: bool, last: bool) -> None:
        status = response.status_code
        if status in REFUSED:
            raise SourceError(f"answered {status}: it wants other credentials than it was given")
        if status in BUSY and not (last and any_status):
            raise _BusyError(f"answered {status}")
        if not 200 <= status < 300 and not any_status:
            raise SourceError(f"answered {status}")


async def _body(response: httpx2.Response) -> str:
    chunks, size = [], 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise SourceError(f"the body is longer than {MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks).decode("utf-8", errors="replace")


def _cause(error: BaseException) -> str:
    """Return the first line of the message; where several addresses were tried, why the last one failed."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, ConnectionError) and inner.errno:
            return os.strerror(inner.errno)
        inner = inner.__cause__ or inner.__context__
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def host_of(url: str) -> str:
    """Return where `url` leads to without its path, which of a chat's hook is the secret."""
    return urlsplit(url).hostname or "nobody"


def base_url(text: str, path: str = "") -> str:
    """Return `text` as a full URL: a bare ``host:port`` gets ``http://``, and `path` where it has none.

    Raises:
        ConfigurationError: `text` is not an address.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        valid = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        valid = False
    if not valid:
        raise ConfigurationError(f"{text!r} is not an address; use host:port or http://host:port/path")
    return url if parts.path.strip("/") else parts._replace(path=path).geturl()
