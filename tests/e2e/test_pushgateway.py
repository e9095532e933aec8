"""Jobs that end leave their metrics with a real Pushgateway: counts add up, and nothing stale stays."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx2
import pytest
from prometheus_client.samples import Sample

from examples.demo.processes import Processes, free_ports
from rolloutobs.testing import parse_metrics, sample_value

JOB = """
import sys
from prometheus_client import Counter
from rolloutobs import operation, push_metrics

rows = Counter("rows", "Rows that were copied.", ["country"])

@operation("job", "nightly")
def nightly(country, how):
    rows.labels(country).inc(10)
    if how == "fail":
        raise SystemExit(3)

try:
    nightly(*sys.argv[1:3])
    if sys.argv[2] == "twice":
        nightly(*sys.argv[1:3])
finally:
    print("ran")
"""


@pytest.mark.prometheus
async def test_counts_add_up_and_old_versions_go(processes: Processes, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    await processes.start(
        "pushgateway", ["prometheus-pushgateway", f"--web.listen-address={url.removeprefix('http://')}"], {}
    )
    await processes.wait_for_http("pushgateway", f"{url}/-/ready")
    script = tmp_path / "job.py"
    script.write_text(JOB, encoding="utf-8")
    runs = 0

    async def run(version: str, track: str, country: str = "de", how: str = "ok") -> int:
        nonlocal runs
        runs += 1
        process = await processes.start(
            f"job{runs}",
            [sys.executable, str(script), country, how],
            {
                "OTEL_SERVICE_NAME": "shop",
                "ROLLOUTOBS_VERSION": version,
                "ROLLOUTOBS_TRACK": track,
                "ROLLOUTOBS_PUSHGATEWAY": url,
            },
        )
        return await process.wait()

    async def there() -> list[Sample]:
        async with httpx2.AsyncClient() as client:
            text = (await client.get(f"{url}/metrics")).text
        # The Pushgateway's own metrics are not the jobs'.
        return [sample for sample in parse_metrics(text) if sample.labels.get("job") == "shop"]

    def total(samples: list[Sample], metric: str = "app_operations_total", **labels: str) -> float | None:
        return sample_value(samples, metric, **labels)

    assert await run("1.1.0", "stable") == 0
    assert await run("1.1.0", "stable", "fr", "twice") == 0
    assert await run("1.1.0", "stable", "de", "fail") == 3
    assert await run("1.2.0", "canary") == 0
    found = await there()
    assert {sample.labels["instance"] for sample in found} == {"nightly/stable", "nightly/canary"}
    stable = {"app": "shop", "version": "1.1.0", "track": "stable"}
    canary = {"app": "shop", "version": "1.2.0", "track": "canary"}
    assert total(found, outcome="ok", **stable) == 3.0
    assert total(found, outcome="error", **stable) == 1.0
    assert total(found, "app_operation_duration_seconds_count", **stable) == 4.0
    assert total(found, "app_operation_duration_seconds_bucket", le="+Inf", **stable) == 4.0
    # The app's own as well, and what the last run did not count.
    assert total(found, "rows_total", country="de", **stable) == 20.0
    assert total(found, "rows_total", country="fr", **stable) == 20.0
    assert total(found, outcome="ok", **canary) == 1.0

    # Promoted: the version is stable now, so that neither the old version nor a canary is left.
    assert await run("1.2.0", "stable") == 0
    found = await there()
    assert {sample.labels["instance"] for sample in found} == {"nightly/stable"}
    promoted = {"app": "shop", "version": "1.2.0", "track": "stable"}
    assert total(found, outcome="ok", **promoted) == 1.0
    assert total(found, version="1.1.0") is None
    assert total(found, "rows_total", country="fr") is None
    assert "Traceback" not in processes.log_end("job1", 50)
