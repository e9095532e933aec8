"""Real gRPC servers over loopback, sync and asyncio, in all four shapes, each compared with a bare one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from inline_snapshot import snapshot
from opentelemetry import propagate, trace
from opentelemetry.instrumentation.grpc import aio_server_interceptor, server_interceptor
from opentelemetry.trace import SpanKind, StatusCode

from rolloutobs.operations import set_outcome
from rolloutobs.operations.grpc import AioServerInterceptor, ServerInterceptor
from rolloutobs.testing import SpanRecorder
from tests.unit.rolloutobs.operations.conftest import outcomes, timed

SERVICE = "shop.Cart"
TRACE = "a" * 32
CALLER = (
    ("traceparent", f"00-{TRACE}-{'b' * 16}-01"),
    ("baggage", "rolloutobs.service=gateway,rolloutobs.version=1.1.0,rolloutobs.track=stable"),
)
SECONDS = 30


def eventually(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.005)


def current_trace() -> bytes:
    return f"{trace.get_current_span().get_span_context().trace_id:032x}".encode()


class Cart:
    """What both kinds of server serve; a request says how to behave."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self.release = threading.Event()
        self.closed = threading.Event()
        self.until_gone = False

    def behave(self, request: bytes, context: Any) -> bytes:
        if request == b"abort":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such cart")
        if request == b"abort-internal":
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        if request == b"code":
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
            context.set_details("too many")
        if request == b"raise":
            raise ValueError("bad cart")
        if request == b"coded":
            context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
            raise ValueError("bad cart")
        if request == b"retry":
            set_outcome("retry")
        if request == b"trace":
            return current_trace()
        if request == b"wait":
            self.waiting.set()
            assert self.release.wait(SECONDS)
            if self.until_gone:
                eventually(lambda: not context.is_active())
        return request

    def unary_unary(self, request: bytes, context: Any) -> bytes:
        return self.behave(request, context)

    def stream_unary(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b",".join(self.behave(request, context) for request in requests)

    def unary_stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        try:
            yield b"first"
            with trace.get_tracer("app").start_as_current_span("inner") as span:
                yield current_trace()
                assert trace.get_current_span() is span
                yield self.behave(request, context)
        finally:
            self.closed.set()

    def stream_stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        return (self.behave(request, context) for request in requests)


class AsyncCart(Cart):
    async def abehave(self, request: bytes, context: Any) -> bytes:
        if request == b"abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such cart")
        if request == b"abort-internal":
            await context.abort(grpc.StatusCode.INTERNAL, "broken")
        if request == b"wait":
            self.waiting.set()
            while not self.release.is_set():
                await asyncio.sleep(0.005)
            return request
        return self.behave(request, context)

    async def unary_unary(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        return await self.abehave(request, context)

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:  # type: ignore[override]
        return b",".join([await self.abehave(request, context) async for request in requests])

    async def unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:  # type: ignore[override]
        try:
            yield b"first"
            with trace.get_tracer("app").start_as_current_span("inner") as span:
                yield current_trace()
                assert trace.get_current_span() is span
                yield await self.abehave(request, context)
        finally:
            self.closed.set()

    async def stream_stream(self, requests: AsyncIterator[bytes], context: Any) -> None:  # type: ignore[override]
        async for request in requests:
            await context.write(await self.abehave(request, context))


def handlers(cart: Cart) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "UnaryUnary": grpc.unary_unary_rpc_method_handler(cart.unary_unary),
            "StreamUnary": grpc.stream_unary_rpc_method_handler(cart.stream_unary),
            "UnaryStream": grpc.unary_stream_rpc_method_handler(cart.unary_stream),
            "StreamStream": grpc.stream_stream_rpc_method_handler(cart.stream_stream),
        },
    )


@contextlib.contextmanager
def sync_server(cart: Cart, *interceptors: Any) -> Iterator[str]:
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8), interceptors=interceptors)
    server.add_generic_rpc_handlers((handlers(cart), health()))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(SECONDS)


@contextlib.contextmanager
def aio_server(cart: Cart, *interceptors: Any) -> Iterator[str]:
    """An asyncio server in a loop of its own, so that the same synchronous client calls both kinds."""
    started: concurrent.futures.Future[tuple[str, Callable[[], None]]] = concurrent.futures.Future()

    async def serve() -> None:
        server = grpc.aio.server(interceptors=interceptors)
        server.add_generic_rpc_handlers((handlers(cart), health()))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        started.set_result((f"127.0.0.1:{port}", lambda: loop.call_soon_threadsafe(stop.set) and None))
        await stop.wait()
        await server.stop(None)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    address, stop = started.result(SECONDS)
    try:
        yield address
    finally:
        stop()
        thread.join(SECONDS)
        assert not thread.is_alive()


