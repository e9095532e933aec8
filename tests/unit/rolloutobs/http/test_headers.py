"""Headers that are captured where the settings say so."""

import pytest

from rolloutobs import Settings, instrument
from rolloutobs.errors import ConfigurationError
from rolloutobs.http.headers import CapturedHeaders
from rolloutobs.testing import SpanRecorder, call


def captured(**fields):
    return CapturedHeaders.of(Settings(service="shop", version="1", **fields))


def test_nothing_is_captured_unless_asked_for():
    assert captured(sanitized_headers=("x",)) is None


def test_names_are_whole_and_values_are_lists():
    headers = captured(captured_request_headers=("x-a", "X-Tenant.*"), sanitized_headers=(".*secret.*",))
    raw = [
        (b"x-a", b"1"),
        (b"x-ab", b"2"),
        (b"X-A", b"3"),
        (b"x-tenant-secret", b"s"),
        (b"x-tenant", b"\xff"),
    ]
    assert headers.of_request(raw) == {
        "http.request.header.x-a": ["1", "3"],
        "http.request.header.x-tenant-secret": ["[REDACTED]"],
        "http.request.header.x-tenant": ["\ufffd"],
    }
    assert headers.of_response(raw) == {}


def test_credentials_are_never_shown():
    headers = captured(captured_request_headers=(".*",), captured_response_headers=(".*",))
    secret = [(b"authorization", b"Bearer t"), (b"cookie", b"a=b"), (b"proxy-authorization", b"x")]
    assert set(map(tuple, headers.of_request(secret).values())) == {("[REDACTED]",)}
    assert headers.of_response([(b"set-cookie", b"a=b")]) == {
        "http.response.header.set-cookie": ["[REDACTED]"]
    }


@pytest.mark.parametrize("field", ["captured_request_headers", "captured_response_headers", "excluded_urls"])
def test_what_is_no_regular_expression_is_refused_at_start_up(field):
    with pytest.raises(ConfigurationError, match=rf"{field} is '\*', which is no regular expression"):
        instrument(
            lambda scope, receive, send: None, settings=Settings(service="s", version="1", **{field: ("*",)})
        )


async def test_on_the_span_of_an_asgi_request():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-answer", b"42")]})
        await send({"type": "http.response.body"})

    recorder = SpanRecorder()
    settings = Settings(
        service="s", version="1", captured_request_headers=("x-ask",), captured_response_headers=("x-.*",)
    )
    served = instrument(app, settings=settings, tracer_provider=recorder.provider)
    await call(served, headers=[(b"x-ask", b"why")])
    await call(served)
    first, second = ({k: v for k, v in span.attributes.items() if ".header." in k} for span in recorder.spans)
    assert first == {"http.request.header.x-ask": ("why",), "http.response.header.x-answer": ("42",)}
    assert second == {"http.response.header.x-answer": ("42",)}
