"""A real OTLP receiver (rotel) gets the metrics of a server and of workers, by version and live track."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import rotel

from examples.demo.processes import Processes, free_ports
from rolloutobs import semconv

APP = """
from fastapi import FastAPI

from rolloutobs import instrument

app = FastAPI()


@app.get("/orders/{number}")
async def order(number: int):
    return number


instrument(app)
"""
DURATION = "http.server.request.duration"
LINE = re.compile(r"^\s*(?:-> )?([A-Za-z][\w. ]*?)\s*: (.*)$")


@dataclass
class Point:
    """What the receiver printed of one point."""

    metric: str
    resource: dict[str, str]
    attributes: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


def points(log: str) -> list[Point]:
    """Read the receiver's detailed dump, oldest first."""
    found: list[Point] = []
    for resource_text in re.split(r"^.*ResourceMetrics #\d+.*$", log, flags=re.MULTILINE)[1:]:
        head, *metrics = re.split(r"^Metric #\d+.*$", resource_text, flags=re.MULTILINE)
        resource = _attributes(head)
        for metric in metrics:
            described, *data = re.split(r"^.*DataPoints? #\d+.*$", metric, flags=re.MULTILINE)
            name = re.search(r"-> Name: (\S+)", described)
            assert name is not None, described
            found += [Point(name[1], resource, _attributes(text), _fields(text)) for text in data]
    return found


def _attributes(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\s+-> ([\w.]+): \w+\((.*)\)$", text, flags=re.MULTILINE))


def _fields(text: str) -> dict[str, str]:
    return dict(m.groups() for line in text.splitlines() if (m := LINE.match(line)))


async def _until(log: Path, what: Callable[[list[Point]], bool]) -> list[Point]:
    found: list[Point] = []
    async with asyncio.timeout(40):
        while not what(found):
            await asyncio.sleep(0.2)
            found = points(log.read_text("utf-8", errors="replace"))
    return found


async def test_metrics_arrive(processes: Processes, tmp_path: Path) -> None:
    http, grpc, port = free_ports(3)
    agent = Path(rotel.__file__).with_name("rotel-agent")
    argv = [
        str(agent), "start", "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint",
        f"127.0.0.1:{grpc}", "--exporter", "blackhole", "--debug-log", "metrics",
        "--debug-log-verbosity", "detailed",
    ]  # fmt: skip
    await processes.start("receiver", argv, {})
    (tmp_path / "shop_for_metrics.py").write_text(APP, "utf-8")
    labels = tmp_path / "labels"
    labels.write_text('app="shop"\nrole="canary"\n', "utf-8")
    environ = {
        "PYTHONPATH": str(tmp_path),
        "OTEL_SERVICE_NAME": "shop",
        "ROLLOUTOBS_VERSION": "1.2.0",
        "ROLLOUTOBS_LABELS_FILE": str(labels),
        "ROLLOUTOBS_LABELS_INTERVAL_SECONDS": "0.1",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{http}",
        "OTEL_METRIC_EXPORT_INTERVAL": "300",
    }
    serve = [sys.executable, "-m", "uvicorn", "shop_for_metrics:app", "--port", str(port), "--workers", "2"]
    await processes.start("shop", serve, environ)
    url = f"http://127.0.0.1:{port}/orders/7"
    # Not the route: one that is slow to come up may be asked again, and count both.
    await processes.wait_for_http("shop", f"http://127.0.0.1:{port}/metrics")
    log = tmp_path / "logs" / "receiver.log"

    def requests(track: str) -> Callable[[list[Point]], int]:
        def count(found: list[Point]) -> int:
            mine = [
                p for p in found if p.metric == DURATION and p.attributes.get(semconv.ATTR_TRACK) == track
            ]
            return int(mine[-1].fields["Count"]) if mine else 0

        return count

    async with httpx2.AsyncClient(timeout=10) as client:
        await asyncio.gather(*(client.get(url) for _ in range(20)))
        # Whichever worker answered, one sends the sum; both are measured once both have come up.
        await _until(log, lambda found: requests("canary")(found) == 20)
        await _until(
            log,
            lambda found: any(p.metric == "app_processes" and float(p.fields["Value"]) == 2 for p in found),
        )
        labels.write_text('app="shop"\nrole="stable"\n', "utf-8")
        await _until(log, lambda found: any(p.attributes.get(semconv.ATTR_TRACK) == "stable" for p in found))
        await client.get(url)
    # The last ones are sent when it ends.
    await processes.stop("shop")
    found = await _until(log, lambda found: requests("stable")(found) > 0)

    duration = [point for point in found if point.metric == DURATION]
    assert duration[-1].resource["service.name"] == "shop"
    assert duration[-1].resource["service.version"] == "1.2.0"
    assert not [name for name in duration[-1].resource if "track" in name]
    by_track = {p.attributes[semconv.ATTR_TRACK]: p for p in duration}
    canary, stable = by_track["canary"], by_track["stable"]
    assert stable.attributes == {
        "app.version": "1.2.0", "rolloutobs.track": "stable", "http.request.method": "GET",
        "http.route": "/orders/{number}", "http.response.status_code": "200", "url.scheme": "http",
    }  # fmt: skip
    # What was answered before a worker saw the new track is the old one's; nothing is lost or counted twice.
    assert int(canary.fields["Count"]) + int(stable.fields["Count"]) == 21
    assert canary.fields["Timestamp"] == stable.fields["StartTimestamp"]
    counts = [int(p.fields["Count"]) for p in duration if p.attributes[semconv.ATTR_TRACK] == "canary"]
    assert counts == sorted(counts), "a count went backwards"
    starts = {p.fields["StartTimestamp"] for p in duration if p.attributes[semconv.ATTR_TRACK] == "canary"}
    assert len(starts) == 1, "a cumulative point has one start"
    names = {point.metric for point in found}
    assert {"http.server.active_requests", "app_build_info", "app_process_cpu", "app_event_loop_lag"} <= names
    assert not {name for name in names if name.startswith("http_")}
