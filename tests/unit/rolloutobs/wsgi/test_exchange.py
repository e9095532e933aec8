"""WSGI requests: what is counted, traced and told, and that the answer stays as it was."""

import gc
import io
import threading
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest
from opentelemetry import trace
from opentelemetry.context import attach, detach, get_value, set_value
from opentelemetry.trace import StatusCode

from rolloutobs import Settings, instrument
from rolloutobs.testing import SpanRecorder, call_wsgi, parse_metrics, sample_value, wsgi_environ

CANARY = Settings(service="shop", version="1.2.0", track="canary", labels_file=None)
STAMP = {"app": "shop", "version": "1.2.0", "track": "canary"}
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = (b"traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode())
SYNTHETIC = (b"baggage", b"synthetic=test")
HTML = [("Content-Type", "text/html")]


def wsgi(app, settings=CANARY):
    recorder = SpanRecorder()
    return instrument(app, settings=settings, tracer_provider=recorder.provider), recorder


def scrape(app):
    return parse_metrics(call_wsgi(app, "/metrics").body.decode())


def count(app, **labels):
    return sample_value(scrape(app), "http_requests_total", **labels)


def plain(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]


def no_server(status, headers, exc_info=None):
    return lambda data: None


def test_requests_are_counted_timed_and_stamped():
    app, recorder = wsgi(plain)
    for _ in range(2):
        answer = call_wsgi(app, "/items/7?token=1", headers=[(b"user-agent", b"check/1")])
        assert (answer.status, answer.body) == (200, b"ok")
        assert answer.headers == ((b"Content-Type", b"text/plain"),)
    samples = scrape(app)
    labels = {"method": "GET", "route": "", **STAMP}
    assert sample_value(samples, "http_requests_total", status="200", **labels) == 2
    assert sample_value(samples, "http_request_duration_seconds_count", status_class="2xx", **labels) == 2
    assert sample_value(samples, "http_requests_in_flight", **STAMP) == 0
    assert sample_value(samples, "rolloutobs_internal_errors_total") == 0
    first, second = recorder.server_spans
    assert first.context.trace_id != second.context.trace_id
    assert dict(first.attributes) == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.path": "/items/7",
        "url.query": "token=1",
        "url.scheme": "http",
        "server.address": "shop.example",
        "server.port": 8080,
        "client.address": "10.0.0.1",
        "user_agent.original": "check/1",
        "network.protocol.version": "1.1",
        "app.version": "1.2.0",
        "rolloutobs.track": "canary",
    }


def test_the_caller_and_its_trace_are_followed():
    app, recorder = wsgi(plain)
    caller = b"rolloutobs.service=gateway,rolloutobs.version=1.1.0,rolloutobs.track=stable,synthetic=test"
    answer = call_wsgi(app, headers=[TRACEPARENT, (b"baggage", caller)])
    call_wsgi(app)
    assert TRACE in answer.header("server-timing")
    first, second = recorder.server_spans
    assert f"{first.context.trace_id:032x}" == TRACE
    assert first.attributes["rolloutobs.caller.version"] == "1.1.0"
    assert first.attributes["user_agent.synthetic.type"] == "test"
    assert "rolloutobs.caller.version" not in second.attributes
    assert count(app, status="200", synthetic="true") == 1
    assert count(app, status="200", synthetic="") == 1


def test_html_tells_who_answered_and_what_may_be_shared_does_not():
    def page(environ, start_response):
        headers = list(HTML)
        if environ["PATH_INFO"] == "/public":
            headers.append(("Cache-Control", "public, max-age=60"))
        start_response("200 OK", headers)
        return [b"<p>"]

    app, recorder = wsgi(page)
    told = call_wsgi(app).header("server-timing")
    assert told.startswith('version;desc="1.2.0", track;desc="canary", traceparent;desc="00-')
    assert f"{recorder.spans[0].context.span_id:016x}" in told
    assert call_wsgi(app, "/public").header("server-timing") is None
    assert call_wsgi(app, "/public", headers=[SYNTHETIC]).header("server-timing") is not None


