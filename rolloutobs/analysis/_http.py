"""The analysis's only door to the network: bounded GETs that fail in one plain sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Self
from urllib.parse import urlsplit

import httpx2

from rolloutobs.errors import ConfigurationError, SourceError

__all__ = ["Http", "base_url"]

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Of a decompressed answer; 2,000 series take 0.3 MB, so this is room for 400,000."""
MAX_CONNECTIONS: Final = 100


class Http:
    """A client that answers with text or raises `SourceError`; one connection per target is kept alive.

    Args:
        timeout_seconds: for a whole answer, headers and body.
        trust_env: use proxies from the environment; not for targets, which are addressed one by one.
    """

    def __init__(self, timeout_seconds: float, *, trust_env: bool = False) -> None:
        self._timeout_seconds = timeout_seconds
        limits = httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
        self._client = httpx2.AsyncClient(
            timeout=timeout_seconds, limits=limits, trust_env=trust_env, follow_redirects=True
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
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._get(url, {"accept": accept}, params, any_status)
        except (TimeoutError, httpx2.TimeoutException):
            raise SourceError(f"no answer within {self._timeout_seconds:g} s") from None
        except httpx2.ConnectError as error:
            raise SourceError(f"cannot connect: {_cause(error)}") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise SourceError(f"{type(error).__name__}: {_cause(error)}") from None

    async def _get(
        self, url: str, headers: Mapping[str, str], params: Mapping[str, str] | None, any_status: bool
    ) -> str:
        async with self._client.stream("GET", url, headers=headers, params=params) as response:
            if response.status_code != 200 and not any_status:
                raise SourceError(f"answered {response.status_code}")
            chunks, size = [], 0
            async for chunk in response.aiter_bytes():
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise SourceError(f"the body is longer than {MAX_BODY_BYTES} bytes")
                chunks.append(chunk)
        return b"".join(chunks).decode("utf-8", errors="replace")


def _cause(error: BaseException) -> str:
    """Return the first line of the innermost message that says something."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


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
