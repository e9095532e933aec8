"""Apps in place and outside; copied, pickled, called in both ways."""

import asyncio
import copy
import gc
import pickle
import time
import weakref

import pytest
from flask import Flask
from litestar import Litestar, get
from litestar.params import FromPath
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router

from rolloutobs import Settings, instrument
from rolloutobs.instrumentation import is_instrumented
from rolloutobs.testing import SpanRecorder, call, call_wsgi, sample_value, scrape

CANARY = Settings(service="shop", version="1.2.0", track="canary", labels_file=None)


async def ok(request):
    return PlainTextResponse(request.app.state.name)


def starlette_app(name="one"):
    app = Starlette(routes=[Route("/items/{item_id}", ok)])
    app.state.name = name
    return app


@pytest.fixture
def recorder():
    return SpanRecorder()


async def counted(app, status="200"):
    return sample_value(await scrape(app), "http_requests_total", status=status)


async def test_a_copy_is_instrumented_and_counts_into_the_same_metrics(recorder):
    app = instrument(starlette_app(), settings=CANARY, tracer_provider=recorder.provider)
    other = copy.copy(app)
    assert type(other) is type(app)
    assert is_instrumented(other)
    other.router = Router([Route("/only/{here}", ok)])
    assert (await call(app, "/items/1")).status == 200
    assert (await call(other, "/only/1")).status == 200
    assert (await call(app, "/only/1")).status == 404
    assert (await call(copy.copy(other), "/only/2")).status == 200
    assert await counted(app) == await counted(other) == 3
    assert [span.name for span in recorder.spans] == [
        "GET /items/{item_id}",
        "GET /only/{here}",
        "GET",
        "GET /only/{here}",
    ]


async def test_a_pickled_app_is_instrumented_where_it_is_unpickled(recorder):
    # Routes hold functions that cannot be pickled, and a State does not come back; an app without both does.
    app = instrument(Starlette(), settings=CANARY)
    del app.state
    revived = pickle.loads(pickle.dumps(app))
    assert revived is not app
    assert type(revived) is type(app)
    assert revived._rolloutobs is not app._rolloutobs
    assert (await call(revived, "/items/1")).status == 404
    assert await counted(revived, "404") == 1
    assert await counted(app, "404") is None
    identity = {
        k: v for k, v in (await scrape(revived))[0].labels.items() if k in ("app", "version", "track")
    }
    assert identity == {"app": "shop", "version": "1.2.0", "track": "canary"}


class Bare:
    """At the top of a module, as pickle wants it."""

    def __init__(self):
        self.parts = ["ok"]

    async def __call__(self, scope, receive, send):
        await PlainTextResponse(self.parts[0])(scope, receive, send)


async def test_wrapped_apps_are_copied_and_pickled_too():
    app = instrument(Bare(), settings=CANARY)
    shallow, deep, pickled = copy.copy(app), copy.deepcopy(app), pickle.loads(pickle.dumps(app))
    deep.parts[0] = "deep"
    for made, body in ((app, b"ok"), (shallow, b"ok"), (deep, b"deep"), (pickled, b"ok")):
        assert is_instrumented(made)
        assert (await call(made)).body == body
    # Deep copies count with what they are copies of; what comes out of a pickle is an app of its own.
    assert await counted(app) == await counted(shallow) == await counted(deep) == 3
    assert await counted(pickled) == 1


async def test_an_app_without_attributes_of_its_own_is_instrumented_in_place(recorder):
    @get("/items/{item_id:int}", sync_to_thread=False)
    def item(item_id: FromPath[int]) -> str:
        return str(item_id)

    def litestar():
        return Litestar([item], openapi_config=None)

    app, other = litestar(), litestar()
    assert instrument(app, settings=CANARY, tracer_provider=recorder.provider) is app
    assert instrument(other, settings=CANARY) is other
    assert isinstance(app, Litestar)
    assert type(app) is not type(other)
    assert is_instrumented(app)
    assert not is_instrumented(litestar())
    assert instrument(app) is app
    for _ in range(2):
        assert (await call(app, "/items/7")).body == b"7"
    assert await counted(app) == 2
    assert await counted(other) == 0
    copied = copy.copy(app)
    assert (await call(copied, "/items/7")).body == b"7"
    assert await counted(app) == 3
    assert [span.name for span in recorder.spans] == ["GET /items/{item_id}"] * 3


async def test_a_subclass_that_knows_its_class_still_does(recorder):
    class Own(Starlette):
        def __init__(self):
            super().__init__(routes=[Route("/", ok)])
            self.state.name = "own"

        async def __call__(self, scope, receive, send):
            await super().__call__(scope, receive, send)

        def again(self):
            return type(self)()

    app = instrument(Own(), settings=CANARY, tracer_provider=recorder.provider)
    assert (await call(app)).body == b"own"
    assert type(app).__qualname__ == Own.__qualname__
    # Made by the class, and not by us: not instrumented, and served as it is.
    again = app.again()
    assert not is_instrumented(again)
    assert (await call(again)).body == b"own"
    assert len(recorder.spans) == 1


async def test_an_app_that_may_be_either_is_what_it_is_called_as():
    async def as_asgi(scope, receive, send):
        await PlainTextResponse("asgi")(scope, receive, send)

    def as_wsgi(environ, start_response):
        start_response("200 OK", [])
        return [b"wsgi"]

    def either(*request):
        return (as_wsgi if len(request) == 2 else as_asgi)(*request)

    app = instrument(either, settings=CANARY)
    for _ in range(2):
        assert (await call(app)).body == b"asgi"
        assert call_wsgi(app).body == b"wsgi"
    assert await counted(app) == 4
    assert b"http_requests_total" in call_wsgi(app, "/metrics").body


@pytest.mark.parametrize("made", [starlette_app, lambda: Flask("f"), lambda: Litestar([]), lambda: Bare()])
async def test_an_app_that_nobody_needs_any_more_is_freed(made, recorder):
    served = instrument(made(), settings=CANARY, tracer_provider=recorder.provider)
    if isinstance(served, Flask):
        call_wsgi(served, "/metrics")
    else:
        await call(served)
        await scrape(served)
    watched = weakref.ref(served._rolloutobs)
    del served
    # The thread that has answered the scrape may be ending still.
    deadline = time.monotonic() + 30
    while watched() is not None and time.monotonic() < deadline:
        gc.collect()
        await asyncio.sleep(0.01)
    assert watched() is None


async def test_an_app_of_version_2_is_served_as_version_3(recorder):
    class Old:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            await PlainTextResponse(self.scope["path"])(self.scope, receive, send)

    app = instrument(Old, settings=CANARY, tracer_provider=recorder.provider)
    for path in ("/a", "/b"):
        assert (await call(app, path)).body == path.encode()
    assert await counted(app) == 2


async def test_middleware_that_is_added_later_is_inside(recorder):
    seen = []

    class Sees:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            from opentelemetry import trace

            seen.append(trace.get_current_span().get_span_context().span_id)
            await self.app(scope, receive, send)

    app = instrument(starlette_app(), settings=CANARY, tracer_provider=recorder.provider)
    app.add_middleware(Sees)
    for _ in range(2):
        await call(app, "/items/1")
    assert seen == [span.context.span_id for span in recorder.spans]