def test_the_headers_of_the_app_are_left_as_they_are():
    kept = list(HTML)

    def page(environ, start_response):
        start_response("200 OK", kept)
        return [b""]

    app, _ = wsgi(page)
    for _ in range(2):
        assert len(call_wsgi(app).headers) == 2
    assert kept == HTML


def test_excluded_paths_and_scrapes_leave_no_trace():
    app, recorder = wsgi(plain)
    for path in ("/healthz", "/metrics"):
        for _ in range(2):
            assert call_wsgi(app, path).status == 200
    assert call_wsgi(app, "/metrics", "HEAD").body == b""
    assert call_wsgi(app, "/metrics", "POST").body == b"ok"
    assert call_wsgi(app, "/healthz", SCRIPT_NAME="/shop").body == b"ok"
    assert recorder.spans == ()
    assert count(app, status="200") is None


def test_urls_are_excluded_by_regular_expressions():
    settings = Settings(service="shop", version="1", excluded_urls=("/internal/", r"example:8080/x$"))
    app, recorder = wsgi(plain, settings)
    for path in ("/internal/a", "/x", "/y"):
        call_wsgi(app, path)
    assert [span.attributes["url.path"] for span in recorder.spans] == ["/y"]


def test_an_exception_is_a_500_with_its_event_and_is_raised_on():
    def broken(environ, start_response):
        raise RuntimeError("boom")

    app, recorder = wsgi(broken)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="boom"):
            call_wsgi(app)
    assert count(app, status="500") == 2
    for span in recorder.spans:
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes["error.type"] == "RuntimeError"
        assert span.attributes["http.response.status_code"] == 500
        assert [event.name for event in span.events] == ["exception"]
    assert sample_value(scrape(app), "app_errors_total", type="RuntimeError") == 2
    assert sample_value(scrape(app), "http_requests_in_flight") == 0


def test_a_generator_that_fails_midway_is_a_500_and_what_it_gave_was_given():
    closed = []

    def fails(environ, start_response):
        start_response("200 OK", [])
        try:
            yield b"a"
            raise RuntimeError("boom")
        finally:
            closed.append(trace.get_current_span().get_span_context().span_id)

    app, recorder = wsgi(fails)
    given = []
    result = app(wsgi_environ(), no_server)
    with pytest.raises(RuntimeError, match="boom"):
        given.extend(result)
    result.close()
    assert closed == [recorder.spans[0].context.span_id]
    assert count(app, status="500") == 1
    assert recorder.spans[0].attributes["http.response.status_code"] == 200
    assert [event.name for event in recorder.spans[0].events] == ["exception"]


def test_a_client_that_leaves_is_a_499_and_the_app_is_told():
    told = []

    def stream(environ, start_response):
        start_response("200 OK", [])
        try:
            while True:
                yield b"a"
        except GeneratorExit:
            told.append(True)
            raise

    app, recorder = wsgi(stream)
    for expected in (1, 2):
        result = app(wsgi_environ(), no_server)
        assert next(iter(result)) == b"a"
        assert sample_value(scrape(app), "http_requests_in_flight") == 1
        result.close()
        assert len(told) == expected
    assert count(app, status="499") == 2
    assert recorder.spans[0].status.status_code is StatusCode.UNSET
    assert recorder.spans[0].attributes["http.response.status_code"] == 200


def test_a_write_that_fails_because_the_client_is_gone_is_a_499():
    def writes(environ, start_response):
        start_response("200 OK", [])(b"a")
        return []

    def gone(status, headers):
        def write(data):
            raise BrokenPipeError("peer is gone")

        return write

    app, _ = wsgi(writes)
    with pytest.raises(BrokenPipeError):
        app(wsgi_environ(), gone)
    assert count(app, status="499") == 1


