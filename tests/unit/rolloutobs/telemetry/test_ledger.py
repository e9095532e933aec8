import fcntl
import json
import os

import pytest

from rolloutobs.identity import Track
from rolloutobs.settings import Settings
from rolloutobs.telemetry import file_ledger
from rolloutobs.telemetry.failures import Failures
from rolloutobs.telemetry.generations import Generations
from rolloutobs.telemetry.hub import Hub
from rolloutobs.telemetry.ledger import MEMORY_LEDGER, restore, to_json
from rolloutobs.testing import FakeClock, parse_metrics, sample_value

from .worker_group import Worker


class App(Worker):
    """A worker with an app, which has just joined the others."""

    def __init__(self, path, clock, track="canary", **settings):
        super().__init__(path)
        chosen = Settings(service="shop", version="1", track=track, **{"track_is_fixed": False, **settings})
        self.hub = Hub(chosen, self.store, "app0", Failures(self.store), clock)
        self.hub.join()
        self.mine = self.hub.counter("orders_total", "Orders.", ("kind",))

    @property
    def track(self):
        return self.hub.live.stamp.identity.track

    def rendered(self):
        return self.hub.render().body.decode()

    def parts(self):
        """Orders by track."""
        samples = parse_metrics(self.rendered())
        return {s.labels.get("track", ""): s.value for s in samples if s.name == "orders_total"}


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def apps(tmp_path, clock):
    started = []

    def start(**options):
        started.append(App(tmp_path / "folder", clock, **options))
        return started[-1]

    yield start
    for app in started:
        app.kill()


def test_who_notices_second_adopts_what_the_first_has_written(apps, clock):
    one, two = apps(), apps()
    one.mine.cell("a").inc(3)
    two.mine.cell("a").inc(4)
    one.hub.retrack(Track.STABLE)
    two.mine.cell("a").inc(10)
    one.mine.cell("a").inc()
    # The second one has not looked at its labels yet, and is asked by Prometheus.
    assert two.rendered() == one.rendered()
    assert two.parts() == {"canary": 7, "stable": 11}
    assert two.track is Track.STABLE
    two.hub.retrack(Track.STABLE)
    two.mine.cell("a").inc()
    assert one.parts() == two.parts() == {"canary": 7, "stable": 12}


def test_who_notices_second_without_having_been_asked_changes_nothing(apps):
    one, two = apps(), apps()
    one.mine.cell("a").inc(3)
    one.hub.retrack(Track.STABLE)
    one.mine.cell("a").inc(2)
    two.hub.retrack(Track.STABLE)
    assert one.parts() == two.parts() == {"canary": 3, "stable": 2}


def test_earlier_tracks_are_forgotten_by_all_at_the_same_time(apps, clock):
    one, two = apps(), apps()
    one.mine.cell("a").inc(3)
    one.hub.retrack(Track.STABLE)
    clock.advance(899)
    assert one.parts() == two.parts() == {"canary": 3, "stable": 0}
    clock.advance(1)
    assert one.parts() == two.parts() == {"stable": 0}


def test_a_worker_that_starts_knows_better_and_one_that_knows_nothing_adopts(apps):
    one = apps()
    one.mine.cell("a").inc(3)
    # Its pod was relabelled a moment ago, and it has just read that.
    two = apps(track="stable")
    two.mine.cell("a").inc()
    assert one.parts() == two.parts() == {"canary": 3, "stable": 1}
    assert one.track is two.track is Track.STABLE
    three = apps(track="")
    assert three.track is Track.STABLE
    assert three.parts() == {"canary": 3, "stable": 1}
    four = apps(track="", track_is_fixed=True)
    assert four.track is Track.NONE
    assert four.parts() == {"canary": 3, "stable": 1, "": 0}


