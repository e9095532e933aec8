"""``gate`` and ``compare`` as processes on a real Prometheus that scrapes both tracks."""

import contextlib
import itertools
import json
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

pytestmark = pytest.mark.prometheus
DEADLINE_SECONDS = 120


class Exporter(ThreadingHTTPServer):
    """Both tracks behind one address; each scrape is one more step, and one in four canary requests fails."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.steps = itertools.count(1)
        self.scraped = threading.Event()

    def text(self):
        step = next(self.steps)
        if step >= 12:
            self.scraped.set()
        return "".join(
            f'http_requests_total{{app="shop",track="{track}",version="{version}",route="/",'
            f'status="{status}"}} {step * each}\n'
            for track, version, good, bad in (("stable", "1.1.0", 39, 1), ("canary", "1.2.0", 30, 10))
            for status, each in (("200", good), ("500", bad))
        )


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


@contextlib.contextmanager
def exporter():
    with Exporter() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def prometheus(folder, port_of_target):
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
        "scrape_configs": [
            {"job_name": "shop", "static_configs": [{"targets": [f"127.0.0.1:{port_of_target}"]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    argv = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    argv += [f"--web.listen-address={address}", "--log.level=error"]
    with subprocess.Popen(argv) as process:
        try:
            yield address
        finally:
            process.terminate()


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "rolloutobs.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def test_compare_and_gate_on_a_real_prometheus(tmp_path):
    policy = {
        "tick_seconds": 0,
        "phi_seconds": 1,
        "clip_refill": 5,
        "warmup_seconds": 0,
        "minimum_seconds": 0,
    }
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    shared = ["--app", "shop", "--policy", str(tmp_path / "policy.json"), "--interval", "1s", "--quiet"]
    with exporter() as server, prometheus(tmp_path, server.server_port) as address:
        assert server.scraped.wait(DEADLINE_SECONDS)
        raw = httpx2.get(f"http://{address}/api/v1/query", params={"query": "http_requests_total"}).json()
        assert len(raw["data"]["result"]) == 4
        compared = run("compare", "--prometheus", address, "--window", "30s", "--format", "json", *shared)
        gated = run("gate", "--prometheus", address, "--json", str(tmp_path / "v.json"), *shared)
        missing = run("compare", "--prometheus", address, "--app", "nobody", "--window", "30s")
    found = json.loads(compared.stdout)
    assert compared.returncode == 1, compared.stderr
    assert found["app"] == "shop"
    total = found["metrics"][0]["total"]
    assert total["canary"]["exposures"] == total["stable"]["exposures"] > 0
    assert total["canary"]["events"] == 10 * total["stable"]["events"]
    assert gated.returncode == 1, gated.stderr
    assert gated.stdout.splitlines()[-1].startswith("ROLLBACK after ")
    assert json.loads((tmp_path / "v.json").read_text())["canary_version"] == "1.2.0"
    assert missing.returncode == 2
    assert "none of the wanted metrics" in missing.stderr