def test_what_is_written_reaches_the_server():
    def writes(environ, start_response):
        write = start_response("200 OK", [])
        write(b"a")
        write(b"b")
        return [b"c"]

    app, _ = wsgi(writes)
    assert call_wsgi(app).body == b"abc"
    assert count(app, status="200") == 1


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content")])
def test_an_answer_without_a_body_need_not_be_taken(method, status):
    def app(environ, start_response):
        start_response(status, [])
        return iter([b""])

    served, _ = wsgi(app)
    served(wsgi_environ(method=method), no_server).close()
    assert count(served, method=method, status=status[:3]) == 1


def test_an_answer_that_nobody_closes_is_a_499():
    app, recorder = wsgi(plain)
    result = app(wsgi_environ(), no_server)
    del result
    gc.collect()
    assert count(app, status="499") == 1
    assert len(recorder.spans) == 1


def test_an_answer_without_a_status_is_a_500():
    app, recorder = wsgi(lambda environ, start_response: [])
    result = app(wsgi_environ(), no_server)
    assert list(result) == []
    assert count(app, status="500") == 1
    assert recorder.spans[0].attributes["http.response.status_code"] == 500


def test_start_response_may_be_called_again_until_headers_are_sent():
    def recovers(environ, start_response):
        start_response("200 OK", [])
        try:
            raise RuntimeError("boom")
        except RuntimeError as error:
            start_response("503 Service Unavailable", [], (type(error), error, error.__traceback__))
        return [b"sorry"]

    app, _ = wsgi(recovers)
    calls = []

    def takes(status, headers, exc_info=None):
        calls.append((status, exc_info is not None))
        return lambda data: None

    assert list(app(wsgi_environ(), takes)) == [b"sorry"]
    assert calls == [("200 OK", False), ("503 Service Unavailable", True)]
    assert count(app, status="503") == 1

    def too_late(status, headers, exc_info=None):
        if exc_info is not None:
            raise exc_info[1]
        return lambda data: None

    with pytest.raises(RuntimeError, match="boom"):
        app(wsgi_environ(), too_late)
    assert count(app, status="500") == 1


def test_a_server_with_the_old_start_response_is_called_with_two_arguments():
    app, _ = wsgi(plain)
    seen = []
    result = app(wsgi_environ(), lambda status, headers: seen.append(status))
    assert list(result) == [b"ok"]
    assert seen == ["200 OK"]


def test_the_answer_keeps_its_length_and_its_parts():
    app, _ = wsgi(plain)
    result = app(wsgi_environ(), no_server)
    assert len(result) == 1
    assert list(result) == [b"ok"]
    result.close()

    def lazily(environ, start_response):
        start_response("200 OK", [])
        yield b"a"
        yield b"b"

    lazy, _ = wsgi(lazily)
    result = lazy(wsgi_environ(), no_server)
    assert not hasattr(result, "__len__")
    # A server may ask without iter().
    assert next(result) == b"a"
    assert list(result) == [b"b"]
    result.close()


def test_what_cannot_be_iterated_fails_in_the_server_as_it_would():
    def nothing(environ, start_response):
        start_response("200 OK", [])

    app, recorder = wsgi(nothing)
    result = app(wsgi_environ(), no_server)
    with pytest.raises(TypeError, match="'NoneType' object is not iterable"):
        iter(result)
    assert count(app, status="500") == 1
    assert recorder.spans[0].attributes["error.type"] == "TypeError"


def test_files_reach_the_server_in_its_own_wrapper():
    closed = []

    class File(io.BytesIO):
        def close(self):
            closed.append(True)
            super().close()

    def sends(environ, start_response):
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](File(b"abc"))

    app, recorder = wsgi(sends)
    result = app(wsgi_environ(**{"wsgi.file_wrapper": FileWrapper}), no_server)
    assert type(result) is FileWrapper
    assert recorder.spans == ()
    assert b"".join(result) == b"abc"
    result.close()
    assert closed == [True]
    assert count(app, status="200") == 1
    assert len(recorder.spans) == 1


