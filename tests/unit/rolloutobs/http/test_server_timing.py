import time

import pytest
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, TraceFlags

from rolloutobs import Settings, instrument
from rolloutobs.http.server_timing import ServerTiming, is_shared
from rolloutobs.identity import Identity, Track
from rolloutobs.telemetry.current import Live
from rolloutobs.telemetry.view_tokens import Served, TokenReader
from rolloutobs.testing import call

SPAN = NonRecordingSpan(SpanContext(0xABC, 0xDEF, False, TraceFlags(1)))


def test_identity_and_trace_are_appended_and_the_message_is_left_alone():
    message = {"type": "http.response.start", "status": 200, "headers": [(b"server-timing", b"db;dur=3")]}
    told = ServerTiming(Live(Identity("shop", "1.2.0", Track.CANARY))).add(message, SPAN)
    assert told == {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"server-timing", b"db;dur=3"),
            (
                b"server-timing",
                b'version;desc="1.2.0", track;desc="canary", '
                b'traceparent;desc="00-00000000000000000000000000000abc-0000000000000def-01"',
            ),
        ],
    }
    assert message["headers"] == [(b"server-timing", b"db;dur=3")]


@pytest.mark.parametrize("span", [None, INVALID_SPAN])
def test_without_a_trace_and_a_track_only_the_version_is_told(span):
    told = ServerTiming(Live(Identity("shop", "1.2.0"))).add(
        {"type": "http.response.start", "status": 200}, span
    )
    assert told["headers"] == [(b"server-timing", b'version;desc="1.2.0"')]


@pytest.mark.parametrize(
    ("headers", "shared"),
    [
        ({}, False),
        ({"cache-control": "no-store"}, False),
        ({"cache-control": "private, max-age=600"}, False),
        ({"cache-control": "no-cache"}, False),
        ({"cache-control": "max-age=0, must-revalidate"}, False),
        ({"cache-control": "public"}, True),
        ({"cache-control": "Public, Max-Age=600"}, True),
        ({"cache-control": "max-age=600"}, True),
        ({"cache-control": "max-age=0, s-maxage=60"}, True),
        ({"cache-control": "s-maxage=0, max-age=60"}, False),
        ({"expires": "Thu, 01 Dec 2033 16:00:00 GMT"}, True),
        ({"expires": "0"}, False),
        ({"cache-control": "no-store", "expires": "Thu, 01 Dec 2033 16:00:00 GMT"}, False),
        ({"cdn-cache-control": "max-age=60"}, True),
        ({"surrogate-control": "no-store"}, False),
    ],
)
def test_what_shared_caches_may_keep(headers, shared):
    assert is_shared([(name.encode(), value.encode()) for name, value in headers.items()]) is shared


async def test_a_page_for_a_check_says_so_and_others_do_not():
    async def page(scope, receive, send):
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]}
        )
        await send({"type": "http.response.body", "body": b"<p>hello"})

    app = instrument(page, settings=Settings(service="shop", version="1.2.0"))
    user = await call(app, "/")
    check = await call(app, "/", headers=[(b"baggage", b"synthetic=test")])
    assert user.header("server-timing") == 'version;desc="1.2.0"'
    assert check.header("server-timing") == 'version;desc="1.2.0", synthetic;desc="test"'


def test_with_a_secret_users_get_a_token_and_checks_are_told_in_plain_words() -> None:
    timing = ServerTiming(Live(Identity("shop", "1.2.0", Track.CANARY)), "secret")
    said = dict(entry.split(";desc=") for entry in timing.value(None).split(", "))
    assert list(said) == ["view", "answer"]
    reader = TokenReader(["secret"])
    read = reader.read(said["view"].strip('"'), time.time())
    assert isinstance(read, Served)
    assert reader.is_same(said["answer"].strip('"'), read)
    assert (read.app, read.version, read.track) == ("shop", "1.2.0", "canary")
    assert timing.value(None, True) == 'version;desc="1.2.0", track;desc="canary", synthetic;desc="test"'
