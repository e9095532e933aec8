import gzip
import threading

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from rolloutobs.settings import Settings
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.answer import Question, answer, is_allowed
from rolloutobs.testing import parse_metrics, sample_value

# What Prometheus 3 sends.
PROMETHEUS = Question(
    "GET",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "gzip",
)


@pytest.fixture
def hub():
    return hubs.new_hub(Settings(service="shop", version="1.2.0", track="canary"))


def header(found, name):
    return dict(found.headers).get(name)


def test_prometheus_gets_openmetrics_in_gzip(hub):
    found = answer(hub, PROMETHEUS)
    assert found.status == 200
    assert header(found, "content-encoding") == "gzip"
    assert header(found, "content-length") == str(len(found.body))
    assert header(found, "content-type").startswith("application/openmetrics-text; version=1.0.0")
    assert header(found, "vary") == "accept, accept-encoding"
    names = {family.name for family in parse_openmetrics(gzip.decompress(found.body).decode())}
    assert {"app_build_info", "app_start_time_seconds"} <= names


@pytest.mark.parametrize(
    ("accepted", "zipped"),
    [
        ("", False), ("identity", False), ("gzip", True), ("deflate, GZIP ; q=0.5", True), ("*", True),
        ("gzip;q=0", False), ("gzip; q=0.000", False), ("*;q=0", False), ("*, gzip;q=0", False),
        ("gzip;q=1.0", True), ("br", False), (";;,q=", False),
    ],
)  # fmt: skip
def test_gzip_only_where_it_is_accepted(hub, accepted, zipped):
    found = answer(hub, Question(accept_encoding=accepted))
    assert (header(found, "content-encoding") == "gzip") is zipped
    body = gzip.decompress(found.body) if zipped else found.body
    assert sample_value(parse_metrics(body.decode()), "app_build_info", version="1.2.0") == 1


def test_a_small_answer_is_not_worth_compressing(hub, monkeypatch):
    monkeypatch.setattr("rolloutobs.telemetry.answer.GZIP_MIN_BYTES", 10_000_000)
    assert header(answer(hub, PROMETHEUS), "content-encoding") is None


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_head_has_the_headers_of_get(hub, encoding):
    get, head = (answer(hub, Question(method, "", encoding)) for method in ("GET", "HEAD"))
    assert (head.status, head.body) == (200, b"")
    assert header(get, "content-length") == str(len(get.body))
    # Not the same number: the process has used more CPU time by then.
    assert int(header(head, "content-length")) > 100
    assert [pair for pair in head.headers if pair[0] != "content-length"] == [
        pair for pair in get.headers if pair[0] != "content-length"
    ]


def test_other_methods_are_refused(hub):
    found = answer(hub, Question("POST"))
    assert (found.status, header(found, "allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("", 401), ("Bearer", 401), ("Bearer ", 401), ("Bearer wrong", 401), ("Basic one", 401), ("one", 401),
        ("Bearer one", 200), ("bearer two", 200), ("Bearer  two ", 200), ("Bearer one two", 401),
        ("Bearer on\xe9", 401), ("Bearer \ud800", 401),
    ],
)  # fmt: skip
def test_a_token_is_asked_for_where_one_is_set(authorization, status):
    hub = hubs.new_hub(Settings(service="s", version="1", metrics_token=("one", "two")))
    found = answer(hub, Question(authorization=authorization))
    assert found.status == status
    if status == 401:
        assert header(found, "www-authenticate") == 'Bearer realm="metrics"'
        assert b"app_build_info" not in found.body
        assert "one" not in repr(Question(authorization="Bearer one"))


def test_a_token_that_is_not_ascii():
    # Headers arrive as latin-1, whatever they are.
    sent = "Bearer " + "tökén".encode().decode("latin-1")
    assert is_allowed(("tökén",), sent)


def test_the_question_of_raw_headers():
    headers = [
        (b"accept", b"text/plain"), (b"host", b"x"), (b"accept", b"*/*"), (b"accept-encoding", b"gzip"),
        (b"authorization", b"Bearer \xff"),
    ]  # fmt: skip
    assert Question.from_headers("HEAD", headers) == Question("HEAD", "text/plain,*/*", "gzip", "Bearer \xff")


def test_answers_from_many_threads_at_once_are_whole(hub):
    counter = hub.counter("orders_total", "Orders.", ("n",))
    found, failed = [], []

    def ask():
        try:
            for n in range(20):
                counter.cell(str(n)).inc()
                found.append(gzip.decompress(answer(hub, PROMETHEUS).body))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert len(found) == 80
    assert all(body.endswith(b"# EOF\n") for body in found)
    assert sample_value(parse_metrics(answer(hub, Question()).body.decode()), "orders_total") == 80
