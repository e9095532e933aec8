"""One gRPC call as an operation: what its metadata say, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio

from rolloutobs.operations.carriers import raw_headers
from rolloutobs.operations.outcome import Kind, Outcome
from rolloutobs.operations.recorder import begin, count_only
from rolloutobs.operations.run import Work, failed
from rolloutobs.telemetry.current import current

__all__ = ["Call", "CodedContext", "count_unimplemented"]

UNIMPLEMENTED = "_unimplemented"
"""Name of the calls of methods that the server does not have: theirs is the caller's to choose."""
CONTRIB_SCOPE = "opentelemetry.instrumentation.grpc"
# Source: OpenTelemetry semantic conventions for gRPC, which status codes are errors of a server.
_SERVER_ERRORS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)
_CODES: Mapping[Any, Any] = {code.value[0]: code for code in grpc.StatusCode}
WHO_ANSWERED = "server-timing"
"""Key of the trailing metadata that tell a check who answered, as the header of this name does over HTTP."""


class Call:
    """One call: its run, and how to read its end off the servicer's context.

    Args:
        method: ``package.Service/Method``.
        context: of the servicer, of either kind of server.
    """

    def __init__(self, method: str, context: Any) -> None:
        self._context = context
        work = Work(Kind.GRPC, method, attributes=lambda: _attributes(method, context), adopts=CONTRIB_SCOPE)
        self.run = begin(work, lambda: raw_headers(context.invocation_metadata()))

    def end(self, error: BaseException | None = None) -> None:
        """End the run as the call ended: with what its handler raised, or with the status that it has set."""
        if not self.run.ended:
            try:
                self._end(_code(self._context, error), error)
            except Exception as failure:
                failed(failure)
                self.run.end(error)

    def abandoned(self, _: object = None) -> None:
        """End the run of a call that is over, if that was not said otherwise: the client has gone."""
        if not self.run.ended:
            try:
                self._end(_gone(self._context), None)
            except Exception as failure:
                failed(failure)
                self.run.end(outcome=Outcome.CANCELLED)

    def _end(self, code: Any, error: BaseException | None) -> None:
        outcome = _outcome(code)
        raised = error if isinstance(error, Exception) and not _is_status(error) else None
        attributes = {"rpc.grpc.status_code": code.value[0], "rpc.response.status_code": code.name}
        if outcome is Outcome.ERROR and raised is None:
            attributes["error.type"] = code.name
        if self.run.inbound.synthetic:
            self._tell_who_answered()
        self.run.end(raised, outcome, attributes)

    def _tell_who_answered(self) -> None:
        stamp = current(self.run.context)
        there = getattr(self._context, "trailing_metadata", None)
        if stamp is not None and there is not None:
            self._context.set_trailing_metadata((*(there() or ()), (WHO_ANSWERED, stamp.server_timing)))


class CodedContext:
    """The servicer's context of a plain function in an asyncio server, with the status code that it has
    set."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._code: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def code(self) -> Any:
        """Return the status code that was set; ``None``: none was."""
        return self._code

    def set_code(self, code: Any) -> None:
        """Set the status code."""
        self._code = code
        self._context.set_code(code)

    def abort(self, code: Any, *args: Any, **kwargs: Any) -> Any:
        """End the call with a status code."""
        self._code = code
        return self._context.abort(code, *args, **kwargs)


def count_unimplemented() -> None:
    """Count a call of a method that the server does not have."""
    count_only(Work(Kind.GRPC, UNIMPLEMENTED), Outcome.ERROR)


def _code(context: Any, error: BaseException | None) -> Any:
    """Return the status code with which a call ends."""
    if isinstance(error, (asyncio.CancelledError, GeneratorExit)):
        return _gone(context)
    told = context.code()
    # As a number too, which an asyncio server takes.
    told = _CODES.get(told, told)
    if told is not None and told is not grpc.StatusCode.OK:
        return told
    if not getattr(context, "is_active", _always)():
        return _gone(context)
    return grpc.StatusCode.OK if error is None else grpc.StatusCode.UNKNOWN


def _always() -> bool:
    return True


def _gone(context: Any) -> Any:
    """Return why a call ended that its client did not wait for."""
    seconds = context.time_remaining()
    late = seconds is not None and seconds <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED


def _outcome(code: Any) -> Outcome:
    if code is grpc.StatusCode.OK:
        return Outcome.OK
    if code is grpc.StatusCode.CANCELLED:
        return Outcome.CANCELLED
    return Outcome.ERROR if code.name in _SERVER_ERRORS else Outcome.REJECTED


def _is_status(error: Exception) -> bool:
    """Return whether `error` is only how grpc itself ends a call: by ``abort``, or because the client has
    gone."""
    if isinstance(error, grpc.aio.AbortError):
        return True
    return type(error) in (Exception, grpc.RpcError) and not error.args


def _attributes(method: str, context: Any) -> dict[str, Any]:
    """Return attributes of the server span. Source: OpenTelemetry semantic conventions, gRPC.

    The names of the release that OpenTelemetry's own instrumentation of gRPC uses, and the newer status code.
    """
    service, _, name = method.rpartition("/")
    attributes: dict[str, Any] = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
    # "ipv4:127.0.0.1:57284", "ipv6:%5B::1%5D:57284" or "unix:".
    family, _, address = str(context.peer()).partition(":")
    host, colon, port = unquote(address.partition(",")[0]).rpartition(":")
    if family in ("ipv4", "ipv6") and colon:
        attributes["client.address"] = host.strip("[]")
        if port.isascii() and port.isdigit():
            attributes["client.port"] = int(port)
    for key, value in context.invocation_metadata() or ():
        if key == "user-agent" and isinstance(value, str):
            attributes["user_agent.original"] = value
    return attributes
