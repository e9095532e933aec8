import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from rolloutobs.telemetry.cells import CounterFamily, GaugeFamily, HistogramFamily


class One:
    def __init__(self, *families):
        self.families = families

    def collect(self):
        return [family.collect() for family in self.families]


def rendered(*families):
    return generate_latest(One(*families)).decode()


def test_a_counter_renders_its_cells():
    family = CounterFamily("visits_total", "Visits.", ("page", "synthetic"))
    family.cell("/", "").inc()
    family.cell("/", "").inc(2)
    family.cell("/", "true").inc()
    assert rendered(family) == (
        "# HELP visits_total Visits.\n"
        "# TYPE visits_total counter\n"
        'visits_total{page="/"} 3.0\n'
        'visits_total{page="/",synthetic="true"} 1.0\n'
    )


def test_an_empty_label_other_than_synthetic_is_rendered():
    family = CounterFamily("visits_total", "Visits.", ("route",))
    family.cell("").inc()
    assert 'visits_total{route=""} 1.0' in rendered(family)


def test_a_gauge_shows_its_last_value():
    family = GaugeFamily("in_flight", "Now.", ())
    family.cell().value = 3
    family.cell().inc(-1)
    assert "in_flight 2.0" in rendered(family)


def test_a_histogram_is_cumulative_and_counts_its_bounds_in():
    family = HistogramFamily("seconds", "Time.", ("route",), (0.1, 1.0))
    cell = family.cell("/")
    for value in (0.05, 0.1, 0.5, 1.0, 7.0):
        cell.observe(value)
    samples = [line for line in rendered(family).splitlines() if not line.startswith("#")]
    assert samples == [
        'seconds_bucket{le="0.1",route="/"} 2.0',
        'seconds_bucket{le="1.0",route="/"} 4.0',
        'seconds_bucket{le="+Inf",route="/"} 5.0',
        'seconds_count{route="/"} 5.0',
        'seconds_sum{route="/"} 8.65',
    ]


def test_label_sets_are_capped_and_the_overflow_keeps_the_counts():
    family = CounterFamily("visits_total", "Visits.", ("page",), max_sets=2)
    for page in ("a", "b", "c", "d", "c", "a"):
        family.cell(page).inc()
    assert {values: cell.value for values, cell in family.items()} == {
        ("a",): 2.0,
        ("b",): 1.0,
        ("_overflow",): 3.0,
    }
    assert family.dropped == 3


def test_long_and_broken_label_values_cannot_break_the_exposition():
    family = CounterFamily("visits_total", "Visits.", ("page",))
    family.cell("x" * 500).inc()
    family.cell("x" * 400).inc()
    family.cell('lone \ud800 surrogate, "quote", \\ and \n').inc()
    families = list(text_string_to_metric_families(rendered(family)))
    values = {sample.labels["page"]: sample.value for sample in families[0].samples}
    assert values == {"x" * 128: 2.0, 'lone ? surrogate, "quote", \\ and \n': 1.0}


def test_a_wrong_number_of_labels_is_an_error():
    family = CounterFamily("visits_total", "Visits.", ("page",))
    with pytest.raises(ValueError, match="visits_total takes the labels"):
        family.cell("a", "b")
