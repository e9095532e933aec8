"""An app without a line of ours, started by `rolloutobs run` and by `opentelemetry-instrument`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from examples.demo.processes import free_ports
from rolloutobs.testing import parse_metrics, sample_value

BIN = Path(sys.executable).parent
FASTAPI = """
from fastapi import FastAPI
app = FastAPI()

@app.get("/items/{item_id}")
async def read(item_id: int):
    return {"id": item_id}
"""
BARE = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"].endswith("shutdown"):
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})
"""
OWN_LINE = (
    FASTAPI
    + """
from rolloutobs import instrument
instrument(app, version="9.9.9")
"""
)
BEHIND_MIDDLEWARE = (
    FASTAPI.replace("app = FastAPI()", "inner = app = FastAPI()")
    + """
class Outer:
    def __init__(self, app):
        self.app = app
    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)
app = Outer(inner)
"""
)
FACTORY = (
    FASTAPI
    + """
made = app
def create():
    return made
"""
)


class Server:
    def __init__(self, folder, source, *command, **environ):
        (self.port,) = free_ports(1)
        (folder / "shop.py").write_text(source)
        given = {"OTEL_SERVICE_NAME": "shop", "ROLLOUTOBS_VERSION": "1.2.0", "ROLLOUTOBS_TRACK": "canary"}
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [part.format(port=self.port) for part in command],
                cwd=folder,
                env={**os.environ, **given, "TMPDIR": str(folder), **environ},
                stdout=log,
                stderr=log,
            )

    def get(self, path):
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                    return answer.read().decode()
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.1)

    def counted(self):
        return parse_metrics(self.get("/metrics"))

    def stop(self):
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def serve(tmp_path):
    started = []

    def start(source, *command, **environ):
        started.append(Server(tmp_path, source, *command, **environ))
        return started[-1]

    yield start
    for server in started:
        server.stop()


UVICORN = (str(BIN / "uvicorn"), "--port", "{port}", "--log-level", "warning")
RUN = (str(BIN / "rolloutobs"), "run", "--", *UVICORN)


@pytest.mark.parametrize(
    ("command", "environ"),
    [
        ((*RUN, "shop:app"), {}),
        ((*RUN, "shop:app", "--workers", "2"), {}),
        ((*RUN, "shop:create", "--factory"), {}),
        ((str(BIN / "opentelemetry-instrument"), *UVICORN, "shop:app"), {"OTEL_TRACES_EXPORTER": "none"}),
    ],
    ids=["run", "workers", "factory", "opentelemetry-instrument"],
)
def test_requests_are_counted_by_route_version_and_track(serve, command, environ):
    server = serve(FACTORY, *command, **environ)
    for number in range(5):
        assert server.get(f"/items/{number}") == f'{{"id":{number}}}'
    found = {"route": "/items/{item_id}", "status": "200", "app": "shop", "version": "1.2.0"}
    assert sample_value(server.counted(), "http_requests_total", track="canary", **found) == 5


def test_an_app_of_no_framework_is_instrumented_under_uvicorn(serve):
    server = serve(BARE, *RUN, "shop:app")
    assert server.get("/") == "ok"
    assert sample_value(server.counted(), "http_requests_total", status="200", version="1.2.0") == 1


def test_the_line_of_code_wins(serve):
    server = serve(OWN_LINE, *RUN, "shop:app")
    server.get("/items/1")
    assert sample_value(server.counted(), "http_requests_total", status="200", version="9.9.9") == 1
    assert "again" not in server.log.read_text()


def test_a_framework_inside_of_other_middleware_is_instrumented_once(serve):
    server = serve(BEHIND_MIDDLEWARE, *RUN, "shop:app")
    server.get("/items/1")
    found = sample_value(server.counted(), "http_requests_total", route="/items/{item_id}", status="200")
    assert found == 1


def test_it_can_be_kept_out(serve):
    server = serve(FASTAPI, *RUN, "shop:app", ROLLOUTOBS_AUTO="false")
    assert server.get("/items/1") == '{"id":1}'
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10)


def test_another_sitecustomize_still_runs(serve, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sitecustomize.py").write_text("import os\nos.environ['MINE'] = 'ran'\n")
    source = "import os\nassert os.environ['MINE'] == 'ran'\n" + FASTAPI
    server = serve(source, *RUN, "shop:app", PYTHONPATH=str(tmp_path / "mine"))
    server.get("/items/1")
    assert sample_value(server.counted(), "http_requests_total", status="200", version="1.2.0") == 1


def test_the_first_request_counts_where_there_is_no_lifespan(serve):
    server = serve(FASTAPI, *RUN, "shop:app", "--lifespan", "off")
    server.get("/items/1")
    assert sample_value(server.counted(), "http_requests_total", status="200", version="1.2.0") == 1
