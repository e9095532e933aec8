"""A real endpoint, read over HTTP."""

from __future__ import annotations

import asyncio
import urllib.request
from time import monotonic

import pytest

from rolloutobs.errors import ConfigurationError
from synthetic.endpoint import serve
from synthetic.metrics import CheckMetrics


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def metrics() -> CheckMetrics:
    return CheckMetrics("shop", ["checkout"], ())


def test_served_over_http_and_gone_afterwards():
    served = metrics()
    served.count_internal_error("artifacts")
    with serve(served, "127.0.0.1", 0) as endpoint:
        texts = [read(endpoint.url) for _ in range(2)]
    for text in texts:
        assert 'rolloutobs_internal_errors_total{where="artifacts"} 1.0' in text
        assert "process_start_time_seconds" in text
    with pytest.raises(OSError, match="refused"):
        read(endpoint.url)


def test_an_address_that_is_taken():
    with serve(metrics(), "127.0.0.1", 0) as endpoint:
        port = int(endpoint.url.split(":")[2].split("/")[0])
        with (
            pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}"),
            serve(metrics(), "127.0.0.1", port),
        ):
            pass


async def test_what_is_counted_last_is_waited_for_until_it_has_been_read():
    with serve(metrics(), "127.0.0.1", 0) as endpoint:
        # What was read before does not count.
        await asyncio.to_thread(read, endpoint.url)
        waiting = asyncio.create_task(endpoint.wait_until_read(monotonic(), 600.0, asyncio.Event()))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        await asyncio.to_thread(read, endpoint.url)
        await asyncio.wait_for(waiting, 60)


async def test_what_has_been_read_since_it_was_counted_is_not_waited_for():
    with serve(metrics(), "127.0.0.1", 0) as endpoint:
        counted = monotonic()
        await asyncio.to_thread(read, endpoint.url)
        await asyncio.wait_for(endpoint.wait_until_read(counted, 600.0, asyncio.Event()), 60)


async def test_nobody_is_waited_for_longer_than_asked(caplog):
    with serve(metrics(), "127.0.0.1", 0) as endpoint:
        await asyncio.wait_for(endpoint.wait_until_read(monotonic(), 0.01, asyncio.Event()), 60)
        assert "ends without a last scrape" in caplog.text
        caplog.clear()
        await endpoint.wait_until_read(monotonic(), 0.0, asyncio.Event())
        stop = asyncio.Event()
        stop.set()
        await endpoint.wait_until_read(monotonic(), 600.0, stop)
        assert not caplog.text


async def test_a_stop_ends_the_wait():
    with serve(metrics(), "127.0.0.1", 0) as endpoint:
        stop = asyncio.Event()
        waiting = asyncio.create_task(endpoint.wait_until_read(monotonic(), 600.0, stop))
        await asyncio.sleep(0)
        stop.set()
        await asyncio.wait_for(waiting, 60)
