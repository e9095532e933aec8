"""The shapes of ASGI. Source: the ASGI specification 3.0, HTTP and WebSocket message format 2.5."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["ASGIApp", "Message", "Receive", "Scope", "Send", "headers_of"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def headers_of(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the headers of a request, which may be any iterable; one that can be read once only is replaced,
    so that the app finds them, too.

    Raises:
        KeyError, TypeError: there are none, or they are no iterable.
    """
    headers: Any = scope["headers"]
    if headers.__class__ is not list and headers.__class__ is not tuple:
        headers = scope["headers"] = list(headers)
    return headers  # type: ignore[no-any-return]
