"""What may go wrong while metrics are read: the scrape shows what there is, and says what is missing."""

from __future__ import annotations

import asyncio
import gc
import gzip
import threading
import weakref

import pytest
from fastapi import FastAPI, Response
from flask import Flask
from prometheus_client import REGISTRY, Counter
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from rolloutobs import Settings, instrument
from rolloutobs.telemetry.process_metrics import ProcessMetrics
from rolloutobs.telemetry.store import Store
from rolloutobs.testing import call, call_wsgi, parse_metrics, sample_value, scrape

from .asgi_corpus import raw
from .watching import failures


@pytest.fixture
def registered():
    """Register collectors for the time of a test."""
    known = []

    def register(collector):
        REGISTRY.register(collector)
        known.append(collector)
        return collector

    yield register
    for collector in known:
        REGISTRY.unregister(collector)


class Bad:
    """Works once, then raises half-way."""

    def __init__(self, error, works=0):
        self.error, self.works = error, works

    def describe(self):
        return []

    def collect(self):
        metric = CounterMetricFamily("bad", "Of a bad collector.", labels=("n",))
        metric.add_metric(["a"], 5)
        yield metric
        if self.works <= 0:
            raise self.error
        self.works -= 1
        yield GaugeMetricFamily("also_bad", "Likewise.", 1)


@pytest.fixture(params=[False, True], ids=["memory", "shared"])
def settings(request, tmp_path):
    folder = str(tmp_path / "shared") if request.param else None
    return Settings(service="shop", version="1", metrics_dir=folder)


async def test_a_collector_that_raises_costs_its_own_metrics_only(settings, registered):
    registered(Bad(RuntimeError("bad")))
    good = Counter("good_things", "Of a good one.", registry=None)
    registered(good)
    good.inc(3)
    app = instrument(raw, settings=settings)
    for turn in (1, 2):
        samples = await scrape(app)
        assert sample_value(samples, "good_things_total") == 3
        assert sample_value(samples, "bad_total") is None
        assert failures() == {"metrics": turn}


async def test_of_several_workers_a_counter_of_a_collector_that_raises_does_not_go_back(tmp_path, registered):
    bad = registered(Bad(RuntimeError("bad"), works=2))
    app = instrument(raw, settings=Settings(service="shop", version="1", metrics_dir=str(tmp_path)))
    for _ in range(4):
        assert sample_value(await scrape(app), "bad_total") == 5
    assert bad.works == 0
    assert failures() == {"metrics": 2}


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
async def test_a_collector_that_exits_ends_nothing(settings, registered, error):
    bad = registered(Bad(error))
    app = instrument(raw, settings=settings)
    async with asyncio.timeout(20):
        assert (await call(app, "/metrics")).status == 500
        assert failures() == {"metrics": 1}
        bad.works = 1
        assert (await call(app, "/metrics")).status == 200


async def test_a_collector_that_hangs_holds_up_no_request_and_scrapes_are_bounded(settings, registered):
    gate, entered = threading.Event(), threading.Event()

    class Slow:
        def describe(self):
            return []

        def collect(self):
            entered.set()
            gate.wait(30)
            return []

    registered(Slow())
    app = instrument(raw, settings=settings)
    scrapes = [asyncio.create_task(call(app, "/metrics")) for _ in range(40)]
    try:
        await asyncio.get_running_loop().run_in_executor(None, entered.wait, 20)
        for _ in range(3):
            assert (await call(app, "/tuple")).status == 200
        done, _ = await asyncio.wait(scrapes, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        # More than can wait at once are told to come back.
        assert {task.result().status for task in done} == {503}
    finally:
        gate.set()
    statuses = [(await task).status for task in scrapes]
    assert statuses.count(200) >= 16
    assert (await call(app, "/metrics")).status == 200


async def test_an_answer_of_the_apps_own_that_is_damaged_is_served_as_it_is():
    app = FastAPI()
    body = gzip.compress(b"# HELP x y\n# TYPE x counter\nx_total 1\n")[:-9]

    @app.get("/metrics")
    async def own():
        return Response(body, media_type="text/plain", headers={"content-encoding": "gzip"})

    flask = Flask("own")
    flask.add_url_rule(
        "/metrics", view_func=lambda: (body, {"content-type": "text/plain", "content-encoding": "gzip"})
    )
    instrument(app)
    for _ in range(2):
        answer = await call(app, "/metrics")
        assert (answer.status, answer.body) == (200, body)
    answer = call_wsgi(instrument(flask), "/metrics")
    assert (answer.status, answer.body) == (200, body)


@pytest.mark.parametrize("content", [b"", b"garbage", b"1 x", b"\xff"])
def test_a_proc_that_makes_no_sense_is_no_metric(tmp_path, content):
    statm = tmp_path / "statm"
    statm.write_bytes(content)
    store = Store()
    metrics = ProcessMetrics(store, statm, tmp_path / "none")
    for _ in range(2):
        metrics.refresh()
    shown = [sample.name for metric in store.collect("") for sample in metric.samples]
    assert "app_process_cpu_seconds_total" in shown
    assert "app_process_resident_memory_bytes" not in shown
    metrics.stop()


async def test_apps_and_loops_that_are_gone_are_gone(tmp_path):
    """A test suite makes thousands of apps, and a loop for each."""

    def use(app):
        async def once():
            loops.append(weakref.ref(asyncio.get_running_loop()))
            await call(app, "/x")
            return await scrape(app)

        thread = threading.Thread(target=lambda: shown.append(asyncio.run(once())))
        thread.start()
        thread.join()

    apps, loops, shown = [], [], []
    for make in (FastAPI, lambda: Flask("gone"), FastAPI):
        app = instrument(make(), settings=Settings(service="shop", version="1"))
        apps.append(weakref.ref(app))
        if not isinstance(app, Flask):
            use(app)
        else:
            call_wsgi(app, "/x")
        del app
    gc.collect()
    assert [ref() for ref in apps] == [None] * 3
    assert [ref() for ref in loops] == [None] * 2
    assert parse_metrics("") == []
    assert all(sample_value(samples, "http_requests_total", status="404") == 1 for samples in shown)
