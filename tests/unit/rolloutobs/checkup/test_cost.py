import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rolloutobs import instrument
from rolloutobs.checkup.cost import HEALTHY, TROUBLED, cost
from rolloutobs.settings import Naming, Settings
from rolloutobs.testing import call

BUCKETS = 20 + 1


@pytest.mark.parametrize(
    ("statuses", "per_route"), [(HEALTHY, 2 + BUCKETS + 2), (TROUBLED, 3 + 3 * (BUCKETS + 2)), ((), 2)]
)
def test_series_grow_with_routes(statuses, per_route):
    some, more = cost(10, statuses), cost(30, statuses)
    assert some.series_per_route == more.series_per_route == per_route
    assert more.series - some.series == 20 * per_route
    assert more.bytes > some.bytes > some.gzip_bytes > 0


def test_other_names_other_costs():
    settings = Settings(service="s", version="1", naming=Naming.SEMCONV)
    assert cost(5, HEALTHY, settings).series_per_route == 14 + 1 + 2
    sent = Settings(service="s", version="1", export_metrics=True)
    assert cost(5, HEALTHY, sent).series == cost(5).series


async def test_it_is_what_an_app_exposes():
    routes = [Route(f"/r{n}", lambda request: PlainTextResponse("x"), methods=["GET"]) for n in range(7)]
    app = instrument(Starlette(routes=routes), settings=Settings(service="s", version="1"))
    for n in range(7):
        assert (await call(app, f"/r{n}")).status == 200
    body = (await call(app, "/metrics")).body.decode()
    names = ("http_requests", "http_request_duration_seconds")
    series = [s for f in text_string_to_metric_families(body) if f.name in names for s in f.samples]
    assert len(series) == 7 * cost(7).series_per_route
