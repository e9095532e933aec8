"""A page that says who it is, on a free port; prints its URL and serves until it is told to end."""

from __future__ import annotations

import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route


def app(version: str, track: str) -> Starlette:
    """Return the app."""
    who = {"server-timing": f'version;desc="{version}", track;desc="{track}"'}

    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse("<!doctype html><title>a page</title>hello", headers=who)

    return Starlette(routes=[Route("/", page)])


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app(*sys.argv[1:3]), log_level="error", lifespan="off", ws="none")
    uvicorn.Server(config).run(sockets=[listener])
