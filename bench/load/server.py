"""A server that answers at once, but for four seconds in each twenty, in which it answers nobody until they
are over; so the truth about its durations is known, and larger than what a busy machine adds.

    python -m bench.load.server PORT TRACK
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter

__all__ = ["PERIOD_SECONDS", "STALL_SECONDS", "true_quantile"]

PERIOD_SECONDS = 20.0
STALL_SECONDS = 4.0


def true_quantile(share: float) -> float:
    """Return the quantile of the time that somebody waits who comes at any moment, in seconds.

    Who comes during a stall waits for its rest, which is anything up to its length, each as likely; the
    others do not wait: ``P(wait > x) = stall / period * (1 - x / stall)``.
    """
    stalled = STALL_SECONDS / PERIOD_SECONDS
    return max(0.0, STALL_SECONDS * (1 - (1 - share) / stalled))


async def _serve(port: int, track: str) -> None:
    began = perf_counter()
    version = "1.2.0" if track == "canary" else "1.1.0"
    answer = (
        f'HTTP/1.1 200 OK\r\nserver-timing: version;desc="{version}", track;desc="{track}"\r\n'
        "content-length: 2\r\n\r\nok"
    ).encode()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                phase = (perf_counter() - began) % PERIOD_SECONDS
                if phase > PERIOD_SECONDS - STALL_SECONDS:
                    await asyncio.sleep(PERIOD_SECONDS - phase)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", port)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))
