"""Who connects and says nothing keeps nobody out."""

import asyncio

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rolloutobs.console.connection import Connection

LIMIT_SECONDS = 60.0
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"


class Quick(Connection):
    wait_seconds = 0.5


async def length(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def opened(port: int, text: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text)
    return reader, writer


async def ended(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(LIMIT_SECONDS):
        return await reader.read()


async def test_silent_connections_are_closed_and_a_slow_body_is_waited_for():
    app = Starlette(routes=[Route("/", length, methods=["GET", "POST"])])
    config = uvicorn.Config(app, port=0, http=Quick, limit_concurrency=5, log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve())
    async with asyncio.timeout(LIMIT_SECONDS):
        while not server.started:
            await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    # A body that is not there yet; half a head; half a second one; nothing at all.
    texts = (HEAD + b"a", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /", b"")
    slow, *silent = [await opened(port, text) for text in texts]
    bodies = [await ended(reader) for reader, _ in silent]
    assert [body.partition(b"\r\n")[0] for body in bodies] == [b"", b"HTTP/1.1 200 OK", b""]
    async with httpx2.AsyncClient(timeout=LIMIT_SECONDS) as client:
        assert (await client.get(f"http://127.0.0.1:{port}/")).text == "0"
    slow[1].write(b"b")
    assert (await ended(slow[0])).endswith(b"\r\n\r\n2")
    server.should_exit = True
    await serving
    for _, writer in (slow, *silent):
        writer.close()
