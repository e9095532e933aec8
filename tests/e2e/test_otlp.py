"""A real OTLP receiver (rotel) gets the spans of both services, stamped with version, track and caller."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

import httpx2
import rotel

from examples.demo.processes import Processes, free_ports
from tests.e2e.conftest import Shop

ATTRIBUTE = re.compile(r"^\s+-> (\S+): \w+\((.*)\)$")


@dataclass
class Span:
    """What the receiver printed of one span, with its resource."""

    resource: dict[str, str]
    name: str
    kind: str
    trace: str
    parent: str
    attributes: dict[str, str]


def _spans(log: str) -> list[Span]:
    """Read the receiver's detailed dump: resources, and below each its spans with their attributes."""
    spans: list[Span] = []
    for resource_text in log.split("ResourceSpans #")[1:]:
        head, *blocks = re.split(r"^Span #\d+$", resource_text, flags=re.MULTILINE)
        for block in blocks:
            fields = dict(re.findall(r"^\s+([A-Z][A-Za-z ]+?)\s*: (.*)$", block, flags=re.MULTILINE))
            _, _, attributes = block.partition("Attributes:")
            spans.append(
                Span(
                    _attributes(head), fields["Name"], fields["Kind"], fields["Trace ID"],
                    fields["Parent ID"],
                    _attributes(attributes),
                )
            )  # fmt: skip
    return spans


def _attributes(text: str) -> dict[str, str]:
    return dict(match.groups() for line in text.splitlines() if (match := ATTRIBUTE.match(line)))


async def test_spans_of_both_services_say_who_called(
    processes: Processes, shop: Shop, tmp_path: Path
) -> None:
    http, grpc = free_ports(2)
    agent = Path(rotel.__file__).with_name("rotel-agent")
    argv = [
        str(agent), "start", "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint",
        f"127.0.0.1:{grpc}", "--exporter", "blackhole", "--debug-log", "traces",
        "--debug-log-verbosity", "detailed",
    ]  # fmt: skip
    await processes.start("receiver", argv, {})
    await shop.start(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{http}",
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
    )
    async with httpx2.AsyncClient(timeout=10) as client:
        for url in (shop.stable, shop.canary):
            (await client.get(f"{url}/product/3")).raise_for_status()

    log = tmp_path / "logs" / "receiver.log"
    async with asyncio.timeout(30):
        stock: list[Span] = []
        while len(stock) < 2 or len({s.trace for s in _spans(log.read_text("utf-8"))}) < 2:
            await asyncio.sleep(0.2)
            stock = [s for s in _spans(log.read_text("utf-8")) if s.name == "GET /stock/{product_id}"]
    # The shop's own spans are flushed when it stops.
    await processes.stop("stable", "canary", "inventory")
    await processes.stop("receiver")
    spans = _spans(log.read_text("utf-8"))

    product = {s.attributes["app.version"]: s for s in spans if s.name == "GET /product/{product_id}"}
    assert set(product) == {"1.1.0", "1.2.0"}
    for version, track in (("1.1.0", "stable"), ("1.2.0", "canary")):
        server = product[version]
        assert server.kind == "SPAN_KIND_SERVER"
        assert server.resource["service.name"] == "shop"
        assert server.resource["service.version"] == version
        assert server.attributes["rolloutobs.track"] == track
        (called,) = [s for s in stock if s.trace == server.trace]
        assert called.resource["service.name"] == "inventory"
        assert called.attributes["app.version"] == "3.0.2"
        assert called.attributes["rolloutobs.caller.service"] == "shop"
        assert called.attributes["rolloutobs.caller.version"] == version
        assert called.attributes["rolloutobs.caller.track"] == track
        kinds = [s.kind for s in spans if s.trace == server.trace]
        assert kinds.count("SPAN_KIND_SERVER") == 2, "one server span for each of the two services"
