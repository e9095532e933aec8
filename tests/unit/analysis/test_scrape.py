"""Straight scraping over real sockets; a target that fails is reported, never raised."""

import pytest

from rolloutobs.analysis.model import Sample
from rolloutobs.analysis.scrape import ScrapeSource
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
