from __future__ import annotations

import pytest

from rolloutobs.errors import ConfigurationError
from synthetic.routing import Route, parse_route


def test_a_route():
    route = parse_route(["X-Canary: always", "X-Empty:"], ["canary=a=b"], ["v=1 2"], 3, "--canary")
    assert route == Route((("X-Canary", "always"), ("X-Empty", "")), (("canary", "a=b"),), (("v", "1 2"),), 3)


@pytest.mark.parametrize(
    ("url", "routed"),
    [
        ("http://s/", "http://s/?v=1+2"),
        ("http://s/a?b=c#d", "http://s/a?b=c&v=1+2#d"),
        ("http://s/?v=mine", "http://s/?v=mine"),
    ],
)
def test_the_query_of_a_route_is_added_once(url, routed):
    route = Route(query=(("v", "1 2"),))
    assert route.url(url).rstrip("&") == routed
    assert route.url(route.url(url)) == route.url(url)
    assert Route().url(url) == url


@pytest.mark.parametrize(
    ("headers", "cookies", "query", "attempts", "words"),
    [
        (["X-Canary"], [], [], 0, "--canary-header is 'X-Canary'"),
        (["X Canary: 1"], [], [], 0, "--canary-header has the name 'X Canary'"),
        (["X: a\nY: b"], [], [], 0, "--canary-header"),
        ([], ["canary"], [], 0, "--canary-cookie is 'canary'"),
        ([], ["canary=a;b"], [], 0, "--canary-cookie is canary='a;b'"),
        ([], [], ["=1"], 0, "--canary-query is '=1'"),
        ([], [], [], -1, "--attempts is -1"),
    ],
)
def test_what_is_no_route(headers, cookies, query, attempts, words):
    with pytest.raises(ConfigurationError, match=words):
        parse_route(headers, cookies, query, attempts, "--canary")
