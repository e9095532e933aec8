"""Memory stays flat, and everything that remembers something has an end, whatever is asked."""

from __future__ import annotations

import functools
import gc
import logging
import sys
import tracemalloc
import weakref
from collections import deque

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from rolloutobs import Settings, instrument
from rolloutobs.identity import Track
from rolloutobs.telemetry import hub
from rolloutobs.testing import FakeClock

from .hostile import SECRET, make_app, scopes, serve

CAP = 150
"""Label sets per metric."""
LIMIT = 1500
"""No container of ours may hold more than this; there are more requests, even in a hundredth of a soak."""
REQUESTS = 333_333
"""Of each of three kinds of settings: a million."""
SETTINGS = {
    "plain": {},
    "all": {"secret": (SECRET,), "caller_label": True, "captured_request_headers": ("x-.*",)},
    "callers": {"caller_label": True, "naming": "semconv", "excluded_urls": ("/never/",)},
}


SAWTOOTH_BYTES = 600_000
"""What caches that are emptied when they are full may differ by: in a whole soak 10 bytes a request."""


class Ended(SpanProcessor):
    """Counts spans, and keeps none."""

    def __init__(self):
        self.count = 0

    def on_end(self, span):
        self.count += 1


def containers():
    """Yield name and container of everything that an object or module of ours holds on to."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "rolloutobs":
            yield from ((f"{name}.{key}", value) for key, value in list(vars(module).items()))
    for found in gc.get_objects():
        cls = type(found)
        module = getattr(cls, "__module__", "")
        if not isinstance(module, str) or not module.startswith("rolloutobs"):
            continue
        names = {*getattr(found, "__dict__", {})}
        for each in cls.__mro__:
            names.update(getattr(each, "__slots__", ()))
        for attribute in names:
            try:
                yield f"{cls.__module__}.{cls.__qualname__}.{attribute}", getattr(found, attribute, None)
            except Exception:
                # A property that wants something that is gone.
                continue


def sizes():
    """Return the size of the largest container by name."""
    found = {}
    kinds = (dict, list, set, frozenset, deque)
    for name, value in containers():
        if isinstance(value, kinds) or type(value).__module__ == "weakref":
            found[name] = max(found.get(name, 0), len(value))
    return found


def caches():
    """Return the caches of functions of ours."""
    wrapper = type(functools.lru_cache(lambda: None))
    found = [each for each in gc.get_objects() if isinstance(each, wrapper)]
    return [each for each in found if (getattr(each, "__module__", "") or "").startswith("rolloutobs")]


async def send(app, requests, count):
    # Those of the test keep every record, with all that its traceback refers to.
    handlers, logging.root.handlers[:] = logging.root.handlers[:], [logging.NullHandler()]
    try:
        for i in range(count):
            await serve(app, next(requests), leaves=i % 17 == 0)
    finally:
        logging.root.handlers[:] = handlers


def instrumented(name, folder, processor):
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(0.1), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return instrument(
        make_app(),
        settings=Settings(
            service="shop", version="1", max_label_sets=CAP, **({"metrics_dir": folder} if folder else {}),
            **SETTINGS[name],
        ),
        tracer_provider=provider,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "shared"), [("all", False), ("callers", False), ("plain", True)])
async def test_nothing_grows(name, shared, scaled, tmp_path):
    ended = Ended()
    # From the beginning: else what is replaced later looks like more.
    tracemalloc.start(1)
    app = instrumented(name, str(tmp_path) if shared else None, ended)
    requests, count = scopes(1), scaled(REQUESTS)
    of_app = app._rolloutobs.hub
    await send(app, requests, max(count // 2, 2 * CAP))
    of_app.render()
    # What other tests have left is not looked through again and again.
    gc.collect()
    gc.freeze()
    # Caches that are emptied when they are full go up and down: the highest of each half counts.
    peaks = []
    try:
        for _ in range(2):
            peak = 0
            for _ in range(8):
                await send(app, requests, count // 32 + 1)
                gc.collect()
                peak = max(peak, tracemalloc.get_traced_memory()[0])
            peaks.append(peak)
            shown = len(of_app.render().body)
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    assert peaks[1] - peaks[0] < SAWTOOTH_BYTES, peaks
    too_big = {found: size for found, size in sizes().items() if size > LIMIT}
    assert too_big == {}
    assert shown < 5_000_000
    for family in list(hub.process_store()._families.values()):
        assert len(family._cells) <= family.max_sets + 1, family.name
        assert len(family._cells) <= max(CAP, 300), family.name
    # Even so nothing was lost: what does not fit is in the overflow.
    families = {f.name: f for f in of_app.store.families(of_app.book)}
    requests_total = families.get("http_requests_total") or families.get("http_server_requests_total")
    assert ("_overflow",) * len(requests_total.label_names) in dict(requests_total.items())
    assert families[next(n for n in families if "flight" in n or "active" in n)].cell().value == 0


def test_every_cache_has_an_end():
    instrument(make_app(), settings=Settings(service="shop", version="1", identity_hosts=("*.example",)))
    found = caches()
    assert len(found) >= 3
    assert [each.__wrapped__ for each in found if each.cache_info().maxsize is None] == []
    assert max(each.cache_info().maxsize for each in found) <= 4096


async def test_changes_of_the_track_leave_nothing_behind(scaled):
    """A track that flaps forever: as many generations as there are tracks."""
    app = instrumented("plain", None, Ended())
    of_app, clock = app._rolloutobs.hub, FakeClock()
    of_app._clock = clock
    requests = scopes(2)
    tracks = ("canary", "stable", "", "baseline")
    lengths = []
    for i in range(scaled(2000)):
        await send(app, requests, 3)
        of_app.retrack(Track(tracks[i % 4]))
        clock.advance(1.0)
        of_app.render()
        lengths += [len(of_app.generations.earlier)]
    assert max(lengths) == 3
    clock.advance(10_000)
    of_app.render()
    assert of_app.generations.earlier == {}


def test_instrumenting_again_and_again_keeps_no_app(scaled):
    settings = Settings(service="shop", version="1")
    apps = [weakref.ref(instrument(make_app(), settings=settings)) for _ in range(scaled(500))]
    gc.collect()
    assert sum(ref() is not None for ref in apps) <= 1
