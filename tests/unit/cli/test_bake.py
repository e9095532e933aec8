"""The gate as a process that watches on after a promotion, and one that knows the canary's weight."""

import json
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from tests.serving import serving
from tests.unit.cli.test_cli import wait_for

DEADLINE_SECONDS = 120


class Shop(ThreadingHTTPServer):
    """A new pod and an old one behind one address; each scrape is one more step of their counters.

    Once `promoted`, the new pod is stable: what it counted as the canary is frozen, and it begins from zero.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.promoted = self.broken = self.alone = self.starved = False
        self.steps = 0
        self.canary, self.stable, self.old = [0, 0], [0, 0], [0, 0]

    @property
    def address(self):
        return f"127.0.0.1:{self.server_port}"

    def text(self):
        self.steps += 1
        bad = 12 if self.broken else self.steps % 2
        new = self.stable if self.promoted else self.canary
        for counts, failed in ((new, bad), (self.old, self.steps % 2)):
            if counts is new and self.starved:
                continue
            counts[0] += 40 - failed
            counts[1] += failed
        shown = lines("canary", "1.2.0", self.canary)
        shown += lines("stable", "1.2.0", self.stable) if self.promoted else ""
        return shown + ("" if self.alone else lines("stable", "1.1.0", self.old))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(self.server.text())

    def do_POST(self):
        """Be told something: ``/promoted``, ``/broken`` or ``/alone``."""
        setattr(self.server, self.path.strip("/"), True)
        self.answer("")

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Quiet."""


def lines(track, version, counts):
    labels = f'app="shop",track="{track}",version="{version}",method="GET",route="/"'
    return "".join(
        f'http_requests_total{{{labels},status="{status}"}} {count}\n'
        for status, count in zip(("200", "500"), counts, strict=True)
    )


@pytest.fixture
def shop():
    with serving(Shop()) as server:
        yield server


@pytest.fixture
def argv(shop, tmp_path):
    """Return the command line of a gate that decides within seconds; `said` is where its actions write."""
    policy = {
        "tick_seconds": 0,
        "phi_seconds": 0.1,
        "clip_refill": 10,
        "warmup_seconds": 0,
        "minimum_seconds": 0,
        "assume_independent": True,
        "signals": {"errors": {"margin_ratio": 3.0, "margin_difference": 0.1}, "latency": {"required": "no"}},
    }
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    url = f"http://{shop.address}/{{}}"
    code = f"import urllib.request as r; r.urlopen(r.Request('{url}', method='POST'))"
    post = f'{sys.executable} -c "{code}"'
    said = tmp_path / "said"
    return [
        sys.executable, "-m", "rolloutobs.cli", "gate", "--scrape", shop.address, "--interval", "100ms",
        "--policy", str(tmp_path / "policy.json"), "--json", str(tmp_path / "v.json"), "--quiet",
        "--on-promote", f"echo promote >> {said}; {post.format('promoted')}",
        "--on-rollback", f"echo rollback >> {said}",
    ]  # fmt: skip


def run(argv, *more):
    return subprocess.run(
        [*argv, *more], capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )


def test_a_good_version_stays_promoted(argv, tmp_path):
    done = run(argv, "--bake", "3s", "--html", str(tmp_path / "r.html"))
    assert done.returncode == 0, done.stderr
    assert "the bake watches on for 3 s, the sides told by version" in done.stderr
    assert "shop: after promotion, canary 1.2.0 against stable 1.1.0" in done.stdout
    assert "Nothing against it in a bake of" in done.stdout.splitlines()[-1]
    assert (tmp_path / "said").read_text() == "promote\n"
    found = json.loads((tmp_path / "v.json").read_text())
    assert (found["decision"], found["bake"]["outcome"]) == ("promote", "promote")
    assert found["bake"]["requests"]["stable"]["exposures"] > 0
    assert "The bake, after promotion" in (tmp_path / "r.html").read_text()


def test_a_version_that_breaks_after_promotion_is_rolled_back_by_a_gate_that_was_killed(argv, shop, tmp_path):
    """SIGKILL in the bake; the second process goes on with it, and the third tells the same."""
    state = tmp_path / "state.json"
    argv += ["--bake", "10m", "--state", str(state)]

    def baked():
        return json.loads(state.read_text()).get("bake", {}) if state.exists() else {}

    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        wait_for(lambda: baked().get("traffic", {}).get("canary", 0) > 100)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=DEADLINE_SECONDS)
    before = baked()
    assert before["canary_version"] == "1.2.0"
    httpx2.post(f"http://{shop.address}/broken")
    second = run(argv)
    assert second.returncode == 1, second.stderr
    assert "That was in the bake: it had been promoted after" in second.stdout.splitlines()[-1]
    found = json.loads((tmp_path / "v.json").read_text())
    assert found["bake"]["canary_seconds"] > before["at"] - before["zero"]
    third = run(argv)
    assert third.returncode == 1, third.stderr
    assert third.stdout.splitlines()[-1] == second.stdout.splitlines()[-1]
    assert (tmp_path / "said").read_text() == "promote\nrollback\n"


def test_a_bake_without_the_old_version_is_not_called_good(argv):
    at = argv.index("--on-promote") + 1
    argv[at] = f"{argv[at]}; {argv[at].partition(';')[2].replace('/promoted', '/alone')}"
    done = run(argv, "--bake", "2s")
    assert done.returncode == 3, done.stderr
    assert "compared nothing" in done.stdout.splitlines()[-1]


def test_a_bake_that_is_stopped_is_undecided(argv, tmp_path):
    argv += ["--bake", "10m", "--state", str(tmp_path / "state.json"), "--on-hold", f"touch {tmp_path}/held"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        state = tmp_path / "state.json"
        wait_for(lambda: state.exists() and "bake" in json.loads(state.read_text()))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 3, err
    assert "the bake was stopped after" in out.splitlines()[-1]
    assert not (tmp_path / "held").exists()


def test_a_promotion_that_could_not_be_carried_out_is_not_baked(argv):
    argv[argv.index("--on-promote") + 1] = "exit 9"
    done = run(argv, "--bake", "10m")
    assert done.returncode == 2
    assert "the bake watches on" not in done.stderr


def test_a_canary_that_dies_is_rolled_back_for_the_traffic_it_was_given(argv, shop, tmp_path):
    """Its weight stands in a file; without one, or with one that cannot be read, it would hold for ever."""
    path, weight, state = tmp_path / "policy.json", tmp_path / "weight", tmp_path / "state.json"
    policy = json.loads(path.read_text())
    policy["minimum_seconds"] = 600
    policy["share"] = {"rollback_after_seconds": 0, "lag_seconds": 0, "restart_seconds": 0.5}
    path.write_text(json.dumps(policy))
    weight.write_text("soon")
    argv += ["--weight-file", str(weight), "--state", str(state)]
    argv.remove("--quiet")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: state.exists() and json.loads(state.read_text())["traffic"]["canary"] > 100)
        shop.starved = True
        weight.write_text("50%")
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1, err
    assert "note: the weight in" in err
    assert json.loads((tmp_path / "v.json").read_text())["decided_by"] == "share"
    assert "where 50 % of the traffic is configured" in out.splitlines()[-1]
