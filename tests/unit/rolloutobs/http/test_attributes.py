import pytest

from rolloutobs.http.attributes import error_type, request_attributes, span_method
from rolloutobs.testing import http_scope


def test_a_request_in_full():
    scope = http_scope("/items/7?q=1&sig=secret", headers=[(b"user-agent", b"curl/8")])
    assert request_attributes(scope, {"app.version": "1"}) == {
        "http.request.method": "GET",
        "url.path": "/items/7",
        "url.scheme": "http",
        "url.query": "q=1&sig=REDACTED",
        "network.protocol.version": "1.1",
        "user_agent.original": "curl/8",
        "server.address": "shop.example",
        "server.port": 8080,
        "client.address": "10.0.0.1",
        "app.version": "1",
    }


def test_a_scope_with_little_in_it():
    scope = {"method": "GET", "path": "/", "headers": []}
    assert request_attributes(scope, {}) == {
        "http.request.method": "GET",
        "url.path": "/",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
    }


def test_an_unknown_method_is_other():
    attributes = request_attributes(http_scope(method="BREW"), {})
    assert attributes["http.request.method"] == "_OTHER"
    assert attributes["http.request.method_original"] == "BREW"
    assert span_method("BREW") == "HTTP"


@pytest.mark.parametrize(
    ("host", "scheme", "address", "port"),
    [
        (b"shop.example", "http", "shop.example", 80),
        (b"shop.example", "https", "shop.example", 443),
        (b"shop.example:8443", "https", "shop.example", 8443),
        (b"[::1]:8000", "http", "[::1]", 8000),
        (b"[::1]", "http", "[::1]", 80),
        (b"shop.example:evil", "http", "10.0.0.2", 8000),
    ],
)
def test_the_server_is_what_was_asked_for(host, scheme, address, port):
    attributes = request_attributes(http_scope(scheme=scheme) | {"headers": [(b"host", host)]}, {})
    assert (attributes["server.address"], attributes["server.port"]) == (address, port)


def test_error_types():
    class BoomError(Exception):
        pass

    assert error_type(ValueError("x")) == "ValueError"
    assert error_type(BoomError()).endswith("test_error_types.<locals>.BoomError")
