"""``gate`` and ``compare`` as processes on a real Prometheus that scrapes both tracks."""

import contextlib
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from rolloutobs import cli
from tests.serving import serving

pytestmark = pytest.mark.prometheus
DEADLINE_SECONDS = 120


class Exporter(ThreadingHTTPServer):
    """Both tracks of two apps behind one address; each scrape is one more step. One in four canary requests
    of the shop fails, and as many of the cart's as `bad` says."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bad = 2
        self.failed = 0
        self.steps = itertools.count(1)
        self.scraped = threading.Event()

    def text(self):
        step = next(self.steps)
        self.failed += self.bad
        if step >= 12:
            self.scraped.set()
        return "".join(
            f'http_requests_total{{app="{app}",track="{track}",version="{version}",route="/",'
            f'status="{status}"}} {each}\n'
            for app, failed in (("shop", 20 * step), ("cart", self.failed))
            for track, version, bad in (("stable", "1.1.0", 2 * step), ("canary", "1.2.0", failed))
            for status, each in (("200", 80 * step - bad), ("500", bad))
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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(folder, port_of_target, address):
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
        "scrape_configs": [
            {"job_name": "shop", "static_configs": [{"targets": [f"127.0.0.1:{port_of_target}"]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    argv = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    argv += [f"--web.listen-address={address}", "--log.level=error"]
    with subprocess.Popen(argv) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(DEADLINE_SECONDS)


class Watched:
    """A Prometheus that scrapes an exporter; it can be away for a while."""

    def __init__(self, folder, server):
        self.folder, self.server, self.address = folder, server, f"127.0.0.1:{free_port()}"
        self.process = contextlib.ExitStack()

    def start(self):
        self.process.enter_context(running(self.folder, self.server.server_port, self.address))

    def stop(self):
        self.process.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """It takes five seconds until it scrapes: one for all."""
    with serving(Exporter()) as server:
        found = Watched(tmp_path_factory.mktemp("prometheus"), server)
        try:
            found.start()
            assert server.scraped.wait(DEADLINE_SECONDS)
            yield found
        finally:
            found.stop()


def run_all(*commands):
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda arguments: run(*arguments), commands))


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "rolloutobs.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def test_compare_and_gate_on_a_real_prometheus(watched, tmp_path):
    policy = {
        "tick_seconds": 0,
        "phi_seconds": 1,
        "clip_refill": 5,
        "warmup_seconds": 0,
        "minimum_seconds": 0,
    }
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    policed = ["--app", "shop", "--policy", str(tmp_path / "policy.json"), "--interval", "1s"]
    asking = ["--prometheus", watched.address]
    raw = httpx2.get(
        f"http://{watched.address}/api/v1/query", params={"query": 'http_requests_total{app="shop"}'}
    ).json()
    assert len(raw["data"]["result"]) == 4
    since = datetime.now(UTC) - timedelta(seconds=60)
    compared, gated, replayed, versions, alone, missing, future = run_all(
        ["compare", *asking, "--window", "30s", "--format", "json", "--quiet", *policed],
        ["gate", *asking, "--json", str(tmp_path / "v.json"), "--quiet", *policed],
        ["replay", *asking, f"{since.isoformat()}/2m", "--format", "json", *policed],
        ["compare", *asking, "--window", "30s", "--canary-version", "1.1.0", "--stable-version", "1.2.0",
         "--format", "markdown", "--quiet", *policed],
        ["calibrate", *asking, "--last", "1m", "--interval", "1s", "--app", "shop"],
        ["compare", *asking, "--app", "nobody", "--window", "30s"],
        ["replay", *asking, "2999-01-01T00:00Z/1h"],
    )  # fmt: skip
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
    assert replayed.returncode == 0, replayed.stderr
    (past,) = json.loads(replayed.stdout)
    assert (past["decision"], past["canary_version"]) == ("rollback", "1.2.0")
    # The other way round the canary is the good one.
    assert versions.returncode in (0, 3), versions.stderr
    assert "canary 1.1.0 against stable 1.2.0" in versions.stdout
    assert alone.returncode == 2
    assert "there is 1 stable pod in the last 60 s" in alone.stderr
    assert future.returncode == 2
    assert "has not begun yet" in future.stderr


def failed_reads(port):
    text = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
    return sum(
        float(line.split()[1])
        for line in text.splitlines()
        if line.startswith("rolloutobs_gate_failed_reads_total")
    )


def wait_for(condition):
    """Wait until `condition` holds; the deadline is far beyond what it takes."""
    deadline, pause = time.monotonic() + DEADLINE_SECONDS, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.05)


def test_a_prometheus_that_is_gone_for_a_while_holds_and_the_gate_goes_on(watched, tmp_path):
    policy = {
        "tick_seconds": 0,
        "phi_seconds": 1,
        "clip_refill": 5,
        "warmup_seconds": 0,
        "minimum_seconds": 600,
    }
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    state, listen = tmp_path / "state.json", free_port()
    argv = [
        sys.executable, "-m", "rolloutobs.cli", "gate", "--prometheus", watched.address, "--app", "cart",
        "--interval", "500ms", "--policy", str(tmp_path / "policy.json"), "--state", str(state),
        "--listen", f"127.0.0.1:{listen}",
    ]  # fmt: skip
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as gate:
        try:
            wait_for(lambda: state.exists() and json.loads(state.read_text())["decision"] == "hold")
            watched.stop()
            wait_for(lambda: failed_reads(listen) >= 3)
            assert json.loads(state.read_text())["decision"] == "hold"
            watched.server.bad = 20
            watched.start()
            out, err = gate.communicate(timeout=DEADLINE_SECONDS)
        finally:
            gate.kill()
    assert gate.returncode == 1, err
    assert "cannot connect" in err
    assert out.splitlines()[-1].startswith("ROLLBACK after ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "--window", "1m"],
        ["calibrate", "--last", "1m"],
        ["replay", "2026-11-20T10:00Z/45m"],
    ],
)
def test_a_prometheus_that_does_not_answer_is_named(arguments, capsys):
    assert cli.main([*arguments, "--prometheus", "127.0.0.1:1", "--timeout", "2s"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("rolloutobs: Prometheus at 127.0.0.1:1: cannot connect: ")


def test_what_is_no_prometheus_is_named(capsys):
    with serving(Exporter()) as server:
        address = f"127.0.0.1:{server.server_port}"
        assert cli.main(["compare", "--prometheus", address, "--window", "1m"]) == 2
    assert f"Prometheus at {address}: does not answer like Prometheus" in capsys.readouterr().err
