"""The inventory: a second tiny service, which every version of the shop shares."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from rolloutobs import instrument

ERRORS = float(os.environ.get("INVENTORY_ERRORS", "0"))
ERRORS_ONCE = os.environ.get("INVENTORY_ERRORS_ONCE", "")

app = instrument(FastAPI(title="inventory"), service="inventory")


@app.get("/stock/{product_id}")
async def stock(product_id: int) -> Response:
    """Return how many pieces of a product are left."""
    await asyncio.sleep(random.lognormvariate(-6.0, 0.4))
    if _fails():
        return JSONResponse({"detail": "the warehouse does not answer"}, status_code=503)
    return JSONResponse({"product": product_id, "left": 3 + product_id * 7 % 11})


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer that the service is up."""
    return {"status": "ok"}


def _fails() -> bool:
    return random.random() < ERRORS and (not ERRORS_ONCE or Path(ERRORS_ONCE).exists())
