import contextlib
import json
import re
import time
import urllib.parse

import pytest

from rolloutobs import cli
from rolloutobs.checkup import cluster
from rolloutobs.checkup.answers import ALL_APPS, APPS
from rolloutobs.cluster.resources import RESOURCES
from rolloutobs.manifests.place import FOLDER
from rolloutobs.settings import Settings
from rolloutobs.telemetry import hub as hubs
from rolloutobs.telemetry.serving import serve_metrics
from rolloutobs.testing import isolated_telemetry
from tests.serving import Answering, serving


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


def test_a_healthy_pod(pod, capsys):
    hub, url = pod()
    hub.counter("orders_total", "Orders.", ("plan",)).cell("gold").inc()
    assert cli.main(["doctor", "--url", url]) == 0
    out = capsys.readouterr().out
    assert "ok    identity: app 'shop', version '1.2.0', track 'canary'" in out
    assert "series" in out
    assert "orders" in out


def test_the_last_word_is_how_it_is(pod, capsys):
    for settings, word in (({}, "all is well, 1 note"), ({"version": "unknown"}, "1 thing is BAD, 1 note")):
        cli.main(["doctor", "--url", pod(**settings)[1]])
        assert f"\n\n{word}\n\n" in capsys.readouterr().out


def test_a_prometheus_that_refuses_a_query_is_heard(capsys):
    said = json.dumps({"status": "error", "error": "unknown function group"}).encode()
    with serving(Answering(lambda path: (400, "application/json", said))) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        assert cli.main(["doctor", "--prometheus", url]) == 2
    message = capsys.readouterr().err
    assert f"{url}/api/v1/query answers 400 Bad Request: unknown function group" in message
    assert "?" not in message


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


QUERIES = {query.replace(APPS, ALL_APPS): name for name, query in cluster.QUERIES.items()}
RULES = re.findall("- (?:record|alert): (.*)", "".join(
    (FOLDER / "rules" / f"{name}.yaml").read_text("utf-8") for name in ("recording", "alerts")
))  # fmt: skip
HEALTHY = {
    "identities": [({"app": "shop", "version": "1.2.0", "track": "stable"}, 4)],
    "sides": [({"namespace": "web", "app": "shop", "version": "1.2.0", "track": "stable"}, 4)],
    "kube": [({}, 9)],
    "kube labels": [({}, 9)],
    "age": [({"app": "shop", "job": "shop"}, 3)],
    "samples": [({"job": "shop"}, 20)],
    "the collector": [({}, 10)],
    "the gate's server": [({}, 6)],
    "the watcher": [({}, 6)],
}


@contextlib.contextmanager
def prometheus(rows=None, rules=RULES, version="2.53.3", error=""):
    """A server that answers as a Prometheus with these rows, and the list of what it was asked."""
    asked = []

    def reply(path):
        parts = urllib.parse.urlsplit(path)
        if parts.path.endswith("buildinfo"):
            data = {"version": version}
        elif parts.path.endswith("rules"):
            if rules is None:
                return 404, "text/plain", b"not found"
            named = [{"name": name, "lastError": error if name == rules[0] else ""} for name in rules]
            data = {"groups": [{"name": "all", "rules": named}]}
        else:
            query = urllib.parse.parse_qs(parts.query)["query"][0]
            asked.append(query)
            found = {**HEALTHY, "now": [({}, time.time())], **(rows or {})}.get(QUERIES[query], [])
            data = {"result": [{"metric": labels, "value": [0, str(value)]} for labels, value in found]}
        return 200, "application/json", json.dumps({"status": "success", "data": data}).encode()

    with serving(Answering(reply)) as server:
        yield server.url, asked


def test_a_cluster(capsys):
    with prometheus() as (url, asked):
        assert cli.main(["doctor", "--prometheus", url]) == 0
    assert sorted(asked) == sorted(QUERIES)
    out = capsys.readouterr().out
    assert "app 'shop', version '1.2.0'" in out
    assert "note  track: app 'shop' in 'web': there is no canary\n      -> look again while" in out
    assert "BAD" not in out


def row(query, labels=None, value=0):
    return {"rows": {query: [] if labels is None else [(labels, value)]}}


EXPORTED = {"job": "shop", "exported_version": "1"}
MISSING = f"1 of {len(RULES)} rules and alerts are not loaded, such as {RULES[0]}"


