"""Real Locust against real shops, for a few seconds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from time import time

import pytest

from rolloutobs.errors import ConfigurationError
from rolloutobs.telemetry.signing import Claim, Doubt, Verifier
from synthetic.__main__ import main
from synthetic.load.orders import Orders
from synthetic.load.swarm import Plan, run_users

pytestmark = pytest.mark.load
SECRET = "0123456789abcdef"


@pytest.fixture
def locustfile(tmp_path: Path) -> Path:
    path = tmp_path / "load.py"
    path.write_text(
        textwrap.dedent("""
        from locust import constant, task
        from synthetic.load import RolloutUser

        class Shopper(RolloutUser):
            wait_time = constant(0.05)

            def on_start(self):
                self.client.get("/api/products", name="start")

            @task
            def buy(self):
                self.client.get("/api/products")
                with self.client.post("/api/checkout", catch_response=True) as answer:
                    if answer.status_code >= 500:
                        answer.failure(f"checkout answered {answer.status_code}")
        """),
        encoding="utf-8",
    )
    return path


def run(locustfile: Path, stable: str, canary: str, *more: str) -> int:
    argv = ["load", "--app", "shop", "--locustfile", str(locustfile), "--stable", stable, "--canary", canary]
    return main([*argv, "--users", "2", "--duration", "2s", *more])


def test_a_good_canary_under_load(serve, shop_type, locustfile, tmp_path, capsys):
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    out = tmp_path / "out.json"
    assert run(locustfile, stable.url, canary.url, "--canary-version", "1.2.0", "--json", str(out)) == 0
    assert "=> pass: the canary does not fail more often than stable" in capsys.readouterr().out
    tracks = json.loads(out.read_text())["tracks"]
    for name, shop in (("stable", stable), ("canary", canary)):
        found = tracks[name]
        assert found["requests"] > 10
        assert found["identity"] == {"right": found["requests"]}
        # A request may be cut off at the very end, after the server has seen it.
        assert 0 <= len(shop.requests) - found["requests"] <= 2
        assert {headers["baggage"] for _, headers, _ in shop.requests} == {"synthetic=test"}
        traces = [headers["traceparent"].split("-")[1] for _, headers, _ in shop.requests]
        assert len(set(traces)) == len(traces)
    assert tracks["canary"]["version"] == "1.2.0"
    assert 0 < tracks["canary"]["p50_seconds"] <= tracks["canary"]["p99_seconds"]


def test_a_failing_canary_under_load(serve, shop_type, locustfile, capsys, monkeypatch):
    monkeypatch.setenv("ROLLOUTOBS_SECRET", SECRET)
    stable = serve(shop_type())
    canary = serve(shop_type(version="1.2.0", track="canary", checkout_status=500))
    assert run(locustfile, stable.url, canary.url) == 1
    text = capsys.readouterr().out
    assert "the canary fails more often" in text
    assert "x POST /api/checkout: checkout answered 500" in text
    # The secret is Locust's as well: the apps believe the mark.
    for _, headers, _ in stable.requests:
        mark, _, signature = headers["baggage"].partition(",rolloutobs.sig=")
        assert mark == "synthetic=test"
        assert not isinstance(Verifier([SECRET]).check(Claim(synthetic="test"), signature, time()), Doubt)


def test_the_wrong_version_under_load(serve, shop_type, locustfile, capsys):
    stable, canary = serve(shop_type()), serve(shop_type(version="1.1.0", track="canary"))
    assert run(locustfile, stable.url, canary.url, "--canary-version", "1.2.0") == 3
    assert "canary: version '1.1.0' answered, expected '1.2.0'" in capsys.readouterr().out


def test_nothing_answers_under_load(locustfile, refused, capsys):
    assert run(locustfile, refused, refused) == 2
    assert "most requests fail on both tracks" in capsys.readouterr().out


def test_no_request_at_all_is_an_error(serve, shop_type, tmp_path, capsys):
    idle = tmp_path / "idle.py"
    idle.write_text(
        "from locust import task\nfrom synthetic.load import RolloutUser\n"
        "class Idle(RolloutUser):\n    @task\n    def nothing(self):\n        self.wait()\n"
        "    def wait_time(self):\n        return 0.2\n"
    )
    assert run(idle, serve(shop_type()).url, serve(shop_type()).url, "--duration", "1s") == 2
    assert "no request was made at all" in capsys.readouterr().err


def test_a_locustfile_that_cannot_be_imported_shows_why(serve, shop_type, tmp_path, capsys):
    broken = tmp_path / "broken.py"
    broken.write_text("import not_a_module_anywhere\n")
    assert run(broken, serve(shop_type()).url, serve(shop_type()).url) == 2
    assert "not_a_module_anywhere" in capsys.readouterr().err


def test_users_that_are_not_ours_are_refused(serve, shop_type, tmp_path, capsys):
    plain = tmp_path / "plain.py"
    plain.write_text(
        "from locust import FastHttpUser, constant, task\n"
        "class Plain(FastHttpUser):\n    wait_time = constant(0.1)\n"
        "    @task\n    def go(self):\n        self.client.get('/')\n"
    )
    assert run(plain, serve(shop_type()).url, serve(shop_type()).url, "--duration", "1s") == 2
    assert "derive its users from RolloutUser" in capsys.readouterr().err


async def test_plain_users_are_not_marked_and_arrive_at_their_rate(serve, shop_type, locustfile):
    shop = serve(shop_type())
    plan = Plan(locustfile, duration_seconds=4, users=10, rate=25.0)
    users = await run_users(plan, shop.url, asyncio.Event())
    assert not [line for line, headers, _ in shop.requests if {"baggage", "traceparent"} & set(headers)]
    assert (users.target, users.proven, users.failures) == (None, {}, 0)
    # 100 arrivals are expected; the file's own wait_time would make 800. Poisson: 40 to 160 is six standard
    # deviations, and a busy machine can only make it fewer.
    buys = next(each.requests for each in users.endpoints if each.name == "/api/checkout")
    assert 10 <= buys <= 160
    assert len(shop.asked("GET /api/products")) >= buys


async def test_stopping_ends_locust_and_keeps_what_it_has(serve, shop_type, locustfile):
    shop, stop = serve(shop_type()), asyncio.Event()
    running = asyncio.create_task(run_users(Plan(locustfile, 600, 2), shop.url, stop))
    while len(shop.requests) < 5:
        await asyncio.sleep(0.05)
        assert not running.done()
    stop.set()
    users = await asyncio.wait_for(running, 60)
    assert users.stopped
    assert users.requests >= 4


async def test_a_locustfile_that_does_not_exist():
    with pytest.raises(ConfigurationError, match="does not exist"):
        await run_users(Plan(Path("none.py"), 1, 1), "http://x", asyncio.Event())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_locust_is_left_behind(serve, shop_type, locustfile, number):
    shop = serve(shop_type())
    argv = ["users", "--locustfile", str(locustfile), "--host", shop.url, "--duration", "10m", "--users", "2"]
    process = subprocess.Popen([sys.executable, "-m", "synthetic", *argv], stdout=subprocess.DEVNULL)
    overdue = threading.Timer(90, process.kill)
    overdue.start()
    poll = threading.Event()
    try:
        while len(shop.requests) < 5 and process.poll() is None:
            poll.wait(0.05)
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(process.pid, number)
        assert process.wait() == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        for _ in range(600):
            if (
                not Path(f"/proc/{child}").exists()
                or "\nState:\tZ" in Path(f"/proc/{child}/status").read_text()
            ):
                break
            poll.wait(0.1)
        else:
            raise AssertionError(f"Locust {child} still runs")
    finally:
        overdue.cancel()
        process.kill()
        process.wait()


def _runs(number: str) -> bool:
    """Whether a process exists and is no zombie, which only waits for its parent to notice."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_orders_travel_as_text():
    orders = Orders("/r.json", False, "canary", "1.2.0", 2.5, 7)
    assert Orders.from_json(orders.as_json()) == orders


def test_locust_is_not_imported_by_the_side_that_starts_it():
    code = "import sys, synthetic.__main__; sys.exit('locust' in sys.modules or 'gevent' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