def test_a_file_wrapper_that_cannot_be_watched_is_complete_at_once():
    class Sealed:
        __slots__ = ("file",)

        def __init__(self, file):
            self.file = file

    def sends(environ, start_response):
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"abc"))

    app, _ = wsgi(sends)
    assert type(app(wsgi_environ(**{"wsgi.file_wrapper": Sealed}), no_server)) is Sealed
    assert count(app, status="200") == 1


def test_close_of_the_app_is_called_and_its_exception_raised():
    class Body:
        def __iter__(self):
            return iter([b"a"])

        def close(self):
            raise ValueError("cannot be closed")

    def app(environ, start_response):
        start_response("200 OK", [])
        return Body()

    served, _ = wsgi(app)
    result = served(wsgi_environ(), no_server)
    assert list(result) == [b"a"]
    with pytest.raises(ValueError, match="cannot be closed"):
        result.close()
    assert count(served, status="200") == 1


def test_the_app_runs_in_the_context_of_its_request_and_nothing_else_does():
    seen = []
    provider = SpanRecorder()

    def span():
        return trace.get_current_span().get_span_context().span_id

    def stream(environ, start_response):
        start_response("200 OK", [])
        seen.append(span())
        token = attach(set_value("own", "mine"))
        yield b"a"
        # What the app has put into its context is there when it goes on, and is nobody else's.
        seen.append((span(), get_value("own")))
        detach(token)
        with provider.provider.get_tracer("t").start_as_current_span("child"):
            yield b"b"

    app, recorder = wsgi(stream)
    first, second = (app(wsgi_environ(), no_server) for _ in range(2))
    parts = [next(first), next(second)]
    assert span() == 0
    assert get_value("own") is None
    for result in (first, second):
        parts += list(result)
        result.close()
    assert parts == [b"a", b"a", b"b", b"b"]
    one, other = (recorded.context.span_id for recorded in recorder.spans)
    assert seen == [one, other, (one, "mine"), (other, "mine")]
    assert [child.parent.span_id for child in provider.spans] == [one, other]
    assert span() == 0


