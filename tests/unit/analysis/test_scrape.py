"""Straight scraping over real sockets; a target that fails is reported, never raised."""

import asyncio
import gzip
import json
import os

import pytest

from rolloutobs.analysis._http import Access
from rolloutobs.analysis.model import Sample
from rolloutobs.analysis.scrape import ScrapeSource, ScrapeTargets
from rolloutobs.analysis.sides import Shape
from rolloutobs.errors import ConfigurationError


async def test_every_target_is_read_and_read_again(exporter):
    one, two = (
        await exporter('a{app="shop"} 1\nb 2\n'),
        await exporter('a{app="shop"} 10\na{app="other"} 5\n'),
    )
    moments = iter((100.0, 115.0))
    async with ScrapeSource(
        [one.address, two.address], ["a"], shape=Shape(app="shop"), clock=lambda: next(moments)
    ) as source:
        first = await source.read()
        one.text = 'a{app="shop"} 4\n'
        second = await source.read()
    assert (first.at, second.at) == (100.0, 115.0)
    assert first.targets == {
        f"http://{one.address}/metrics": (Sample("a", {"app": "shop"}, 1.0),),
        f"http://{two.address}/metrics": (Sample("a", {"app": "shop"}, 10.0),),
    }
    assert second.targets[f"http://{one.address}/metrics"] == (Sample("a", {"app": "shop"}, 4.0),)
    assert not second.failed
    assert one.requests[0].startswith("GET /metrics HTTP/1.1")
    assert "text/plain;version=0.0.4" in one.requests[0]


async def test_a_slow_a_dead_and_an_odd_target_fail_alone(exporter):
    good, slow, broken, odd = [await exporter("a 1\n") for _ in range(4)]
    dead = await exporter()
    await dead.stop()
    slow.silent, broken.status, odd.text = True, 503, "<!doctype html>"
    targets = [x.address for x in (good, slow, broken, odd, dead)]
    async with ScrapeSource(targets, ["a"], timeout_seconds=0.5) as source:
        reading = await source.read()
    assert list(reading.targets) == [f"http://{good.address}/metrics"]
    reasons = [reading.failed[f"http://{x.address}/metrics"] for x in (slow, broken, odd, dead)]
    assert reasons[:3] == ["no answer within 0.5 s", "answered 503", "the answer is HTML, not metrics"]
    assert reasons[3].startswith("cannot connect: ")


async def test_a_target_that_comes_back_is_read_again(exporter):
    target = await exporter("a 1\n")
    async with ScrapeSource([target.address], ["a"]) as source:
        await source.read()
        await target.stop()
        assert (await source.read()).failed
        await target.start()
        assert not (await source.read()).failed


async def test_a_proxy_of_the_environment_is_not_asked(exporter, monkeypatch):
    target = await exporter("a 1\n")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with ScrapeSource([target.address], ["a"]) as source:
        assert not (await source.read()).failed


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("127.0.0.1:{port}", "/metrics"),
        ("http://127.0.0.1:{port}/", "/metrics"),
        ("http://127.0.0.1:{port}/internal/metrics?x=1", "/internal/metrics?x=1"),
    ],
)
async def test_forms_of_an_address(exporter, given, asked):
    target = await exporter("a 1\n")
    async with ScrapeSource([given.format(port=target.address.split(":")[1])], ["a"]) as source:
        assert not (await source.read()).failed
    assert target.requests[0].split()[1] == asked


@pytest.mark.parametrize("address", ["", "ftp://x/metrics", "host:port", "http://", "http://[x"])
def test_what_is_not_an_address_is_refused(address):
    with pytest.raises(ConfigurationError, match="not an address"):
        ScrapeSource([address], ["a"])


def test_nothing_to_scrape_is_refused():
    with pytest.raises(ConfigurationError, match="nothing to scrape"):
        ScrapeSource([], ["a"])


