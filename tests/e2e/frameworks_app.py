"""Apps that the servers of `test_frameworks.py` load by their import strings."""

from typing import Any

from opentelemetry import trace

from rolloutobs import Settings, instrument
from rolloutobs.testing import SpanRecorder
from tests.transparency import apps

recorder = SpanRecorder()
SETTINGS = Settings(service="shop", version="1.2.0", track="canary", labels_file=None)


def _told(app: Any) -> Any:
    return instrument(app, settings=SETTINGS, tracer_provider=recorder.provider)


async def _hints(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what only newer servers know: an early hint and a push."""
    assert trace.get_current_span().is_recording()
    extensions = scope.get("extensions", {})
    if "http.response.early_hint" in extensions:
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload; as=style"]})
    if "http.response.push" in extensions:
        await send({"type": "http.response.push", "path": "/items/1", "headers": []})
    headers = [(b"content-type", b"text/html")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"<p>", "more_body": True})
    await send({"type": "http.response.body", "body": scope["http_version"].encode()})


def create() -> Any:
    """A factory, as ``uvicorn --factory`` wants it."""
    app = apps.starlette()
    app.mount("/hints", _hints)
    return _told(app)


app = create()
_made: dict[str, Any] = {}


def __getattr__(name: str) -> Any:
    # Each made when a server asks for it, so that none loads all of them.
    if name not in ("flask", "django"):
        raise AttributeError(name)
    if name not in _made:
        _made[name] = _told(apps.WSGI[name]())
    return _made[name]
