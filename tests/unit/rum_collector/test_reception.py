"""What the collector does with requests that mean no good, and in which order."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from rum_collector.app import CollectorApp, collector, create_app
from rum_collector.limits import Limiter
from rum_collector.settings import Settings

FIXTURES = Path(__file__).parents[2] / "fixtures" / "rum"
ORIGIN = "https://shop.example.com"


@asynccontextmanager
async def client_of(app: Any, peer: str = "203.0.113.7", **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app, client=(peer, 1234), **options)
    async with httpx2.AsyncClient(transport=transport, base_url="http://collector") as client:
        yield client


async def samples(client: httpx2.AsyncClient, name: str) -> dict[tuple[str, ...], float]:
    text = (await client.get("/metrics")).text
    return {
        tuple(sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.value
    }


async def total(client: httpx2.AsyncClient, name: str, **labels: str) -> float:
    text = (await client.get("/metrics")).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def beacon(view: object, **changes: Any) -> bytes:
    return json.dumps({"pv": str(view), "app": "shop", "ver": "1.2.0", **changes}).encode()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("/b", b"{}", 400), ("/nothing", b"{}", 404), ("/metrics", b"{}", 405), ("/b", b"x" * 70_000, 413)],
)
async def test_every_answer_can_be_read_by_the_page(path: str, body: bytes, status: int) -> None:
    async with client_of(create_app()) as client:
        answer = await client.post(path, content=body, headers={"origin": ORIGIN})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["access-control-allow-credentials"] == "true"


@pytest.mark.parametrize(
    "origin", ["https://a\r\nset-cookie: x=1", "javascript:alert(1)", "https://a b", "x" * 400, ""]
)
async def test_what_is_no_origin_is_not_reflected(origin: str) -> None:
    app, sent = create_app(), []
    headers = [(b"origin", origin.encode()), (b"access-control-request-headers", b"a\r\nx: y")]

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        sent.append(message)

    for method in ("POST", "OPTIONS"):
        await app({"type": "http", "method": method, "path": "/b", "headers": headers}, receive, send)
    for start in sent[::2]:
        found = dict(start["headers"])
        assert found[b"access-control-allow-origin"] == b"*"
        assert b"access-control-allow-headers" not in found
        assert not any(b"\n" in value or b"\r" in value for value in found.values())


async def test_no_text_of_a_client_breaks_out_of_its_place() -> None:
    evil = 'a"} 1\nrum_page_views_total{app="shop",version="1.1.0"} 999\r\nx: y'
    async with client_of(create_app()) as client:
        body = beacon(
            1, app=evil, ver=evil, rt=evil, c=[[evil, 1]], e=[{"t": evil, "m": evil, "s": evil}], fe=1
        )
        assert (await client.post("/b", content=body)).status_code == 204
        refused = await client.post("/b", content=beacon(2, trk=evil), headers={"origin": ORIGIN})
        assert refused.status_code == 400
        assert not any("999" in value for value in refused.headers.values())
        text = (await client.get("/metrics")).text
    families = list(text_string_to_metric_families(text))
    (view,) = [s for family in families for s in family.samples if s.name == "rum_page_views_total"]
    # Kept as one word, escaped, and of no meaning.
    assert view.value == 1
    assert view.labels["version"].startswith('a"} 1 rum_page_views_total{')


async def test_pages_of_other_origins_are_refused_before_anything_is_decoded() -> None:
    async with client_of(create_app(Settings(origins=(ORIGIN + "/",)))) as client:
        for origin, status in (
            (ORIGIN, 204),
            (ORIGIN.upper(), 204),
            ("https://evil.example", 403),
            ("", 403),
        ):
            headers = {"origin": origin} if origin else {}
            answer = await client.post("/b", content=beacon(origin + str(status)), headers=headers)
            assert answer.status_code == status
        answer = await client.post("/b", content=b"broken", headers={"origin": "https://evil.example"})
        assert answer.json()["error"] == "forbidden_origin"
        assert await samples(client, "rum_beacons_total") == {("accepted",): 2, ("forbidden_origin",): 3}


async def test_one_client_that_sends_too_much_is_told_when_to_come_again_and_others_are_not() -> None:
    app = create_app(Settings(client_rate=0.1, client_burst=3))
    async with client_of(app) as greedy, client_of(app, "198.51.100.1") as other:
        statuses = [
            (await greedy.post("/b", content=beacon(i), headers={"origin": ORIGIN})).status_code
            for i in range(5)
        ]
        assert statuses == [204, 204, 204, 429, 429]
        refused = await greedy.post("/b", content=b"broken", headers={"origin": ORIGIN})
        assert refused.json()["error"] == "limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert refused.headers["access-control-allow-origin"] == ORIGIN
        assert refused.headers["access-control-expose-headers"] == "retry-after"
        assert (await other.post("/b", content=beacon("other"))).status_code == 204
        assert await samples(other, "rum_beacons_total") == {("accepted",): 4, ("limited",): 3}


async def test_behind_a_trusted_proxy_each_address_is_its_own() -> None:
    app = create_app(Settings(client_rate=0.1, client_burst=1, trusted_proxies=("10.0.0.0/8",)))
    async with client_of(app, "10.1.1.1") as client:
        for address, status in (("198.51.100.1", 204), ("198.51.100.2", 204), ("198.51.100.1", 429)):
            answer = await client.post(
                "/b", content=beacon(address), headers={"x-forwarded-for": f"1.2.3.4, {address}"}
            )
            assert answer.status_code == status


def test_a_hundred_thousand_addresses_take_bounded_memory_and_the_total_is_bounded_too() -> None:
    limiter = Limiter(rate=1, burst=5, total_rate=1000, total_burst=2000, clients=500)
    admitted = sum(limiter.wait_seconds(address, now=0.0) == 0.0 for address in range(100_000))
    assert admitted == 2000
    assert len(limiter) <= 500
    assert limiter.wait_seconds(1, now=0.0) > 0.0
    # A second later there is room for a thousand.
    assert sum(limiter.wait_seconds(address, now=1.0) == 0.0 for address in range(5000)) == 1000


def test_a_bucket_fills_again_at_its_rate() -> None:
    limiter = Limiter(rate=2, burst=4, total_rate=1e6, total_burst=1_000_000, clients=10)
    assert [limiter.wait_seconds(1, 0.0) for _ in range(5)] == [0, 0, 0, 0, pytest.approx(0.5)]
    assert [limiter.wait_seconds(1, 1.0) == 0.0 for _ in range(3)] == [True, True, False]
    assert [limiter.wait_seconds(1, 100.0) == 0.0 for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.parametrize(
    ("agent", "body", "outcome"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", beacon("a"), "bot"),
        ("curl/8.5.0", beacon("a"), "bot"),
        ("Mozilla/5.0 Chrome/156.0.0.0 Safari/537.36", beacon("a", wd=1), "bot"),
        ("Mozilla/5.0 Chrome/156.0.0.0 Safari/537.36", beacon("a", wd=1, syn=1), "accepted"),
        ("Mozilla/5.0 (Linux; Android 14; CUBOT X) Chrome/156.0.0.0", beacon("a"), "accepted"),
    ],
)
async def test_bots_are_answered_like_people_and_counted_apart(agent: str, body: bytes, outcome: str) -> None:
    async with client_of(create_app()) as client:
        answer = await client.post("/b", content=body, headers={"user-agent": agent})
        assert answer.status_code == 204
        assert await samples(client, "rum_beacons_total") == {(outcome,): 1}
        assert await total(client, "rum_page_views_total") == (outcome == "accepted")


async def test_a_gzip_bomb_is_cut_off_while_it_is_inflated() -> None:
    bomb = gzip.compress(b"[" * 50_000_000, mtime=0)
    assert len(bomb) < 65_536
    async with client_of(create_app(Settings(max_inflated_bytes=100_000))) as client:
        answer = await client.post("/b", content=bomb, headers={"content-encoding": "gzip"})
        assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
        small = gzip.compress(beacon("a"), mtime=0)
        assert (
            await client.post("/b", content=small, headers={"content-encoding": "gzip"})
        ).status_code == 204


async def test_a_body_that_does_not_come_is_given_up() -> None:
    app, sent = create_app(Settings(body_seconds=1)), []

    async def never() -> Any:
        app.reception.deadlines._seconds = -1.0
        app.reception.deadlines.sweep()
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": "/b", "headers": []}, never, send)
    assert sent[0]["status"] == 408
    assert len(app.reception.deadlines) == 0


async def test_a_hundred_thousand_versions_give_a_bounded_exposition() -> None:
    app = create_app(Settings(max_versions=10, max_label_sets=50))
    view = _parsed(beacon("a"))
    for number in range(100_000):
        changed = {"view": str(number), "version": f"1.0.{number}", "route": f"/{number % 7}"}
        app.ingest.accept(msgspec.structs.replace(view, **changed), _SENDER)
    async with client_of(app) as client:
        text = (await client.get("/metrics")).text
        assert len(text) < 400_000
        assert await total(client, "rum_page_views_total") == 100_000
        assert await total(client, "rum_admission_overflow_total", kind="version") == 99_990


async def test_a_flood_of_duplicates_counts_one_view() -> None:
    app = create_app(Settings(client_burst=100_000, total_burst=100_000))
    async with client_of(app) as client:
        for _ in range(300):
            assert (await client.post("/b", content=beacon("same", e=[{"m": "x"}]))).status_code == 204
        assert await samples(client, "rum_beacons_total") == {("accepted",): 1, ("duplicate",): 299}
        assert await total(client, "rum_js_errors_total") == 1


@pytest.mark.parametrize("number", range(1, 6))
async def test_faro_is_answered_as_it_expects(number: int) -> None:
    recorded = json.loads((FIXTURES / f"faro-2.12.1-{number}.json").read_text())
    headers = {name: value for name, value in recorded["headers"].items() if name != "user-agent"}
    async with client_of(create_app()) as client:
        for expected in ("first", "again"):
            answer = await client.post("/collect", content=recorded["body_text"], headers=headers)
            assert answer.status_code == 202, expected
        outcomes = await samples(client, "rum_beacons_total")
        # The idempotency key makes the second one a repeat.
        assert outcomes == {("duplicate",): 1, ("ignored" if number == 2 else "accepted",): 1}


async def test_a_whole_faro_page_is_one_view() -> None:
    async with client_of(create_app()) as client:
        for number in range(1, 6):
            recorded = json.loads((FIXTURES / f"faro-2.12.1-{number}.json").read_text())
            await client.post("/collect", content=recorded["body_text"])
        labels = {"app": "shop-frontend", "version": "2.4.1", "track": "canary"}
        assert await total(client, "rum_page_views_total", **labels) == 1
        assert await total(client, "rum_views_with_errors_total", **labels) == 1
        assert await total(client, "rum_js_errors_total", **labels) == 2
        for vital in ("lcp_seconds", "inp_seconds", "cls", "fcp_seconds", "ttfb_seconds"):
            assert await total(client, f"rum_{vital}_count", **labels) == 1
        assert "token=" not in (await client.get("/metrics")).text


async def test_otlp_is_answered_as_it_expects_on_any_of_our_paths() -> None:
    async with client_of(create_app()) as client:
        for number in (1, 2, 3):
            recorded = json.loads(
                (FIXTURES / f"otlp-http-json-logs-browser-events-{number}.json").read_text()
            )
            body = gzip.compress(recorded["body_text"].encode(), mtime=0)
            answer = await client.post("/v1/logs", content=body, headers={"content-encoding": "gzip"})
            assert (answer.status_code, answer.json()) == (200, {})
            # A vital that comes again does not count again.
            assert (await client.post("/b", content=recorded["body_text"])).status_code == 204
        labels = {"app": "shop-frontend", "version": "2.4.1", "track": "canary"}
        assert await total(client, "rum_page_views_total", navigation_type="navigate", **labels) == 1
        for vital in ("lcp_seconds", "inp_seconds", "cls", "fcp_seconds", "ttfb_seconds"):
            assert await total(client, f"rum_{vital}_count", **labels) == 1
        answer = await client.post(
            "/v1/metrics", content=b"", headers={"content-type": "application/x-protobuf"}
        )
        assert answer.status_code == 400


async def test_a_mounted_collector_is_posted_to_where_it_is_mounted() -> None:
    app = collector("shop")
    async with client_of(app, root_path="/b") as client:
        for path in ("/b", "/b/", "/b/b"):
            assert (await client.post(path, content=beacon(path))).status_code == 204
        assert (await client.post("/b/other", content=beacon("x"))).status_code == 404
        assert app.settings.apps == ("shop",)


def _parsed(body: bytes) -> Any:
    from rum_collector.beacon import parse_beacon

    return parse_beacon(body)


def _sender() -> Any:
    from rum_collector.ingest import Sender

    return Sender()


_SENDER = _sender()
_APP = create_app(Settings(client_burst=10_000_000, total_burst=10_000_000, max_label_sets=20))
_HEADERS = st.dictionaries(
    st.sampled_from(
        [b"content-length", b"content-encoding", b"content-type", b"origin", b"user-agent",
         b"x-forwarded-for",
         b"idempotency-key", b"access-control-request-headers"]
    ),
    st.sampled_from([b"gzip", b"application/x-protobuf", b"\xff\x00", b"1", b"-"]) | st.binary(max_size=20),
)  # fmt: skip


@given(
    st.sampled_from(["/b", "/api/metrics", "/collect", "/v1/logs", "/v1/traces", "/v1/metrics"]),
    st.binary(max_size=80)
    | st.sampled_from(
        [beacon("x"), b'{"meta":{}}', b'{"resourceLogs":[{}]}', b"[" * 3000, b'{"pv":1e999}', b"\x1f\x8b"]
    ),
    _HEADERS,
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_request_whatever_gets_a_5xx_and_every_body_is_accounted_for(
    path: str, body: bytes, headers: dict[bytes, bytes]
) -> None:
    async def post() -> tuple[int, float, float]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        before = _accounted(_APP)
        scope = {"type": "http", "method": "POST", "path": path, "headers": list(headers.items())}
        await _APP({**scope, "client": ("203.0.113.1", 1)}, receive, send)
        await _APP.upkeep.stop()
        return sent[0]["status"], before, _accounted(_APP)

    status, before, after = asyncio.run(post())
    assert status < 500
    assert after == before + 1


def _accounted(app: CollectorApp) -> float:
    return sum(cell.value for _, cell in app.ingest.instruments.counter("beacons").items())
