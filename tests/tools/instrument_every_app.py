"""A pytest plugin under which a framework's own tests run with every app instrumented.

It is run by hand, from the unpacked source of a framework, once bare and once with the plugin; the results
have to be the same::

    python -m pytest -q tests
    PYTHONPATH=<this folder> python -m pytest -q -p instrument_every_app tests
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from rolloutobs import Settings, instrument
from rolloutobs.instrumentation import is_instrumented
from rolloutobs.settings import SpanMode

# Off for the tests of a framework's own tracing, which would find the spans to be ours.
SPANS = SpanMode(os.environ.get("ROLLOUTOBS_SPANS", "own"))
SETTINGS = Settings(
    service="suite", version="1.2.0", track="canary", labels_file=None, logs=False, spans=SPANS
)
PROVIDER = TracerProvider(shutdown_on_exit=False)
counted = {"apps": 0}


def told(app: Any) -> Any:
    """Return `app` instrumented; what is no app, or one already, as it is."""
    if not callable(app) or is_instrumented(app):
        return app
    counted["apps"] += 1
    return instrument(app, settings=SETTINGS, tracer_provider=PROVIDER)


def _patch_test_client(module: Any) -> None:
    original = module.TestClient.__init__

    @functools.wraps(original)
    def made(self: Any, app: Any, *args: Any, **kwargs: Any) -> None:
        original(self, told(app), *args, **kwargs)

    module.TestClient.__init__ = made


def _patch_flask(module: Any) -> None:
    original = module.Flask.__init__

    @functools.wraps(original)
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        told(self)

    module.Flask.__init__ = made


def pytest_configure() -> None:
    """Patch what is installed: Starlette's test client, which most of its tests use, and Flask's apps."""
    import flask
    import starlette.testclient

    _patch_test_client(starlette.testclient)
    _patch_flask(flask)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how much was instrumented, and what went wrong in it."""
    from rolloutobs.telemetry.hub import process_failures

    failures = {labels: cell.value for labels, cell in process_failures().family.items() if cell.value}
    terminalreporter.write_line(f"{counted['apps']} apps instrumented, internal errors: {failures}")
    sys.stdout.flush()
