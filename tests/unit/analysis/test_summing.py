"""Stable's processes added up by a real Prometheus give the ticks that reading them one by one gives."""

import asyncio
import contextlib
import json
import time
from dataclasses import replace

import pytest

from rolloutobs.analysis.policy import Kind, Selector, Signal
from rolloutobs.analysis.prometheus import PrometheusSource
from rolloutobs.analysis.promql import PromQL
from rolloutobs.analysis.sides import BySelector, ByVersion, Shape, Summable, parse_selector
from rolloutobs.analysis.summing import SUM
from rolloutobs.analysis.ticks import Ticker, TickSettings

from .test_prometheus import free_port, until

SIGNALS = (
    Signal(
        name="errors",
        title="5xx answers",
        kind=Kind.RATIO,
        exposures=Selector("http_requests_total"),
        events=Selector("http_requests_total", {"status": "~5.."}),
        strata=("route",),
    ),
    Signal(
        name="latency",
        title="slow answers",
        kind=Kind.LATENCY,
        exposures=Selector("http_request_duration_seconds"),
        strata=("route",),
    ),
)
BOUNDS = (0.1, 0.5, 1.0)
SUMMABLE = Summable((), processes=2, settle_seconds=0, scrape_seconds=1)


class Pod:
    """The counters of one process."""

    def __init__(self, exporter, track, *, age=1000.0, bounds=BOUNDS):
        self.exporter, self.track, self.bounds = exporter, track, bounds
        self.version = "1.2.0" if track == "canary" else "1.1.0"
        self.frozen = ""
        self.restart(age)

    @property
    def name(self):
        """What the target is called."""
        return f"shop/{self.exporter.address}"

    def restart(self, age=0.0):
        self.began, self.counts, self.slow = time.time() - age, {}, {}

    def promote(self):
        """Go on as stable, with the canary's counters beside it as they were."""
        self.frozen += self.lines()
        self.track, self.counts, self.slow = "stable", {}, {}

    def serve(self, number, route="/"):
        """Answer requests, one in ten of them with an error, and each more slowly than the one before."""
        for i in range(number):
            status = "500" if i % 10 == 9 else "200"
            self.counts[route, status] = self.counts.get((route, status), 0) + 1
            row = self.slow.setdefault(route, [0] * (len(self.bounds) + 1))
            row[i % len(row)] += 1

    def lines(self):
        own = f'app="shop",track="{self.track}",version="{self.version}"'
        found = [
            f'http_requests_total{{{own},route="{route}",status="{status}",method="GET"}} {n}\n'
            for (route, status), n in self.counts.items()
        ]
        for route, row in self.slow.items():
            for i, bound in enumerate((*self.bounds, "+Inf")):
                found.append(
                    f'http_request_duration_seconds_bucket{{{own},route="{route}",le="{bound}"}} '
                    f"{sum(row[: i + 1])}\n"
                )
        return "".join(found)

    def text(self):
        own = f'app="shop",track="{self.track}",version="{self.version}"'
        busy = sum(self.counts.values())
        return (
            f"app_start_time_seconds{{{own}}} {self.began}\n"
            f"process_resident_memory_bytes{{{own}}} {1e8 + 1000 * busy}\n"
            f"process_cpu_seconds_total{{{own}}} {busy / 1000}\n{self.frozen}{self.lines()}"
        )


class Fleet:
    """A Prometheus and the pods that it scrapes more than twice a second."""

    def __init__(self, exporter, folder):
        self.exporter, self.folder, self.pods = exporter, folder, []
        self.address = ""

    async def add(self, track, **options):
        pod = Pod(await self.exporter(), track, **options)
        self.pods.append(pod)
        return pod

    def discover(self):
        """Let Prometheus know which pods there are."""
        partial = self.folder / "targets.partial"
        targets = [pod.exporter.address for pod in self.pods]
        partial.write_text(json.dumps([{"targets": targets}]))
        partial.rename(self.folder / "targets.json")

    async def scraped(self):
        """Show the pods' counters, and wait until all that can be scraped have been."""
        self.discover()
        for pod in self.pods:
            pod.exporter.text = pod.text()
            pod.exporter.requests.clear()

        async def seen():
            return all(len(p.exporter.requests) > 1 for p in self.pods if p.exporter.server)

        await until(seen)
        return round(time.time(), 3)

    async def quiet(self):
        """Wait until nothing but counting has happened for a while, and return the moment."""
        odd = "max_over_time(scrape_series_added[2s]) > 0 or min_over_time(up[2s]) < 1"

        async def counting():
            now = round(time.time(), 3)
            return None if await promql.at(odd, now) else now

        promql = PromQL(self.address, 10, None)
        try:
            return await until(counting)
        finally:
            await promql.aclose()

    @contextlib.asynccontextmanager
    async def prometheus(self):
        self.discover()
        config = {
            "global": {"scrape_interval": "400ms", "scrape_timeout": "400ms"},
            "scrape_configs": [
                {"job_name": "shop", "file_sd_configs": [{"files": [f"{self.folder}/targets.json"]}]}
            ],
        }
        (self.folder / "prometheus.yml").write_text(json.dumps(config))
        self.address = f"127.0.0.1:{free_port()}"
        process = await asyncio.create_subprocess_exec(
            "prometheus", f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/data", f"--web.listen-address={self.address}",
            "--log.level=error",
        )  # fmt: skip
        try:
            yield
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


