"""`operation`: the one name of an app team for work that is not HTTP."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar, cast

from rolloutobs.errors import ConfigurationError
from rolloutobs.operations.carriers import Carrier, raw_headers
from rolloutobs.operations.outcome import Kind, Outcome
from rolloutobs.operations.recorder import begin
from rolloutobs.operations.run import Run, Work, failed, running
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.pushing import push_at_end

__all__ = ["operation", "set_outcome"]

F = TypeVar("F", bound=Callable[..., Any])


class operation:  # noqa: N801 - read as a verb: with operation("task", "send_invoice")
    """Work that is not HTTP: counted, timed and traced, under the version and track of this process.

    A context manager (``with`` and ``async with``) and a decorator of functions, sync and async::

        with operation("task", "send_invoice") as op:
            ...
            op.outcome = "rejected"             # ok, error, rejected, cancelled or retry

        @operation("job", "nightly_report")
        async def report(): ...

    It gives ``app_operations_total{kind,name,outcome}``, ``app_operation_duration_seconds`` and a span. An
    exception makes the outcome ``error`` (and goes on its way), cancellation makes it ``cancelled``. One
    object can be used many times, also nested and by several threads and tasks at once. Needs no
    `instrument()`: a worker without an app is who the environment says.

    Args:
        kind: ``grpc``, ``task``, ``consumer`` or ``job``. The end of a job pushes the metrics where
            ``ROLLOUTOBS_PUSHGATEWAY`` is set.
        name: what is done, in a few different words: it is a label. Ids belong on the span.
        carrier: headers of the message that asks for this (a mapping or pairs): the trace goes on, the caller
            is known, and a check's work is told apart from that for users. Not for decorators: a function is
            decorated before there is a message.
        attributes: further attributes of the span.

    Raises:
        ConfigurationError: `kind` is unknown or `name` is empty; or what is decorated is a generator
            function, whose body would run in pieces, in the context of whoever asks for the next one.
    """

    def __init__(
        self,
        kind: Kind | str,
        name: str,
        *,
        carrier: Carrier | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            known = Kind(kind)
        except ValueError:
            words = ", ".join(repr(word.value) for word in Kind)
            raise ConfigurationError(f"operation kind is {kind!r}; use one of {words}") from None
        if not name or not isinstance(name, str):
            raise ConfigurationError(f"operation name is {name!r}; use a few words that say what is done")
        given = dict(attributes or {})
        self._work = Work(known, name, attributes=(lambda: given) if given else None)
        self._headers = None if carrier is None else functools.partial(raw_headers, carrier)
        self._open: dict[Run, None] = {}

    def _begin(self) -> Run:
        run = begin(self._work, self._headers)
        run.attach()
        return run

    def _entered(self) -> Run:
        run = self._begin()
        self._open[run] = None
        return run

    def _left(self, error: BaseException | None) -> Run | None:
        if not self._open:
            failed(f"operation {self._work.name!r} was left without having been entered")
            return None
        # Several tasks may be inside of one object: this one's run is found in its context.
        run = running()
        if run is None or run not in self._open:
            run = next(reversed(self._open))
        del self._open[run]
        run.detach()
        run.end(error)
        return run

    def __enter__(self) -> Run:
        """Begin a run, and return it: `Run.outcome` may be set, `Run.span` has attributes and events."""
        return self._entered()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the run."""
        if self._left(error) is not None and self._work.kind is Kind.JOB:
            _job_ended(self._work.name)

    async def __aenter__(self) -> Run:
        """Begin a run, as ``with`` does."""
        return self._entered()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the run."""
        if self._left(error) is not None and self._work.kind is Kind.JOB:
            await _job_ended_async(self._work.name)

    def __call__(self, function: F) -> F:
        """Return `function` as an operation, one run per call."""
        _check(function)
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            # An object whose calls are coroutines.
            getattr(function, "__call__", None)  # noqa: B004
        ):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                async with self:
                    return await function(*args, **kwargs)

            return cast("F", run_async)

        @functools.wraps(function)
        def run_sync(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        return cast("F", run_sync)


def _check(function: object) -> None:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"operation() cannot decorate the generator function {getattr(function, '__qualname__', '')}: "
            "its body runs in pieces, and the caller's code in between. Decorate the function that consumes "
            "it, or use `with operation(...)` around the loop"
        )
    if not callable(function):
        raise ConfigurationError(
            f"operation() decorates functions, got {type(function).__name__}; put @classmethod above it"
        )


def _job_ended(name: str) -> None:
    try:
        push_at_end(hubs.process(), name)
    except Exception as error:
        failed(error)


async def _job_ended_async(name: str) -> None:
    """Push without holding up the event loop, where that is known how to do."""
    if "asyncio" in sys.modules and asyncio._get_running_loop() is not None:
        await asyncio.get_running_loop().run_in_executor(None, _job_ended, name)
    else:
        _job_ended(name)


def set_outcome(outcome: Outcome | str) -> None:
    """Say how the innermost running operation ends, from anywhere inside of it, such as a decorated function.

    Does nothing outside of an operation, so that a function can be tested without.

    Args:
        outcome: ``ok``, ``error``, ``rejected``, ``cancelled`` or ``retry``.
    """
    run = running()
    if run is not None:
        run.outcome = outcome
