import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.samples import Exemplar as PrometheusExemplar
from prometheus_client.utils import floatToGoString

from rolloutobs.telemetry.cells import CounterFamily, Exemplar, GaugeFamily, HistogramFamily
from rolloutobs.telemetry.metrics import Stamped
from rolloutobs.telemetry.text import TextWriter, number

IDENTITY = {"app": "shop", "version": "1.2.0", "track": "canary"}
# Around "le", around our own labels, and some that are one of ours.
NAMES = ["a", "app", "kind", "lea", "le_x", "method", "revision", "synthetic", "track", "version", "z"]
label_values = st.text(max_size=8) | st.sampled_from(["", "true", 'say "hi"', "a\\b", "two\nlines", "/{x}"])
names = st.lists(st.sampled_from(NAMES), unique=True, max_size=4).map(tuple)
values = st.floats() | st.integers(-5, 10**9).map(float)
documentation = st.text(max_size=12)
identities = st.sets(st.sampled_from(sorted(IDENTITY))).map(lambda keys: {k: IDENTITY[k] for k in keys})


@st.composite
def families(draw):
    label_names = draw(names)
    kind = draw(st.sampled_from([CounterFamily, GaugeFamily, HistogramFamily]))
    if kind is HistogramFamily:
        bounds = draw(st.sampled_from([(0.1,), (0.005, 1.0, 2.5, 1e7), (-1.0, 0.0)]))
        family = HistogramFamily("work_seconds", draw(documentation), label_names, bounds)
    else:
        name = draw(st.sampled_from(["work_total", "work"]))
        family = kind(name, draw(documentation), label_names)
    for _ in range(draw(st.integers(0, 3))):
        cell = family.cell(*(draw(label_values) for _ in label_names))
        if kind is not HistogramFamily:
            cell.value = draw(values)
            continue
        for _ in range(draw(st.integers(0, 4))):
            seconds = draw(st.floats(0, 1e8))
            cell.observe(seconds)
            if draw(st.booleans()):
                exemplar = draw(st.builds(Exemplar, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1)
                    , st.just(seconds), st.floats(0, 2e9)))  # fmt: skip
                cell.exemplify(exemplar)
    return family


@settings(deadline=None)
@given(st.lists(families(), max_size=3), identities)
def test_the_text_is_what_the_library_writes(made, labels):
    for family in made:
        metrics = [family.collect()]
        text = "".join(TextWriter(labels, openmetrics=False).write(family)).encode()
        assert text == generate_latest(Stamped(metrics, labels))
        openmetrics = "".join(TextWriter(labels, openmetrics=True).write(family)).encode() + b"# EOF\n"
        assert openmetrics == generate_openmetrics(Stamped(metrics, labels))


@settings(deadline=None)
@given(values)
def test_numbers_are_written_as_the_library_writes_them(value):
    assert number(value) == floatToGoString(value)


@pytest.mark.parametrize("value", [0.0, -0.0, 999999.0, 1e6, 1234567.5, 1e-7, math.inf, -math.inf, math.nan])
def test_numbers_at_the_edges(value):
    assert number(value) == floatToGoString(value)


def test_many_cells_come_in_pieces_and_none_is_lost():
    family = CounterFamily("work_total", "Work.", ("n",))
    for n in range(100):
        family.cell(str(n)).inc(n)
    pieces = list(TextWriter(IDENTITY, openmetrics=False).write(family))
    assert len(pieces) > 2
    assert "".join(pieces).encode() == generate_latest(Stamped([family.collect()], IDENTITY))


def test_exemplars_are_in_openmetrics_only():
    family = HistogramFamily("work_seconds", "Work.", (), (0.1, 1.0))
    family.cell().observe(0.5)
    family.cell().exemplify(Exemplar(0xABC, 0xDEF, 0.5, 1700000000.25))
    text = "".join(TextWriter(IDENTITY, openmetrics=True).write(family)) + "# EOF\n"
    buckets = [s for f in parse_openmetrics(text) for s in f.samples if s.name.endswith("_bucket")]
    assert [None if s.exemplar is None else s.exemplar.labels for s in buckets] == [
        None, {"trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}, None,
    ]  # fmt: skip
    assert "trace_id" not in "".join(TextWriter(IDENTITY, openmetrics=False).write(family))


def test_names_that_need_escaping_are_left_to_the_library():
    writer = TextWriter(IDENTITY, openmetrics=True)
    assert not writer.can_write(CounterFamily("work.done", "Work.", ()))
    assert not writer.can_write(CounterFamily("shop:work_total", "Work.", ()))
    assert not writer.can_write(CounterFamily("work_total", "Work.", ("http.route",)))
    assert writer.can_write(CounterFamily("work_total", "Work.", ("route",)))


@st.composite
def app_metrics(draw):
    """Metrics as an app may have them, by all types of the library."""
    kind = draw(st.sampled_from(["counter", "gauge", "histogram", "summary", "info", "stateset", "unknown"]))
    unit = draw(st.sampled_from(["", "seconds"]))
    metric = Metric("shop_work", draw(documentation), kind, unit)
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "info": ["_info"]}
    for _ in range(draw(st.integers(0, 4))):
        label_names = draw(st.lists(st.sampled_from([*NAMES, "le", "quantile"]), unique=True, max_size=4))
        name = metric.name + draw(st.sampled_from(suffixes.get(kind, [""])))
        exemplar = None
        if name.endswith(("_total", "_bucket")) and draw(st.booleans()):
            exemplar = draw(
                st.builds(
                    PrometheusExemplar,
                    st.dictionaries(st.sampled_from(["trace_id", "b"]), label_values),
                    st.floats(0, 1e9),
                    st.none() | st.floats(0, 2e9),
                )
            )
        metric.add_sample(
            name, {key: draw(label_values) for key in label_names}, draw(values), None, exemplar
        )
    return metric


@settings(deadline=None)
@given(app_metrics(), identities)
def test_the_apps_own_metrics_are_what_the_library_writes(metric, labels):
    for openmetrics, encode, end in ((False, generate_latest, b""), (True, generate_openmetrics, b"# EOF\n")):
        writer = TextWriter(labels, openmetrics=openmetrics)
        assert writer.can_write_samples(metric)
        assert "".join(writer.write_samples(metric)).encode() + end == encode(Stamped([metric], labels))


def ordinary(name="work", kind="gauge", *sample):
    metric = Metric(name, "Work.", kind)
    metric.add_sample(*(sample or (name, {}, 1.0)))
    return metric


@pytest.mark.parametrize(
    "metric",
    [
        ordinary("work.done"),
        ordinary("work", "gauge", "work", {"http.route": "/"}, 1.0),
        ordinary("work", "gauge", "work", {}, 1.0, 1700000000.0),
        ordinary("work", "gaugehistogram", "work_gcount", {}, 1.0),
        ordinary("work", "gauge", "work_created", {}, 1.0),
        ordinary("work", "gauge", "work", {}, 1.0, None, PrometheusExemplar({}, 1.0)),
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_the_library(metric):
    assert not TextWriter(IDENTITY, openmetrics=True).can_write_samples(metric)
