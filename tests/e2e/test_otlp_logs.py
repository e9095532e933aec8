"""A real OTLP receiver (rotel) gets the log records of two versions, stamped, with the request's trace."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx2
import rotel
from prometheus_client.samples import Sample

from examples.demo.processes import Processes, free_ports
from rolloutobs import semconv
from rolloutobs.testing import parse_metrics, sample_value

APP = '''
"""A server that logs in a request, and fails in another; with uvicorn's records among its own."""

import logging
import sys

import uvicorn
from fastapi import FastAPI

from rolloutobs import instrument

app = FastAPI()


@app.get("/orders/{number}")
def order(number: int):
    logging.getLogger("shop.orders").warning("order %s is late", number)
    return number


@app.get("/fail")
async def fail():
    raise LookupError("order 17")


instrument(app)
uvicorn.run(app, port=int(sys.argv[1]), access_log=False)
'''
ATTRIBUTE = re.compile(r"^\s+-> (\S+): \w+\((.*)\)$", flags=re.MULTILINE)


@dataclass
class Record:
    """What the receiver printed of one record, with its resource and logger."""

    resource: dict[str, str]
    logger: str
    body: str
    severity: str
    trace: str
    span: str
    attributes: dict[str, str]


def _field(name: str, text: str) -> str:
    found = re.search(rf"^\s*{name}\s*: (.*)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else ""


def _records(log: str) -> list[Record]:
    """Read the receiver's detailed dump: resources, below each its loggers, below each its records."""
    records = []
    for resource_text in log.split("ResourceLog #")[1:]:
        head, *scopes = resource_text.split("ScopeLogs #")
        for scope in scopes:
            name = re.search(r"^InstrumentationScope (\S*)", scope, flags=re.MULTILINE)
            for block in re.split(r"^LogRecord #\d+$", scope, flags=re.MULTILINE)[1:]:
                body = re.search(r"^Body: Str\((.*?)\)$", block, flags=re.MULTILINE | re.DOTALL)
                records.append(
                    Record(
                        dict(ATTRIBUTE.findall(head)),
                        name[1] if name else "",
                        body[1] if body else "",
                        _field("SeverityText", block),
                        _field("Trace ID", block),
                        _field("Span ID", block),
                        dict(ATTRIBUTE.findall(block)),
                    )
                )
    return records


async def test_records_say_which_version_and_which_request(processes: Processes, tmp_path: Path) -> None:
    http, grpc, stable, canary = free_ports(4)
    agent = Path(rotel.__file__).with_name("rotel-agent")
    argv = [
        str(agent), "start", "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint",
        f"127.0.0.1:{grpc}", "--exporter", "blackhole", "--debug-log", "logs",
        "--debug-log-verbosity", "detailed",
    ]  # fmt: skip
    await processes.start("receiver", argv, {})
    script = tmp_path / "shopserver.py"
    script.write_text(APP)
    rows = (("stable", stable, "1.1.0"), ("canary", canary, "1.2.0"))
    for track, port, version in rows:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{http}",
            "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_BLRP_SCHEDULE_DELAY": "200",
            "OTEL_SERVICE_NAME": "shop",
            "ROLLOUTOBS_VERSION": version,
            "ROLLOUTOBS_TRACK": track,
        }
        await processes.start(track, [sys.executable, str(script), str(port)], environ)
    trace = {"1.1.0": "a" * 32, "1.2.0": "b" * 32}
    async with httpx2.AsyncClient(timeout=10) as client:
        for track, port, version in rows:
            await processes.wait_for_http(track, f"http://127.0.0.1:{port}/docs")
            headers = {
                "traceparent": f"00-{trace[version]}-{'c' * 16}-01",
                "baggage": "rolloutobs.service=gateway,rolloutobs.version=3.1.0",
            }
            url = f"http://127.0.0.1:{port}"
            (await client.get(f"{url}/orders/17", headers=headers)).raise_for_status()
            assert (await client.get(f"{url}/fail", headers=headers)).status_code == 500

    log = tmp_path / "logs" / "receiver.log"
    async with asyncio.timeout(30):
        while log.read_text("utf-8").count("Exception in ASGI application") < len(rows):
            await asyncio.sleep(0.2)
    exposed: dict[str, list[Sample]] = {}
    async with httpx2.AsyncClient(timeout=10) as client:
        for _, port, version in rows:
            exposed[version] = parse_metrics((await client.get(f"http://127.0.0.1:{port}/metrics")).text)
    await processes.stop("stable", "canary")
    await processes.stop("receiver")
    records = _records(log.read_text("utf-8"))

    late = {r.attributes["app.version"]: r for r in records if r.logger == "shop.orders"}
    failed = {r.attributes["app.version"]: r for r in records if "Exception in ASGI" in r.body}
    assert set(late) == set(failed) == {"1.1.0", "1.2.0"}
    for track, _, version in rows:
        record = late[version]
        assert (record.body, record.severity) == ("order 17 is late", "WARN")
        assert (record.resource["service.name"], record.resource["service.version"]) == ("shop", version)
        assert record.attributes["rolloutobs.track"] == track
        assert record.attributes["rolloutobs.caller.service"] == "gateway"
        assert record.attributes["rolloutobs.caller.version"] == "3.1.0"
        assert record.trace == trace[version]
        assert record.span not in ("", "c" * 16), "of the server span, not of the caller's"
        assert failed[version].attributes["exception.type"] == "LookupError"
        assert failed[version].attributes["rolloutobs.track"] == track
    prints = {r.attributes["rolloutobs.error.fingerprint"] for r in failed.values()}
    assert len(prints) == 1, "both versions have the same error"
    for track, _, version in rows:
        errors = [s for s in exposed[version] if s.name == semconv.APP_ERRORS_TOTAL]
        assert [(s.labels, s.value) for s in errors] == [
            (
                {
                    "app": "shop",
                    "version": version,
                    "track": track,
                    "fingerprint": prints.copy().pop(),
                    "type": "LookupError",
                },
                1.0,
            )
        ], "raised once, seen by the wrapper, logged by the server"
        named = {"app": "shop", "version": version, "track": track}
        assert sample_value(exposed[version], semconv.LOG_RECORDS_TOTAL, level="error", **named) == 1
        assert sample_value(exposed[version], semconv.LOG_RECORDS_TOTAL, level="warning", **named) == 1
    assert not [r for r in records if r.logger.startswith(("urllib3", "opentelemetry"))]
