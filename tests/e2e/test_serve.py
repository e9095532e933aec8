"""``rolloutobs serve`` as a process, asked by Flagger's and Argo's sequences of calls, restarted in between.

Pods are scraped straight, from a server whose counters grow by the same amounts at each scrape; one test has
a real Prometheus between.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import expect, sync_playwright

from examples.demo.processes import free_ports
from synthetic.browser import find_chromium
from synthetic.settings import BrowserSettings
from tests.kubernetes_api import served
from tests.unit.rolloutobs.cluster.made import canary

LIMIT_SECONDS = 120.0
"""Of anything that is waited for; far beyond what it takes."""
TOKEN = "a-token-that-nobody-guesses"
POLICY = {
    "tick_seconds": 0,
    "phi_seconds": 1,
    "clip_refill": 5,
    "warmup_seconds": 0,
    "minimum_seconds": 0,
    "signals": {"errors": {"margin_ratio": 2.0, "margin_difference": 0.1}, "latency": {"required": "no"}},
}
PODS = ("stable-1", "stable-2", "canary")
UNSAFE = {"owner": "team-db", "rollback": "unsafe: migration 42"}


@dataclass
class App:
    """What the pods of one app show."""

    version: str = "1.2.0"
    """Of the canary; empty: there is none."""
    bad: float = 0.0
    """Share of the canary's requests that fail."""
    counts: dict[str, list[float]] = field(default_factory=dict)

    def text(self, name: str, pod: str) -> str:
        track = "canary" if pod == "canary" else "stable"
        version = self.version if track == "canary" else "1.1.0"
        if not version:
            return "# nobody\n"
        requests, bad = (200.0, self.bad) if track == "canary" else (1000.0, 0.005)
        counts = self.counts.setdefault(f"{pod} {version}", [0.0, 0.0])
        counts[0] += requests * (1 - bad)
        counts[1] += requests * bad
        labels = f'app="{name}",track="{track}",version="{version}",method="GET",route="/"'
        pairs = zip(("200", "500"), counts, strict=True)
        return "".join(f'http_requests_total{{{labels},status="{s}"}} {round(c)}\n' for s, c in pairs)


