"""The app of the programs in this folder, and what they print."""

import asyncio
import json

from fastapi import FastAPI

from rolloutobs import Settings, instrument
from rolloutobs.testing import call, sample_value, scrape

SETTINGS = Settings(service="shop", version="1.2.0", track="canary")


def make_app():
    app = FastAPI()

    @app.get("/items/{item_id}")
    async def read(item_id: int):
        return {"id": item_id}

    return app


def serve(app, **given):
    """Instrument `app`, send one request, and return how many were counted."""
    instrument(app, settings=SETTINGS, **given)

    async def once():
        answer = await call(app, "/items/7")
        assert answer.status == 200
        return sample_value(await scrape(app), "http_requests_total", status="200")

    return asyncio.run(once())


def report(requests, server_spans, attributes):
    print(
        json.dumps(
            {
                "server_spans": server_spans,
                "track": attributes.get("rolloutobs.track"),
                "version": attributes.get("app.version"),
                "requests": requests,
            }
        )
    )
