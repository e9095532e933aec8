"""Parts of families are what parts of samples are."""

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest

from rolloutobs.identity import Track
from rolloutobs.settings import Settings
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.cells import CounterFamily, Exemplar, HistogramFamily
from rolloutobs.telemetry.generations import Generations
from rolloutobs.telemetry.metrics import Stamped
from rolloutobs.telemetry.parts import Parts
from rolloutobs.testing import FakeClock, isolated_telemetry, parse_metrics, sample_value

tracks = st.sampled_from(list(Track))
labels = st.sampled_from(["a", "b", "", 'c"'])
operations = st.lists(
    st.one_of(
        st.tuples(st.just("inc"), labels, st.integers(0, 3)),
        st.tuples(st.just("observe"), labels, st.sampled_from([0.05, 0.5, 5.0])),
        st.tuples(st.just("set"), labels, st.integers(-2, 2)),
        st.tuples(st.just("track"), tracks, st.just(0)),
        st.tuples(st.just("wait"), st.just(""), st.sampled_from([1, 500, 901])),
    ),
    max_size=25,
)


def lines(body):
    # Of the process itself, such as garbage collections, something is new each time.
    names = ("orders", "work", "queue", "rolloutobs")
    return sorted(
        line for line in body.decode().splitlines() if line.removeprefix("# HELP ").startswith(names)
    )


def reference(hub):
    """The same by samples, and by the library."""
    metrics = list(hub.generations.split(hub._collect(), hub._clock()))
    return generate_latest(Stamped(metrics, hub.live.stamp.identity.labels))


@hypothesis_settings(deadline=None, max_examples=50)
@given(operations)
def test_families_are_split_as_samples_are(done):
    with isolated_telemetry():
        clock = FakeClock()
        hub = hubs.new_hub(Settings(service="shop", version="1", labels_file=None))
        hub._clock = clock
        orders = hub.counter("orders_total", "Orders.", ("who", "synthetic"))
        times = hub.histogram("work_seconds", "Work.", ("who",), (0.1, 1.0))
        queue = hub.gauge("queue", "Queue.", ("who",))
        for operation, what, amount in done:
            match operation:
                case "inc":
                    orders.cell(what, "").inc(amount)
                case "observe":
                    times.cell(what).observe(amount)
                case "set":
                    queue.cell(what).value = amount
                case "track":
                    hub.retrack(what)
                case "wait":
                    clock.advance(amount)
            shown = lines(hub.render().body)
            assert len(shown) > 4
            assert shown == lines(reference(hub))


def test_a_family_that_starts_over_counts_from_there():
    hub = hubs.new_hub(Settings(service="shop", version="1", track="canary"))
    orders = hub.counter("orders_total", "Orders.", ())
    times = hub.histogram("work_seconds", "Work.", (), (0.1, 1.0))
    orders.cell().inc(5)
    times.cell().observe(0.5)
    times.cell().observe(0.5)
    hub.retrack(Track.STABLE)
    orders.cell().value = 2.0
    times.cell().counts = [1.0, 0.0, 0.0]
    times.cell().sum = 0.01
    samples = parse_metrics(hub.render().body.decode())
    assert sample_value(samples, "orders_total", track="stable") == 2
    assert sample_value(samples, "work_seconds_count", track="stable") == 1
    assert sample_value(samples, "work_seconds_count", track="canary") == 2


def test_what_was_before_is_looked_up_once_per_change():
    looked_up = []

    class Totals(dict):
        def get(self, key, default=None):
            looked_up.append(key)
            return super().get(key, default)

    generations = Generations("canary", 900.0)
    family = CounterFamily("orders_total", "Orders.", ("who",))
    family.cell("a").inc(3)
    generations.switch("stable", [family.collect()], 0.0)
    generations.start = Totals(generations.start)
    parts = Parts(generations)
    family.cell("a").inc(2)
    for _ in range(3):
        (part,) = parts.of([family])
        assert {values: cell.value for values, cell in part.family.items()} == {("a",): 2.0}
        assert [sample.value for sample in part.earlier.samples] == [3.0]
    assert len(looked_up) == 1


@pytest.mark.parametrize("after", [True, False])
def test_an_exemplar_of_before_the_change_is_not_shown_in_a_bucket_without_counts(after):
    generations = Generations("canary", 900.0)
    family = HistogramFamily("work_seconds", "Work.", (), (0.1, 1.0))
    for seconds in (0.05, 0.5):
        family.cell().observe(seconds)
        family.cell().exemplify(Exemplar(1, 2, seconds, 3.0))
    generations.switch("stable", [family.collect()], 0.0)
    family.cell().observe(0.5 if after else 0.05)
    (part,) = Parts(generations).of([family])
    assert set(part.family.cell().exemplars()) == {1 if after else 0}
