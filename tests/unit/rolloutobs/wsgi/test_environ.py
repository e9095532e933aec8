"""An environ as a scope, and the headers that may carry a trace."""

import pytest
from opentelemetry import propagate
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator

from rolloutobs.testing import wsgi_environ
from rolloutobs.wsgi.environ import PropagatedHeaders, path_of, raw_headers, scope_of


def test_a_scope_has_what_the_environ_has():
    environ = wsgi_environ(
        "/caf\u00e9?q=1", "POST", [(b"x-a", b"1")], SCRIPT_NAME="/shop", CONTENT_TYPE="a/b", CONTENT_LENGTH=""
    )
    assert scope_of(environ) == {
        "type": "http",
        "method": "POST",
        "path": "/shop/caf\u00e9",
        "root_path": "/shop",
        "scheme": "http",
        "query_string": b"q=1",
        "http_version": "1.1",
        "headers": [(b"host", b"shop.example:8080"), (b"x-a", b"1"), (b"content-type", b"a/b")],
        "client": ("10.0.0.1", 40000),
        "server": ("10.0.0.2", 8000),
    }


def test_what_the_environ_lacks_is_left_out():
    scope = scope_of({"REQUEST_METHOD": "GET", "REMOTE_ADDR": "", "SERVER_NAME": "a", "SERVER_PORT": "http"})
    assert scope["path"] == "/"
    assert scope["server"] == ("a", None)
    assert "client" not in scope


@pytest.mark.parametrize(
    ("raw", "path"), [("", "/"), ("/a", "/a"), ("/\xc3\xa9", "/\u00e9"), ("/\xff", "/\ufffd")]
)
def test_paths(raw, path):
    assert path_of({"PATH_INFO": raw}) == path


def test_headers_that_are_no_text_are_left_out():
    assert raw_headers({"HTTP_X": 1, "HTTP_Y_Z": "\u20ac", "OTHER": "x"}) == [(b"y-z", b"?")]


def test_only_headers_that_the_propagator_reads_are_looked_at():
    class Other(TextMapPropagator):
        fields = frozenset({"x-trace"})
        extract = inject = None

    environ = wsgi_environ(headers=[(b"traceparent", b"t"), (b"x-trace", b"o"), (b"baggage", b"b")])
    headers = PropagatedHeaders()
    for _ in range(2):
        assert headers.of(environ) == [(b"traceparent", b"t"), (b"baggage", b"b")]
    propagate.set_global_textmap(CompositePropagator([Other()]))
    assert (b"x-trace", b"o") in headers.of(environ)
