import asyncio
import gc
import os
from pathlib import Path

import pytest

from rolloutobs.settings import Settings
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry import process_metrics
from rolloutobs.telemetry.process_metrics import LAG_INTERVAL_SECONDS, ProcessMetrics
from rolloutobs.telemetry.store import Store
from rolloutobs.testing import parse_metrics, sample_value


@pytest.fixture
def measured():
    made = []

    def make(**paths):
        store = Store()
        metrics = ProcessMetrics(store, **paths)
        made.append(metrics)
        return store, metrics

    yield make
    for metrics in made:
        metrics.stop()


def values(store, name):
    family = next((family for family in store.families("") if family.name == name), None)
    return None if family is None else {labels: cell.value for labels, cell in family.items()}


def test_values_of_this_process_are_plausible(measured):
    store, metrics = measured()
    metrics.refresh()
    before = values(store, "app_process_open_fds")[()]
    with Path(os.devnull).open():
        metrics.refresh()
        assert values(store, "app_process_open_fds")[()] == before + 1
    assert 10e6 < values(store, "app_process_resident_memory_bytes")[()] < 10e9
    assert values(store, "app_processes") == {(): 1.0}
    cpu = values(store, "app_process_cpu_seconds_total")[()]
    sum(range(200_000))
    metrics.refresh()
    assert values(store, "app_process_cpu_seconds_total")[()] > cpu > 0


def test_memory_is_the_resident_set_in_bytes(measured, tmp_path):
    statm = tmp_path / "statm"
    statm.write_text("9000 250 80 1 0 300 0\n")
    (tmp_path / "fd").mkdir()
    for name in ("0", "1", "7"):
        (tmp_path / "fd" / name).touch()
    store, metrics = measured(memory=statm, files=tmp_path / "fd")
    metrics.refresh()
    assert values(store, "app_process_resident_memory_bytes") == {(): 250.0 * os.sysconf("SC_PAGE_SIZE")}
    assert values(store, "app_process_open_fds") == {(): 2.0}


def test_what_the_system_does_not_tell_has_no_sample(measured, tmp_path):
    store, metrics = measured(memory=tmp_path / "none", files=tmp_path / "none")
    metrics.refresh()
    assert values(store, "app_process_resident_memory_bytes") == {}
    assert values(store, "app_process_open_fds") == {}
    assert values(store, "app_processes") == {(): 1.0}


def test_collections_are_counted_by_generation(measured):
    store, metrics = measured()
    metrics.refresh()
    before = values(store, "app_gc_collections_total")
    gc.collect(2)
    gc.collect(2)
    gc.collect(1)
    metrics.refresh()
    after = values(store, "app_gc_collections_total")
    assert after[("2",)] == before[("2",)] + 2
    assert after[("1",)] >= before[("1",)] + 1
    assert values(store, "app_gc_pause_seconds_total")[("2",)] > 0


def test_a_forked_child_starts_with_no_pauses(measured):
    store, metrics = measured()
    gc.collect(2)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        store.forked()
        gc.disable()
        metrics.refresh()
        found = sum(values(store, "app_gc_collections_total").values())
        os.write(write, f"{found} {values(store, 'app_process_cpu_seconds_total')[()] < 1.0}".encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 100).decode().split() == ["0.0", "True"]
    os.close(read)
    os.close(write)


class FakeLoop:
    """An event loop whose clock moves when told."""

    def __init__(self):
        self.now = 50.0
        self.calls = []

    def time(self):
        return self.now

    def is_closed(self):
        return False

    def call_at(self, when, callback):
        self.calls.append((when, callback))
        return self

    def cancel(self):
        self.calls.clear()

    def run_due(self, late):
        when, callback = self.calls.pop()
        self.now = when + late
        callback()


def lags(store):
    family = next(f for f in store.families("") if f.name == "app_event_loop_lag_seconds")
    return family.cell()


def test_the_lag_is_by_how_much_a_look_is_late_and_missed_looks_count(measured):
    store, metrics = measured()
    loop = FakeLoop()
    metrics.watch(loop)
    metrics.watch(loop)
    assert len(loop.calls) == 1
    loop.run_due(late=0.0)
    loop.run_due(late=0.004)
    assert lags(store).sum == pytest.approx(0.004)
    assert sum(lags(store).counts) == 2
    # Blocked for 0.6 s: of the looks at 0, 0.25 and 0.5 s all were late.
    loop.run_due(late=0.6)
    assert sum(lags(store).counts) == 2 + 3
    assert lags(store).sum == pytest.approx(0.004 + 0.6 + 0.35 + 0.1)
    assert loop.calls[0][0] == pytest.approx(loop.now + LAG_INTERVAL_SECONDS)
    loop.run_due(late=3600.0)
    assert sum(lags(store).counts) == 5 + process_metrics.MAX_MISSED_LOOKS
    metrics.stop()
    assert loop.calls == []


def test_a_real_loop_is_watched_once_and_forgotten_when_it_is_closed(measured, monkeypatch):
    monkeypatch.setattr(process_metrics, "LAG_INTERVAL_SECONDS", 0.001)
    hub = hubs.new_hub(Settings(service="shop", version="1"))
    process_metrics.enable(hub)

    async def main():
        process_metrics.watch_loop(hub)
        process_metrics.watch_loop(hub)
        async with asyncio.timeout(30):
            while sum(lags(hub.store).counts) < 3:
                await asyncio.sleep(0.001)

    asyncio.run(main())
    asyncio.run(main())
    process_metrics.watch_loop(hub)
    gc.collect()
    metrics = process_metrics._of_store[hub.store]
    assert len(metrics._watches) <= 2
    metrics.stop()


def test_they_are_shown_with_every_hub_of_the_process_once():
    first, second = (hubs.new_hub(Settings(service=name, version="1")) for name in ("shop", "admin"))
    for hub in (first, second):
        process_metrics.enable(hub)
    for hub in (first, second):
        samples = parse_metrics(hub.render().body.decode())
        assert sample_value(samples, "app_processes", app=hub.settings.service, version="1") == 1
        assert sample_value(samples, "app_process_cpu_seconds_total") > 0
    metrics = process_metrics._of_store[first.store]
    assert gc.callbacks.count(process_metrics._pauses) == 1
    metrics.stop()
