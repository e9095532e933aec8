"""From the app that serves a page to signed evidence, with the real SDK and the real collector."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2
from prometheus_client import CollectorRegistry, Metric, generate_latest

import rolloutobs
from rolloutobs.cluster.figures import families
from rolloutobs.cluster.model import Pod, Replicas, Workload, WorkloadKind
from rolloutobs.cluster.serving import Answer, Server
from rolloutobs.identity import Track
from rolloutobs.testing import isolated_telemetry
from rum_collector._http import Client
from rum_collector.app import create_app
from rum_collector.known import versions_in
from rum_collector.settings import Settings
from rum_collector.upkeep import Upkeep

SECRET = ("a secret",)


async def page(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        headers = [(b"content-type", b"text/html")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<h1>Shop</h1>"})


class Figures:
    """What `rolloutobs watch` exposes of a workload."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    def collect(self) -> Iterator[Metric]:
        yield from families([self.workload], now=0.0)


async def test_a_page_that_instrument_has_served_proves_its_version() -> None:
    with isolated_telemetry():
        identity = rolloutobs.Settings(
            service="shop", version="1.2.0", track=rolloutobs.Track.CANARY, secret=SECRET
        )
        app = rolloutobs.instrument(page, settings=identity)
        collector = create_app(Settings(secret=SECRET))
        async with (
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop") as shop,
            httpx2.AsyncClient(transport=httpx2.ASGITransport(collector), base_url="http://b") as beacons,
        ):
            said = (await shop.get("/")).headers["server-timing"]
            token = re.search(r'view;desc="([^"]+)"', said)
            assert token is not None
            assert "1.2.0" not in said
            for view in ("honest", "replayed"):
                body = json.dumps({"pv": view, "tk": token[1], "m": [["lcp", 100]]})
                assert (await beacons.post("/b", content=body)).status_code == 204
            text = (await beacons.get("/metrics")).text
            (signed,) = re.findall(r"^rum_page_views_total\{.*signed=.*$", text, re.M)
            assert re.sub(r",?device=\"\w+\"", "", signed) == (
                'rum_page_views_total{app="shop",navigation_type="navigate",signed="true",'
                'track="canary",version="1.2.0"} 1.0'
            )
            exposition = (await shop.get("/metrics")).text
    assert [out[:2] for out in versions_in(exposition)] == [("shop", "1.2.0")]


async def test_a_page_s_calls_are_told_apart_without_telling_it_who_has_answered() -> None:
    def shop(version: str, track: rolloutobs.Track) -> httpx2.AsyncClient:
        identity = rolloutobs.Settings(service="shop", version=version, track=track, secret=SECRET)
        app = rolloutobs.instrument(page, settings=identity)
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://shop")

    with isolated_telemetry():
        collector = create_app(Settings(secret=SECRET))
        async with (
            shop("1.2.0", rolloutobs.Track.CANARY) as canary,
            shop("1.1.0", rolloutobs.Track.STABLE) as stable,
            httpx2.AsyncClient(transport=httpx2.ASGITransport(collector), base_url="http://b") as beacons,
        ):
            document = (await canary.get("/")).headers["server-timing"]
            answers = [
                (await client.get("/")).headers["server-timing"] for client in (canary, canary, stable)
            ]
            marks = [re.findall(r'answer;desc="([^"]+)"', answer)[0] for answer in answers]
            (token,) = re.findall(r'view;desc="([^"]+)"', document)
            body = json.dumps({"pv": "a", "tk": token, "xp": [0, 0, *marks]})
            assert (await beacons.post("/b", content=body)).status_code == 204
            text = (await beacons.get("/metrics")).text
    found = re.findall(
        r'^rum_api_calls_total\{answered="(\w+)",app="shop",.*signed="true",.*\} (\d)\.0$', text, re.M
    )
    assert dict(found) == {"same": "2", "other": "1"}


async def test_the_collector_asks_the_app_which_versions_are_out() -> None:
    class Asked:
        """Answers as two processes do, one of which is gone later."""

        def __init__(self) -> None:
            self.answers = {
                "http://a/metrics": 'app_build_info{app="shop",track="stable",version="1.1.0"} 1.0\n',
                "http://b/metrics": 'app_build_info{app="shop",track="canary",version="1.2.0"} 1.0\n',
            }

        async def get_text(self, url: str) -> str:
            from rum_collector._http import Unreachable

            if url not in self.answers:
                raise Unreachable(f"{url} is gone")
            return self.answers[url]

    asked: Any = Asked()
    app = create_app(Settings(version_urls=tuple(asked.answers)))
    upkeep = Upkeep(app.settings, app.reception)
    await upkeep.ask(asked)
    del asked.answers["http://b/metrics"]
    await upkeep.ask(asked)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://b") as client:
        for version in ("1.1.0", "1.2.0", "9.9.9"):
            await client.post("/b", content=json.dumps({"pv": version, "app": "shop", "ver": version}))
        text = (await client.get("/metrics")).text
    found = re.findall(r'^rum_page_views_total\{.*?(?:track="(\w+)",)?version="([^"]+)"\} 1.0$', text, re.M)
    assert sorted(found) == [("", "other"), ("canary", "1.2.0"), ("stable", "1.1.0")]
    assert 'rum_admission_overflow_total{kind="unknown_version"} 1.0' in text
    assert 'rolloutobs_internal_errors_total{where="versions"} 1.0' in text


async def test_the_collector_asks_the_watcher_which_versions_are_out() -> None:
    def pod(number: int, version: str, track: Track) -> Pod:
        return Pod("shop", f"shop-{number}", f"uid-{number}", "shop", version, track, "hash", created=0.0)

    pods = (pod(1, "1.1.0", Track.STABLE), pod(2, "1.1.0", Track.STABLE), pod(3, "1.2.0", Track.CANARY))
    workload = Workload(
        "uid", "shop", "shop", WorkloadKind.DEPLOYMENT, "shop", "1.2.0", Replicas(), (), pods, rollout=None
    )
    registry = CollectorRegistry()
    registry.register(Figures(workload))

    def metrics(path: str, query: Mapping[str, str]) -> Answer:
        assert path == "/metrics"
        return Answer(generate_latest(registry))

    async with Server(("127.0.0.1", 0), metrics) as watcher:
        app = create_app(Settings(version_urls=(f"http://127.0.0.1:{watcher.port}/metrics",)))
        upkeep = Upkeep(app.settings, app.reception)
        async with Client() as client:
            await upkeep.ask(client)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://b") as client:
        for version in ("1.1.0", "1.2.0", "9.9.9"):
            await client.post("/b", content=json.dumps({"pv": version, "app": "shop", "ver": version}))
        text = (await client.get("/metrics")).text
    found = re.findall(r'^rum_page_views_total\{.*?(?:track="(\w+)",)?version="([^"]+)"\} 1.0$', text, re.M)
    assert sorted(found) == [("", "other"), ("canary", "1.2.0"), ("stable", "1.1.0")]
