import pytest

from rolloutobs.checkup.exposition import check, read
from rolloutobs.checkup.model import Level
from rolloutobs.errors import SourceError
from rolloutobs.http.metrics import HttpMetrics, exemplify
from rolloutobs.settings import Settings
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.failures import Where
from rolloutobs.testing import SpanRecorder

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def exposed(hub, accept=OPENMETRICS):
    shown = hub.render(accept)
    return read(shown.content_type, shown.body)


def bad(hub):
    return {f.subject: f for f in check(exposed(hub)) if f.level is Level.BAD}


@pytest.fixture
def hub():
    return hubs.new_hub(Settings(service="shop", version="1.2.0", track="canary"))


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_series_and_bytes_are_those_of_the_answer(hub, accept):
    http = HttpMetrics(hub)
    for status in (200, 500):
        http.pair(("GET", "/items/{id}", status, False))[1].observe(0.2)
    shown = hub.render(accept)
    found = read(shown.content_type, shown.body)
    lines = [line for line in shown.body.decode().splitlines() if not line.startswith("#")]
    assert found.series == len(lines)
    assert found.bytes == len(shown.body)
    assert found.sizes[0].name == "http_request_duration_seconds"
    assert found.sizes[0].series == 2 * (len(hub.settings.bounds) + 3)
    ours = {identity: n for identity, n in found.identities.items() if identity[0]}
    assert max(ours, key=ours.get) == ("shop", "1.2.0", "canary")
    statuses = next(use for use in found.label_uses() if use.label == "status")
    assert (statuses.metric, statuses.values) == ("http_requests", 2)


def test_all_is_well(hub):
    histogram = HttpMetrics(hub).pair(("GET", "/", 200, False))[1]
    with SpanRecorder().provider.get_tracer("t").start_as_current_span("s") as span:
        exemplify(histogram, span, 0.1)
    findings = check(exposed(hub))
    assert {f.level for f in findings} == {Level.GOOD}
    assert {f.subject for f in findings} == {"identity", "exemplars"}
    assert "'1.2.0'" in findings[0].what


def test_outside_of_a_rollout_there_is_no_track():
    findings = check(exposed(hubs.new_hub(Settings(service="shop", version="1"))))
    assert findings[0].level is Level.GOOD
    assert "outside of a rollout" in findings[0].what


def test_an_identity_that_is_not_known_is_bad():
    found = bad(hubs.new_hub(Settings()))
    assert set(found) == {"app", "version"}
    assert "OTEL_SERVICE_NAME" in found["app"].advice
    assert "ROLLOUTOBS_VERSION" in found["version"].advice


def test_overflows_and_failures_are_bad(hub):
    small = Settings(service="s", version="1", max_label_sets=1)
    overflowing = hubs.new_hub(small)
    family = overflowing.counter("orders_total", "Orders.", ("who",))
    for who in ("a", "b", "c"):
        family.cell(who).inc()
    overflowing.failures.record(Where.EXPORT, "lost")
    found = bad(overflowing)
    assert "orders_total" in found["overflow"].what
    assert "2 lookups" in found["overflow"].what
    assert "export 1" in found["internal errors"].what


def text_of(*lines):
    head = ["# TYPE app_build_info gauge", 'app_build_info{app="s",version="1"} 1']
    return read(TEXT, "\n".join([*head, *lines, ""]).encode())


def findings(*lines):
    return {(f.level, f.subject): f for f in check(text_of(*lines))}


def test_series_without_our_labels():
    found = findings("# TYPE other gauge", "other 1", "# TYPE fine gauge", 'fine{app="s",version="1"} 2')
    assert "1 of 3 metrics have no label app: other" in found[Level.BAD, "labels"].what


def test_several_identities_and_tracks_that_are_none():
    found = findings('app_build_info{app="s",version="2",track="blue"} 1')
    assert "several identities" in found[Level.BAD, "identity"].what
    assert "blue" in found[Level.BAD, "track"].what


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/items/{id}", False), ("/items/7", False), ("/v2/items", False), ("/items/1234", True),
        ("/u/6f9619ff-8b86-d011-b42d-00c04fc964ff/x", True), ("/o/507f1f77bcf86cd799439011", True),
    ],
)  # fmt: skip
def test_raw_paths(path, raw):
    found = findings("# TYPE a_total counter", f'a_total{{app="s",version="1",handler="{path}"}} 1')
    assert ((Level.BAD, "raw paths") in found) is raw


def test_labels_with_many_values_are_noted():
    lines = [f'a{{app="s",version="1",user="{n}"}} 1' for n in range(101)]
    found = findings("# TYPE a gauge", *lines)
    assert "label user has 101 values" in found[Level.NOTE, "cardinality"].what
    assert (Level.NOTE, "cardinality") not in findings("# TYPE a gauge", *lines[:100])


def test_an_answer_of_something_else():
    (found,) = check(read(TEXT, b"# TYPE up gauge\nup 1\n"))
    assert (found.level, found.subject) == (Level.BAD, "instrumentation")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("text/html", b"<html><body>hello {</body>"), (OPENMETRICS, b"a 1\n"), (TEXT, b"\xff\xfe"), ("", b"{}")],
)
def test_what_is_no_exposition(content_type, body):
    with pytest.raises(SourceError, match="is not metrics"):
        read(content_type, body)
