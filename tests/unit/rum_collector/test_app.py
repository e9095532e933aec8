from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rum_collector.app import CollectorApp, create_app
from rum_collector.bundle import Bundle
from rum_collector.settings import Settings

FIXTURES = Path(__file__).parents[2] / "fixtures" / "rum"
CODE = b"(()=>{})();" * 50
BEACON = {"app": "shop", "ver": "1.2.0", "trk": "canary", "rt": "/cart", "m": [["lcp", 1834.2]]}
SIMPLE = {"metric": "page_load_time", "value": 1234, "version": "1.2.0"}


def beacon(view: str, **changes: Any) -> bytes:
    return json.dumps({"pv": view, **BEACON, **changes}).encode()


@pytest.fixture
def app(tmp_path: Path) -> CollectorApp:
    script = tmp_path / "rolloutobs.js"
    script.write_bytes(CODE)
    return create_app(Settings(max_body_bytes=2000), Bundle.read(script))


@pytest.fixture
async def client(app: CollectorApp) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://collector") as client:
        yield client


async def scraped(client: httpx2.AsyncClient, name: str, **labels: str) -> float:
    response = await client.get("/metrics")
    return sum(
        sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def outcomes(client: httpx2.AsyncClient) -> dict[str, float]:
    response = await client.get("/metrics")
    return {
        sample.labels["outcome"]: sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if sample.name == "rum_beacons_total" and sample.value
    }


@pytest.mark.parametrize(
    "content_type", ["text/plain;charset=UTF-8", "application/json", "", "application/x-y"]
)
async def test_a_beacon_of_any_content_type_is_counted(client: httpx2.AsyncClient, content_type: str) -> None:
    headers = {"content-type": content_type, "user-agent": "Mozilla/5.0 (Linux; Android 16) Mobile"}
    for view in ("a", "b"):
        response = await client.post("/b", content=beacon(view), headers=headers)
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["access-control-allow-origin"] == "*"
    labels = {"app": "shop", "version": "1.2.0", "track": "canary", "route": "/cart", "device": "mobile"}
    assert await scraped(client, "rum_page_views_total", **labels) == 2
    assert await outcomes(client) == {"accepted": 2}


async def test_the_tutorial_s_snippet_works(client: httpx2.AsyncClient) -> None:
    response = await client.post("/api/metrics", content=json.dumps(SIMPLE))
    assert response.status_code == 204
    assert await scraped(client, "rum_page_load_seconds_sum", version="1.2.0") == pytest.approx(1.234)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "reason"),
    [
        ("/b", b"", {}, 400, "empty"),
        ("/b", b"hello", {}, 400, "not_json"),
        ("/b", b"{}", {}, 400, "invalid"),
        ("/b", b"x" * 2001, {}, 413, "too_large"),
        ("/b", b"{}", {"content-encoding": "br"}, 415, "encoded"),
        ("/b", b"{}", {"content-encoding": "gzip"}, 415, "encoded"),
        ("/b", gzip.compress(b"x" * 100_000, mtime=0)[:-9], {"content-encoding": "gzip"}, 415, "encoded"),
        ("/b", gzip.compress(b"{}", mtime=0) + b"x", {"content-encoding": "gzip"}, 415, "encoded"),
        ("/b", gzip.compress(b" " * 1_100_000, mtime=0), {"content-encoding": "gzip"}, 413, "too_large"),
        ("/api/metrics", b'{"metric": "speed", "value": 1}', {}, 400, "unknown_metric"),
        ("/api/metrics", b'{"metric": "lcp", "value": -1}', {}, 400, "out_of_range"),
    ],
)
async def test_a_bad_body_gets_a_plain_reason_that_a_page_may_read(
    client: httpx2.AsyncClient, path: str, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    response = await client.post(path, content=body, headers=headers)
    assert (response.status_code, response.json()["error"]) == (status, reason)
    assert response.json()["message"]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["access-control-allow-origin"] == "*"
    assert await outcomes(client) == {reason: 1}
    # The next one is none the worse for it.
    assert (await client.post("/b", content=beacon("a"))).status_code == 204
    assert await outcomes(client) == {reason: 1, "accepted": 1}


async def test_a_body_without_a_length_is_bounded_while_it_is_read(client: httpx2.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 100

    assert (await client.post("/b", content=endless())).status_code == 413


async def test_a_preflight_is_answered_with_what_it_asked_for(client: httpx2.AsyncClient) -> None:
    recorded = json.loads((FIXTURES / "preflight-faro.json").read_text())
    response = await client.options("/b", headers=recorded["headers"])
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == recorded["headers"]["origin"]
    # sendBeacon with a JSON Blob asks with credentials, and for those "*" means nothing.
    assert response.headers["access-control-allow-credentials"] == "true"
    assert "origin" in response.headers["vary"]
    assert response.headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert (
        response.headers["access-control-allow-headers"] == "content-type,idempotency-key,x-faro-session-id"
    )
    assert response.headers["access-control-max-age"] == "7200"
    assert await outcomes(client) == {}


async def test_a_page_that_sends_credentials_may_read_the_answer(client: httpx2.AsyncClient) -> None:
    for body in (beacon("a"), b"{}"):
        response = await client.post("/b", content=body, headers={"origin": "https://shop.example.com"})
        assert response.headers["access-control-allow-origin"] == "https://shop.example.com"
        assert response.headers["access-control-allow-credentials"] == "true"
        assert response.headers["vary"] == "origin"


async def test_metrics_are_no_page_s_business(client: httpx2.AsyncClient) -> None:
    response = await client.get("/metrics", headers={"origin": "https://evil.example.com"})
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=abc", "text/plain;version=x", ";"])
async def test_odd_accept_headers_get_metrics_all_the_same(client: httpx2.AsyncClient, accept: str) -> None:
    response = await client.get("/metrics", headers={"accept": accept})
    assert response.status_code == 200
    assert "rum_beacons_total" in response.text


@pytest.mark.parametrize("asked", ["", "a b", "x\ty", "a,,b", "é", "a" * 65, ",".join(["a"] * 40)])
async def test_a_malformed_list_of_headers_is_not_reflected(client: httpx2.AsyncClient, asked: str) -> None:
    response = await client.options("/b", headers={b"access-control-request-headers": asked.encode()})
    assert response.status_code == 204
    assert "access-control-allow-headers" not in response.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [("GET", "/b", 405, "method"), ("POST", "/metrics", 405, "method"), ("GET", "/", 404, "not_found")],
)
async def test_what_is_not_served_says_so(
    client: httpx2.AsyncClient, method: str, path: str, status: int, reason: str
) -> None:
    response = await client.request(method, path)
    assert (response.status_code, response.json()["error"]) == (status, reason)
    assert status != 405 or response.headers["allow"] in ("POST, OPTIONS", "GET, OPTIONS")


async def test_the_script_is_cached_and_compressed(client: httpx2.AsyncClient) -> None:
    response = await client.get("/rolloutobs.js", headers={"accept-encoding": "gzip"})
    assert response.content == CODE
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers["content-type"] == "text/javascript; charset=utf-8"
    assert response.headers["vary"] == "accept-encoding"
    assert "max-age=3600" in response.headers["cache-control"]
    etag = response.headers["etag"]
    for known in (etag, f'"x", W/{etag}', "*"):
        again = await client.get(
            "/rolloutobs.js", headers={"accept-encoding": "gzip", "if-none-match": known}
        )
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    plain = await client.get("/rolloutobs.js", headers={"accept-encoding": "identity", "if-none-match": etag})
    assert (plain.status_code, plain.content) == (200, CODE)
    assert "content-encoding" not in plain.headers
    head = await client.head("/rolloutobs.js", headers={"accept-encoding": "identity"})
    assert (head.content, head.headers["content-length"]) == (b"", str(len(CODE)))


async def test_the_full_build_is_served_beside_the_small_one(tmp_path: Path) -> None:
    small, full = tmp_path / "rolloutobs.js", tmp_path / "rolloutobs-full.js"
    small.write_bytes(CODE)
    full.write_bytes(CODE + b"more")
    app = create_app(Settings(script_path="/s/o.js"), Bundle.read(small), Bundle.read(full))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://c") as client:
        answers = [await client.get(path) for path in ("/s/o.js", "/s/o-full.js")]
    assert [answer.content for answer in answers] == [CODE, CODE + b"more"]
    assert answers[0].headers["etag"] != answers[1].headers["etag"]


async def test_without_a_built_script_the_rest_works(tmp_path: Path) -> None:
    app = CollectorApp(Settings(), None)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://c") as client:
        response = await client.get("/rolloutobs.js")
        assert (response.status_code, response.json()["error"]) == (404, "not_built")
        assert "npm run build" in response.json()["message"]
        assert (await client.post("/b", content=beacon("a"))).status_code == 204
        assert (await client.get("/healthz")).text == "ok\n"


async def test_metrics_in_both_formats(client: httpx2.AsyncClient) -> None:
    await client.post("/b", content=beacon("a"))
    plain = await client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    opened = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text")
    assert opened.text.endswith("# EOF\n")
    assert "process_cpu_seconds_total" in plain.text


async def test_paths_are_settings_and_the_app_can_be_mounted() -> None:
    app = CollectorApp(Settings(beacon_path="/x", simple_path="/y", script_path="/z.js"), None)
    transport = httpx2.ASGITransport(app, root_path="/mounted")
    async with httpx2.AsyncClient(transport=transport, base_url="http://c") as client:
        assert (await client.post("/mounted/x", content=beacon("a"))).status_code == 204
        assert (await client.post("/mounted/y", content=json.dumps(SIMPLE))).status_code == 204
        assert (await client.post("/mounted/b", content=beacon("b"))).status_code == 404
        assert (await client.get("/mounted/z.js")).json()["error"] == "not_built"


async def test_requests_that_overlap_do_not_mix(app: CollectorApp, client: httpx2.AsyncClient) -> None:
    halfway, resume = asyncio.Event(), asyncio.Event()
    slow = beacon("slow", rt="/slow")
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not halfway.is_set():
            halfway.set()
            return {"type": "http.request", "body": slow[:20], "more_body": True}
        await resume.wait()
        return {"type": "http.request", "body": slow[20:], "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/b", "headers": []}
    task = asyncio.create_task(app(scope, receive, send))
    await halfway.wait()
    answers = await asyncio.gather(
        *(client.post("/b", content=beacon(f"v{i}", rt="/fast")) for i in range(5)),
        client.post("/b", content=b"broken"),
    )
    assert [answer.status_code for answer in answers] == [204] * 5 + [400]
    assert await scraped(client, "rum_page_views_total") == 5
    resume.set()
    await task
    assert sent[0]["status"] == 204
    assert await scraped(client, "rum_page_views_total", route="/fast") == 5
    assert await scraped(client, "rum_page_views_total", route="/slow") == 1


async def test_a_client_that_leaves_gets_no_answer_and_is_counted(
    app: CollectorApp, client: httpx2.AsyncClient
) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": "/b", "headers": []}, receive, send)
    assert sent == []
    assert await outcomes(client) == {"disconnected": 1}


async def test_a_fault_of_the_collector_is_counted_and_answered(
    app: CollectorApp, client: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    counting = app.ingest.counting
    del app.ingest.counting
    response = await client.post("/b", content=beacon("a"))
    assert (response.status_code, response.json()["error"]) == (500, "error")
    assert response.headers["access-control-allow-origin"] == "*"
    assert "could not be counted" in caplog.text
    app.ingest.counting = counting
    assert await outcomes(client) == {"error": 1}


async def test_lifespan_warns_where_the_script_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await CollectorApp(Settings(), None)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert "/rolloutobs.js answers 404" in caplog.text
    await CollectorApp(Settings(), None)({"type": "websocket"}, receive, send)
    assert sent[-1] == "websocket.close"