def test_what_the_dead_have_counted_keeps_its_track(apps):
    one, two = apps(), apps()
    two.mine.cell("a").inc(5)
    one.hub.retrack(Track.STABLE)
    two.mine.cell("a").inc(2)
    two.kill()
    for _ in range(2):
        assert one.parts() == {"canary": 5, "stable": 2}
    three = apps(track="stable")
    assert three.parts() == {"canary": 5, "stable": 2}


def test_the_apps_own_metrics_follow_as_well(apps, monkeypatch):
    from prometheus_client import Counter

    one, two = apps(), apps()
    jobs = [Counter("jobs", "Jobs.", registry=app.registry) for app in (one, two)]
    for job in jobs:
        job.inc(2)
    two.folder.publish_app()
    one.hub.retrack(Track.STABLE)
    jobs[0].inc()
    shown = parse_metrics(one.rendered())
    assert sample_value(shown, "jobs_total", track="canary") == 4
    assert sample_value(shown, "jobs_total", track="stable") == 1
    assert two.rendered() == one.rendered()


def test_a_ledger_that_cannot_be_written_or_read_is_counted_and_each_goes_by_itself(apps, monkeypatch):
    one, two = apps(), apps()
    one.mine.cell("a").inc(3)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_ledger, "replace_file", full)
    one.hub.retrack(Track.STABLE)
    assert one.parts() == {"canary": 3, "stable": 0}
    assert "No space" in one.reports[0]
    assert two.parts() == {"canary": 3}
    monkeypatch.undo()
    (one.path / "ledger-app0").write_text('{"track": "blue"}')
    assert one.parts() == {"canary": 3, "stable": 0}
    assert two.parts() == {"canary": 3}
    assert "cannot be read" in two.reports[-1]
    two.hub.retrack(Track.BASELINE)
    two.mine.cell("a").inc()
    assert two.parts() == one.parts() == {"canary": 3, "baseline": 1}


def test_a_worker_that_was_stopped_in_the_middle_holds_nobody_up_for_long(apps, monkeypatch):
    one, two = apps(), apps()
    one.mine.cell("a").inc(3)
    monkeypatch.setattr(file_ledger, "WAIT_SECONDS", 0.05)
    descriptor = os.open(one.path / "ledger-app0.lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    two.hub.retrack(Track.STABLE)
    assert two.parts() == one.parts() == {"canary": 3, "stable": 0}
    os.close(descriptor)


def test_the_whole_state_survives_json():
    generations = Generations("canary", 900)
    worker_metrics = _metrics(5)
    generations.switch("stable", worker_metrics, 10.0)
    generations.switch("canary", _metrics(8), 20.0)
    again = Generations("", 900)
    restore(again, json.loads(json.dumps(to_json(generations))))
    expected = [sample for metric in generations.split(_metrics(9), 30.0) for sample in metric.samples]
    found = [sample for metric in again.split(_metrics(9), 30.0) for sample in metric.samples]
    assert found == expected
    assert to_json(again) == to_json(generations)
    assert again.track == "canary"


@pytest.mark.parametrize(
    "content",
    [None, {}, {"track": "blue", "start": [], "carried": [], "earlier": []}, {"track": "canary", "start": 3}],
)
def test_a_state_that_makes_no_sense_changes_nothing(content):
    generations = Generations("canary", 900)
    generations.switch("stable", _metrics(5), 10.0)
    before = to_json(generations)
    with pytest.raises((KeyError, TypeError, ValueError)):
        restore(generations, content)
    assert to_json(generations) == before


def test_a_process_of_its_own_has_a_ledger_that_does_nothing():
    generations = Generations("canary", 900)
    with MEMORY_LEDGER.reading(), MEMORY_LEDGER.writing():
        MEMORY_LEDGER.write(generations)
        assert not MEMORY_LEDGER.take_over(generations)


def _metrics(value):
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    Counter("orders", 'Ord"ers.', ["kind"], registry=registry).labels('"a"').inc(value)
    Histogram("work_seconds", "Work.", registry=registry).observe(value)
    metrics = list(registry.collect())
    for metric in metrics:
        metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
    return metrics
