"""Runs a test written with Playwright's sync API on an async page, in a thread of its own.

Belongs here: the facade that looks like ``playwright.sync_api`` and hands each call to the event loop in
which the page lives, so that a sync test is marked, proven and recorded as any other journey. Playwright's
own sync API cannot share a page, nor a browser, with the async one.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import cache, partial
from typing import Any

from synthetic.journey import CheckFailedError, Walk

__all__ = ["Bridge", "run_sync"]

_CALLED_BACK_LATER = frozenset(
    {"on", "once", "route", "expose_function", "expose_binding", "add_locator_handler", "route_web_socket"}
)
"""Methods whose functions may call Playwright themselves; others (predicates) only look at what they get."""
_PLAYWRIGHT = "playwright."


class Bridge:
    """The way from one test's thread to the event loop, until the test's time is up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._waiting: set[Future[Any]] = set()
        self._closed = False
        self.problem: Exception | None = None
        """What a handler of the test raised first."""

    def wrap(self, value: Any) -> Any:
        """Return what a sync test gets for a value of the async API."""
        if isinstance(value, list):
            return [self.wrap(each) for each in value]
        if isinstance(value, dict):
            return {key: self.wrap(each) for key, each in value.items()}
        theirs = type(value).__module__.startswith(_PLAYWRIGHT) or hasattr(value, "__aenter__")
        return Facade(self, value) if theirs or isinstance(value, Walk) else value

    def unwrap(self, value: Any, *, later: bool = False) -> Any:
        """Return what the async API gets for an argument of a sync test.

        Args:
            value: the argument.
            later: whether a function in it is called by itself, and not while a call waits for its answer.
        """
        if isinstance(value, Facade):
            return object.__getattribute__(value, "_inner")
        if isinstance(value, list | tuple):
            return type(value)(self.unwrap(each) for each in value)
        if isinstance(value, dict):
            return {key: self.unwrap(each) for key, each in value.items()}
        if callable(value) and not isinstance(value, type):
            return self._later(value) if later else partial(self._look, value)
        return value

    def call(self, function: Callable[[], Any]) -> Any:
        """Call `function` in the loop, await what it returns, and return what a sync test gets for it.

        Raises:
            CheckFailedError: the test's time is up.
        """
        if threading.get_ident() == self._thread:
            value = function()
            if inspect.isawaitable(value):
                raise CheckFailedError("a predicate may look at what it gets, and not wait for the page")
            return self.wrap(value)
        if self._closed:
            raise CheckFailedError("stopped: the time of the run was up")

        async def act() -> Any:
            value = function()
            return await value if inspect.isawaitable(value) else value

        waiting = asyncio.run_coroutine_threadsafe(act(), self._loop)
        self._waiting.add(waiting)
        try:
            return self.wrap(waiting.result())
        except CancelledError:
            raise CheckFailedError("stopped: the time of the run was up") from None
        finally:
            self._waiting.discard(waiting)

    def close(self) -> None:
        """Give up what the test waits for, and answer nothing any more."""
        self._closed = True
        for waiting in tuple(self._waiting):
            waiting.cancel()

    def _look(self, function: Callable[..., Any], *given: Any) -> Any:
        return self.unwrap(function(*map(self.wrap, _fitting(function, given))))

    def _later(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def called(*given: Any) -> Any:
            taken = map(self.wrap, _fitting(function, given))
            try:
                return self.unwrap(await asyncio.to_thread(function, *taken))
            except Exception as problem:
                # Playwright would hand it to whichever call comes next, that of the other track among them.
                self.problem = self.problem or problem
                return None

        return called


class Facade:
    """An object of the async API as the sync one has it: nothing is to be awaited."""

    def __init__(self, bridge: Bridge, inner: Any) -> None:
        object.__setattr__(self, "_bridge", bridge)
        object.__setattr__(self, "_inner", inner)

    def __getattr__(self, name: str) -> Any:
        bridge, inner = self._bridge, self._inner
        if not callable(getattr(type(inner), name, None)):
            return bridge.call(lambda: getattr(inner, name))

        def method(*given: Any, **named: Any) -> Any:
            later = name in _CALLED_BACK_LATER
            taken = [bridge.unwrap(each, later=later) for each in given]
            options = {key: bridge.unwrap(each, later=later) for key, each in named.items()}
            return bridge.call(lambda: getattr(inner, name)(*taken, **options))

        return method

    def __enter__(self) -> Any:
        if not hasattr(self._inner, "__aenter__"):
            raise TypeError(f"{type(self._inner).__name__} is no context manager")
        return self._bridge.call(self._inner.__aenter__)

    def __exit__(self, *problem: Any) -> Any:
        return self._bridge.call(lambda: self._inner.__aexit__(*problem))

    def __eq__(self, other: object) -> bool:
        return bool(self._inner == (other._inner if isinstance(other, Facade) else other))

    def __hash__(self) -> int:
        return hash(self._inner)

    def __repr__(self) -> str:
        return repr(self._inner)


def _fitting(function: Callable[..., Any], given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return as many arguments as `function` takes, as Playwright does for functions that it knows."""
    try:
        kinds = [each.kind for each in inspect.signature(function).parameters.values()]
    except ValueError:
        return given
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return given
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return given[: sum(kind in positional for kind in kinds)]


async def run_sync(test: Callable[..., Any], **fixtures: Any) -> None:
    """Run a sync test to its end, or until this task is cancelled.

    Args:
        test: it runs in a thread of its own: what it waits for stops no other walk.
        fixtures: its arguments; objects of Playwright's async API become such of the sync one.

    Raises:
        Exception: what the test, or a handler of its, raised.
    """
    loop = asyncio.get_running_loop()
    bridge = Bridge(loop)
    ended: asyncio.Future[None] = loop.create_future()

    def end(problem: BaseException | None) -> None:
        if ended.done():
            return
        if problem is None:
            ended.set_result(None)
        else:
            # A future takes no StopIteration, and nobody is to be ended by a test's SystemExit.
            fits = isinstance(problem, Exception | SystemExit) and not isinstance(problem, StopIteration)
            ended.set_exception(problem if fits else CheckFailedError(f"{type(problem).__name__}: {problem}"))

    def run() -> None:
        problem: BaseException | None = None
        try:
            test(**{name: bridge.wrap(value) for name, value in fixtures.items()})
        except BaseException as caught:
            problem = caught
        # A test whose handler failed waits in vain for what the handler should have done.
        problem = bridge.problem or problem
        try:
            loop.call_soon_threadsafe(end, problem)
        except RuntimeError:
            # The loop is closed: nobody waits for this test any more.
            return

    _teach_expect()
    # A test that hangs for ever does not keep the process from ending.
    threading.Thread(target=run, name=getattr(test, "__name__", "test"), daemon=True).start()
    try:
        await ended
    finally:
        bridge.close()


@cache
def _teach_expect() -> None:
    """Let ``expect`` of ``playwright.sync_api`` take our facades, too, from wherever it was imported."""
    from playwright import async_api, sync_api

    kind: Any = type(sync_api.expect)
    its_own = kind.__call__

    def expect(self: Any, actual: Any, message: str | None = None) -> Any:
        if not isinstance(actual, Facade):
            return its_own(self, actual, message)
        asynchronous = type(async_api.expect)()
        if limit := getattr(self, "_timeout", None):
            asynchronous.set_options(timeout=limit)
        bridge, inner = actual._bridge, actual._inner
        return bridge.call(lambda: asynchronous(inner, message))

    kind.__call__ = expect
