"""Raw counters from the Prometheus HTTP API: a scripted server for failures, the real one for behaviour."""

import asyncio
import contextlib
import json
import re
import socket

import pytest

from rolloutobs.analysis.model import PairCount
from rolloutobs.analysis.policy import Kind, Selector, Signal
from rolloutobs.analysis.prometheus import PrometheusSource
from rolloutobs.analysis.sides import BySelector, Shape, parse_selector
from rolloutobs.analysis.ticks import Ticker, TickSettings
from rolloutobs.errors import ConfigurationError, SourceError

ERRORS = Signal(
    name="errors",
    title="5xx answers",
    kind=Kind.RATIO,
    exposures=Selector("http_requests_total"),
    events=Selector("http_requests_total", {"status": "~5.."}),
)
DEADLINE_SECONDS = 60


def series(name, value, **labels):
    return {"metric": {"__name__": name, **labels}, "value": [100, value]}


def answer(*found):
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": list(found)}})


async def test_failures_of_prometheus_fail_every_known_target(exporter):
    server = await exporter(
        answer(series("a", "1", instance="p:1", job="j")), content_type="application/json"
    )
    async with PrometheusSource(server.address, ["a"], clock=lambda: 100, timeout_seconds=0.5) as source:
        # The scripted server gives the same answer to `up == 0`: the target cannot be scraped.
        first = await source.read()
        assert first.failed == {"j/p:1": "Prometheus cannot scrape it (up is 0)"}
        assert not first.targets
        for status, text, reason in [
            (200, "<html>", "does not answer like Prometheus"),
            (200, '{"status":"success"}', "does not answer like Prometheus"),
            # Asked again while there is time: what is said depends on whether the last attempt still fits.
            (503, "down", "answer"),
            (400, '{"status":"error","error":"parse error"}', "parse error"),
        ]:
            server.status, server.text = status, text
            reading = await source.read()
            assert not reading.targets
            assert reason in reading.failed["j/p:1"]
        server.silent = True
        assert "no answer within 0.5 s" in (await source.read()).failed["j/p:1"]
        await server.stop()
        assert "cannot connect" in (await source.read()).failed["j/p:1"]


async def test_a_prometheus_that_never_answered_has_failed_itself(exporter):
    server = await exporter()
    await server.stop()
    async with PrometheusSource(server.address, ["a"]) as source:
        assert set((await source.read()).failed) == {"prometheus"}
        with pytest.raises(SourceError, match="cannot connect"):
            await source.history(0, 10, 1)


async def test_one_query_selects_the_wanted_metrics_of_the_app(exporter):
    server = await exporter(answer(), content_type="application/json")
    async with PrometheusSource(
        f"http://{server.address}/", ["b", "a"], shape=Shape(app='s"h'), clock=lambda: 100.5
    ) as source:
        await source.read()
    line = server.requests[0].split()[1]
    assert line.startswith(
        "/api/v1/query?query=%7B__name__%3D~%22a%7Cb%22%2Capp%3D%22s%5C%22h%22%7D&time=100.500"
    )


async def test_sides_without_a_track_are_asked_for_and_named(exporter):
    server = await exporter(
        answer(
            series("a", "1", pod="c-1", instance="p:1", job="j"),
            series("a", "2", pod="s-1", instance="p:2", job="j"),
        ),
        content_type="application/json",
    )
    sides = BySelector(parse_selector('pod=~"c-.*"'), parse_selector('pod=~"s-.*"'))
    async with PrometheusSource(server.address, ["a"], shape=Shape("shop", sides)) as source:
        assert source._selector == (
            '{__name__=~"a",app="shop",pod=~"c-.*"} or {__name__=~"a",app="shop",pod=~"s-.*"}'
        )
        (first, second) = (await source.history(0, 10, 10))[0].targets.values()
    assert [s[0].labels["track"] for s in (first, second)] == ["canary", "stable"]


async def test_a_long_past_is_asked_for_in_parts_that_do_not_overlap(exporter):
    server = await exporter(answer(), content_type="application/json")
    async with PrometheusSource(server.address, ["a"]) as source:
        await source.history(1000, 1000 + 15 * 500, 15)
    asked = [
        tuple(float(re.search(rf"{key}=([0-9.]+)", head)[1]) for key in ("start", "end"))
        for head in server.requests
        if "query_range" in head
    ]
    assert asked == [(1000, 4585), (4600, 8185), (8200, 8500)]


