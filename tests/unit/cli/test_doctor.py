import json
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rolloutobs import cli
from rolloutobs.checkup import cluster
from rolloutobs.settings import Settings
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.serving import serve_metrics
from rolloutobs.testing import isolated_telemetry


@pytest.fixture(autouse=True)
def _isolated():
    with isolated_telemetry():
        yield


@pytest.fixture
def pod():
    def start(**settings):
        hub = hubs.new_hub(Settings(**{"service": "shop", "version": "1.2.0", "track": "canary", **settings}))
        server = serve_metrics(0, "127.0.0.1", hub=hub)
        servers.append(server)
        return hub, f"127.0.0.1:{server.port}"

    servers = []
    yield start
    for server in servers:
        server.close()


def answering(reply):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, content_type, body = reply(self.path)
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


def test_a_healthy_pod(pod, capsys):
    hub, url = pod()
    hub.counter("orders_total", "Orders.", ("plan",)).cell("gold").inc()
    assert cli.main(["doctor", "--url", url]) == 0
    out = capsys.readouterr().out
    assert "ok    identity: app 'shop', version '1.2.0', track 'canary'" in out
    assert "series" in out
    assert "orders" in out


def test_a_sick_pod_as_json(pod, capsys):
    hub, url = pod(version="unknown", max_label_sets=1)
    orders = hub.counter("orders_total", "Orders.", ("who",))
    for who in ("a", "b"):
        orders.cell(who).inc()
    assert cli.main(["doctor", "--url", f"http://{url}/metrics", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {f["subject"] for f in found["findings"] if f["level"] == "bad"} == {"version", "overflow"}
    assert found["series"] == sum(metric["series"] for metric in found["metrics"])
    assert found["identities"][0]["app"] == "shop"


def test_a_token(pod, capsys):
    _, url = pod(metrics_token=("secret",))
    assert cli.main(["doctor", "--url", url]) == 2
    assert "401 Unauthorized; give --token" in capsys.readouterr().err
    assert cli.main(["doctor", "--url", url, "--token", "secret"]) == 0


def prometheus(rows):
    asked = []

    def reply(path):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)["query"][0]
        asked.append(query)
        name = next(name for name, known in cluster.QUERIES.items() if known == query)
        result = [{"metric": labels, "value": [0, "1"]} for labels in rows.get(name, [])]
        answer = {"status": "success", "data": {"resultType": "vector", "result": result}}
        return 200, "application/json", json.dumps(answer).encode()

    server, url = answering(reply)
    return server, url, asked


@pytest.mark.parametrize(
    ("more", "code"), [({}, 0), ({"exported_version": [{"job": "shop", "exported_version": "1"}]}, 1)]
)
def test_a_cluster(more, code, capsys):
    identities = [{"app": "shop", "version": "1.2.0", "track": "stable"}]
    server, url, asked = prometheus({"identities": identities, **more})
    try:
        assert cli.main(["doctor", "--prometheus", url]) == code
    finally:
        server.shutdown()
        server.server_close()
    assert sorted(asked) == sorted(cluster.QUERIES.values())
    out = capsys.readouterr().out
    assert "app 'shop', version '1.2.0'" in out
    assert ("honor_labels" in out) is bool(code)


def test_what_routes_cost(capsys):
    assert cli.main(["doctor", "--routes", "50"]) == 0
    out = capsys.readouterr().out
    assert "50 routes that have answered 200: " in out
    assert "(25 per route)" in out
    assert "(72 per route)" in out
    assert cli.main(["doctor", "--routes", "50", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["routes"] for one in found["cost"]] == [50, 50]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --url, --prometheus or --routes"),
        (["--routes", "-1"], "--routes is -1"),
        (["--url", "ftp://x"], "'ftp://x' is no address"),
        (["--url", "127.0.0.1:1"], "does not answer"),
    ],
)
def test_usage(arguments, message, capsys):
    assert cli.main(["doctor", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_answer_of_something_else(capsys):
    server, url = answering(lambda path: (200, "text/html", b"<html>{"))
    try:
        assert cli.main(["doctor", "--url", url]) == 2
        assert "is not metrics" in capsys.readouterr().err
        assert cli.main(["doctor", "--prometheus", url]) == 2
        assert "is no Prometheus" in capsys.readouterr().err
    finally:
        server.shutdown()
        server.server_close()
