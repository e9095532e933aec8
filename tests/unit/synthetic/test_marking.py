from __future__ import annotations

import re

from rolloutobs.telemetry.signing import sign_synthetic
from rolloutobs.testing import FakeClock
from synthetic.marking import Marking, marked_headers, new_trace_id, traceparent

PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")


def test_a_request_without_headers_of_its_own():
    trace = new_trace_id()
    headers = marked_headers({"Accept": "*/*"}, trace)
    assert headers.pop("Accept") == "*/*"
    assert headers.pop("baggage") == "synthetic=test"
    assert PARENT.fullmatch(headers.pop("traceparent"))[1] == trace
    assert headers == {}


def test_baggage_of_the_page_stays_and_its_trace_gives_way():
    given = {
        "Baggage": "user=a%2Cb;p=1 , synthetic=bot, team=x",
        "TraceParent": "00-" + "1" * 32 + "-" + "2" * 16 + "-00",
    }
    headers = marked_headers(given, "a" * 32)
    assert headers["baggage"] == "user=a%2Cb;p=1,team=x,synthetic=test"
    assert headers["traceparent"].startswith("00-" + "a" * 32)
    assert set(headers) == {"baggage", "traceparent"}


def test_each_request_has_a_parent_of_its_own_and_each_run_a_trace():
    assert len({traceparent("a" * 32) for _ in range(50)}) == 50
    traces = {new_trace_id() for _ in range(50)}
    assert len(traces) == 50
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in traces)


def test_with_a_secret_the_mark_is_signed_for_each_request():
    clock = FakeClock()
    marking = Marking(("new-secret-0123456", "old-secret-0123456"), clock)
    first = marking.baggage()
    assert first == sign_synthetic("new-secret-0123456", clock())
    headers = marked_headers({"baggage": f"team=x,{first}"}, "a" * 32, first)
    assert headers["baggage"] == f"team=x,{first}"
    clock.advance(1)
    assert marking.baggage() != first
    assert Marking().baggage() == "synthetic=test"
