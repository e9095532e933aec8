"""Type-checked, never run: what callers of `instrument` get back."""

from typing import Any, assert_type

from fastapi import FastAPI
from starlette.applications import Starlette

from rolloutobs import Identity, Settings, Track, instrument

fastapi_app = FastAPI()
assert_type(instrument(fastapi_app), FastAPI)
assert_type(instrument(Starlette(), version="1.2.0", track=Track.CANARY), Starlette)
assert_type(instrument(fastapi_app, settings=Settings(service="shop")).title, str)


async def bare(scope: Any, receive: Any, send: Any) -> None: ...


wrapped = instrument(bare, track="canary")
assert_type(Settings.from_env({}).identity, Identity)
