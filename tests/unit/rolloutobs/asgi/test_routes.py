"""Routes through real frameworks: the template, never the path."""

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles

from rolloutobs.asgi.routes import RouteReader, known_routes
from rolloutobs.testing import call, http_scope


async def ok(request):
    return PlainTextResponse("ok")


async def answer():
    return "ok"


def starlette_app(tmp_path):
    (tmp_path / "a.css").write_text("x")
    inner = Starlette(routes=[Route("/users/{user_id}", ok), Route("/", ok)])
    deeper = Starlette(routes=[Mount("/v{version:int}", app=inner)])
    return Starlette(
        routes=[
            Route("/", ok),
            Route("/items/{item_id:int}", ok, methods=["GET", "POST"]),
            Mount("/static", StaticFiles(directory=tmp_path)),
            Mount("/api", app=inner),
            Mount("/tenants/{tenant}", app=deeper),
            Mount("/router", app=Router([Route("/a/{b}", ok)])),
            Mount(
                "/opaque/{secret}",
                app=lambda scope, receive, send: PlainTextResponse("x")(scope, receive, send),
            ),
            Host("api.example", app=Router([Mount("/h/{x}", app=Router([Route("/y", ok)]))])),
        ]
    )


def fastapi_app(tmp_path):
    app = FastAPI()
    app.get("/items/{item_id}")(answer)
    users = APIRouter(prefix="/users")
    users.get("/{user_id}")(answer)
    users.add_route("/plain/{x}", ok)
    users.mount("/files/{owner}", starlette_app(tmp_path))
    outer = APIRouter(prefix="/v1")
    outer.include_router(users, prefix="/inner")
    app.include_router(outer, prefix="/api")
    app.add_route("/health/{check}", ok)
    sub = FastAPI()
    sub.get("/things/{thing}")(answer)
    sub_router = APIRouter(prefix="/r")
    sub_router.get("/{x}")(answer)
    sub.include_router(sub_router)
    app.mount("/sub/{tenant}", sub)
    return app


async def route_of(app, path, **changes):
    reader, seen = RouteReader(), {}

    async def wrapped(scope, receive, send):
        try:
            await app(scope, receive, send)
        finally:
            seen["route"] = reader.read(scope)
            # A second reading, from what the first one has remembered.
            assert reader.read(scope) == seen["route"]

    await call(wrapped, path, **changes)
    return seen["route"]


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/items/7", "/items/{item_id}"),
        ("/items/8", "/items/{item_id}"),
        ("/items/seven", ""),
        ("/nothing/here", ""),
        ("/items/7/", ""),
        ("/static/a.css", "/static/{path}"),
        ("/api/users/7", "/api/users/{user_id}"),
        ("/api/", "/api/"),
        ("/api/none/of/these", "/api/{path}"),
        ("/tenants/acme/v2/users/7", "/tenants/{tenant}/v{version}/users/{user_id}"),
        ("/tenants/users/v1/users/users", "/tenants/{tenant}/v{version}/users/{user_id}"),
        ("/router/a/1", "/router/a/{b}"),
        ("/opaque/token123/x", "/opaque/{secret}/{path}"),
    ],
)
async def test_starlette(tmp_path, path, route):
    assert await route_of(starlette_app(tmp_path), path) == route


async def test_starlette_hosts_and_405(tmp_path):
    app = starlette_app(tmp_path)
    assert await route_of(app, "/items/7", method="DELETE") == "/items/{item_id}"
    scope_of_host = [(b"host", b"api.example")]
    assert await route_of(app, "/h/secret/y", headers=scope_of_host) == ""
    direct = {**http_scope("/h/secret/y"), "headers": scope_of_host}
    reader = RouteReader()
    sent = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    await Starlette(routes=app.routes[-1:])(direct, receive, send)
    assert sent[0]["status"] == 200
    assert reader.read(direct) == "/h/{x}/y"


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/items/7", "/items/{item_id}"),
        ("/api/v1/inner/users/7", "/api/v1/inner/users/{user_id}"),
        ("/api/v1/inner/plain/9", "/api/v1/inner/plain/{x}"),
        ("/api/v1/inner/files/me/items/7", "/api/v1/inner/files/{owner}/items/{item_id}"),
        ("/health/db", "/health/{check}"),
        ("/docs", "/docs"),
        ("/sub/acme/things/9", "/sub/{tenant}/things/{thing}"),
        ("/sub/acme/r/9", "/sub/{tenant}/r/{x}"),
        ("/sub/acme/nothing/9", "/sub/{tenant}/{path}"),
        ("/nothing", ""),
    ],
)
async def test_fastapi(tmp_path, path, route):
    assert await route_of(fastapi_app(tmp_path), path) == route


async def test_a_root_path_of_the_server_is_not_part_of_the_route(tmp_path):
    app = starlette_app(tmp_path)
    assert await route_of(app, "/proxy/items/7", root_path="/proxy") == "/items/{item_id}"
    assert await route_of(app, "/proxy/api/users/7", root_path="/proxy") == "/api/users/{user_id}"
    assert await route_of(app, "/proxy/tenants/a/v1/", root_path="/proxy") == "/tenants/{tenant}/v{version}/"


async def test_a_mount_whose_template_cannot_be_found_shows_no_values():
    inner = Starlette(routes=[Route("/x", ok)])

    async def own_router(scope, receive, send):
        scope["app_root_path"] = ""
        scope["root_path"] = "/customer-4711"
        await inner(scope, receive, send)

    assert await route_of(own_router, "/customer-4711/x") == "/{mount}/x"


async def test_an_app_without_routes_has_none():
    async def plain(scope, receive, send):
        await PlainTextResponse("x")(scope, receive, send)

    assert await route_of(plain, "/a/b") == ""
    assert list(known_routes(plain)) == []


def test_prefixes_without_parameters_are_remembered_and_no_others(tmp_path):
    reader = RouteReader()
    app = starlette_app(tmp_path)
    for tenant in ("a", "b"):
        scope = {
            "app_root_path": "",
            "root_path": f"/tenants/{tenant}",
            "router": app.router,
            "route": Route("/x", ok),
        }
        assert reader.read(scope) == "/tenants/{tenant}/x"
    scope = {"app_root_path": "", "root_path": "/api", "router": app.router, "route": Route("/x", ok)}
    assert reader.read(scope) == "/api/x"
    assert reader._static_prefixes == {"": "", "/api": "/api"}


def test_known_routes_are_listed_with_their_methods(tmp_path):
    assert set(known_routes(starlette_app(tmp_path))) == {
        ("GET", "/"),
        ("GET", "/items/{item_id}"),
        ("POST", "/items/{item_id}"),
        ("GET", "/api/users/{user_id}"),
        ("GET", "/api/"),
        ("GET", "/tenants/{tenant}/v{version}/users/{user_id}"),
        ("GET", "/tenants/{tenant}/v{version}/"),
        ("GET", "/router/a/{b}"),
        ("GET", "/h/{x}/y"),
    }
    listed = set(known_routes(fastapi_app(tmp_path)))
    assert {
        ("GET", "/api/v1/inner/users/{user_id}"),
        ("GET", "/api/v1/inner/plain/{x}"),
        ("GET", "/api/v1/inner/files/{owner}/items/{item_id}"),
        ("GET", "/sub/{tenant}/r/{x}"),
        ("GET", "/docs"),
    } <= listed
