"""Whatever breaks around an app, it answers as if nobody was watching; each failure is counted."""

from __future__ import annotations

import asyncio
import logging

import pytest

from rolloutobs import instrument
from rolloutobs.testing import call, call_wsgi, parse_metrics, sample_value

from . import asgi_corpus, wsgi_corpus
from .breaking import FAULTS, BrokenError
from .watching import failures, told, total


def _check(fault, caplog):
    counted = set(failures())
    assert counted <= fault.where, counted
    assert not fault.where or counted, "nothing was counted"
    # One a minute at most, and these tests take seconds.
    assert len(told(caplog)) <= 1


@pytest.fixture
def caplog(caplog):
    caplog.set_level(logging.ERROR, "rolloutobs")
    return caplog


@pytest.fixture(scope="module")
def bare_asgi(tmp_path_factory):
    """What came of each request without us."""
    app = asgi_corpus.make_app(tmp_path_factory.mktemp("bare"))
    return asyncio.run(asgi_corpus.all_of(app, asgi_corpus.REGULAR))


@pytest.fixture(scope="module")
def bare_wsgi(tmp_path_factory):
    apps = wsgi_corpus.make_app(tmp_path_factory.mktemp("bare")), wsgi_corpus.raw
    pairs = zip(apps, WSGI, strict=True)
    return [[wsgi_corpus.send_to(app, ask) for ask in corpus] for app, corpus in pairs]


WSGI = [
    [ask for ask in corpus if ask.path not in wsgi_corpus.ODD]
    for corpus in (wsgi_corpus.FLASK, wsgi_corpus.BARE)
]


@pytest.mark.parametrize("name", FAULTS)
async def test_asgi(name, monkeypatch, tmp_path, caplog, bare_asgi):
    bare = bare_asgi
    fault = FAULTS[name](monkeypatch, tmp_path)
    app = instrument(asgi_corpus.make_app(tmp_path), settings=fault.settings, tracer_provider=fault.provider)
    came = []
    for ask in asgi_corpus.REGULAR:
        came.append(await asgi_corpus.send_to(app, ask))
        fault.between()
    asgi_corpus.assert_same(came, bare, asgi_corpus.REGULAR)
    together = await asgi_corpus.all_at_once(app, asgi_corpus.REGULAR)
    asgi_corpus.assert_same(together, bare, asgi_corpus.REGULAR)
    _check_asgi(name, fault)
    scraped = await call(app, "/metrics")
    assert scraped.status == 200
    assert sample_value(parse_metrics(scraped.body.decode()), "http_requests_in_flight") == 0
    fault.ended()
    if name not in UNTIDY:
        _check(fault, caplog)


UNTIDY = frozenset({"collector"})
"""Those whose failures are those of the scrape, and looked at elsewhere."""


def _check_asgi(name, fault):
    assert total("http_requests_in_flight") == 0
    assert total("ws_connections_active") == 0
    if name != "metrics":
        # All of them are counted, each once.
        asked = [ask.kind for ask in asgi_corpus.REGULAR]
        assert total("http_requests_total") == 2 * asked.count("http")
        assert total("http_request_duration_seconds") == 2 * asked.count("http")
        assert total("ws_connections_total") == 2 * asked.count("websocket")


@pytest.mark.parametrize("name", FAULTS)
def test_wsgi(name, monkeypatch, tmp_path, caplog, bare_wsgi):
    fault = FAULTS[name](monkeypatch, tmp_path)
    apps = wsgi_corpus.make_app(tmp_path), wsgi_corpus.raw
    for inner, corpus, expected in zip(apps, WSGI, bare_wsgi, strict=True):
        app = instrument(inner, settings=fault.settings, tracer_provider=fault.provider)
        came = []
        for ask in corpus:
            came.append(wsgi_corpus.send_to(app, ask))
            fault.between()
        wsgi_corpus.assert_same(came, expected, corpus)
        scraped = call_wsgi(app, "/metrics")
        assert scraped.status == 200
        # Not shown where an app is made while there is no room.
        shown = {0} if name != "shared-full" else {0, None}
        assert sample_value(parse_metrics(scraped.body.decode()), "http_requests_in_flight") in shown
    assert total("http_requests_in_flight") == 0
    if name != "metrics":
        assert total("http_requests_total") == sum(map(len, WSGI))
    fault.ended()
    if name not in UNTIDY:
        _check(fault, caplog)


async def test_a_broken_part_of_the_app_itself_is_still_told(tmp_path):
    """The guard holds back our failures, and none of the app's."""
    app = instrument(asgi_corpus.make_app(tmp_path))

    @app.get("/own")
    async def own():
        raise BrokenError("the app's own")

    with pytest.raises(BrokenError):
        await call(app, "/own")
