"""The shapes of WSGI. Source: PEP 3333."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

__all__ = ["Environ", "Headers", "StartResponse", "WSGIApp", "Write"]

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
Write = Callable[[bytes], object]


class StartResponse(Protocol):
    """What an app calls with status and headers; servers take all arguments by position."""

    def __call__(self, status: str, headers: Headers, exc_info: Any = ..., /) -> Write:
        """Return what writes the body directly."""


WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]