def ticker():
    return Ticker(SIGNALS, TickSettings(warmup_seconds=2, patience_seconds=2), displays=[])


def ticks_of(readings):
    made = ticker()
    return [tick for reading in readings for tick in made.advance(reading).ready]


def summed(shape, **changes):
    return replace(shape, summable=replace(SUMMABLE, needs=ticker().needs, **changes))


async def past(fleet, start, end, step, shape):
    async with PrometheusSource(fleet.address, ticker().metrics, shape=shape) as source:
        return await source.history(start, end, step)


async def watched(fleet, start, end, step, shape):
    """Return what would have been read live, at moments that are past by now."""
    now = [round(start, 3)]
    async with PrometheusSource(fleet.address, ticker().metrics, shape=shape, clock=lambda: now[0]) as source:
        readings = []
        while now[0] <= end + 0.001:
            readings.append(await source.read())
            now[0] = round(now[0] + step, 3)
        return readings


@pytest.mark.prometheus
async def test_sums_and_single_processes_give_the_same_ticks(exporter, tmp_path):
    fleet = Fleet(exporter, tmp_path)
    canary, one, two, three, four, five = [await fleet.add(track) for track in ("canary", *["stable"] * 5)]
    for pod in fleet.pods:
        pod.serve(1000)
        pod.serve(100, "/cart")
    async with fleet.prometheus():
        await fleet.scraped()
        start = await fleet.quiet()

        async def busy():
            for number, pod in enumerate(fleet.pods):
                pod.serve(20 + 10 * number)
            return await fleet.scraped()

        await busy()
        one.serve(7, "/born")
        await busy()
        quiet = await fleet.quiet()
        two.restart()
        two.serve(400)
        await busy()
        await four.exporter.stop()
        await busy()
        await four.exporter.start()
        await busy()
        await fleet.quiet()
        fleet.pods.remove(five)
        late, born = await fleet.add("stable"), await fleet.add("stable", age=0)
        late.serve(5000)
        born.serve(90)
        await busy()
        canary.promote()
        canary.serve(33, "/born")
        await busy()
        end = await busy()
        # What was scraped until then has been stored by the time of later scrapes.
        await fleet.scraped()
        for step in (0.5, 2.0):
            each = ticks_of(await past(fleet, start, end, step, Shape("shop")))
            assert ticks_of(await past(fleet, start, end, step, summed(Shape("shop")))) == each
            seen = ticks_of(await watched(fleet, start, end, step, Shape("shop")))
            assert ticks_of(await watched(fleet, start, end, step, summed(Shape("shop")))) == seen
            pairs = [pair for t in each for pair in t.counts.get("errors", {}).values()]
            assert sum(pair.stable_exposures for pair in pairs) > 1000
            assert {use.pod for tick in each for use in tick.uses} >= {pod.name for pod in (canary, one, two)}
        for sides in (
            BySelector(parse_selector('track="canary"'), parse_selector('track="stable"')),
            BySelector(parse_selector('version="1.2.0"'), parse_selector('app="shop"')),
            ByVersion("1.2.0"),
        ):
            shape = Shape("shop", sides, {"http_request_duration_seconds_bucket": 0.001})
            each = ticks_of(await past(fleet, start, end, 1.0, shape))
            assert ticks_of(await past(fleet, start, end, 1.0, summed(shape))) == each
            assert each[0].histograms["latency"][("route", "/"),].bounds == (0.0001, 0.0005, 0.001)
        # In a quiet time nothing but the canary is read by itself.
        _, reading = await watched(fleet, quiet - 0.2, quiet, 0.2, summed(Shape("shop")))
        assert {n for n in reading.targets if n not in reading.parts} == {canary.name, SUM}
        assert reading.parts == {pod.name for pod in (one, two, three, four, five)}


@pytest.mark.prometheus
async def test_neither_few_processes_nor_bounds_that_some_lack_are_added_up(exporter, tmp_path):
    fleet = Fleet(exporter, tmp_path)
    for track, bounds in (("canary", BOUNDS), ("stable", BOUNDS), ("stable", (0.1, 0.7, 1.0))):
        (await fleet.add(track, bounds=bounds)).serve(100)
    async with fleet.prometheus():
        await fleet.scraped()
        start = await fleet.quiet()
        for shape in (summed(Shape("shop"), processes=3), Shape("shop")):
            (reading,) = await watched(fleet, start, start, 1.0, shape)
            assert set(reading.targets) == {pod.name for pod in fleet.pods}
        for pod in fleet.pods:
            pod.serve(40)
        end = await fleet.scraped()
        await fleet.scraped()
        each = ticks_of(await past(fleet, start, end, end - start, Shape("shop")))
        assert ticks_of(await past(fleet, start, end, end - start, summed(Shape("shop")))) == each
    assert each[-1].histograms["latency"][("route", "/"),].bounds == (0.1, 1.0)


async def test_a_prometheus_that_is_gone_has_failed_and_nothing_is_lost(exporter, tmp_path):
    server = await exporter()
    await server.stop()
    async with PrometheusSource(server.address, ticker().metrics, shape=summed(Shape("shop"))) as source:
        reading = await source.read()
    assert (reading.targets, set(reading.failed)) == ({}, {SUM})
