"""The collector's only door to the network as a client."""

from __future__ import annotations

import asyncio
from typing import Final, Self

import httpx2

__all__ = ["Client", "Unreachable"]

TIMEOUT_SECONDS: Final = 5.0
MAX_BODY_BYTES: Final = 64 << 20
"""Of an answer that is read; a ``/metrics`` of 2,000 series has 0.3 MB."""


class Unreachable(Exception):  # noqa: N818 - says what is the case
    """Nobody has answered, or not in time."""


class Client:
    """Bounded requests to a few addresses; keeps its connections, and ends with `close`."""

    def __init__(self) -> None:
        # No proxy from the environment: telemetry does not leave by a way that nobody meant for it.
        self._client = httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def get_text(self, url: str, accept: str = "text/plain") -> str:
        """Return the text at `url`.

        Raises:
            Unreachable: nobody answers, the status is not 200, or the answer is too long.
        """
        try:
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                self._client.stream("GET", url, headers={"accept": accept}) as answer,
            ):
                if answer.status_code != 200:
                    raise Unreachable(f"{url} answered {answer.status_code}")
                pieces, size = [], 0
                async for piece in answer.aiter_bytes():
                    size += len(piece)
                    if size > MAX_BODY_BYTES:
                        raise Unreachable(f"{url} answered more than {MAX_BODY_BYTES} bytes")
                    pieces.append(piece)
                return b"".join(pieces).decode("utf-8", "replace")
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError) as error:
            raise Unreachable(f"{url} cannot be read: {error!r}") from None

    async def post_json(self, url: str, body: bytes) -> tuple[int, float]:
        """Post `body`; return the status, and after how many seconds the server wants to be asked again.

        Raises:
            Unreachable: nobody answers.
        """
        try:
            answer = await self._client.post(url, content=body, headers={"content-type": "application/json"})
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise Unreachable(f"{url} cannot be reached: {error!r}") from None
        text = answer.headers.get("retry-after", "")
        return answer.status_code, float(text) if text.isascii() and text.isdigit() else 0.0
