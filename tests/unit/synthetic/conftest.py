"""A small real shop on a loopback port, in as many versions as a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

PAGE = """<!doctype html><title>shop</title>
<ul id="products"></ul><output id="cart">0 in the cart</output>
<button id="checkout">Check out</button><p id="done"></p>
<script>
const synthetic = window.__rolloutobs_synthetic === true;
fetch('/away').catch(() => {});
fetch('/api/products').then(r => r.json()).then(all => {
  for (const name of all) {
    const li = document.createElement('li');
    li.textContent = name;
    const button = li.appendChild(document.createElement('button'));
    button.textContent = 'Add to cart';
    button.onclick = () => { document.getElementById('cart').textContent = '1 in the cart'; };
    document.getElementById('products').append(li);
  }
});
document.getElementById('checkout').onclick = async () => {
  const answer = await fetch('/api/checkout', {method: 'POST'});
  if (!answer.ok) throw new Error('checkout answered ' + answer.status);
  document.getElementById('done').textContent = 'Thank you.';
};
const others = OTHERS;
for (const url of others) {
  fetch(url + '/api/products');
  const headers = {'content-type': 'application/json'};
  fetch(url + '/beacon?preflighted', {method: 'POST', headers, body: '{}'});
}
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState !== 'hidden') return;
  const body = JSON.stringify({synthetic});
  for (const url of ['', ...others]) navigator.sendBeacon(url + '/beacon?hidden', body);
});
</script>"""


@dataclass
class Shop:
    """One server: who it says it is, what is broken, and what it was asked."""

    version: str = "1.1.0"
    track: str = "stable"
    checkout_status: int = 200
    silent: bool = False
    """Says nothing about who it is."""
    split: str = ""
    """One address for both tracks: by "header", "cookie" or "query" ``track``, by "weight" (each third
    visitor is the canary's, as a cookie remembers) or "loose" (each third request)."""
    visitors: int = 0
    flaky: int = 0
    """So many first checkouts fail."""
    hang: bool = False
    """Never answers pages."""
    asked_at: str = ""
    """A path that is never answered; who asks for it is told to `on_asked`."""
    on_asked: Callable[[], object] = lambda: None
    others: tuple[str, ...] = ()
    """Origins that the page talks to as well."""
    url: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """Method and path with query, headers, body; in the order of arrival."""
    release: threading.Event = field(default_factory=threading.Event)

    def asked(self, path: str) -> list[dict[str, str]]:
        """Headers of the requests for a path, e.g. ``"GET /"``."""
        return [headers for line, headers, _ in self.requests if line == path]

    def app(self) -> Starlette:
        async def note(request: Request) -> None:
            query = f"?{request.url.query}" if request.url.query else ""
            body = await request.body()
            self.requests.append((f"{request.method} {request.url.path}{query}", dict(request.headers), body))

        def who(request: Request) -> tuple[str, str]:
            places = {"header": request.headers, "cookie": request.cookies, "query": request.query_params}
            if not self.split:
                return self.version, self.track
            track = places.get(self.split, request.cookies).get("track", "")
            if self.split in ("weight", "loose") and not track:
                self.visitors += 1
                track = "stable" if self.visitors % 3 else "canary"
            return ("1.2.0", "canary") if track == "canary" else ("1.1.0", "stable")

        def named(response: Response, request: Request) -> Response:
            version, track = who(request)
            if not self.silent:
                said = f'db;dur=1.2, version;desc="{version}", track;desc="{track}"'
                response.headers["server-timing"] = said
            response.headers["x-version"] = version
            if self.split == "weight":
                response.set_cookie("track", track)
            return response

        async def about(request: Request) -> Response:
            version, track = who(request)
            build = {"build": {"version": version}, "track": track}
            return JSONResponse(build)

        async def metrics(request: Request) -> Response:
            version, track = who(request)
            return Response(f'app_build_info{{app="shop",version="{version}",track="{track}"}} 1\n')

        async def page(request: Request) -> Response:
            await note(request)
            while self.hang and not self.release.is_set():
                await asyncio.sleep(0.05)
            return named(HTMLResponse(PAGE.replace("OTHERS", str(list(self.others)))), request)

        async def products(request: Request) -> Response:
            await note(request)
            if request.url.path == self.asked_at:
                self.on_asked()
                while not self.release.is_set():
                    await asyncio.sleep(0.05)
            return named(JSONResponse(["Hand grinder", "Kettle"]), request)

        async def checkout(request: Request) -> Response:
            await note(request)
            self.flaky -= 1
            return named(JSONResponse({}, 500 if self.flaky >= 0 else self.checkout_status), request)

        async def away(request: Request) -> Response:
            await note(request)
            there = self.others[0] if self.others else ""
            return named(RedirectResponse(f"{there}/api/products?redirected"), request)

        async def beacon(request: Request) -> Response:
            await note(request)
            return Response(status_code=204)

        routes = [
            Route("/", page), Route("/api/products", products), Route("/away", away),
            Route("/about", about), Route("/metrics", metrics),
            Route("/api/checkout", checkout, methods=["POST"]), Route("/beacon", beacon, methods=["POST"]),
        ]  # fmt: skip
        app = Starlette(routes=routes)
        app.add_middleware(
            CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["content-type"]
        )
        return app


@pytest.fixture
def serve() -> Iterator[Callable[[Shop], Shop]]:
    """Start shops on free ports; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(shop: Shop) -> Shop:
            listener = socket.create_server(("127.0.0.1", 0))
            shop.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            server = uvicorn.Server(uvicorn.Config(shop.app(), log_config=None, ws="none", lifespan="off"))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()

            def end() -> None:
                shop.release.set()
                server.should_exit = True
                thread.join(timeout=10)
                listener.close()

            stack.callback(end)
            return shop

        yield start


@pytest.fixture
def refused() -> str:
    """URL at which nothing listens: the port was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def journey_file(tmp_path: Path) -> Path:
    path = tmp_path / "journeys.py"
    path.write_text(
        textwrap.dedent("""
        async def checkout(page, shop):
            page.set_default_timeout(4000)
            async with shop.step("open the shop"):
                await shop.open("/")
            async with shop.step("add to cart"):
                await page.get_by_role("button", name="Add to cart").first.click()
                await page.get_by_text("1 in the cart").wait_for()
            async with shop.step("check out"):
                await page.get_by_role("button", name="Check out").click()
                await page.get_by_text("Thank you.").wait_for()

        async def order(api, shop):
            async with shop.step("read"):
                assert (await api.get("/api/products")).json() == ["Hand grinder", "Kettle"]
            async with shop.step("check out"):
                (await api.post("/api/checkout")).raise_for_status()

        def not_a_journey(page, shop):
            return None
        """),
        encoding="utf-8",
    )
    return path


@pytest.fixture
def shop_type() -> type[Shop]:
    """The class, for tests: conftest cannot be imported from."""
    return Shop
