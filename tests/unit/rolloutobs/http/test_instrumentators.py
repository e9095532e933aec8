"""Apps that expose their metrics already, by what most of them do it with."""

import asyncio
import subprocess
import sys
import textwrap

import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY, Counter
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette_exporter import PrometheusMiddleware, handle_metrics

from rolloutobs import instrument
from rolloutobs.settings import OnConflict, Settings
from rolloutobs.testing import call, sample_value, scrape

STAMP = {"app": "shop", "version": "1.2.0", "track": "canary"}


def settings(rule):
    return Settings(service="shop", version="1.2.0", track="canary", on_conflict=rule)


@pytest.fixture(autouse=True)
def _registry():
    before = set(REGISTRY._collector_to_names)
    Counter("test_orders", "Of the app itself.").inc(7)
    yield
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)
    PrometheusMiddleware._metrics.clear()


def fastapi_app(rule, *, first):
    app = FastAPI()
    app.get("/items/{item}")(lambda item: item)
    if first:
        Instrumentator().instrument(app).expose(app)
        return instrument(app, settings=settings(rule))
    instrument(app, settings=settings(rule))
    Instrumentator().instrument(app).expose(app)
    return app


async def served(app):
    for item in ("1", "2"):
        await call(app, f"/items/{item}")
    first, second = await asyncio.gather(scrape(app), scrape(app))
    assert [s.name for s in first] == [s.name for s in second]
    assert all(STAMP.keys() <= sample.labels.keys() for sample in second)
    assert sample_value(second, "test_orders_total", **STAMP) == 7
    assert not [s for s in second if s.name.endswith("_created")]
    return second


@pytest.mark.parametrize("first", [True, False])
async def test_fastapi_instrumentator_is_replaced(first, caplog):
    samples = await served(fastapi_app(OnConflict.REPLACE, first=first))
    assert sample_value(samples, "http_requests_total", route="/items/{item}", status="200", **STAMP) == 2
    assert sample_value(samples, "http_requests_total", handler="/items/{item}") is None
    assert sample_value(samples, "http_request_duration_seconds_count", status_class="2xx") == 2
    # What only theirs has stays; it counts scrapes as well.
    assert sample_value(samples, "http_request_duration_highr_seconds_count", **STAMP) >= 2
    replaced = [r.getMessage() for r in caplog.records if "ROLLOUTOBS_ON_CONFLICT" in r.getMessage()]
    assert len(replaced) == 1
    assert "http_request_duration_seconds, http_requests" in replaced[0]


@pytest.mark.parametrize("first", [True, False])
async def test_fastapi_instrumentator_is_adopted(first, caplog):
    samples = await served(fastapi_app(OnConflict.ADOPT, first=first))
    name = "http_requests_total"
    assert sample_value(samples, name, handler="/items/{item}", status="2xx", method="GET", **STAMP) == 2
    assert sample_value(samples, name, route="/items/{item}") is None
    assert sample_value(samples, "http_requests_in_flight", **STAMP) == 0
    assert not [r for r in caplog.records if "ROLLOUTOBS_ON_CONFLICT" in r.getMessage()]


async def test_both_are_shown_with_a_prefix():
    samples = await served(fastapi_app(OnConflict.PREFIX, first=True))
    assert sample_value(samples, "http_requests_total", handler="/items/{item}", **STAMP) == 2
    assert sample_value(samples, "rolloutobs_http_requests_total", route="/items/{item}", status="200") == 2
    assert sample_value(samples, "rolloutobs_http_request_duration_seconds_count", status_class="2xx") == 2
    assert sample_value(samples, "rolloutobs_http_requests_in_flight") == 0


@pytest.mark.parametrize("prefix", ["starlette", "http"])
@pytest.mark.parametrize("rule", [OnConflict.REPLACE, OnConflict.ADOPT])
async def test_starlette_exporter(rule, prefix):
    app = Starlette(
        routes=[
            Route("/items/{item}", lambda request: PlainTextResponse("x")),
            Route("/metrics", handle_metrics),
        ]
    )
    app.add_middleware(PrometheusMiddleware, app_name="old", prefix=prefix, group_paths=True)
    app = instrument(app, settings=settings(rule))
    for item in ("1", "2"):
        await call(app, f"/items/{item}")
    samples, _ = await asyncio.gather(scrape(app), scrape(app))
    theirs = {"path": "/items/{item}", "app_name": "old", **STAMP}
    ours = sample_value(samples, "http_requests_total", route="/items/{item}", status="200", **STAMP)
    adopted = prefix == "http" and rule is OnConflict.ADOPT
    assert ours == (None if adopted else 2)
    shown = sample_value(samples, f"{prefix}_requests_total", **theirs)
    assert shown == (2 if prefix == "starlette" or adopted else None)
    assert sample_value(samples, f"{prefix}_requests_in_progress", app_name="old", **STAMP) is not None
    assert sample_value(samples, "test_orders_total", **STAMP) == 7


DJANGO = """
import sys
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, INSTALLED_APPS=["django_prometheus"],
    MIDDLEWARE=[
        "django_prometheus.middleware.PrometheusBeforeMiddleware",
        "django_prometheus.middleware.PrometheusAfterMiddleware",
    ],
)
django.setup()
from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [
    path("items/<int:item>/", lambda request, item: HttpResponse(str(item))),
    path("", include("django_prometheus.urls")),
]
from rolloutobs import instrument
from rolloutobs.settings import Settings
from rolloutobs.testing import parse_metrics, sample_value

chosen = Settings(service="shop", version="1.2.0", track="canary")
stamp = {"app": "shop", "version": "1.2.0", "track": "canary"}


def check(text):
    samples = parse_metrics(text)
    route = "/items/<int:item>/"
    assert sample_value(samples, "http_requests_total", route=route, status="200", **stamp) == 2
    name = "django_http_responses_total_by_status_view_method_total"
    assert sample_value(samples, name, status="200", method="GET", **stamp) >= 2, text
    assert all(stamp.keys() <= sample.labels.keys() for sample in samples)
"""
WSGI = """
from django.core.wsgi import get_wsgi_application
from wsgiref.util import setup_testing_defaults

app = instrument(get_wsgi_application(), settings=chosen)


def get(where):
    environ = {"PATH_INFO": where}
    setup_testing_defaults(environ)
    started = []
    body = b"".join(app(environ, lambda status, headers, exc_info=None: started.append(status)))
    assert started[0].startswith("200"), started
    return body.decode()


for item in (1, 2):
    get(f"/items/{item}/")
check(get("/metrics"))
check(get("/metrics"))
"""
ASGI = """
import asyncio
from django.core.asgi import get_asgi_application
from rolloutobs.testing import call

app = instrument(get_asgi_application(), settings=chosen)


async def main():
    await asyncio.gather(*(call(app, f"/items/{item}/") for item in (1, 2)))
    for _ in range(2):
        check((await call(app, "/metrics")).body.decode())


asyncio.run(main())
"""


@pytest.mark.parametrize("interface", [WSGI, ASGI], ids=["wsgi", "asgi"])
def test_django_prometheus(interface, tmp_path):
    # Django's settings are those of a process.
    script = tmp_path / "site_of_a_test.py"
    script.write_text(textwrap.dedent(DJANGO + interface), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "of its own" in done.stderr