def health() -> grpc.GenericRpcHandler:
    check = grpc.unary_unary_rpc_method_handler(lambda request, context: b"serving")
    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})


SERVERS = {
    "sync": (Cart, sync_server, ServerInterceptor),
    "aio": (AsyncCart, aio_server, AioServerInterceptor),
    # Plain functions, which an asyncio server runs in threads.
    "aio-plain": (Cart, aio_server, AioServerInterceptor),
}
kinds = pytest.mark.parametrize("kind", SERVERS)


class Client:
    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)

    def call(self, method: str, *requests: bytes, timeout: float = SECONDS, **more: Any) -> Any:
        shape = "".join(f"_{c.lower()}" if c.isupper() else c for c in method)[1:]
        stub = getattr(self.channel, shape)(f"/{SERVICE}/{method}")
        asked = iter(requests) if method.startswith("Stream") else requests[0]
        return stub(asked, timeout=timeout, **more)

    def told(self, method: str, *requests: bytes, **more: Any) -> tuple[Any, ...]:
        """What a client sees of a call: answers, or code and details."""
        answers: list[bytes] = []
        try:
            answer = self.call(method, *requests, **more)
            answers.extend([answer] if isinstance(answer, bytes) else answer)
        except grpc.RpcError as error:
            return (*answers, error.code().name, error.details())  # type: ignore[attr-defined]
        return tuple(answers)


@contextlib.contextmanager
def observed(kind: str, *others: Any) -> Iterator[tuple[Client, Cart]]:
    made, serve, interceptor = SERVERS[kind]
    cart = made()
    with serve(cart, *others, interceptor()) as address:
        client = Client(address)
        with client.channel:
            yield client, cart


CORPUS = [
    (method, *requests)
    for method in ("UnaryUnary", "StreamUnary", "UnaryStream", "StreamStream")
    for requests in ([b"a"], [b"abort"], [b"abort-internal"], [b"code"], [b"raise"], [b"coded"], [b"retry"])
]
OUTCOMES = {
    b"a": "ok",
    b"abort": "rejected",
    b"abort-internal": "error",
    b"code": "rejected",
    b"raise": "error",
    b"coded": "rejected",
    b"retry": "retry",
}


def may_hang(kind: str, method: str, request: bytes) -> bool:
    """What gRPC itself, with no interceptor, leaves hanging once in some thousand calls: a plain generator
    that aborts in an asyncio server."""
    return kind == "aio-plain" and method == "UnaryStream" and request.startswith(b"abort")


@kinds
def test_a_client_sees_no_difference_and_each_call_is_counted(kind: str, recorded: SpanRecorder) -> None:
    made, serve, _ = SERVERS[kind]
    corpus = [asked for asked in CORPUS if not may_hang(kind, *asked)]
    with serve(made()) as address:
        bare_client = Client(address)
        with bare_client.channel:
            bare = [bare_client.told(*asked) for asked in corpus]
    with observed(kind) as (client, _):
        # The inner trace of a stream is the one difference: it is a part of the call's.
        seen = [client.told(*asked) for asked in corpus]
        assert [_untraced(told) for told in seen] == [_untraced(told) for told in bare]
        assert client.told("UnaryUnary", b"again") == (b"again",)
    for method in ("StreamUnary", "UnaryStream", "StreamStream", "UnaryUnary"):
        told = [OUTCOMES[request] for asked, request in corpus if asked == method]
        expected = {outcome: float(told.count(outcome)) for outcome in told}
        expected["ok"] += method == "UnaryUnary"
        eventually(lambda e=expected, m=method: outcomes("grpc", f"{SERVICE}/{m}") == e)
        assert timed("grpc", f"{SERVICE}/{method}") == sum(expected.values())
    assert len(recorded.server_spans) == len(corpus) + 1


