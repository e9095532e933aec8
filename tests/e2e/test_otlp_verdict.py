"""A real OTLP receiver (rotel) gets the verdict of a gate as log events."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

import rotel

from examples.demo.processes import Processes, free_ports
from rolloutobs import semconv

APP = '''
"""One pod of each track: every answer is a step of their counters; one canary request in four fails."""

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

LINE = 'http_requests_total{{app="shop",track="{}",version="{}",route="/",status="{}"}} {}\\n'
step = 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global step
        step += 1
        rows = (("stable", "1.1.0", 39, 1), ("canary", "1.2.0", 30, 10))
        text = "".join(
            LINE.format(track, version, status, n * step)
            for track, version, good, bad in rows
            for status, n in (("200", good), ("500", bad))
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
'''
ATTRIBUTE = re.compile(r"^\s+-> (\S+): \w+\((.*)\)$", flags=re.MULTILINE)
QUICK = {"tick_seconds": 0, "phi_seconds": 0.1, "clip_refill": 10, "warmup_seconds": 0, "minimum_seconds": 0}


async def test_a_rollback_is_an_event_with_its_numbers(processes: Processes, tmp_path: Path) -> None:
    http, grpc, pods = free_ports(3)
    agent = Path(rotel.__file__).with_name("rotel-agent")
    argv = [
        str(agent), "start", "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint",
        f"127.0.0.1:{grpc}", "--exporter", "blackhole", "--debug-log", "logs",
        "--debug-log-verbosity", "detailed",
    ]  # fmt: skip
    await processes.start("receiver", argv, {})
    script = tmp_path / "pods.py"
    script.write_text(APP)
    await processes.start("pods", [sys.executable, str(script), str(pods)], {})
    await processes.wait_for_http("pods", f"http://127.0.0.1:{pods}/metrics")
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(QUICK))
    argv = [
        sys.executable, "-m", "rolloutobs.cli", "gate", "--scrape", f"127.0.0.1:{pods}",
        "--interval", "100ms", "--policy", str(policy), "--quiet", "--json", str(tmp_path / "v.json"),
    ]  # fmt: skip
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{http}", "OTEL_LOGS_EXPORTER": "otlp"}
    gate = await processes.start("gate", argv, environ)
    assert await asyncio.wait_for(gate.wait(), 120) == 1, processes.log_end("gate")
    log = tmp_path / "logs" / "receiver.log"
    async with asyncio.timeout(60):
        while log.read_text("utf-8").count(f"{semconv.VERDICT_ATTR_METRIC}: Str(errors)") < 2:
            await asyncio.sleep(0.1)
    await processes.stop("receiver")
    head, decided, *metrics = re.split(r"^LogRecord #\d+$", log.read_text("utf-8"), flags=re.MULTILINE)
    verdict = json.loads((tmp_path / "v.json").read_text("utf-8"))

    assert dict(ATTRIBUTE.findall(head))["service.name"] == "rolloutobs-gate"
    assert f"EventName: {semconv.EVENT_VERDICT}\n" in decided
    assert f"Body: Str({verdict['reason']})" in decided
    assert "SeverityText: ERROR" in decided
    (metric,) = [each for each in metrics if f"{semconv.VERDICT_ATTR_METRIC}: Str(errors)" in each]
    assert f"EventName: {semconv.EVENT_VERDICT_METRIC}\n" in metric
    (errors,) = [each for each in verdict["metrics"] if each["signal"] == "errors"]
    for record in (decided, metric):
        found = dict(ATTRIBUTE.findall(record))
        assert found[semconv.VERDICT_ATTR_DECISION] == "rollback"
        assert found[semconv.VERDICT_ATTR_METRIC] == "errors"
        assert found[semconv.VERDICT_ATTR_CANARY_VERSION] == "1.2.0"
        assert float(found[semconv.VERDICT_ATTR_NATS]) >= float(found[semconv.VERDICT_ATTR_THRESHOLD]) > 0
        assert abs(float(found[semconv.VERDICT_ATTR_RATIO]) - errors["ratio"]["estimate"]) < 1e-6
