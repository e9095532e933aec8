"""A weighted router, as a service mesh or an ingress would be: so much of the traffic goes to the canary.

A client that keeps cookies stays on the track it was given. The weight is changed while it runs:
`PUT /_router/weight` with a body such as `0.4`. It is not instrumented: a mesh is not part of the app.
`ROUTER_STABLE_PATHS` is a prefix of paths that stable answers for both, as a bucket or a CDN does that knows
one version: what breaks pages that ask for files of their own.

    export ROUTER_STABLE=http://127.0.0.1:8101,http://127.0.0.1:8102 ROUTER_CANARY=http://127.0.0.1:8201
    uvicorn examples.demo.router:app
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

COOKIE = "demo_track"
STABLE_PATHS = os.environ.get("ROUTER_STABLE_PATHS", "")
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "transfer-encoding",
        "te",
        "upgrade",
        "content-length",
        "host",
        "date",
        "server",
    }
)
"""Headers of one connection (RFC 9110, 7.6.1), with those that the next one sets itself."""


@dataclass
class Weights:
    """Servers of each track, and the share of new visitors that the canary gets, from 0 to 1."""

    servers: dict[str, Iterator[str]]
    canary: float = 0.0

    def choose(self, cookie: str | None) -> str:
        """Return the track for a client: the one it had, unless that track gets no traffic any more."""
        if cookie == "canary" and self.canary > 0:
            return "canary"
        if cookie == "stable" and self.canary < 1:
            return "stable"
        return "canary" if random.random() < self.canary else "stable"


def _servers(name: str) -> Iterator[str]:
    return itertools.cycle([url for url in os.environ.get(name, "").split(",") if url])


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Keep one pool of connections while the router runs."""
    app.state.weights = Weights({"stable": _servers("ROUTER_STABLE"), "canary": _servers("ROUTER_CANARY")})
    limits = httpx2.Limits(max_connections=200, max_keepalive_connections=100)
    async with httpx2.AsyncClient(timeout=10.0, limits=limits) as client:
        app.state.client = client
        yield


async def weight(request: Request) -> Response:
    """Set or show the canary's share of the traffic."""
    weights: Weights = request.app.state.weights
    if request.method == "PUT":
        try:
            share = float(await request.body())
        except ValueError:
            return PlainTextResponse("send a number from 0 to 1\n", status_code=400)
        if not 0 <= share <= 1:
            return PlainTextResponse(f"{share} is not from 0 to 1\n", status_code=400)
        weights.canary = share
    return PlainTextResponse(f"{weights.canary}\n")


async def forward(request: Request) -> Response:
    """Send the request on to a server of the chosen track."""
    weights: Weights = request.app.state.weights
    client: httpx2.AsyncClient = request.app.state.client
    had = request.cookies.get(COOKIE)
    track = weights.choose(had)
    answers = "stable" if STABLE_PATHS and request.url.path.startswith(STABLE_PATHS) else track
    url = httpx2.URL(next(weights.servers[answers])).join(request.url.path)
    if request.url.query:
        url = url.copy_with(query=request.url.query.encode())
    headers = [(k, v) for k, v in request.headers.items() if k not in HOP_BY_HOP]
    try:
        answer = await client.request(request.method, url, headers=headers, content=await request.body())
    except httpx2.TransportError as error:
        return PlainTextResponse(f"{answers} does not answer: {error!r}\n", status_code=502)
    response = Response(answer.content, answer.status_code)
    # The body was decoded on its way through, so its old encoding no longer holds.
    keep = HOP_BY_HOP | {"content-encoding"}
    response.raw_headers.extend(
        (k.encode("latin-1"), v.encode("latin-1"))
        for k, v in answer.headers.multi_items()
        if k.lower() not in keep
    )
    if had != track:
        response.set_cookie(COOKIE, track, httponly=True)
    return response


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/_router/weight", weight, methods=["GET", "PUT"]),
        Route("/{path:path}", forward, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
    ],
)