class Pods(ThreadingHTTPServer):
    """The ``/metrics`` of all pods: ``/APP/POD``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.apps: dict[str, App] = {}
        self.posted: list[dict[str, Any]] = []
        """Notifications."""
        self.lock = threading.Lock()

    def set(self, name: str, **changes: Any) -> None:
        with self.lock:
            for key, value in changes.items():
                setattr(self.apps.setdefault(name, App()), key, value)

    def text(self, path: str) -> str:
        name, pod = path.strip("/").split("/")[:2]
        with self.lock:
            return self.apps.setdefault(name, App()).text(name, pod)


class _Handler(BaseHTTPRequestHandler):
    server: Pods

    def do_GET(self) -> None:
        body = self.server.text(self.path).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.server.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@dataclass
class Console:
    """One ``serve``, at the same address and with the same folder after each start."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    options: tuple[str, ...] = ()
    client: httpx2.Client = field(default_factory=lambda: httpx2.Client(timeout=10, verify=False))

    def start(self) -> None:
        (self.folder / "state").mkdir(exist_ok=True)
        argv = [
            sys.executable, "-m", "rolloutobs.cli", "serve",
            "--workloads", str(self.folder / "workloads.yaml"),
            "--state", str(self.folder / "state"), "--listen", f"127.0.0.1:{self.port}",
            "--token-file", str(self.folder / "token"), *self.options,
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        self.until(lambda: self.get("/readyz").text == "ok\n")

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(LIMIT_SECONDS)

    def close(self) -> None:
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.stop()

    def until(self, condition: Any) -> Any:
        """Wait until `condition` returns something true, and return it."""
        deadline = time.monotonic() + LIMIT_SECONDS
        waiting = threading.Event()
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if found := condition():
                    return found
            assert self.process is None or self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            waiting.wait(0.1)

    def get(self, path: str, token: str = TOKEN) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.client.get(f"http://127.0.0.1:{self.port}{path}", headers=headers)

    def post(self, path: str, body: Any, token: str = TOKEN) -> httpx2.Response:
        # As Flagger has it: in the address, which Go makes basic authentication of.
        url = f"http://flagger:{token}@127.0.0.1:{self.port}{path}"
        return self.client.post(url, json=body)

    def hook(self, hook: str, name: str, checksum: str = "c1", **more: Any) -> int:
        body = {"name": name, "namespace": "shop", "phase": "Progressing", "checksum": checksum, **more}
        return self.post(f"/flagger/{hook}", body).status_code

    def hooks(self, name: str, checksum: str = "c1") -> dict[str, int]:
        """Call what Flagger calls while the canary has traffic; these change nothing."""
        words = ("rollback", "rollout", "confirm-traffic-increase", "confirm-promotion")
        return {word: self.hook(word, name, checksum) for word in words}

    def verdict(self, name: str, rollout: str = "", namespace: str = "shop") -> tuple[int, dict[str, Any]]:
        suffix = f"&rollout={rollout}" if rollout else ""
        answer = self.get(f"/v1/verdict?namespace={namespace}&workload={name}{suffix}")
        return answer.status_code, answer.json()

    def decided(self, name: str, decision: str) -> dict[str, Any]:
        """Wait for a decision of the evidence, and return what is known then."""

        def found() -> dict[str, Any] | None:
            code, answer = self.verdict(name)
            return answer if code == 200 and answer["evidence_decision"] == decision else None

        return dict(self.until(found))


@pytest.fixture(scope="module")
def pods() -> Iterator[Pods]:
    with Pods() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def files(folder: Path, workloads: dict[str, Any]) -> None:
    (folder / "policy.yaml").write_text(json.dumps(POLICY))
    (folder / "workloads.yaml").write_text(json.dumps(workloads))
    (folder / "token").write_text(f"an-old-token-of-before\n{TOKEN}\n")


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory, pods: Pods) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("serve")
    files(
        folder,
        {
            "unlisted": ["many-*"],
            "defaults": {
                "interval": "10s",
                "timeout": "5s",
                "policy": "policy.yaml",
                "scrape": [f"http://127.0.0.1:{pods.server_port}/{{name}}/{pod}" for pod in PODS],
            },
            "workloads": [
                {"namespace": "shop", "name": name, "interval": "1s", **more}
                for name, more in (
                    ("good", {}),
                    ("bad", {"owner": "team-shop", "notify": f"http://127.0.0.1:{pods.server_port}/"}),
                    ("held", UNSAFE),
                    ("argo", {}),
                    ("kept-good", {}),
                    ("kept-bad", {}),
                    ("kept-held", UNSAFE),
                    ("kept-by-hand", {}),
                    ("on-screen", {}),
                )
            ],
        },
    )
    found = Console(folder, free_ports(1)[0])
    found.start()
    try:
        yield found
    finally:
        found.close()


NO, YES, BLIND = 409, 200, 503


def test_all_three_verdicts_hold_over_a_stop_and_a_kill(console: Console, pods: Pods) -> None:
    """Evidence, ids, overrides and logs are in the folder."""
    names = {"kept-good": "promote", "kept-bad": "rollback", "kept-held": "rollback", "kept-by-hand": "hold"}
    for name, decision in names.items():
        pods.set(name, bad=0.5 if decision == "rollback" else 0.0)
    pods.set("kept-by-hand", version="")

    def told() -> dict[str, dict[str, int]]:
        return {name: console.hooks(name, f"{name}-1") for name in names}

    paused = {"rollback": NO, "rollout": YES, "confirm-traffic-increase": NO, "confirm-promotion": NO}
    expected = {
        "kept-good": {**paused, "confirm-traffic-increase": YES, "confirm-promotion": YES},
        "kept-bad": {**paused, "rollback": YES, "rollout": NO},
        "kept-held": paused,
        "kept-by-hand": {**paused, "rollback": YES, "rollout": NO},
    }
    call = {"namespace": "shop", "workload": "kept-by-hand", "reason": "it burns", "who": "ann"}
    assert console.post("/v1/override", {**call, "decision": "rollback"}).status_code == 200
    for number in (signal.SIGTERM, signal.SIGKILL, None):
        before = {name: console.decided(name, decision) for name, decision in names.items()}
        assert told() == expected
        argo = {name: console.verdict(name, f"{name}-1")[1]["verdict"] for name in names}
        assert argo == {
            "kept-good": "pass",
            "kept-bad": "fail",
            "kept-held": "inconclusive",
            "kept-by-hand": "fail",
        }
        if number is None:
            continue
        assert console.stop(number) == (0 if number is signal.SIGTERM else -number)
        console.start()
        after = {name: console.decided(name, decision) for name, decision in names.items()}
        for name in names:
            assert after[name]["rollout"] == before[name]["rollout"] | {"id": f"{name}-1"}
            assert after[name]["override"] == before[name]["override"]
        # A rollback is final, to the letter.
        assert after["kept-bad"]["sentence"] == before["kept-bad"]["sentence"]


