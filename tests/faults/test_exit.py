"""A process that ends at once: what it has counted goes out all the same, and its stderr stays empty."""

from __future__ import annotations

import subprocess
import sys

from tests.serving import OtlpReceiver, serving

JOB = """
from rolloutobs import operation
with operation("job", "nightly"):
    pass
"""


def test_a_job_that_ends_before_its_first_export(monkeypatch):
    with serving(OtlpReceiver()) as receiver:
        for name, value in {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_TRACES_SAMPLER": "always_on",
            "OTEL_SERVICE_NAME": "report",
            "ROLLOUTOBS_VERSION": "1",
        }.items():
            monkeypatch.setenv(name, value)
        command = [sys.executable, "-c", JOB]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert sorted(each.path for each in receiver.received) == ["/v1/metrics", "/v1/traces"]
    assert ran.stderr == ""