async def test_every_address_of_a_name_is_a_target_and_a_name_that_is_gone_has_failed(exporter, monkeypatch):
    one = await exporter("a 1\n")
    port = int(one.address.split(":")[1])
    answers = [["127.0.0.1"], ["127.0.0.1", "127.0.0.2", "127.0.0.1"], None]
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def getaddrinfo(host, port, **options):
        if host != "shop.svc":
            return await resolve(host, port, **options)
        hosts = answers.pop(0)
        if hosts is None:
            raise OSError("no such name")
        return [(2, 1, 6, "", (each, port)) for each in hosts]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    targets = ScrapeTargets((f"dns:shop.svc:{port}",))
    async with ScrapeSource(targets, ["a"], timeout_seconds=2) as source:
        first, second, third = [await source.read() for _ in range(3)]
    assert set(first.targets) == {f"http://127.0.0.1:{port}/metrics"}
    assert set(second.targets) | set(second.failed) == {f"http://127.0.0.{n}:{port}/metrics" for n in (1, 2)}
    # What was last known is asked all the same.
    assert set(third.targets) == {f"http://127.0.0.1:{port}/metrics"}
    assert third.failed[f"dns:http://shop.svc:{port}/metrics"].startswith("the name cannot be resolved")


@pytest.mark.parametrize(
    ("hosts", "asked"),
    [
        (("127.0.0.1", "127.0.0.2", "::1", "::2"), ("127.0.0.1", "127.0.0.2")),
        (("127.0.0.1", "::1", "::2"), ("[::1]", "[::2]")),
    ],
)
async def test_a_pod_with_two_addresses_is_one_target(monkeypatch, hosts, asked):
    async def getaddrinfo(host, port, **options):
        return [(0, 1, 6, "", (each, port)) for each in hosts]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with ScrapeSource(ScrapeTargets(("dns:shop.svc:1",)), ["a"], timeout_seconds=2) as source:
        found = await source.read()
    assert set(found.failed) == {f"http://{host}:1/metrics" for host in asked}


async def test_a_file_of_targets_is_read_again_when_it_changes(exporter, tmp_path):
    one, two = await exporter("a 1\n"), await exporter("a 2\n")
    path = tmp_path / "targets"
    path.write_text(f"# pods\n{one.address}  # the first\n\n")

    def become(text, number):
        path.write_text(text)
        os.utime(path, ns=(number, number))

    async with ScrapeSource(ScrapeTargets(file=path), ["a"]) as source:
        first = await source.read()
        become(json.dumps([{"targets": [one.address]}, {"targets": [two.address], "labels": {}}]), 1)
        second = await source.read()
        become('[{"target": []}]', 2)
        third = await source.read()
        path.unlink()
        fourth = await source.read()
        become(two.address, 3)
        fifth = await source.read()
    urls = [f"http://{each.address}/metrics" for each in (one, two)]
    assert list(first.targets) == urls[:1]
    assert list(second.targets) == urls
    for odd in (third, fourth):
        assert list(odd.targets) == urls
        assert "cannot be read" in odd.failed[str(path)]
    assert list(fifth.targets) == urls[1:]
    assert not fifth.failed


def test_a_file_that_is_not_there_at_the_start_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ScrapeSource(ScrapeTargets(file=tmp_path / "no"), ["a"])


async def test_openmetrics_gzip_and_a_token():
    body = gzip.compress(b'# TYPE a counter\na_total{x="1"} 7 # {trace_id="9"} 1 1.0\n# EOF\n')
    seen = []

    async def serve(reader, writer):
        seen.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(
            b"HTTP/1.1 200 X\r\nContent-Type: application/openmetrics-text\r\nContent-Encoding: gzip\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with ScrapeSource([address], ["a_total"], access=Access(token="t0")) as source:
            reading = await source.read()
    assert reading.targets == {f"http://{address}/metrics": (Sample("a_total", {"x": "1"}, 7.0),)}
    assert "gzip" in seen[0]
    assert "authorization: bearer t0" in seen[0]


async def test_half_an_answer_is_none():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\na 1\nb 2\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with ScrapeSource([address], ["a"]) as source:
            reading = await source.read()
    assert reading.targets == {}
    assert "received 8 bytes, expected 100" in reading.failed[f"http://{address}/metrics"]