def test_flagger_promotes_a_good_version_and_begins_anew_with_the_next(console: Console, pods: Pods) -> None:
    pods.set("good", version="")
    console.until(lambda: console.hook("confirm-rollout", "good") == YES)
    # The target is scaled up, and has no traffic.
    pods.set("good", version="1.2.0", counts={})
    console.until(lambda: console.hook("pre-rollout", "good") == YES)
    assert console.hook("confirm-promotion", "good") == NO
    console.until(lambda: console.hook("confirm-traffic-increase", "good") == YES)
    console.decided("good", "promote")
    assert console.hooks("good") == {
        "rollback": NO,
        "rollout": YES,
        "confirm-traffic-increase": YES,
        "confirm-promotion": YES,
    }
    again = console.decided("good", "promote")
    assert again["rollout"]["id"] == "c1"
    pods.set("good", version="")
    assert console.hook("post-rollout", "good", phase="Succeeded") == YES
    assert console.hook("confirm-promotion", "good") == NO
    # The next one: what is known of the last says nothing about it, from the first call on.
    assert console.hook("confirm-rollout", "good", "c2") == YES
    assert set(console.hooks("good", "c2").values()) <= {NO, YES}
    assert console.hook("confirm-promotion", "good", "c2") == NO
    code, fresh = console.verdict("good")
    assert (code, fresh["verdict"], fresh["rollout"]["id"]) == (200, "inconclusive", "c2")
    assert fresh["rollout"]["number"] > again["rollout"]["number"]


def test_flagger_rolls_back_a_bad_version(console: Console, pods: Pods) -> None:
    pods.set("bad", bad=0.5)
    after = console.decided("bad", "rollback")
    sentence = after["sentence"]
    expected = {"rollback": YES, "rollout": NO, "confirm-traffic-increase": NO, "confirm-promotion": NO}
    assert console.hooks("bad") == expected
    (notified,) = console.until(lambda: [each for each in pods.posted if each["decision"] == "rollback"])
    assert (notified["event"], notified["owner"]) == ("verdict", "team-shop")
    assert notified["text"] == f"team-shop: bad in shop: {sentence}"
    assert console.hook("post-rollout", "bad", phase="Failed") == YES
    assert console.hook("rollback", "bad") == NO
    assert normal(console.verdict("bad")[1]) == {
        "schema": "#",
        "verdict": "inconclusive",
        "decision": "hold",
        "sentence": f"HOLD: the rollout is over (Failed). The last look at it said: {normal(sentence)}",
        "trouble": None,
        "namespace": "shop",
        "workload": "bad",
        "app": "bad",
        "owner": "team-shop",
        "page": False,
        "guard_rails": {"rollback": "safe", "why": None},
        "rollout": {
            "number": "#",
            "id": "c#",
            "began": None,
            "why": "nothing was known before",
            "phase": "Failed",
            "has_canary": True,
        },
        "override": None,
        "looked": "#-#-#T#:#:#+#:#",
        "age_seconds": "#",
        "evidence_decision": "rollback",
        "evidence": normal(after["evidence"]),
        "log": normal(console.verdict("bad")[1]["log"]),
    }
    kinds = [each["kind"] for each in console.verdict("bad")[1]["log"]]
    assert kinds[-1] == "over"
    assert set(kinds) == {"verdict", "over"}