def _untraced(told: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple("trace" if isinstance(part, bytes) and len(part) == 32 else part for part in told)


@kinds
def test_the_span_of_a_call(kind: str, recorded: SpanRecorder) -> None:
    with observed(kind) as (client, _):
        assert client.told("UnaryUnary", b"trace", metadata=CALLER) == (TRACE.encode(),)
        assert client.told("UnaryUnary", b"raise", metadata=CALLER)[0] == "UNKNOWN"
        assert client.told("UnaryUnary", b"abort-internal")[0] == "INTERNAL"
        eventually(lambda: len(recorded.server_spans) == 3)
    good, raised, aborted = recorded.server_spans
    assert good.name == "shop.Cart/UnaryUnary"
    attributes = dict(good.attributes or {})
    assert attributes.pop("client.address") == "127.0.0.1"
    assert isinstance(attributes.pop("client.port"), int)
    assert str(attributes.pop("user_agent.original")).startswith("grpc-python/")
    assert attributes == snapshot(
        {
            "rpc.system": "grpc",
            "rpc.service": "shop.Cart",
            "rpc.method": "UnaryUnary",
            "app.version": "1.2.0",
            "rolloutobs.track": "canary",
            "rolloutobs.caller.service": "gateway",
            "rolloutobs.caller.version": "1.1.0",
            "rolloutobs.caller.track": "stable",
            "rpc.grpc.status_code": 0,
            "rpc.response.status_code": "OK",
        }
    )
    assert good.status.status_code is StatusCode.UNSET
    assert good.parent is not None
    assert good.parent.trace_id == int(TRACE, 16)
    assert raised.status.status_code is StatusCode.ERROR
    assert (raised.attributes or {})["error.type"] == "ValueError"
    assert [event.name for event in raised.events] == ["exception"]
    assert (aborted.attributes or {})["error.type"] == "INTERNAL"
    assert (aborted.attributes or {})["rpc.grpc.status_code"] == 13
    assert aborted.events == ()


@kinds
def test_a_stream_lasts_until_its_end_and_keeps_the_apps_own_span(kind: str, recorded: SpanRecorder) -> None:
    with observed(kind) as (client, cart):
        call = client.call("UnaryStream", b"wait", metadata=CALLER)
        assert next(call) == b"first"
        assert next(call) == TRACE.encode()
        assert cart.waiting.wait(SECONDS)
        # Another one overlaps it, and ends first.
        assert client.told("UnaryUnary", b"b") == (b"b",)
        assert outcomes("grpc", f"{SERVICE}/UnaryStream") == {}
        cart.release.set()
        assert list(call) == [b"wait"]
        eventually(lambda: outcomes("grpc", f"{SERVICE}/UnaryStream") == {"ok": 1.0})


@kinds
@pytest.mark.parametrize("method", ["UnaryUnary", "UnaryStream", "StreamStream"])
def test_a_client_that_leaves_cancels(kind: str, method: str, recorded: SpanRecorder) -> None:
    with observed(kind) as (client, cart):
        if method == "UnaryUnary":
            stub = client.channel.unary_unary(f"/{SERVICE}/{method}")
            call = stub.future(b"wait", timeout=SECONDS)
        else:
            call = client.call(method, b"wait")
            if method == "UnaryStream":
                assert next(call) == b"first"
        assert cart.waiting.wait(SECONDS)
        call.cancel()
        # What runs in a thread goes on, and finds that nobody waits; a coroutine is told.
        cart.until_gone = kind == "sync"
        if kind == "aio":
            eventually(lambda: outcomes("grpc", f"{SERVICE}/{method}") == {"cancelled": 1.0})
        cart.release.set()
        eventually(lambda: outcomes("grpc", f"{SERVICE}/{method}"))
        eventually(lambda: len(recorded.server_spans) == 1)
    if kind == "aio-plain":
        # grpc does not tell a plain function in an asyncio server that its client has gone.
        assert set(outcomes("grpc", f"{SERVICE}/{method}")) <= {"cancelled", "ok"}
        return
    assert outcomes("grpc", f"{SERVICE}/{method}") == {"cancelled": 1.0}
    assert (recorded.server_spans[0].attributes or {})["rpc.response.status_code"] == "CANCELLED"


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_stream_that_nobody_reads_on_is_closed_and_counted(kind: str, recorded: SpanRecorder) -> None:
    """Cancelled between two answers: nothing is raised inside of the app's generator."""
    with observed(kind) as (client, cart):
        # Answers larger than what the transport takes unasked: the server waits in its write.
        cart.behave = lambda request, context: b"x" * 3_000_000  # type: ignore[method-assign]
        call = client.call("UnaryStream", b"a")
        assert next(call) == b"first"
        call.cancel()
        eventually(lambda: outcomes("grpc", f"{SERVICE}/UnaryStream"))
        eventually(cart.closed.is_set)
    assert sum(outcomes("grpc", f"{SERVICE}/UnaryStream").values()) == 1.0


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_deadline_is_an_error(kind: str, recorded: SpanRecorder) -> None:
    with observed(kind) as (client, cart):
        cart.until_gone = True
        if kind == "sync":
            cart.release.set()
        assert client.told("UnaryUnary", b"wait", timeout=0.3)[0] == "DEADLINE_EXCEEDED"
        eventually(lambda: outcomes("grpc", f"{SERVICE}/UnaryUnary"))
    assert outcomes("grpc", f"{SERVICE}/UnaryUnary") == {"error": 1.0}
    eventually(lambda: recorded.server_spans)
    assert (recorded.server_spans[0].attributes or {})["error.type"] == "DEADLINE_EXCEEDED"


@kinds
def test_methods_that_the_server_does_not_have(kind: str, recorded: SpanRecorder) -> None:
    with observed(kind) as (client, _):
        for i in range(3):
            stub = client.channel.unary_unary(f"/{SERVICE}/New{i}")
            with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
                stub(b"", timeout=SECONDS)
    assert outcomes("grpc", "_unimplemented") == {"error": 3.0}
    assert recorded.server_spans == ()


@kinds
def test_health_checks_are_left_alone(kind: str, recorded: SpanRecorder) -> None:
    with observed(kind) as (client, _):
        stub = client.channel.unary_unary("/grpc.health.v1.Health/Check")
        assert stub(b"", timeout=SECONDS) == b"serving"
        assert client.told("UnaryUnary", b"a") == (b"a",)
    assert outcomes("grpc", "grpc.health.v1.Health/Check") == {}
    assert len(recorded.spans) == 1


@kinds
def test_a_check_learns_who_answered(kind: str, recorded: SpanRecorder) -> None:
    with observed(kind) as (client, _):
        stub = client.channel.unary_unary(f"/{SERVICE}/UnaryUnary")
        _, call = stub.with_call(b"a", timeout=SECONDS, metadata=[("baggage", "synthetic=test")])
        assert stub(b"a", timeout=SECONDS) == b"a"
        told = dict(call.trailing_metadata() or ())
        eventually(lambda: len(recorded.server_spans) == 2)
    if kind != "aio-plain":
        assert told["server-timing"] == 'version;desc="1.2.0", track;desc="canary"'
    assert outcomes("grpc", f"{SERVICE}/UnaryUnary", synthetic="true") == {"ok": 1.0}
    assert outcomes("grpc", f"{SERVICE}/UnaryUnary") == {"ok": 1.0}


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_with_opentelemetrys_own_there_is_one_server_span(kind: str, recorded: SpanRecorder) -> None:
    contrib = {"sync": server_interceptor, "aio": aio_server_interceptor}[kind]
    with observed(kind, contrib(tracer_provider=recorded.provider)) as (client, _):
        assert client.told("UnaryUnary", b"trace", metadata=CALLER) == (TRACE.encode(),)
        client.told("UnaryUnary", b"raise")
        client.told("UnaryStream", b"a")
        eventually(lambda: len(recorded.server_spans) == 3)
    assert [span.kind for span in recorded.spans] == [SpanKind.SERVER] * 3
    first = recorded.spans[0]
    assert first.instrumentation_scope is not None
    assert first.instrumentation_scope.name.startswith("opentelemetry.instrumentation.grpc")
    attributes = first.attributes or {}
    assert attributes["app.version"] == "1.2.0"
    assert attributes["rolloutobs.track"] == "canary"
    assert attributes["rolloutobs.caller.version"] == "1.1.0"
    assert outcomes("grpc", f"{SERVICE}/UnaryUnary") == {"ok": 1.0, "error": 1.0}
    assert outcomes("grpc", f"{SERVICE}/UnaryStream") == {"ok": 1.0}


def test_a_call_from_within_a_call_carries_who_calls(recorded: SpanRecorder) -> None:
    """Two servers in a row: the second one knows the first, and not whoever called that one."""
    with observed("sync") as (inner, _):

        class Front(Cart):
            def unary_unary(self, request: bytes, context: Any) -> bytes:
                metadata: dict[str, str] = {}
                propagate.inject(metadata)
                answer: bytes = inner.call("UnaryUnary", b"trace", metadata=tuple(metadata.items()))
                return answer

        with sync_server(Front(), ServerInterceptor()) as address:
            client = Client(address)
            with client.channel:
                assert client.told("UnaryUnary", b"x", metadata=CALLER) == (TRACE.encode(),)
        eventually(lambda: len(recorded.server_spans) == 2)
    behind, front = recorded.server_spans
    assert behind.parent is not None
    assert front.context is not None
    assert behind.parent.span_id == front.context.span_id


def test_recording_that_fails_breaks_no_call() -> None:
    from rolloutobs import Settings
    from rolloutobs.telemetry import hub
    from tests.unit.rolloutobs.operations.conftest import failures

    hub.new_hub(Settings(service="worker", version="1.2.0", track="canary"))

    class Mute(grpc.ServerInterceptor):
        """Another interceptor hands in a context that knows nothing."""

        def intercept_service(self, continuation: Any, details: Any) -> Any:
            handler = continuation(details)

            class Nothing:
                def code(self) -> None:
                    raise RuntimeError("code() is not supported")

            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: handler.unary_unary(request, Nothing())
            )

    with observed("sync", Mute()) as (client, _):
        assert client.told("UnaryUnary", b"a") == (b"a",)
        assert client.told("UnaryUnary", b"raise")[0] == "UNKNOWN"
    assert outcomes("grpc", f"{SERVICE}/UnaryUnary") == {"ok": 1.0, "error": 1.0}
    assert failures()["operation"] >= 2.0
