"""With the real clients, instrumented by OpenTelemetry, over loopback.

The server notes what arrives. It is a proxy as well, so that calls to hosts outside arrive here too; it
answers ``/redirect`` with a redirect to one.
"""

import asyncio
import threading
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import aiohttp
import grpc
import httpx
import httpx2
import pytest
import requests
import urllib3
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcInstrumentorClient
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rolloutobs.identity import Track
from rolloutobs.settings import Settings
from rolloutobs.telemetry.hub import new_hub
from rolloutobs.telemetry.inbound import Extractor
from rolloutobs.telemetry.propagation import install_propagator
from rolloutobs.telemetry.targets import target_of, to_target
from rolloutobs.telemetry.trust import Caller
from rolloutobs.testing import SpanRecorder
from tests.serving import serving

OUTSIDE = "http://api.stripe.com/v1"
APPS_OWN = {"kunde": "müller & söhne + 50%", "tenant": "acme"}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers.items()]
        self.server.seen.append((self.path, headers))
        if urlsplit(self.path).path == "/redirect":
            self.send_response(302)
            self.send_header("Location", OUTSIDE)
        else:
            self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    made = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    made.seen = []
    made.url = f"http://127.0.0.1:{made.server_address[1]}"
    with serving(made) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_seen(server):
    server.seen.clear()


async def with_httpx(url, proxy=None):
    async with httpx.AsyncClient(proxy=proxy, trust_env=False, follow_redirects=True) as client:
        await client.get(url)


async def with_httpx2(url, proxy=None):
    async with httpx2.AsyncClient(proxy=proxy, trust_env=False, follow_redirects=True) as client:
        await client.get(url)


def with_httpx_sync(url, proxy=None):
    with httpx.Client(proxy=proxy, trust_env=False, follow_redirects=True) as client:
        client.get(url)


def with_httpx2_sync(url, proxy=None):
    with httpx2.Client(proxy=proxy, trust_env=False, follow_redirects=True) as client:
        client.get(url)


def with_requests(url, proxy=None):
    with requests.Session() as session:
        session.trust_env = False
        session.get(url, proxies={"http": proxy} if proxy else None)


def with_urllib3(url, proxy=None):
    with urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager() as pool:
        pool.request("GET", url)


async def with_aiohttp(url, proxy=None):
    async with aiohttp.ClientSession() as session, session.get(url, proxy=proxy) as response:
        await response.read()


CLIENTS = {
    with_httpx: HTTPXClientInstrumentor,
    with_httpx_sync: HTTPXClientInstrumentor,
    with_httpx2: HTTPX2ClientInstrumentor,
    with_httpx2_sync: HTTPX2ClientInstrumentor,
    with_requests: RequestsInstrumentor,
    with_urllib3: URLLib3Instrumentor,
    with_aiohttp: AioHttpClientInstrumentor,
}
clients = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
samplers = pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF], ids=["sampled", "unsampled"])


async def send(client, url, proxy=None):
    if asyncio.iscoroutinefunction(client):
        await client(url, proxy)
    else:
        await asyncio.to_thread(client, url, proxy)


@contextmanager
def instrumented(instrumentor, sampler):
    """Let the shop speak in a request with baggage of its own, with this client instrumented."""
    propagate.set_global_textmap(
        CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    )
    install_propagator(new_hub(Settings(service="shop", version="1.2.0+build.5", track=Track.CANARY)))
    provider = SpanRecorder(sampler).provider
    context = Context()
    for name, value in APPS_OWN.items():
        context = baggage.set_baggage(name, value, context)
    token = attach(context)
    one = instrumentor()
    one.instrument(tracer_provider=provider)
    try:
        with provider.get_tracer("t").start_as_current_span("work"):
            yield trace.get_current_span().get_span_context().trace_id
    finally:
        one.uninstrument()
        detach(token)


SHOP = Caller("shop", "1.2.0+build.5", "canary")


def check(headers, trace_id, caller):
    inbound = Extractor().extract(headers)
    assert inbound.parent.trace_id == trace_id
    assert inbound.caller == caller
    assert baggage.get_all(inbound.context) == APPS_OWN


@clients
@samplers
async def test_identity_goes_inside_only_and_the_rest_everywhere(server, client, sampler):
    with instrumented(CLIENTS[client], sampler) as trace_id:
        for _ in range(2):
            await send(client, server.url + "/u/1")
            await send(client, OUTSIDE, server.url)
        # And at the same time.
        await asyncio.gather(*(send(client, url, server.url) for url in (OUTSIDE, "http://users.shop.svc/")))
    assert len(server.seen) == 6
    for path, headers in server.seen:
        check(headers, trace_id, None if path.startswith("http://api.stripe.com/") else SHOP)


# requests and aiohttp follow redirects below their instrumentation, with the headers of the first request.
REDIRECTED = [with_httpx, with_httpx_sync, with_httpx2, with_httpx2_sync, with_urllib3]