def normal(value: Any) -> Any:
    """Replace every number, in texts too."""
    if isinstance(value, dict):
        return {key: normal(each) for key, each in value.items() if key != "history"}
    if isinstance(value, list):
        return [normal(each) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "#"
    return re.sub(r"\d[\d.,]*\d|\d", "#", value) if isinstance(value, str) else value


def test_a_hold_pauses_and_a_rollback_that_is_unsafe_pages(console: Console, pods: Pods) -> None:
    pods.set("held", bad=0.5)
    found = console.decided("held", "rollback")
    assert found["sentence"].startswith(
        "HOLD, and page team-db: rolling back is marked as unsafe (migration 42), so a person has to decide."
    )
    paused = {"rollback": NO, "rollout": YES, "confirm-traffic-increase": NO, "confirm-promotion": NO}
    assert console.hooks("held") == paused
    labels = 'app="held",namespace="shop",owner="team-db",workload="held"'
    assert f"rolloutobs_gate_rollback_held{{{labels}}} 1.0" in console.get("/metrics", "").text
    call = {
        "namespace": "shop",
        "workload": "held",
        "decision": "rollback",
        "reason": "42 is undone",
        "who": "ann",
    }
    assert console.post("/v1/override", {**call, "reason": " "}).json()["error"] == "reason is missing"
    assert console.post("/v1/override", call, token="another-token-entirely").status_code == 401
    decided = console.post("/v1/override", call).json()
    assert decided["decision"] == "rollback"
    assert decided["sentence"].startswith("ROLLBACK by ann (42 is undone); the evidence by then: ROLLBACK")
    assert {key: decided["override"][key] for key in ("decision", "reason", "who", "holds")} == {
        "decision": "rollback",
        "reason": "42 is undone",
        "who": "ann",
        "holds": True,
    }
    assert console.hook("rollback", "held") == YES
    taken_back = console.post("/v1/override", {**call, "decision": "none", "reason": "too early"}).json()
    assert taken_back["override"] is None
    told = [
        (each["kind"], each["text"], each["by"]) for each in taken_back["log"] if each["kind"] == "override"
    ]
    assert told == [
        ("override", "rollback: 42 is undone", "ann"),
        ("override", "no override any more: too early", "ann"),
    ]
    assert console.hooks("held") == paused


def test_argo_measures_all_three_verdicts(console: Console, pods: Pods) -> None:
    """As its web provider does: 2xx, `$.verdict`, and two conditions of which neither is inconclusive."""

    def measured(rollout: str) -> str:
        code, answer = console.verdict("argo", rollout)
        if not 200 <= code < 300:
            return "Error"
        return {"pass": "Successful", "fail": "Failed"}.get(answer["verdict"], "Inconclusive")

    pods.set("argo", bad=0.0)
    console.until(lambda: measured("hash-1") == "Successful")
    pods.set("argo", version="1.3.0", bad=0.5)
    assert measured("hash-2") == "Inconclusive"
    console.until(lambda: measured("hash-2") == "Failed")
    # Nobody has given the next one a name; its version alone begins it anew.
    pods.set("argo", version="1.4.0", bad=0.0)
    found = console.until(lambda: (f := console.verdict("argo")[1])["verdict"] == "pass" and f)
    assert found["rollout"]["id"] is None
    assert found["rollout"]["why"] == "the canary is 1.4.0 now, and was 1.3.0"
    assert found["evidence"]["canary_version"] == "1.4.0"


def test_who_is_let_in_and_what_is_refused(console: Console) -> None:
    for path in ("/", "/v1/verdict?namespace=shop&workload=good", "/v1/workloads", "/rollouts/shop/good"):
        for token in ("", "wrong-token-of-some-length", TOKEN[:-1]):
            assert console.get(path, token).status_code == 401, path
        assert console.get(path, "an-old-token-of-before").status_code in (200, 503)
    assert console.get("/v1/verdict?namespace=shop&workload=nobody").json() == {
        "schema": 1,
        "error": "workload 'nobody' in namespace 'shop' is not watched: it has no entry in the file",
    }
    refused = [
        console.get("/v1/verdict?namespace=shop&workload=nobody").status_code,
        console.get("/v1/verdict?namespace=shop").status_code,
        console.get("/nowhere").status_code,
        console.post("/flagger/dance", {}).status_code,
        console.post("/flagger/rollback", {"name": "good"}).status_code,
        console.post("/flagger/rollback", {"name": "../good", "namespace": "many-1"}).status_code,
        console.post(
            "/flagger/rollback", {"name": "good", "namespace": "shop", "x": "y" * 70000}
        ).status_code,
        console.client.post(
            f"http://sre:{TOKEN}@127.0.0.1:{console.port}/v1/override",
            content=b'{"decision": "promote"}',
            headers={"Content-Type": "text/plain"},
        ).status_code,
    ]
    assert refused == [404, 400, 404, 404, 400, 404, 400, 415]


@pytest.mark.browser
def test_the_pages_keep_themselves_fresh(console: Console, pods: Pods) -> None:
    """Without being loaded again, on a phone in the dark, and they say so when the server is gone."""
    pods.set("on-screen", version="")
    console.until(lambda: not console.verdict("on-screen")[1]["rollout"]["has_canary"])
    with sync_playwright() as playwright:
        executable = find_chromium(BrowserSettings.from_env(os.environ), playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": 390, "height": 844},
            color_scheme="dark",
            http_credentials={"username": "sre", "password": TOKEN},
        )
        page = context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{console.port}/")
        page.evaluate("window.first = true")
        card = page.locator(".card", has_text="on-screen")
        expect(card).to_contain_text("NO CANARY", timeout=LIMIT_SECONDS * 1000)
        pods.set("on-screen", version="1.2.0", bad=0.5)
        console.decided("on-screen", "rollback")
        expect(card).to_contain_text("ROLLBACK after", timeout=LIMIT_SECONDS * 1000)
        assert page.evaluate("window.first") is True
        card.locator("a").click()
        expect(page.locator("header")).to_contain_text("ROLLBACK after")
        expect(page.locator(".log")).to_contain_text("verdict")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        call = {"namespace": "shop", "workload": "on-screen", "reason": "<b>we know</b>", "who": "ann"}
        console.post("/v1/override", {**call, "decision": "hold"})
        # What the timer does, and what coming back to the page does, now.
        page.evaluate("refresh()")
        expect(page.locator("header")).to_contain_text(
            "HOLD by ann (<b>we know</b>)", timeout=LIMIT_SECONDS * 1000
        )
        console.stop()
        page.evaluate("refresh()")
        expect(page.locator(".strip.lost")).to_contain_text(
            "the server does not answer", timeout=LIMIT_SECONDS * 1000
        )
        assert errors == []
        browser.close()
    console.start()


def test_fifty_workloads_that_only_webhooks_name(console: Console) -> None:
    """An event is enough; nobody waits for anybody, and the file may take them all away."""
    names = [f"app-{number}" for number in range(50)]
    for name in names:
        body = {
            "name": name,
            "namespace": "many-1",
            "phase": "Progressing",
            "metadata": {"eventMessage": "new"},
        }
        assert console.post("/flagger/event", body).status_code == YES

    def workloads() -> list[Any]:
        return list(console.get("/v1/workloads").json()["workloads"])

    console.until(lambda: not any(each["trouble"] for each in workloads()))
    listed = workloads()
    assert [each["workload"] for each in listed if each["namespace"] == "many-1"] == sorted(names)
    assert len(re.findall(r'<li class="card', console.get("/").text)) == len(listed)
    plain = json.loads((console.folder / "workloads.yaml").read_text())
    (console.folder / "workloads.yaml").write_text(json.dumps({**plain, "unlisted": []}))
    console.until(lambda: len(workloads()) == len(plain["workloads"]))
    (console.folder / "workloads.yaml").write_text('{"workloads": 3}')
    told = "workloads.yaml, line 1: workloads is 3; use a list\n"
    console.until(lambda: console.get("/readyz").text.endswith(told))
    assert len(workloads()) == len(plain["workloads"])
    (console.folder / "workloads.yaml").write_text(json.dumps(plain))


def annotated(namespace: str, rollback: str) -> dict[str, Any]:
    """Return a Canary of Flagger with what its owners have written on it."""
    found = canary("Progressing", "c1", 0.0)
    annotations = {"rolloutobs.io/rollback": rollback, "rolloutobs.io/owner": f"team-{namespace}"}
    own = {"name": "same", "namespace": namespace, "uid": namespace, "annotations": annotations}
    return {**found, "metadata": {**found["metadata"], **own}}


def asked_without_a_token(console: Console) -> None:
    """Where --no-token lets everybody ask, deciding takes a token all the same."""
    assert console.get("/v1/verdict?namespace=live&workload=same", "").status_code == 503
    assert console.get("/", "").status_code == 200
    call = {"namespace": "live", "workload": "same", "decision": "hold", "reason": "wait", "who": "ann"}
    assert console.post("/v1/override", call, token="another-token-entirely").status_code == 401
    for host in ("127.0.0.1", "127.0.0.1/healthz?"):
        refused = console.client.post(
            f"http://127.0.0.1:{console.port}/v1/override", json=call, headers={"Host": host}
        )
        assert refused.status_code in (400, 401), host
    assert console.post("/v1/override", call).json()["override"]["who"] == "ann"
    assert console.post("/v1/override", {**call, "decision": "none"}).json()["override"] is None


@pytest.mark.prometheus
def test_a_prometheus_that_comes_late_and_has_two_namespaces(tmp_path: Path, pods: Pods) -> None:
    """The same app runs in both; only its own namespace is a workload's evidence."""
    port, listen = free_ports(2)
    (tmp_path / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                "scrape_configs": [
                    {
                        "job_name": name,
                        "static_configs": [{"targets": [f"127.0.0.1:{pods.server_port}"]}],
                        "metrics_path": f"/{name}/{pod}",
                        "relabel_configs": [{"target_label": "instance", "replacement": f"{name}-{pod}"}],
                        "metric_relabel_configs": [
                            {"target_label": "namespace", "replacement": namespace},
                            {"target_label": "app", "replacement": "same"},
                        ],
                    }
                    | {"job_name": f"{name}-{pod}"}
                    for namespace, name in (("live", "live-one"), ("test", "test-one"))
                    for pod in PODS
                ],
            }
        )
    )
    pods.set("test-one", bad=0.5)
    workloads = [{"namespace": name, "name": "same"} for name in ("live", "test")]
    defaults = {"interval": "1s", "policy": "policy.yaml", "prometheus": f"http://127.0.0.1:{port}"}
    files(tmp_path, {"defaults": defaults, "workloads": workloads})
    kubeconfig = tmp_path / "kubeconfig"
    options = ("--no-token", "--cluster", "--kubeconfig", str(kubeconfig))
    console = Console(tmp_path, listen, options=options)
    prometheus = None
    with served(kubeconfig) as cluster:
        cluster.put("canaries", [annotated("live", "safe"), annotated("test", "unsafe: migration 42")])
        console.start()
    try:
        # What is written on a workload holds, whether or not the cluster can still be read.
        code, blind = console.verdict("same", namespace="live")
        assert (code, blind["verdict"]) == (503, "inconclusive")
        assert console.hook("rollback", "same", namespace="live") == BLIND
        assert console.hook("confirm-rollout", "same", namespace="live") == BLIND
        assert console.hook("rollout", "same", namespace="live") == YES
        asked_without_a_token(console)
        argv = [
            "prometheus",
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
        ]
        argv += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
        prometheus = subprocess.Popen(argv)
        console.until(lambda: console.verdict("same", namespace="live")[1]["verdict"] == "pass")
        found = console.until(
            lambda: (
                (f := console.verdict("same", namespace="test")[1])["evidence_decision"] == "rollback" and f
            )
        )
        assert (found["verdict"], found["page"], found["owner"]) == ("inconclusive", True, "team-test")
        assert found["guard_rails"] == {"rollback": "unsafe", "why": "migration 42"}
        assert console.hook("rollback", "same", namespace="test") == NO
    finally:
        console.close()
        if prometheus is not None:
            prometheus.terminate()
            prometheus.wait(LIMIT_SECONDS)
