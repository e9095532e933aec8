"""One run of an operation, from its begin to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.context import Context, create_key
from opentelemetry.trace import Span, StatusCode

from rolloutobs import semconv
from rolloutobs.operations.outcome import Kind, Outcome, outcome_of
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.current import context_calls, current
from rolloutobs.telemetry.failures import Where
from rolloutobs.telemetry.fingerprints import error_type
from rolloutobs.telemetry.propagation import NOTHING, Inbound
from rolloutobs.telemetry.traces import UnsampledSpan

__all__ = ["Run", "Work", "failed", "identity_attributes", "running"]

get_current, _attach, _detach = context_calls()
_RUN_KEY = create_key("rolloutobs-operation")
# Source: OpenTelemetry semantic conventions, error.type: what to say where no class of errors is known.
ERROR_OTHER = "_OTHER"


@dataclass(frozen=True, slots=True)
class Work:
    """What is done."""

    kind: Kind
    name: str
    """Label ``name``: of few values. What does not fit under the cap is counted as ``_overflow``."""
    span_name: str = ""
    """Empty: the name."""
    attributes: Callable[[], Mapping[str, Any]] | None = None
    """Further attributes of the span; asked for only when one may be recorded."""
    adopts: str = ""
    """Instrumentation scope of another instrumentation of the same calls: a span of its that is active
    already is stamped, and no second one is made. Empty: none is known."""
    traced: bool = True
    """Whether it gets a span."""


Count = Callable[["Run", Outcome, float, BaseException | None], None]
"""Takes a run, its outcome, its duration in seconds and what it raised."""


class Run:
    """One run of an operation: enter it with ``with``, or `attach`, `detach` and `end` it.

    It counts once, however often `end` is called. Nothing here raises.

    Args:
        count: called at the end; ``None``: nothing is recorded.
        work: what is done.
        inbound: who asked for it, as the message or the call says.
    """

    __slots__ = (
        "_count",
        "_given",
        "_start",
        "_token",
        "adopted",
        "context",
        "inbound",
        "recorded_span",
        "work",
    )

    def __init__(self, count: Count | None, work: Work, inbound: Inbound = NOTHING) -> None:
        self._start = perf_counter()
        self._count = count
        self._given: Outcome | None = None
        self._token: Any = None
        self.work = work
        self.inbound = inbound
        self.context: Context | None = None
        """The OpenTelemetry context that it runs in; ``None``: that of its caller."""
        self.recorded_span: Span | None = None
        self.adopted = False
        """Whether the span is another instrumentation's, which ends it."""

    @property
    def span(self) -> Span:
        """The span of this run, for attributes and events; one that records nothing where there is none."""
        return trace.INVALID_SPAN if self.recorded_span is None else self.recorded_span

    @property
    def outcome(self) -> Outcome | None:
        """What the code says about how it ends; ``None``: nothing, and the exception (or none) decides.

        Set one of `Outcome`, or its text: that is what counts then, also when an exception follows. Any other
        text is counted as a failure of telemetry, and changes nothing.
        """
        return self._given

    @outcome.setter
    def outcome(self, outcome: Outcome | str | None) -> None:
        try:
            self._given = None if outcome is None else Outcome(outcome)
        except ValueError:
            words = ", ".join(repr(word.value) for word in Outcome)
            failed(f"the outcome of {self.work.name!r} is {outcome!r}; use one of {words}")

    def runs_in(self, context: Context) -> None:
        """Let `attach` make `context` the current one, in which this run is found."""
        self.context = Context({**context, _RUN_KEY: self})

    def attach(self) -> None:
        """Make this run the current one of the running code."""
        if self.context is not None:
            self._token = _attach(self.context)

    @property
    def ended(self) -> bool:
        """Whether it has ended; also so where nothing is recorded."""
        return self._count is None

    def pause(self) -> None:
        """Detach for now, as a generator does that hands out a value; the next `attach` goes on from here."""
        if self._token is not None:
            self.context = get_current()
            self.detach()

    def detach(self) -> None:
        """Make current again what was so before `attach`."""
        token, self._token = self._token, None
        if token is None:
            return
        try:
            _detach(token)
        except Exception as error:
            # Torn down in another context, which ends with it: a generator that was dropped half-way.
            failed(error)

    def end(
        self,
        error: BaseException | None = None,
        outcome: Outcome | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Count this run, and end its span; only the first call does.

        Args:
            error: what it raised.
            outcome: how it ended; ``None``: as the exception says. What the code has set comes first.
            attributes: more for the span, known only now.
        """
        count, self._count = self._count, None
        if count is None:
            return
        seconds = perf_counter() - self._start
        final = self._given or outcome or outcome_of(error)
        try:
            count(self, final, seconds, error)
        except Exception as failure:
            failed(failure)
        try:
            self._close(final, error, attributes)
        except Exception as failure:
            failed(failure)

    def _close(
        self, outcome: Outcome, error: BaseException | None, attributes: Mapping[str, Any] | None
    ) -> None:
        span = self.recorded_span
        if span is None or span.__class__ is UnsampledSpan or self.adopted:
            return
        if span.is_recording():
            span.set_attributes(self._who())
            _describe(span, outcome, error, attributes)
        span.end()

    def adopt(self, span: Span) -> None:
        """Take another instrumentation's span as this run's; that ends it, perhaps before this run ends."""
        self.recorded_span, self.adopted = span, True
        span.set_attributes({**identity_attributes(), **self._who()})

    def _who(self) -> dict[str, Any]:
        """Return who asked for it."""
        told: dict[str, Any] = {}
        if self.inbound.caller is not None:
            told.update(self.inbound.caller.attributes)
        if self.inbound.synthetic:
            told[semconv.ATTR_SYNTHETIC_TYPE] = semconv.SYNTHETIC_TYPE_TEST
        return told

    def __enter__(self) -> Run:
        self.attach()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.detach()
        self.end(error)


def _describe(
    span: Span, outcome: Outcome, error: BaseException | None, attributes: Mapping[str, Any] | None
) -> None:
    told: dict[str, Any] = {}
    if outcome is Outcome.ERROR:
        told["error.type"] = ERROR_OTHER if error is None else error_type(error)
        span.set_status(StatusCode.ERROR)
    span.set_attributes({**told, **(attributes or {})})
    if isinstance(error, Exception):
        span.record_exception(error, escaped=True)


def identity_attributes() -> Mapping[str, str]:
    """Return version and track of whoever speaks now, as span attributes."""
    stamp = current()
    return {} if stamp is None else stamp.attributes


def failed(error: BaseException | str) -> None:
    """Count a failure of recording; the operation goes on without."""
    hubs.process_failures().record(Where.OPERATION, error)


def running() -> Run | None:
    """Return the innermost operation that is running here; ``None``: none is."""
    return cast("Run | None", get_current().get(_RUN_KEY))
