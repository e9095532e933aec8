"""The web application: who asks, what for, and in which form it is answered. It never waits for a look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rolloutobs.console import wire
from rolloutobs.console.board import Board
from rolloutobs.console.looking import Looker
from rolloutobs.console.metrics import Metrics
from rolloutobs.console.model import Key, Status, Workload
from rolloutobs.console.pages import list_page, live_script, workload_page
from rolloutobs.console.standing import Hook, standing
from rolloutobs.console.tokens import Tokens

__all__ = ["Console", "application"]

_MOST_BYTES: Final = 65536
"""Of a body."""
_BODY_SECONDS: Final = 5.0
"""How long a body may take to arrive: Flagger itself gives up after ten."""
_SILENT_SECONDS: Final = 60.0
"""After so long without a sign of life from the thread that looks, the process is to be started again."""
_OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics", "/live.js"})
"""Paths that need no token: they say nothing about a rollout, or what Prometheus will have anyway."""
_DECIDING: Final = "/v1/override"
"""The path that always needs one."""
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Console:
    """What the application answers from."""

    board: Board
    looker: Looker
    tokens: Tokens
    metrics: Metrics
    clock: Callable[[], float]
    cover: Callable[[Key], Workload | None]
    """Returns a workload that no entry names but the defaults cover; ``None``: they do not."""
    unreadable: Callable[[], str]
    """Returns why the file of workloads could not be read again; empty: it could."""
    is_open: bool = False
    """Whether whoever reaches it may ask without a token, though there are some."""


def application(console: Console) -> Starlette:
    """Return the application."""
    handlers = _Handlers(console)
    return Starlette(
        routes=[
            Route("/", handlers.all),
            Route("/rollouts/{namespace}/{workload}", handlers.one),
            Route("/live.js", handlers.script),
            Route("/v1/verdict", handlers.verdict),
            Route("/v1/workloads", handlers.workloads),
            Route(_DECIDING, handlers.override, methods=["POST"]),
            Route("/flagger/{hook}", handlers.flagger, methods=["POST"]),
            Route("/healthz", handlers.healthz),
            Route("/readyz", handlers.readyz),
            Route("/metrics", handlers.metrics),
        ],
        middleware=[Middleware(_Guard, tokens=console.tokens, is_open=console.is_open)],
        exception_handlers={
            wire.BadRequestError: _refused(400),
            404: _refused(
                404, "there is no such path; there are /, /v1/verdict, /v1/workloads and /flagger/..."
            ),
            405: _refused(405, "this path is asked with another method"),
        },
    )


def _refused(status: int, text: str = "") -> Callable[[Request, Exception], Response]:
    def handle(request: Request, error: Exception) -> Response:
        del request
        return JSONResponse(wire.error(text or str(error)), status)

    return handle


class _Guard:
    """Lets nobody in without a token, where there are tokens. A body is JSON, which no foreign page may
    send."""

    def __init__(self, app: ASGIApp, tokens: Tokens, is_open: bool) -> None:
        self._app, self._tokens, self._is_open = app, tokens, is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Request(scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        # Not that of the URL, which is put together from what the caller says of the host.
        path = request.scope["path"]
        if path in _OPEN:
            return None
        is_asked = bool(self._tokens) and (path == _DECIDING or not self._is_open)
        if is_asked and not self._tokens.accept(request.headers.get("authorization", "")):
            asking = {"WWW-Authenticate": 'Basic realm="rolloutobs", charset="UTF-8"'}
            return JSONResponse(wire.error("a token is needed"), 401, asking)
        if request.method == "POST" and not request.headers.get("content-type", "").startswith(
            "application/json"
        ):
            return JSONResponse(wire.error("the body has to be application/json"), 415)
        return None


class _Handlers:
    """One method for each path."""

    def __init__(self, console: Console) -> None:
        self._console, self._board = console, console.board
        self._evidence: dict[Key, tuple[object, Mapping[str, Any]]] = {}

    # --- verdicts ------------------------------------------------------------------------------------------

    async def verdict(self, request: Request) -> Response:
        """Answer what Argo Rollouts' web provider asks: 200 wherever there is a verdict."""
        key = _named(request)
        if not self._is_known(key):
            return self._unknown(key)
        id_ = request.query_params.get("rollout", "").strip()
        status = await asyncio.to_thread(self._board.speak_of, key, id_) if id_ else self._board.get(key)
        if status is None:
            return self._unknown(key)
        return await self._told(status, "verdict")

    async def workloads(self, request: Request) -> Response:
        """List the workloads, each with what holds."""
        del request
        now = self._console.clock()
        found = []
        for status in self._board.all():
            held = standing(status, now)
            found.append(
                {
                    "namespace": status.workload.namespace,
                    "workload": status.workload.name,
                    "owner": status.rails.owner or None,
                    "decision": held.decision.value,
                    "sentence": held.sentence,
                    "trouble": held.trouble or None,
                }
            )
        return JSONResponse({"schema": wire.SCHEMA, "workloads": found})

    async def override(self, request: Request) -> Response:
        """Let a person decide. Whoever may do that has a token."""
        if not self._console.tokens:
            return JSONResponse(wire.error("an override needs a token; start serve with --token-file"), 403)
        call = wire.OverrideCall.read(await _body(request))
        if not self._is_known(call.key):
            return self._unknown(call.key)
        overriding = call.overriding(self._console.clock())
        status = await asyncio.to_thread(self._board.override, call.key, overriding, call.who, call.reason)
        if status is None:
            return self._unknown(call.key)
        return await self._told(status, "override", always=True)

    async def _told(self, status: Status, hook: str, *, always: bool = False) -> Response:
        now = self._console.clock()
        evidence = await asyncio.to_thread(self._evidence_of, status)
        found = wire.verdict(status, now, evidence)
        code = 503 if found["trouble"] and found["decision"] == "hold" and not always else 200
        self._console.metrics.answered(status.workload.key, hook, code)
        return JSONResponse(found, code)

    def _evidence_of(self, status: Status) -> Mapping[str, Any] | None:
        """Return the evidence as JSON has it, made once for each look."""
        if status.seen is None:
            return None
        key, report = status.workload.key, status.seen.report
        made = self._evidence.get(key)
        if made is None or made[0] is not report:
            made = (report, wire.evidence(report))
            # Without those of workloads that are gone.
            kept = {each: found for each, found in self._evidence.copy().items() if self._board.get(each)}
            self._evidence = {**kept, key: made}
        return made[1]

    # --- Flagger -------------------------------------------------------------------------------------------

    async def flagger(self, request: Request) -> Response:
        """Answer one of Flagger's webhooks: 200 is yes, and for ``rollback`` that means roll back."""
        word = request.path_params["hook"]
        if word not in set(Hook):
            return JSONResponse(wire.error(f"there is no hook {word!r}; there are {', '.join(Hook)}"), 404)
        hook = Hook(word)
        call = wire.FlaggerCall.read(await _body(request))
        if not self._is_known(call.key):
            return self._unknown(call.key)
        answer = await asyncio.to_thread(
            self._board.hook, call.key, hook, call.checksum, call.phase, call.message
        )
        if answer is None:
            return self._unknown(call.key)
        self._console.metrics.answered(call.key, hook.value, answer.status)
        return PlainTextResponse(answer.text + "\n", answer.status)

    # --- who is there --------------------------------------------------------------------------------------

    def _is_known(self, key: Key) -> bool:
        if self._board.get(key) is not None:
            return True
        workload = self._console.cover(key)
        if workload is not None:
            self._board.put(workload)
        return workload is not None

    def _unknown(self, key: Key) -> Response:
        who = f"workload {key[1]!r} in namespace {key[0]!r}"
        return JSONResponse(wire.error(f"{who} is not watched: it has no entry in the file"), 404)

    # --- pages ---------------------------------------------------------------------------------------------

    async def all(self, request: Request) -> Response:
        """Show all workloads."""
        del request
        now = self._console.clock()
        return _page(await asyncio.to_thread(list_page, self._board.all(), now, self._board.unsaved))

    async def one(self, request: Request) -> Response:
        """Show one workload."""
        key = (request.path_params["namespace"], request.path_params["workload"])
        status = self._board.get(key)
        if status is None:
            return self._unknown(key)
        return _page(
            await asyncio.to_thread(workload_page, status, self._console.clock(), str(request.base_url))
        )

    async def script(self, request: Request) -> Response:
        """Return what keeps the pages fresh."""
        del request
        return Response(live_script(), media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    # --- about itself --------------------------------------------------------------------------------------

    async def healthz(self, request: Request) -> Response:
        """Tell whether the process is to be left alone: a Prometheus that is away is no reason to end it."""
        del request
        silent = self._console.looker.silent_seconds
        if silent <= _SILENT_SECONDS:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"the thread that looks has been silent for {silent:.0f} s\n", 503)

    async def readyz(self, request: Request) -> Response:
        """Tell whether it can be asked; what could not be read again goes on as it was, and is told."""
        told = [self._console.unreadable(), self._console.tokens.failed, self._board.unsaved]
        answer = await self.healthz(request)
        if answer.status_code != 200:
            return answer
        return PlainTextResponse("\n".join(["ok", *filter(None, told)]) + "\n")

    async def metrics(self, request: Request) -> Response:
        """Return the metrics."""
        del request
        text = await asyncio.to_thread(self._console.metrics.text)
        return Response(text, media_type=CONTENT_TYPE_LATEST)


def _named(request: Request) -> Key:
    key = tuple(request.query_params.get(name, "").strip() for name in ("namespace", "workload"))
    for name, value in zip(("namespace", "workload"), key, strict=True):
        if not value:
            raise wire.BadRequestError(f"{name} is missing; ask for /v1/verdict?namespace=...&workload=...")
    return key[0], key[1]


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > _MOST_BYTES:
                    raise wire.BadRequestError(f"the body is longer than {_MOST_BYTES} bytes")
    except (TimeoutError, ClientDisconnect):
        raise wire.BadRequestError("the body did not come in time") from None
    return body


def _page(text: str) -> Response:
    return Response(
        text,
        media_type="text/html",
        headers={
            "Content-Security-Policy": _POLICY,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        },
    )
