"""``rolloutobs doctor --prometheus`` on a real Prometheus with ten minutes of two apps: one well, one ill."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest

from examples.demo.processes import free_ports
from rolloutobs import cli
from rolloutobs.manifests.place import FOLDER
from rolloutobs.semconv import DURATION_BOUNDS

PATIENCE_SECONDS = 120
MINUTES = 10
FUTURE_SECONDS = 600


def series(now: float) -> Iterator[tuple[str, float, float, float]]:
    """Yield name with labels, value at the end, increase per second, and seconds between two samples."""
    yield 'kube_pod_info{namespace="shop", pod="shop-a"}', 1, 0, 15
    for app, pod, version in (
        ("shop", "shop-a", "1.1.0"),
        ("shop", "shop-c", "1.2.0"),
        ("cart", "cart-x", "7"),
    ):
        labels = f'namespace="{app}", pod="{pod}", label_app_kubernetes_io_name="{app}"'
        yield f'kube_pod_labels{{{labels}, label_app_kubernetes_io_version="{version}"}}', 1, 0, 15
        yield f'kube_pod_status_phase{{namespace="{app}", pod="{pod}", phase="Running"}}', 1, 0, 15
    yield 'rum_beacons_total{job="rolloutobs-collector", outcome="accepted"}', 10, 0, 15
    yield 'rolloutobs_watcher_lists_total{job="rolloutobs-watcher", resource="pods"}', 10, 0, 15
    yield 'up{job="rolloutobs-watcher", namespace="rolloutobs"}', 1, 0, 15
    yield from shop(now)
    yield from cart(now)


def shop(now: float) -> Iterator[tuple[str, float, float, float]]:
    for pod, version, track in (("shop-a", "1.1.0", "stable"), ("shop-c", "1.2.0", "canary")):
        target = f'job="shop", namespace="shop", pod="{pod}", instance="{pod}:8000"'
        labels = f'{target}, app="shop", version="{version}", track="{track}"'
        yield f"app_build_info{{{labels}}}", 1, 0, 15
        yield f"app_start_time_seconds{{{labels}}}", now - 900, 0, 15
        yield f'http_requests_total{{{labels}, status="200"}}', 9000, 10, 15
        yield f'http_requests_total{{{labels}, status="200", synthetic="true"}}', 90, 0.1, 15
        for bound in (*DURATION_BOUNDS, "+Inf"):
            yield f'http_request_duration_seconds_bucket{{{labels}, le="{bound}"}}', 9000, 10, 15
        yield f"scrape_samples_scraped{{{target}}}", 420, 0, 15
        yield f"scrape_samples_post_metric_relabeling{{{target}}}", 420, 0, 15
    yield 'synthetic_check_runs_total{app="shop", track="canary", outcome="pass"}', 40, 0.03, 15


def cart(now: float) -> Iterator[tuple[str, float, float, float]]:
    for job, version, bound in (("cart", "7", 0.4), ("cart", "8", 0.5), ("again", "8", 0.5)):
        target = f'job="{job}", namespace="cart", pod="cart-{version}", instance="cart-{version}:8000"'
        labels = f'{target}, app="cart", version="{version}"'
        yield f"app_build_info{{{labels}}}", 1, 0, 100
        yield f"app_start_time_seconds{{{labels}}}", now + 300, 0, 100
        for le in (0.1, bound, 2, "+Inf"):
            yield f'http_request_duration_seconds_bucket{{{labels}, le="{le}"}}', 10, 0, 100
        yield f"scrape_samples_scraped{{{target}}}", 20_000, 0, 100
        yield f"scrape_samples_post_metric_relabeling{{{target}}}", 15_000, 0, 100
    yield 'http_requests_total{job="old", namespace="cart"}', 10, 0, 15
    yield 'synthetic_check_runs_total{app="cart", track="canary", outcome="pass"}', 40, 0.03, 15
    # The same once more: a step of each.
    yield 'synthetic_check_runs_total{app="cart", track="canary", step="pay", outcome="pass"}', 40, 0.03, 15


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, now = tmp_path_factory.mktemp("prometheus"), time.time()
    # On into the future: what is found does not depend on how long it takes to get there.
    lines = [
        f"{name.replace(', ', ',')} {end - rate * max(now - at, 0)} {at:.3f}"
        for name, end, rate, step in series(now)
        for at in (now + step * n for n in range(-int(MINUTES * 60 // step), int(FUTURE_SECONDS // step)))
    ]
    (folder / "past.txt").write_text("\n".join([*lines, "# EOF\n"]), "utf-8")
    blocks = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "past.txt", "data"]
    done = subprocess.run(blocks, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rules = [str(FOLDER / "rules" / f"{name}.yaml") for name in ("recording", "alerts")]
    # Loaded and never evaluated: nothing can be written where there is a future already.
    config = {"global": {"evaluation_interval": "50y"}, "rule_files": rules}
    (folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")
    (port,) = free_ports(1)
    argv = [
        "prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with subprocess.Popen(argv, cwd=folder) as process:
        try:
            ready(f"http://127.0.0.1:{port}/-/ready")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def ready(url: str) -> None:
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, threading.Event()
    with httpx2.Client(trust_env=False) as client:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx2.TransportError):
                if client.get(url).status_code == 200:
                    return
            pause.wait(0.05)
    raise AssertionError(f"{url} is not ready")


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, list[str]]]:
    """Return the exit code and what was found, by level."""
    code = cli.main(["doctor", "--json", *arguments])
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert all(bool(each["advice"]) or each["level"] == "good" for each in findings)
    return code, {
        level: [
            re.sub(r"started \d+ s in the", "started some s in the", line)
            for each in findings
            if each["level"] == level
            for line in [f"{each['subject']}: {each['what']}"]
        ]
        for level in ("good", "note", "bad")
    }


@pytest.mark.prometheus
def test_an_app_that_is_well(prometheus: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(capsys, "--prometheus", prometheus, "--app", "shop")
    rules = [line for line in found["good"] if line.startswith("rules")]
    assert (code, found) == (
        0,
        {
            "good": [
                "app: app 'shop', version '1.2.0', track 'canary': 1 instance",
                "app: app 'shop', version '1.1.0', track 'stable': 1 instance",
                "honorLabels: the labels of the apps arrive as they are",
                "track: app 'shop' in 'shop': '1.1.0' is stable, '1.2.0' canary",
                "synthetic: app 'shop' counts what checks ask for by itself",
                "buckets: app 'shop': 21 bounds, at most a factor 1.5 apart",
                "clock: samples are fresh, and no process has started in the future",
                "interval: job 'shop' in 'shop' is scraped every 15 s",
                "series: app 'shop': 420 series in its largest process",
                "parts: the collector and the watcher are scraped",
                *rules,
            ],
            "note": [
                "version: job 'old' in 'cart' has 1 series of requests without a version",
                "kube-state-metrics: no kube_pod_labels with the track, and apps have one",
                "parts: the gate's server is not scraped",
            ],
            "bad": [],
        },
    )
    assert len(rules) == 1


@pytest.mark.prometheus
def test_an_app_that_is_ill(prometheus: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(capsys, "--prometheus", prometheus, "--app", "cart")
    assert (code, found["bad"], found["note"]) == (
        1,
        [
            "track: app 'cart' in 'cart': 2 versions run, and '7', '8' have no track",
            "targets: app 'cart' in 'cart': 1 pod runs and shows no app_build_info",
            "targets: app 'cart': cart-8:8000 is scraped by 2 jobs",
            "synthetic: app 'cart': 18 checks have run within an hour, and no request of it "
            "is marked synthetic: they count as users'",
            "buckets: app 'cart': 2 sets of bounds among its versions and tracks",
            "clock: app 'cart', job 'again': a process has started some s in the future",
            "clock: app 'cart', job 'cart': a process has started some s in the future",
            "interval: job 'again' in 'cart' is scraped every 100 s",
            "interval: job 'cart' in 'cart' is scraped every 100 s",
        ],
        [
            "version: job 'old' in 'cart' has 1 series of requests without a version",
            "buckets: app 'cart': the bounds 0.1 and 2 s are a factor 20 apart",
            "series: app 'cart': 20000 series in its largest process",
            "series: app 'cart': relabelling drops 5000 samples of a scrape",
            "parts: the gate's server is not scraped",
        ],
    )


@pytest.mark.prometheus
def test_all_apps_and_one_that_is_not_there(prometheus: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = doctor(capsys, "--prometheus", prometheus)
    assert code == 1
    assert len([line for line in found["good"] if line.startswith("app: ")]) == 4
    code, found = doctor(capsys, "--prometheus", prometheus, "--app", "nobody")
    missing = "apps: no series of app_build_info of this app; there are 'cart', 'shop'"
    assert (code, found["bad"]) == (1, [missing])
    assert cli.main(["doctor", "--prometheus", prometheus, "--app", 'a"b']) == 2
