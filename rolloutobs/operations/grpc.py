"""gRPC servers: each call is an operation; sync and asyncio, all four shapes.

    server = grpc.server(pool, interceptors=[ServerInterceptor()])
    server = grpc.aio.server(interceptors=[AioServerInterceptor()])

First in the list, so that a call which another interceptor refuses is counted too. Where OpenTelemetry's own
gRPC instrumentation is active, its server span is stamped, and none is made here.

A call is ``app_operations_total{kind="grpc",name="shop.Cart/Add",outcome}``; its status code decides about
the outcome. A stream lasts until its last message. A method that the server does not have is counted under
the name ``_unimplemented``: callers of a newer version may ask an older one for it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio

from rolloutobs.operations.grpc_call import Call, CodedContext, count_unimplemented
from rolloutobs.operations.run import failed

__all__ = ["DEFAULT_EXCLUDED_SERVICES", "AioServerInterceptor", "ServerInterceptor"]

DEFAULT_EXCLUDED_SERVICES = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)
"""What a kubelet or a tool asks for, without users."""
MAX_KEPT_HANDLERS = 1000
"""A server has as many methods as its services; only one that takes any method has more."""
Behavior = Callable[..., Any]
Wrap = Callable[[Behavior, str, bool], Behavior]
"""Takes what serves a method, the method's name, and whether responses are a stream."""

_FACTORIES = {
    "unary_unary": grpc.unary_unary_rpc_method_handler,
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_unary": grpc.stream_unary_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
}


class _Handlers:
    """The handlers of a server with their behaviors wrapped, made once for each."""

    def __init__(self, wrap: Wrap, excluded: frozenset[str]) -> None:
        self._wrap = wrap
        self._excluded = excluded
        self._known: dict[str, tuple[Any, Any]] = {}

    def observed(self, handler: Any, path: str) -> Any:
        """Return what to serve `path` (``/package.Service/Method``) with instead of `handler`."""
        try:
            method = path.removeprefix("/")
            if method.partition("/")[0] in self._excluded:
                return handler
            if handler is None:
                count_unimplemented()
                return None
            known = self._known.get(method)
            if known is None or known[0] is not handler:
                known = (handler, self._wrapped(handler, method))
                if len(self._known) < MAX_KEPT_HANDLERS:
                    self._known[method] = known
            return known[1]
        except Exception as error:
            failed(error)
            return handler

    def _wrapped(self, handler: Any, method: str) -> Any:
        asked = "stream" if handler.request_streaming else "unary"
        answered = "stream" if handler.response_streaming else "unary"
        shape = f"{asked}_{answered}"
        behavior = getattr(handler, shape)
        if getattr(behavior, "experimental_non_blocking", False):
            # Answers by a callback, which only grpc's own health service does.
            return handler
        return _FACTORIES[shape](
            self._wrap(behavior, method, handler.response_streaming),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


class ServerInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    """Counts, times and traces the calls of a ``grpc.server``.

    Args:
        excluded_services: full names of services whose calls are left alone; by default health and
        reflection.
    """

    def __init__(self, *, excluded_services: frozenset[str] = DEFAULT_EXCLUDED_SERVICES) -> None:
        self._handlers = _Handlers(_sync, frozenset(excluded_services))

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Return the handler of a call, observed."""
        return self._handlers.observed(continuation(handler_call_details), handler_call_details.method)


class AioServerInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Counts, times and traces the calls of a ``grpc.aio.server``; also those that plain functions serve.

    Args:
        excluded_services: full names of services whose calls are left alone; by default health and
        reflection.
    """

    def __init__(self, *, excluded_services: frozenset[str] = DEFAULT_EXCLUDED_SERVICES) -> None:
        self._handlers = _Handlers(_aio, frozenset(excluded_services))

    async def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Return the handler of a call, observed."""
        return self._handlers.observed(await continuation(handler_call_details), handler_call_details.method)


def _sync(behavior: Behavior, method: str, streams: bool) -> Behavior:
    @functools.wraps(behavior)
    def observed(request: Any, context: Any) -> Any:
        if not hasattr(context, "code"):
            # That of a plain function in an asyncio server does not tell the status code.
            context = CodedContext(context)
        call = Call(method, context)
        call.run.attach()
        try:
            answer = behavior(request, context)
        except BaseException as error:
            call.run.detach()
            call.end(error)
            raise
        if streams:
            call.run.pause()
            return _stream(call, answer)
        call.run.detach()
        call.end()
        return answer

    return observed


def _stream(call: Call, answers: Iterator[Any]) -> Iterator[Any]:
    """Yield what the app yields, with its call the current one while it runs."""
    try:
        while True:
            call.run.attach()
            try:
                answer = next(answers)
            except StopIteration:
                break
            finally:
                call.run.pause()
            yield answer
    except BaseException as error:
        call.end(error)
        if isinstance(error, GeneratorExit) and hasattr(answers, "close"):
            answers.close()
        raise
    call.end()


def _aio(behavior: Behavior, method: str, streams: bool) -> Behavior:
    if inspect.iscoroutinefunction(behavior):
        return _aio_unary(behavior, method)
    if inspect.isasyncgenfunction(behavior):
        return _aio_stream(behavior, method)
    return _sync(behavior, method, streams)


def _aio_unary(behavior: Behavior, method: str) -> Behavior:
    """Observe a coroutine function: one answer, or a stream of ``context.write``."""

    @functools.wraps(behavior)
    async def observed(request: Any, context: Any) -> Any:
        call = Call(method, context)
        call.run.attach()
        try:
            answer = await behavior(request, context)
        except BaseException as error:
            call.run.detach()
            call.end(error)
            raise
        call.run.detach()
        call.end()
        return answer

    return observed


def _aio_stream(behavior: Behavior, method: str) -> Behavior:
    @functools.wraps(behavior)
    async def observed(request: Any, context: Any) -> AsyncIterator[Any]:
        call = Call(method, context)
        # Cancelled between two answers: nothing is raised in here, and this generator is just dropped.
        context.add_done_callback(call.abandoned)
        answers = behavior(request, context)
        try:
            while True:
                call.run.attach()
                try:
                    answer = await anext(answers)
                except StopAsyncIteration:
                    break
                finally:
                    call.run.pause()
                yield answer
        except BaseException as error:
            call.end(error)
            await answers.aclose()
            raise
        call.end()

    return observed
