from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily

from rolloutobs.telemetry.cells import CounterFamily
from rolloutobs.telemetry.generations import Generations


class App:
    """The app's own metrics."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.orders = Counter("orders", "Orders.", ["kind"], registry=self.registry)
        self.size = Gauge("pool_size", "Size.", registry=self.registry)
        self.seconds = Histogram("work_seconds", "Work.", ["kind"], buckets=[1], registry=self.registry)

    def metrics(self):
        return list(self.registry.collect())


def values(generations, metrics, now=0.0):
    """Values by name and labels, without timestamps."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for metric in generations.split(metrics, now)
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


def test_without_a_change_metrics_pass_as_they_are():
    app = App()
    metrics = app.metrics()
    assert list(Generations("canary", 900).split(metrics, 0.0)) == metrics


def test_after_a_change_counts_start_from_zero_and_the_earlier_ones_stay_frozen():
    app, generations = App(), Generations("canary", 900)
    app.orders.labels("book").inc(5)
    app.size.set(3)
    generations.switch("stable", app.metrics(), 100.0)
    assert values(generations, app.metrics(), 101.0) == {
        ("orders_total", ("kind", "book")): 0.0,
        ("orders_total", ("kind", "book"), ("track", "canary")): 5.0,
        ("pool_size",): 3.0,
    }
    app.orders.labels("book").inc(2)
    app.orders.labels("pen").inc()
    after = values(generations, app.metrics(), 102.0)
    assert after[("orders_total", ("kind", "book"))] == 2.0
    assert after[("orders_total", ("kind", "pen"))] == 1.0
    assert after[("orders_total", ("kind", "book"), ("track", "canary"))] == 5.0


def test_a_histogram_that_the_new_track_has_not_used_is_not_shown_for_it():
    app, generations = App(), Generations("canary", 900)
    app.seconds.labels("a").observe(0.5)
    app.seconds.labels("b").observe(2)
    generations.switch("stable", app.metrics(), 0.0)
    app.seconds.labels("a").observe(3)
    shown = values(generations, app.metrics())
    assert shown[("work_seconds_bucket", ("kind", "a"), ("le", "1.0"))] == 0.0
    assert shown[("work_seconds_bucket", ("kind", "a"), ("le", "+Inf"))] == 1.0
    assert shown[("work_seconds_sum", ("kind", "a"))] == 3.0
    assert ("work_seconds_count", ("kind", "b")) not in shown
    assert shown[("work_seconds_count", ("kind", "b"), ("track", "canary"))] == 1.0


def test_the_earlier_track_is_dropped_after_its_time():
    app, generations = App(), Generations("canary", 900)
    app.orders.labels("book").inc(5)
    generations.switch("stable", app.metrics(), 100.0)
    canary = ("orders_total", ("kind", "book"), ("track", "canary"))
    assert canary in values(generations, app.metrics(), 999.9)
    assert canary not in values(generations, app.metrics(), 1000.0)
    app.orders.labels("book").inc(1)
    assert values(generations, app.metrics(), 1000.0)[("orders_total", ("kind", "book"))] == 1.0


def test_a_track_that_comes_back_in_time_goes_on_from_its_counts():
    app, generations = App(), Generations("canary", 900)
    orders = ("orders_total", ("kind", "book"))
    app.orders.labels("book").inc(5)
    generations.switch("", app.metrics(), 0.0)
    app.orders.labels("book").inc(10)
    generations.switch("canary", app.metrics(), 60.0)
    app.orders.labels("book").inc(1)
    shown = values(generations, app.metrics(), 61.0)
    assert shown[orders] == 6.0
    assert shown[(*orders, ("track", ""))] == 10.0


def test_a_track_that_comes_back_too_late_starts_from_zero():
    app, generations = App(), Generations("canary", 900)
    app.orders.labels("book").inc(5)
    generations.switch("stable", app.metrics(), 0.0)
    app.orders.labels("book").inc(10)
    generations.switch("canary", app.metrics(), 2000.0)
    assert values(generations, app.metrics(), 2000.0)[("orders_total", ("kind", "book"))] == 0.0


def test_three_tracks_keep_their_parts():
    app, generations = App(), Generations("", 900)
    for i, track in enumerate(["canary", "stable"]):
        app.orders.labels("book").inc(i + 1)
        generations.switch(track, app.metrics(), float(i))
    app.orders.labels("book").inc(7)
    orders = ("orders_total", ("kind", "book"))
    shown = values(generations, app.metrics(), 3.0)
    assert [shown[(*orders, ("track", ""))], shown[(*orders, ("track", "canary"))], shown[orders]] == [
        1,
        2,
        7,
    ]


def test_an_owner_that_started_over_counts_in_full():
    generations = Generations("canary", 900)
    family = CounterFamily("orders_total", "Orders.", ())
    family.cell().inc(10)
    generations.switch("stable", [family.collect()], 0.0)
    again = CounterFamily("orders_total", "Orders.", ())
    again.cell().inc(4)
    assert values(generations, [again.collect()])[("orders_total",)] == 4.0


def test_what_is_gone_stays_frozen_all_the_same():
    generations = Generations("canary", 900)
    metric = CounterMetricFamily("orders", "Orders.")
    metric.add_metric([], 3)
    generations.switch("stable", [metric], 0.0)
    assert values(generations, []) == {("orders_total", ("track", "canary")): 3.0}


def test_the_same_track_again_changes_nothing():
    app, generations = App(), Generations("canary", 900)
    app.orders.labels("book").inc(5)
    generations.switch("canary", app.metrics(), 0.0)
    assert values(generations, app.metrics())[("orders_total", ("kind", "book"))] == 5.0