@pytest.mark.parametrize("client", REDIRECTED, ids=lambda client: client.__name__)
async def test_a_redirect_leaves_the_identity_behind(server, client):
    with instrumented(CLIENTS[client], ALWAYS_OFF) as trace_id:
        await send(client, "http://users.shop.svc/redirect", server.url)
    (_, first), (path, second) = server.seen
    check(first, trace_id, SHOP)
    assert urlsplit(path).hostname == "api.stripe.com"
    check(second, trace_id, None)


# --- gRPC


def _tunnel(listener, port):
    """Answer one CONNECT of a client and pass bytes on to `port`."""
    import socket

    near, _ = listener.accept()
    request = b""
    while b"\r\n\r\n" not in request:
        request += near.recv(4096)
    far = socket.create_connection(("127.0.0.1", port))
    near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    back = threading.Thread(target=pump, args=(far, near))
    back.start()
    pump(near, far)
    back.join()
    near.close()
    far.close()


@pytest.fixture
def grpc_server():
    seen = []

    def note(context):
        seen.append(
            [
                (name.encode(), value.encode() if isinstance(value, str) else value)
                for name, value in context.invocation_metadata()
            ]
        )

    def one(request, context):
        note(context)
        return request

    def many(request, context):
        note(context)
        yield request
        yield request

    handlers = {
        "One": grpc.unary_unary_rpc_method_handler(one),
        "Many": grpc.unary_stream_rpc_method_handler(many),
    }
    running = grpc.server(futures.ThreadPoolExecutor(2))
    running.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Users", handlers),))
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield seen, port
    running.stop(None).wait()


@pytest.fixture
def proxied(grpc_server):
    """Options of a channel to a host outside whose bytes come to the server here."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_tunnel, args=(listener, grpc_server[1]), daemon=True)
        thread.start()
        yield [("grpc.http_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")]
    thread.join(5)
    assert not thread.is_alive()


def call_grpc(channel):
    with channel:
        one = channel.unary_unary("/shop.Users/One")
        many = channel.unary_stream("/shop.Users/Many")
        assert one(b"a", timeout=10) == one.future(b"a", timeout=10).result() == b"a"
        assert list(many(b"b", timeout=10)) == [b"b", b"b"]


async def call_grpc_aio(channel):
    async with channel:
        one = channel.unary_unary("/shop.Users/One")
        assert await one(b"a", timeout=10) == b"a"
        assert await one(b"a", timeout=10) == b"a"
        many = channel.unary_stream("/shop.Users/Many")
        assert [answer async for answer in many(b"b", timeout=10)] == [b"b", b"b"]


@samplers
@pytest.mark.parametrize("scheme", ["", "dns:///", "ipv4:"])
async def test_grpc_carries_it_inside(grpc_server, sampler, scheme):
    seen, port = grpc_server
    target = f"{scheme}127.0.0.1:{port}"
    with instrumented(GrpcInstrumentorClient, sampler) as trace_id:
        call_grpc(grpc.insecure_channel(target))
    with instrumented(GrpcAioInstrumentorClient, sampler) as other_trace_id:
        await call_grpc_aio(grpc.aio.insecure_channel(target))
    assert len(seen) == 6
    for number, metadata in enumerate(seen):
        check(metadata, trace_id if number < 3 else other_trace_id, SHOP)


@samplers
def test_grpc_does_not_carry_it_outside(grpc_server, proxied, sampler):
    with instrumented(GrpcInstrumentorClient, sampler) as trace_id:
        call_grpc(grpc.insecure_channel("api.stripe.com:443", options=proxied))
    assert len(grpc_server[0]) == 3
    for metadata in grpc_server[0]:
        check(metadata, trace_id, None)


@samplers
async def test_grpc_aio_does_not_carry_it_outside(grpc_server, proxied, sampler):
    with instrumented(GrpcAioInstrumentorClient, sampler) as trace_id:
        await call_grpc_aio(grpc.aio.insecure_channel("dns:///api.stripe.com:443", options=proxied))
    assert len(grpc_server[0]) == 3
    for metadata in grpc_server[0]:
        check(metadata, trace_id, None)


# --- what is not known


def test_the_apps_own_code_says_nothing_of_a_target():
    request = invoker = continuation = params = args = instance = httpx2.Request("GET", "http://users/")  # noqa: F841
    assert target_of(Context()) is None
    assert target_of(to_target(httpx2.URL("http://users/"), Context())) == "http://users/"


@pytest.mark.parametrize(
    "module",
    ["httpx", "requests", "urllib3", "aiohttp_client", "grpc._client", "grpc._aio_client"],
)
def test_a_release_with_other_variables_is_unknown(module):
    """Run in a function of that module which has none of the variables, or ones of other types."""
    variables = "args=(), request=1, invoker=len, continuation=None, params=None, bound_args=None"
    source = f"def inject(target_of, context, {variables}):\n    return target_of(context)\n"
    namespace = {"__name__": f"opentelemetry.instrumentation.{module}"}
    exec(source, namespace)
    assert namespace["inject"](target_of, Context()) is None
