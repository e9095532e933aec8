"""`http_requests_total` by who called: which pair of versions fails."""

import asyncio
import time

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rolloutobs import instrument
from rolloutobs.http.metrics import MAX_CALLERS
from rolloutobs.settings import Settings
from rolloutobs.telemetry.signing import Claim, sign
from rolloutobs.testing import SpanRecorder, call, sample_value, scrape

SECRET = "0123456789abcdef"
TOTAL = "http_requests_total"


def users(**settings):
    """An app that fails whom its version 1.1.0 is called by; slow requests wait for each other."""
    both = asyncio.Barrier(2)

    async def user(request):
        broken = "rolloutobs.version=1.2.0" in request.headers.get("baggage", "")
        return PlainTextResponse("x", status_code=500 if broken else 200)

    async def slow(request):
        await both.wait()
        return await user(request)

    app = Starlette(routes=[Route("/u/{id}", user), Route("/slow", slow)])
    settings = Settings(service="users", version="1.1.0", **settings)
    return instrument(app, settings=settings, tracer_provider=SpanRecorder().provider)


def by(version, service="gateway", more=""):
    return [(b"baggage", f"rolloutobs.service={service},rolloutobs.version={version}{more}".encode())]


async def test_pairs_of_versions_are_told_apart():
    app = users(caller_label=True)
    for version in ("1.1.0", "1.2.0", "1.2.0"):
        await call(app, "/u/7", headers=by(version))
    await call(app, "/u/7", headers=by("1.1.0", more=",synthetic=test"))
    await call(app, "/u/7")
    samples = await scrape(app)

    def value(status, caller, version, **labels):
        return sample_value(
            samples, TOTAL, route="/u/{id}", status=status, caller=caller, caller_version=version, **labels
        )

    assert value("500", "gateway", "1.2.0") == 2
    assert value("200", "gateway", "1.1.0", synthetic="") == 1
    assert value("200", "gateway", "1.1.0", synthetic="true") == 1
    assert value("200", "", "") == 1
    # From zero, as every counter of a route.
    assert value("500", "gateway", "1.1.0", synthetic="") == 0
    assert value("500", "", "") == 0
    assert not [s for s in samples if "caller" in s.labels and not s.labels["caller"]]
    # The histogram is not split: series are a cost.
    assert not [s for s in samples if "duration" in s.name and "caller" in s.labels]
    assert sample_value(samples, "http_request_duration_seconds_count", route="/u/{id}", synthetic="") == 4


async def test_requests_that_overlap_keep_their_callers():
    app = users(caller_label=True)
    await asyncio.gather(call(app, "/slow", headers=by("1.1.0")), call(app, "/slow", headers=by("1.3.0")))
    samples = await scrape(app)
    for version in ("1.1.0", "1.3.0"):
        assert sample_value(samples, TOTAL, route="/slow", status="200", caller_version=version) == 1


async def test_it_is_off_unless_asked_for():
    app = users()
    for _ in range(2):
        await call(app, "/u/7", headers=by("1.2.0"))
    samples = await scrape(app)
    assert sample_value(samples, TOTAL, route="/u/{id}", status="500") == 2
    assert not [sample for sample in samples if {"caller", "caller_version"} & sample.labels.keys()]


async def test_with_a_secret_only_callers_that_prove_it_are_named():
    app = users(caller_label=True, secret=(SECRET,))
    signature = sign(SECRET, Claim("gateway", "1.3.0"), time.time())
    for _ in range(2):
        await call(app, "/u/7", headers=by("1.3.0"))
        await call(app, "/u/7", headers=by("1.3.0", more=f",rolloutobs.sig={signature}"))
        await call(app, "/u/7", headers=by("1.4.0", more=f",rolloutobs.sig={signature}"))
    samples = await scrape(app)
    assert sample_value(samples, TOTAL, route="/u/{id}", status="200", caller="") == 4
    assert sample_value(samples, TOTAL, route="/u/{id}", status="200", caller="gateway") == 2
    assert {s.labels.get("caller_version", "") for s in samples if s.name == TOTAL} == {"", "1.3.0"}
    assert sample_value(samples, "rolloutobs_baggage_rejected_total", reason="unsigned") == 2
    assert sample_value(samples, "rolloutobs_baggage_rejected_total", reason="forged") == 2
    assert sample_value(samples, "rolloutobs_baggage_rejected_total", reason="stale") == 0


@pytest.mark.parametrize("rounds", [1, 2])
async def test_callers_cannot_use_up_the_label_sets(rounds):
    app = users(caller_label=True)
    for number in [*range(MAX_CALLERS + 50)] * rounds:
        await call(app, "/u/7", headers=by(f"9.{number}", service="mallory"))
    await call(app, "/u/7")
    samples = await scrape(app)
    callers = {s.labels.get("caller_version") for s in samples if s.name == TOTAL and s.labels["route"]}
    assert len(callers) == MAX_CALLERS + 2
    others = sample_value(samples, TOTAL, caller="_overflow", caller_version="_overflow", status="200")
    assert others == 50 * rounds
    assert sample_value(samples, TOTAL, route="/u/{id}", status="200", caller="") == 1
    # Label sets of the metric are left for its routes.
    assert not sample_value(samples, "rolloutobs_label_sets_dropped_total", metric=TOTAL)
