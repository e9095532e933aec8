"""A real Prometheus: exemplars that lead to traces, both namings, and what rolloutobs doctor says of it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from examples.demo.processes import Processes, free_ports

APP = """
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import Counter

from rolloutobs import instrument

ORDERS = Counter("orders", "Orders.")
app = FastAPI()


@app.get("/orders/{number}")
async def order(number: int):
    ORDERS.inc()
    return number


instrument(app, tracer_provider=TracerProvider(shutdown_on_exit=False))
"""
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: kept
    honor_labels: true
    authorization: {{credentials: secret}}
    static_configs: [{{targets: ["{default}", "{semconv}"], labels: {{version: of-the-target}}}}]
  - job_name: renamed
    authorization: {{credentials: secret}}
    static_configs: [{{targets: ["{default}"], labels: {{version: of-the-target}}}}]
"""
TOKEN = {"authorization": "Bearer secret"}


async def _query(client: httpx2.AsyncClient, query: str) -> list[dict[str, Any]]:
    answer = await client.get("/api/v1/query", params={"query": query})
    answer.raise_for_status()
    rows: list[dict[str, Any]] = answer.json()["data"]["result"]
    return rows


async def _doctor(*arguments: str) -> tuple[int | None, dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rolloutobs.cli", "doctor", "--json", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return process.returncode, json.loads(output)


@pytest.mark.prometheus
async def test_exemplars_names_and_labels(processes: Processes, tmp_path: Path) -> None:
    ports = free_ports(3)
    default, semconv, prometheus = (f"127.0.0.1:{port}" for port in ports)
    (tmp_path / "shop_for_prometheus.py").write_text(APP, "utf-8")
    environ = {
        "PYTHONPATH": str(tmp_path),
        "OTEL_SERVICE_NAME": "shop",
        "ROLLOUTOBS_VERSION": "1.2.0",
        "ROLLOUTOBS_TRACK": "canary",
        "ROLLOUTOBS_METRICS_TOKEN": "secret",
    }
    for name, port in (("default", ports[0]), ("semconv", ports[1])):
        serve = [sys.executable, "-m", "uvicorn", "shop_for_prometheus:app", "--port", str(port)]
        await processes.start(name, serve, {**environ, "ROLLOUTOBS_NAMING": name})
        await processes.wait_for_http(name, f"http://127.0.0.1:{port}/orders/1")
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(default=default, semconv=semconv), encoding="utf-8")
    argv = [
        "prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={prometheus}", "--enable-feature=exemplar-storage",
    ]  # fmt: skip
    await processes.start("prometheus", argv, {})
    await processes.wait_for_http("prometheus", f"http://{prometheus}/-/ready")

    async with httpx2.AsyncClient(base_url=f"http://{prometheus}", timeout=10) as client:
        async with asyncio.timeout(40):
            while len(await _query(client, "up == 1")) < 3:
                await asyncio.sleep(0.2)
            while len(await _query(client, "app_build_info")) < 3:
                await asyncio.sleep(0.2)
        for query in (
            'http_requests_total{job="kept",route="/orders/{number}",status="200"}',
            'http_server_request_duration_seconds_count{http_route="/orders/{number}"}',
            'orders_total{job="kept"}',
        ):
            for row in await _query(client, query):
                labels = row["metric"]
                assert (labels["app"], labels["version"], labels["track"]) == ("shop", "1.2.0", "canary")
        (semconv_row,) = await _query(client, "http_server_request_duration_seconds_count")
        expected = {"http_response_status_code": "200", "url_scheme": "http", "http_request_method": "GET"}
        assert expected.items() <= semconv_row["metric"].items()
        assert await _query(client, '{__name__=~".*_created"}') == []
        now = float(semconv_row["value"][0])
        for metric in ("http_request_duration_seconds", "http_server_request_duration_seconds"):
            parameters = {"query": f'{metric}_bucket{{job="kept"}}', "start": now - 300, "end": now + 60}
            answer = await client.get("/api/v1/query_exemplars", params=parameters)
            (series,) = answer.json()["data"]
            assert len(series["exemplars"][0]["labels"]["trace_id"]) == 32

    code, found = await _doctor("--prometheus", prometheus)
    bad = {f["subject"]: f["what"] for f in found["findings"] if f["level"] == "bad"}
    assert code == 1
    # Two servers, one of them scraped by two jobs, no stable, and no rules.
    assert set(bad) == {"honorLabels", "track", "targets", "buckets", "rules"}
    assert "job 'renamed': exported_version is '1.2.0'" in bad["honorLabels"]
    code, found = await _doctor("--url", default, "--token", "secret")
    assert code == 0
    assert {f["subject"] for f in found["findings"] if f["level"] == "good"} == {"identity", "exemplars"}
