"""The shop: catalog, product, cart and checkout, and the page that uses them.

Version and track come from the environment (`ROLLOUTOBS_VERSION`, `ROLLOUTOBS_TRACK`), and so do faults
(`faults.py`).
The one line that this example is about is `instrument(app)`.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from string import Template

import httpx2
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import Counter
from pydantic import BaseModel, Field

from examples.shop.faults import Faults
from rolloutobs import instrument
from rolloutobs.telemetry.propagation import inject

HERE = Path(__file__).parent
PAGE = Template((HERE / "static" / "index.html").read_text(encoding="utf-8"))
INVENTORY_URL = os.environ.get("INVENTORY_URL", "http://127.0.0.1:8001")
COLLECTOR_URL = os.environ.get("COLLECTOR_URL", "")
VERSION = os.environ.get("ROLLOUTOBS_VERSION", "dev")
PAYMENT_ERRORS = float(os.environ.get("SHOP_PAYMENT_ERRORS", "0.02"))
"""Share of checkouts that fail in every version: the payment provider has bad moments."""

PRODUCTS = {
    1: ("Espresso beans, 1 kg", 1890),
    2: ("Pour-over kettle", 4990),
    3: ("Hand grinder", 7900),
    4: ("Paper filters, 100", 490),
    5: ("Travel mug", 2450),
    6: ("Milk jug, 350 ml", 1650),
}

FAULTS = Faults.from_env(os.environ)
CHECKOUTS = Counter("checkouts_completed_total", "Checkouts that were paid.")


class CartLine(BaseModel):
    """A product and how many of it."""

    product: int
    quantity: int = Field(default=1, ge=1, le=20)


class Order(BaseModel):
    """What a visitor wants to pay."""

    lines: list[CartLine] = Field(min_length=1, max_length=20)


async def _stamp(request: httpx2.Request) -> None:
    inject(request.headers, url=request.url)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one pool of connections to the inventory while the shop runs."""
    limits = httpx2.Limits(max_connections=100)
    async with httpx2.AsyncClient(
        base_url=INVENTORY_URL, timeout=5.0, limits=limits, event_hooks={"request": [_stamp]}
    ) as client:
        app.state.inventory = client
        yield


app = FastAPI(title="shop", lifespan=lifespan)
instrument(app, service="shop")


@app.get("/", response_class=HTMLResponse)
async def page() -> HTMLResponse:
    """Return the page; the browser's script learns version and track from this response's Server-Timing."""
    await FAULTS.strike("GET /")
    script = ""
    if COLLECTOR_URL:
        script = (
            f'<script src="{COLLECTOR_URL}/rolloutobs.js" data-app="shop" data-route="/" '
            f'data-endpoint="{COLLECTOR_URL}/b"></script>'
        )
    fault = "frontend" if FAULTS.broken_frontend else ""
    return HTMLResponse(
        PAGE.substitute(rum=script, fault=fault, version=VERSION), headers={"cache-control": "no-cache"}
    )


@app.get("/static/chunks/tips.{version}.js")
async def chunk(version: str) -> FileResponse:
    """Return a part of the page's script; as files named by a build, each version has only its own."""
    if version != VERSION:
        raise HTTPException(404, f"this is {VERSION}")
    return FileResponse(HERE / "static" / "tips.js")


@app.get("/catalog")
async def catalog() -> list[dict[str, object]]:
    """Return every product."""
    await FAULTS.strike("GET /catalog")
    await _work(0.008)
    return [_product(number) for number in PRODUCTS]


@app.get("/product/{product_id}")
async def product(product_id: int, request: Request) -> dict[str, object]:
    """Return one product and what is left of it."""
    if product_id not in PRODUCTS:
        raise HTTPException(404, "no such product")
    await FAULTS.strike("GET /product/{product_id}")
    await _work(0.012)
    return _product(product_id) | {"left": await _left(request, product_id)}


@app.post("/cart")
async def cart(line: CartLine, request: Request) -> dict[str, object]:
    """Check a line of the cart against the inventory."""
    if line.product not in PRODUCTS:
        raise HTTPException(404, "no such product")
    await FAULTS.strike("POST /cart")
    await _work(0.006)
    left = await _left(request, line.product)
    return {"product": line.product, "quantity": min(line.quantity, left), "left": left}


@app.post("/checkout")
async def checkout(order: Order) -> dict[str, object]:
    """Take the payment."""
    await FAULTS.strike("POST /checkout")
    await _work(0.025)
    if random.random() < PAYMENT_ERRORS:
        raise HTTPException(502, "the payment provider did not answer")
    total = sum(PRODUCTS[line.product][1] * line.quantity for line in order.lines if line.product in PRODUCTS)
    CHECKOUTS.inc()
    return {"order": f"{random.randrange(10**8):08d}", "total_cents": total}


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer that the service is up."""
    return {"status": "ok"}


app.mount("/static", StaticFiles(directory=HERE / "static"))


def _product(number: int) -> dict[str, object]:
    name, cents = PRODUCTS[number]
    return {"id": number, "name": name, "price_cents": cents}


async def _work(median_seconds: float) -> None:
    """Take about as long as a database would: log-normal around the median."""
    await asyncio.sleep(median_seconds * random.lognormvariate(0.0, 0.45))


async def _left(request: Request, product_id: int) -> int:
    try:
        answer = await request.app.state.inventory.get(f"/stock/{product_id}")
        answer.raise_for_status()
    except httpx2.HTTPError as error:
        raise HTTPException(503, "the inventory does not answer") from error
    return int(answer.json()["left"])
