"""A million mutated bodies over sockets: never a 5xx, every body accounted for, memory flat."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

from tests.e2e.test_collector import running

FIXTURES = Path(__file__).parents[1] / "fixtures" / "rum"
PATHS = {"faro": "/collect", "otlp-http-json-logs": "/v1/logs", "otlp-http-json-traces": "/v1/traces"}
CONNECTIONS = 8
KILOBYTES_OF_GROWTH = 40_000
"""Caches and tables are full after the first tenth; what is above that would be a leak."""


def _seeds() -> list[tuple[str, bytes]]:
    ours = {
        "v": 1, "pv": "seed", "app": "shop", "ver": "1.2.0", "trk": "canary", "m": [["lcp", 1834.2]], "fe": 1,
        "e": [{"t": "TypeError", "m": "x is null", "s": "a.js:1:2", "n": 3}], "c": [["checkout", 1]],
        "re": [["img", 2]], "rf": 1, "nav": "reload", "rt": "/product/7", "sq": 0, "d": 1, "ab": 1, "sr": 0.5,
        "f": [["/api/items/:id", 3, 1, 240]], "xp": [2, 1, "bWFyayBvZiAxMiBieXRl"], "lf": [120, 4000],
        "np": [["dns", 3], ["dom", 90]], "tk": "A" * 107, "tp": f"00-{'c' * 32}-{'d' * 16}-01",
    }  # fmt: skip
    simple = {"metric": "page_load_time", "value": 1234, "version": "1.2.0"}
    found = [("/b", json.dumps(ours).encode()), ("/api/metrics", json.dumps(simple).encode())]
    for file in sorted(FIXTURES.glob("*.json")):
        content = json.loads(file.read_text())
        if "body_text" in content:
            path = next((path for name, path in PATHS.items() if file.name.startswith(name)), "/b")
            found.append((path, content["body_text"].encode()))
    return found


def _mutated(chance: random.Random, body: bytes) -> bytes:
    data = bytearray(body)
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        at = chance.randrange(len(data) or 1)
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.randrange(40)]
            case 2:
                data[at:at] = data[at : at + chance.randrange(200)]
            case 3:
                odd = (b"null", b"1e999", b"-1", b'"\\ud800"', b"[[[[", b"{}", b"\x00", 400 * b"9")
                data[at:at] = chance.choice(odd)
            case _:
                data = data[:at]
    return bytes(data)


def _resident_kilobytes(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


async def _post(port: int, seed: int, count: int, statuses: dict[int, int]) -> None:
    chance, seeds = random.Random(seed), _seeds()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(count):
        path, body = chance.choice(seeds)
        body = _mutated(chance, body)
        coding = "content-encoding: gzip\r\n" if chance.random() < 0.02 else ""
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{coding}content-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
        length = re.search(rb"content-length: (\d+)", answer)
        if length is not None:
            await reader.readexactly(int(length[1]))
        statuses[status] = statuses.get(status, 0) + 1
    writer.close()


async def test_mutated_bodies(scaled: Callable[[int], int]) -> None:
    each = scaled(1_000_000) // CONNECTIONS
    limits = ("--client-rate", "1e6", "--total-rate", "1e6", "--max-label-sets", "200")
    async with running(*limits) as collector:
        statuses: dict[int, int] = {}
        await _post(collector.port, 0, each // 2, statuses)
        before = _resident_kilobytes(collector.pid)
        async with asyncio.TaskGroup() as clients:
            for seed in range(1, CONNECTIONS):
                clients.create_task(_post(collector.port, seed, each, statuses))
        grown = _resident_kilobytes(collector.pid) - before
        found = await collector.scrape()
    assert not {status for status in statuses if status >= 500}, statuses
    assert found["rum_beacons_total"] == sum(statuses.values())
    assert grown < KILOBYTES_OF_GROWTH