def test_requests_of_many_threads_are_all_counted():
    app, recorder = wsgi(plain)
    threads, requests = 8, 50
    barrier = threading.Barrier(threads)

    def serve():
        barrier.wait()
        for _ in range(requests):
            call_wsgi(app)

    running = [threading.Thread(target=serve) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    samples = scrape(app)
    assert sample_value(samples, "http_requests_total", status="200") == threads * requests
    assert sample_value(samples, "http_request_duration_seconds_count") == threads * requests
    assert sample_value(samples, "http_requests_in_flight") == 0
    assert len({span.context.trace_id for span in recorder.spans}) == threads * requests


def test_requests_that_overlap_do_not_mix():
    entered, go_on = threading.Event(), threading.Event()

    def slow(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            entered.set()
            assert go_on.wait(30)
        start_response("200 OK" if environ["PATH_INFO"] == "/slow" else "404 Not Found", [])
        return [b""]

    app, recorder = wsgi(slow)
    thread = threading.Thread(target=call_wsgi, args=(app, "/slow"), kwargs={"headers": [TRACEPARENT]})
    thread.start()
    assert entered.wait(30)
    call_wsgi(app, "/fast")
    assert sample_value(scrape(app), "http_requests_in_flight") == 1
    go_on.set()
    thread.join()
    by_path = {span.attributes["url.path"]: span for span in recorder.spans}
    assert f"{by_path['/slow'].context.trace_id:032x}" == TRACE
    assert f"{by_path['/fast'].context.trace_id:032x}" != TRACE
    assert count(app, status="200") == count(app, status="404") == 1


def test_wsgi_is_kept_to_by_the_app_and_by_us():
    @validator
    def strict(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/html")])
        return [b"ok"]

    app, _ = wsgi(strict)
    outside = validator(app)
    for _ in range(2):
        assert call_wsgi(outside, QUERY_STRING="a=b").body == b"ok"
    assert count(app, status="200") == 2


def test_environs_with_little_in_them_reach_the_app():
    seen = []

    def app(environ, start_response):
        seen.append(environ)
        start_response("200 OK", [])
        return []

    served, recorder = wsgi(app)
    list(served({}, no_server))
    list(served({"REQUEST_METHOD": "GET"}, no_server))
    assert len(seen) == 2
    assert [span.attributes["url.path"] for span in recorder.spans] == ["/"]
    assert sample_value(scrape(served), "rolloutobs_internal_errors_total") == 1


def test_odd_methods_paths_and_headers():
    app, recorder = wsgi(plain)
    call_wsgi(app, "/caf\u00e9", "BREW")
    call_wsgi(app, "/x", PATH_INFO="/\xff\xfe", HTTP_BAGGAGE="\xff=\xfe,=", HTTP_TRACEPARENT="\xe9")
    assert [span.name for span in recorder.spans] == ["HTTP", "GET"]
    assert recorder.spans[0].attributes["url.path"] == "/caf\u00e9"
    assert count(app, method="_OTHER", status="200") == 1
    assert sample_value(scrape(app), "rolloutobs_internal_errors_total") == 0


@pytest.mark.parametrize("status", ["OK", "", "2x0 OK"])
def test_a_status_that_is_none_is_the_servers_business(status):
    def app(environ, start_response):
        start_response(status, [])
        return []

    served, _ = wsgi(app)
    list(served(wsgi_environ(), no_server))
    assert count(served, status="500") == 1


def test_telemetry_that_fails_changes_nothing():
    class Broken:
        def should_sample(self, *args, **kwargs):
            raise RuntimeError("sampler")

        def get_description(self):
            return "broken"

    recorder = SpanRecorder(Broken())
    app = instrument(plain, settings=CANARY, tracer_provider=recorder.provider)
    for _ in range(2):
        assert call_wsgi(app).body == b"ok"
    assert count(app, status="200") == 2
    assert sample_value(scrape(app), "rolloutobs_internal_errors_total", where="request") == 2


def test_headers_are_captured_where_asked_for_and_without_secrets():
    settings = Settings(
        service="shop",
        version="1",
        captured_request_headers=("x-.*", "authorization"),
        captured_response_headers=("content-type",),
    )
    app, recorder = wsgi(plain, settings)
    call_wsgi(app, headers=[(b"x-tenant", b"acme"), (b"authorization", b"Bearer t"), (b"accept", b"*/*")])
    captured = {k: v for k, v in recorder.spans[0].attributes.items() if ".header." in k}
    assert captured == {
        "http.request.header.x-tenant": ("acme",),
        "http.request.header.authorization": ("[REDACTED]",),
        "http.response.header.content-type": ("text/plain",),
    }


def test_a_mounted_app_that_is_instrumented_too_is_counted_once():
    inner, inner_recorder = wsgi(plain)
    outer, recorder = wsgi(lambda environ, start_response: inner(environ, start_response))
    for _ in range(2):
        call_wsgi(outer)
    assert len(recorder.spans) == 2
    assert inner_recorder.spans == ()
    assert count(inner, status="200") is None


def test_a_page_s_own_script_learns_who_answers_it():
    app, _ = wsgi(plain)
    asked = [(b"sec-fetch-dest", b"empty"), (b"sec-fetch-site", b"same-origin")]
    told = call_wsgi(app, "/api", headers=asked).headers[-1]
    assert told[0].lower() == b"server-timing"
    assert told[1].startswith(b'version;desc="1.2.0", track;desc="canary"')
    # A picture, another site's script, and what a shared cache may keep.
    for headers in (asked[1:], [(b"sec-fetch-dest", b"empty"), (b"sec-fetch-site", b"cross-site")]):
        assert call_wsgi(app, "/api", headers=headers).headers == ((b"Content-Type", b"text/plain"),)

    def public(environ, start_response):
        start_response("200 OK", [("Cache-Control", "public, max-age=60")])
        return [b"{}"]

    cached, _ = wsgi(public)
    assert call_wsgi(cached, "/api", headers=asked).headers == ((b"Cache-Control", b"public, max-age=60"),)
