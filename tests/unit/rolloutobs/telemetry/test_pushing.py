"""What is pushed, and what happens where that fails. The real Pushgateway is in tests/e2e."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from rolloutobs import Settings, operation, push_metrics
from rolloutobs.errors import ConfigurationError
from rolloutobs.telemetry import hub
from rolloutobs.testing import parse_metrics, sample_value
from tests.serving import serving

Request = tuple[str, str, str, bytes]


class Gateway:
    """Answers as a Pushgateway that has `metrics`, and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.status = 202
        self.metrics = b""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.requests.append((self.command, self.path, self.headers.get("authorization", ""), body))
                self.send_response(200 if self.command == "GET" else outer.status)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(outer.metrics)

            do_GET = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"

    @property
    def pushes(self) -> list[Request]:
        return [request for request in self.requests if request[0] != "GET"]


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    with serving(made.server):
        yield made


def lost() -> float | None:
    samples = parse_metrics(hub.process().render().body.decode())
    return sample_value(samples, "rolloutobs_internal_errors_total", where="push")


def test_the_end_of_a_job_pushes(gateway: Gateway) -> None:
    hub.new_hub(Settings(service="shop", version="1.2.0", track="canary", pushgateway=gateway.address))
    with operation("task", "inner"):
        pass
    assert gateway.requests == []
    with operation("job", "nightly"):
        pass
    ((method, path, authorization, body),) = gateway.pushes
    group = base64.urlsafe_b64encode(b"nightly/canary").decode()
    assert (method, path) == ("PUT", f"/metrics/job/shop/instance@base64/{group}")
    assert authorization == ""
    samples = parse_metrics(body.decode())
    labels = {"app": "shop", "version": "1.2.0", "track": "canary", "outcome": "ok"}
    assert sample_value(samples, "app_operations_total", name="nightly", **labels) == 1.0
    assert sample_value(samples, "app_operations_total", name="inner", **labels) == 1.0


def test_several_jobs_of_one_process_are_one_group(gateway: Gateway) -> None:
    hub.new_hub(Settings(service="shop", pushgateway=gateway.address))
    for name in ("first", "second", "first"):
        with operation("job", name):
            pass
    assert {path for _, path, _, _ in gateway.pushes} == {"/metrics/job/shop/instance/first"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_job_adds_to_what_its_parent_has_pushed(gateway: Gateway) -> None:
    hub.new_hub(Settings(service="shop", version="1", pushgateway=gateway.address))
    with operation("job", "nightly"):
        pass
    labels = 'job="shop",instance="nightly",app="shop",version="1",kind="job",name="nightly",outcome="ok"'
    gateway.metrics = f"# TYPE app_operations_total counter\napp_operations_total{{{labels}}} 1\n".encode()
    child = os.fork()
    if child == 0:
        with operation("job", "nightly"):
            pass
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    samples = parse_metrics(gateway.pushes[-1][3].decode())
    assert sample_value(samples, "app_operations_total", kind="job", name="nightly", outcome="ok") == 2.0


async def test_a_coroutine_does_not_hold_up_the_loop(gateway: Gateway) -> None:
    hub.new_hub(Settings(service="shop", pushgateway=gateway.address, push_instance="shard-7"))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    @operation("job", "nightly")
    async def nightly() -> int:
        return 7

    counting = asyncio.create_task(count())
    assert await nightly() == 7
    counting.cancel()
    assert turns > 1
    assert gateway.pushes[0][1] == "/metrics/job/shop/instance/shard-7"


def test_a_job_that_fails_pushes_too(gateway: Gateway) -> None:
    hub.new_hub(Settings(service="shop", pushgateway=gateway.address))
    with pytest.raises(SystemExit), operation("job", "nightly"):
        raise SystemExit(1)
    samples = parse_metrics(gateway.pushes[0][3].decode())
    assert sample_value(samples, "app_operations_total", name="nightly", outcome="error") == 1.0


def test_credentials_of_the_address(gateway: Gateway) -> None:
    hub.new_hub(Settings(service="shop"))
    push_metrics(f"http://me:p%40ss@{gateway.address}/")
    expected = "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert [request[2] for request in gateway.requests] == [expected, expected]
    assert gateway.requests[0][1] == "/metrics"
    assert gateway.requests[1][1] == "/metrics/job/shop/instance/default"


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://x", "http://", "http://me:secret@"])
def test_addresses_that_are_none(address: str) -> None:
    hub.new_hub(Settings(service="shop"))
    with pytest.raises(ConfigurationError, match="use an address such as") as caught:
        push_metrics(address)
    assert "secret" not in str(caught.value)


def test_without_an_address() -> None:
    hub.new_hub(Settings(service="shop"))
    with pytest.raises(ConfigurationError, match="ROLLOUTOBS_PUSHGATEWAY"):
        push_metrics()
    with operation("job", "nightly"):
        pass
    assert lost() == 0.0


def test_a_gateway_that_refuses_or_is_gone_breaks_no_job(gateway: Gateway) -> None:
    hub.new_hub(Settings(service="shop", pushgateway=gateway.address))
    gateway.status = 400
    done = []
    with operation("job", "nightly"):
        done.append(1)
    assert lost() == 1.0
    gateway.server.shutdown()
    gateway.server.server_close()
    with operation("job", "nightly"):
        done.append(2)
    assert done == [1, 2]
    assert lost() == 2.0
    with pytest.raises(OSError, match="refused"):
        push_metrics()
