"""The iterable that the server is given in place of the app's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from rolloutobs.wsgi.exchange import Exchange
from rolloutobs.wsgi.types import Environ

__all__ = ["Answer", "answered"]


class Answer:
    """The body of an answer, part by part, as the app gives it."""

    __slots__ = ("_exchange", "_parts", "inner")

    def __init__(self, exchange: Exchange, inner: Iterable[bytes]) -> None:
        self.inner = inner
        self._exchange = exchange
        self._parts: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        self._begin()
        return self

    def _begin(self) -> Iterator[bytes]:
        exchange = self._exchange
        exchange.enter()
        try:
            self._parts = iter(self.inner)
        except BaseException as error:
            exchange.failed(error)
            raise
        finally:
            exchange.leave()
        return self._parts

    def __next__(self) -> bytes:
        parts = self._parts or self._begin()
        exchange = self._exchange
        exchange.enter()
        try:
            return next(parts)
        except StopIteration:
            exchange.taken()
            raise
        except BaseException as error:
            exchange.failed(error)
            raise
        finally:
            exchange.leave()

    def close(self) -> None:
        """Close the app's iterable, if it can be closed.

        Raises:
            whatever that raises.
        """
        exchange = self._exchange
        close = getattr(self.inner, "close", None)
        exchange.enter()
        try:
            if close is not None:
                close()
        finally:
            exchange.leave()
            exchange.closed()

    def __del__(self) -> None:
        # A server, or a test, that has dropped the answer without closing it.
        self._exchange.closed()


class _SizedAnswer(Answer):
    """Of a list and its like: servers send its ``Content-Length`` if it has one part only."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self.inner)  # type: ignore[arg-type]


def answered(exchange: Exchange, environ: Environ, result: Any) -> Iterable[bytes]:
    """Return what the server is given for the `result` of an app.

    A file in the server's own wrapper is returned as it is, so that the server can send it its own way; such
    an answer is complete when it is closed.
    """
    file_wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(file_wrapper, type) and isinstance(result, file_wrapper):
        _complete_when_closed(exchange, result)
        return cast(Iterable[bytes], result)
    return _SizedAnswer(exchange, result) if hasattr(type(result), "__len__") else Answer(exchange, result)


def _complete_when_closed(exchange: Exchange, result: Any) -> None:
    close = getattr(result, "close", None)

    def closed() -> None:
        try:
            if close is not None:
                close()
        finally:
            exchange.taken()

    try:
        result.close = closed
    except Exception:
        # A wrapper that cannot be told apart from others of its kind: what follows is the server's time.
        exchange.taken()