def test_what_a_watcher_needs_is_what_it_says():
    needed = {resource.plural for resource in RESOURCES if resource.is_required}
    assert set(re.search('resource=~"(.*)"', cluster.QUERIES["unreadable"])[1].split("|")) == needed


SIDE = {"namespace": "web", "app": "shop", "version": "1.2.0"}


@pytest.mark.parametrize(
    ("given", "what", "advice"),
    [
        (row("exported_version", EXPORTED, 1), "exported_version", "honor_labels"),
        (row("anonymous", {"job": "shop"}, 2), "2 instances without the label app", "labeldrop"),
        (row("down", {"job": "shop"}, 2), "2 targets cannot be scraped", "/targets"),
        (row("sides", {**SIDE, "track": "blue"}, 1), "the track is 'blue'", "stable, canary"),
        (row("sides", {**SIDE, "track": "canary"}, 1), "only the canary is scraped", "label of the monitor"),
        (row("buckets", {"app": "shop", "le": "+Inf"}, 1), "fewer than two bounds", "duration_bounds"),
        ({"rows": {"in pods": [({}, 4)], "kube": []}}, "no series of kube_pod_info", "have it scraped"),
        (row("kube renamed", {"job": "ksm"}, 9), "label exported_pod", "honorLabels: true"),
        (row("kube labels"), "no kube_pod_labels with the version", "--metric-labels-allowlist=pods="),
        (row("age", {"app": "shop", "job": "fed"}, 300), "samples are 300 s old", "federation"),
        (row("nodes", {"instance": "n1"}, 40), "clock of n1 is 40 s", "NTP"),
        (row("unreadable", {"resource": "pods"}), "it may not read pods", "ClusterRole"),
        (row("wrong track", {"namespace": "a", "workload": "b"}, 3), "a/b: 3 pods say", "status lists them"),
        (
            row("parts down", {"job": "rolloutobs-serve", "namespace": "rolloutobs"}, 1),
            "job 'rolloutobs-serve' in 'rolloutobs': 1 target cannot", "network policy",
        ),
        ({"rules": RULES[1:]}, MISSING, "ruleSelector"),
        ({"error": "many-to-many"}, f"{RULES[0]} cannot be evaluated: many-to-many", "/rules"),
        ({"version": "2.37.1"}, "version 2.37.1 does not know keep_firing_for", "2.42"),
        (row("errors", {"app": "shop", "where": "record"}, 3), "3 failures of telemetry", "log"),
        (row("overflow", {"app": "shop", "metric": "orders"}, 3), "orders has too many", "--url"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_cluster_and_how_it_is_mended(given, what, advice, capsys):
    with prometheus(**given) as (url, _):
        assert cli.main(["doctor", "--prometheus", url, "--json"]) == 1
    bad = [each for each in json.loads(capsys.readouterr().out)["findings"] if each["level"] == "bad"]
    assert len(bad) == 1
    assert what in bad[0]["what"]
    assert advice in bad[0]["advice"]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"rules": None}, "this server does not list its rules"),
        ({"rows": {"kube": [], "kube labels": []}}, "no series of kube_pod_info"),
        (row("the watcher"), "the watcher is not scraped"),
        (
            {"rows": {"the collector": [], "the gate's server": [], "the watcher": []}},
            "the collector, the gate's server and the watcher are not scraped",
        ),
        (row("now", {}, 1000), "Prometheus' clock is -"),
        (row("samples", {"job": "shop"}, 6), "job 'shop' is scraped every 50 s"),
        (row("some tracks", {}, 1), "no kube_pod_labels with the track"),
        (
            row("no version", {"job": "old"}, 5),
            "job 'old' has 5 series of requests without a version",
        ),
    ],
)
def test_what_is_worth_knowing_about_a_cluster(given, what, capsys):
    with prometheus(**given) as (url, _):
        assert cli.main(["doctor", "--prometheus", url, "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    (note,) = [each for each in findings if each["level"] == "note" and what in each["what"]]
    assert note["advice"]


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
        (["--url", "127.0.0.1:1"], "does not answer: Connection refused"),
    ],
)
def test_usage(arguments, message, capsys):
    assert cli.main(["doctor", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_answer_of_something_else(capsys):
    with serving(Answering(lambda path: (200, "text/html", b"<html>{"))) as server:
        assert cli.main(["doctor", "--url", server.url]) == 2
        assert "is not metrics" in capsys.readouterr().err
        assert cli.main(["doctor", "--prometheus", server.url]) == 2
        assert "is no Prometheus" in capsys.readouterr().err