async def test_the_more_series_the_shorter_are_the_parts(exporter):
    # The scripted server gives the same answer to the question how many series there are.
    server = await exporter(answer({"metric": {}, "value": [100, "400000"]}), content_type="application/json")
    async with PrometheusSource(server.address, ["a"]) as source:
        await source.history(1000, 1060, 15)
    asked = [re.search(r"start=([0-9.]+)&end=([0-9.]+)", head) for head in server.requests]
    assert [(float(m[1]), float(m[2])) for m in asked if m] == [(1000, 1015), (1030, 1045), (1060, 1060)]


def test_what_is_not_an_address_is_refused():
    with pytest.raises(ConfigurationError, match="not an address"):
        PrometheusSource("ftp://prometheus", ["a"])


# --- the real one -------------------------------------------------------------------------------------


async def until(attempt):
    """Repeat `attempt` until it returns something true; the deadline is far beyond what it takes."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = await attempt()
            if found:
                return found
            await asyncio.sleep(0.1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def prometheus(folder, targets):
    """Run Debian's Prometheus on `targets`, scraping every second."""
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "shop", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def exposition(track, version, total, errors):
    labels = f'app="shop",track="{track}",version="{version}"'
    return (
        f'http_requests_total{{{labels},status="200"}} {total - errors}\n'
        f'http_requests_total{{{labels},status="500"}} {errors}\n'
        f'http_requests_total{{app="other",track="{track}",status="500"}} 999\n'
        f"noise_total 1\n"
    )


@pytest.mark.prometheus
async def test_a_real_prometheus(exporter, tmp_path):
    stable = await exporter(exposition("stable", "1.1.0", 1000, 10))
    canary = await exporter(exposition("canary", "1.2.0", 100, 1))
    ticker = Ticker([ERRORS], TickSettings(patience_seconds=3600), displays=[])
    ticks = []
    async with (
        prometheus(tmp_path, [stable.address, canary.address]) as address,
        PrometheusSource(address, ticker.metrics, shape=Shape(app="shop")) as source,
    ):

        async def reading(condition):
            async def attempt():
                found = await source.read()
                return found if condition(found) else None

            found = await until(attempt)
            ticks.extend(ticker.advance(found).ready)
            return found

        def shows(*values):
            def condition(found):
                seen = {
                    s.value
                    for samples in found.targets.values()
                    for s in samples
                    if s.labels.get("status") == "200"
                }
                return not found.failed and seen == set(values)

            return condition

        first = await reading(shows(990, 99))
        assert set(first.targets) == {f"shop/{stable.address}", f"shop/{canary.address}"}
        assert {s.name for samples in first.targets.values() for s in samples} == {"http_requests_total"}

        stable.text, canary.text = (
            exposition("stable", "1.1.0", 1040, 11),
            exposition("canary", "1.2.0", 130, 7),
        )
        await reading(shows(1029, 123))
        assert ticks[-1].counts == {"errors": {(): PairCount(6, 30, 1, 40)}}
        assert (ticks[-1].canary_version, ticks[-1].stable_version) == ("1.2.0", "1.1.0")

        # The canary restarts: its counters begin again.
        canary.text = exposition("canary", "1.2.0", 9, 2)
        await reading(shows(1029, 7))
        assert ticks[-1].counts == {"errors": {(): PairCount(2, 9, 0, 0)}}

        await canary.stop()
        down = await reading(lambda found: found.failed)
        assert down.failed == {f"shop/{canary.address}": "Prometheus cannot scrape it (up is 0)"}
        assert ticks[-1].stale == {"canary"}

        past = await source.history(first.at, down.at, 1)
        again = Ticker([ERRORS], displays=[])
        replayed = [tick for each in past for tick in again.advance(each).ready]
        total = sum(t.counts["errors"][()].canary_exposures for t in replayed if "errors" in t.counts)
        assert total == 39

    async with PrometheusSource(address, ticker.metrics) as source:
        assert "cannot connect" in (await source.read()).failed["prometheus"]
