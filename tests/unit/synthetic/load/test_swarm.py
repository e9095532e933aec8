"""Real Locust against real shops, for a few seconds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from time import time

import pytest

from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Track
from rolloutobs.telemetry.signing import Claim, Doubt, Verifier
from synthetic.__main__ import main
from synthetic.load.orders import Orders
from synthetic.load.schedule import Phase
from synthetic.load.swarm import Plan, run_load
from synthetic.routing import Route
from synthetic.target import Target
from synthetic.witness import Witness, WitnessKind

pytestmark = pytest.mark.load
SECRET = "0123456789abcdef"


@pytest.fixture
def locustfile(tmp_path: Path) -> Path:
    path = tmp_path / "load.py"
    path.write_text(
        textwrap.dedent("""
        import os
        from locust import constant, task
        from synthetic.load import RolloutUser

        class Shopper(RolloutUser):
            wait_time = constant(0.05)

            def on_start(self):
                who = {"x-who": os.environ["OTEL_SERVICE_NAME"]}
                self.client.get("/api/products", name="start", headers=who)

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


def test_a_good_canary_under_load(serve, shop_type, locustfile, tmp_path, capsys, monkeypatch):
    # As in a pod of the app: the load is not it.
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    out = tmp_path / "out.json"
    files = {name: tmp_path / f"out.{name}" for name in ("junit", "html", "summary")}
    more = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    # Whatever the machine does meanwhile, neither track is five times as slow as the other.
    more += ["--canary-version", "1.2.0", "--json", str(out), "--min-requests", "10", "--max-slowdown", "5"]
    assert run(locustfile, stable.url, canary.url, *more) == 0
    assert "=> pass: the canary is not shown to be worse than stable" in capsys.readouterr().out
    assert all("1.2.0" in file.read_text() for name, file in files.items() if name != "junit")
    assert 'tests="5" failures="0" errors="0" skipped="0"' in files["junit"].read_text()
    told = json.loads(out.read_text())
    tracks = told["tracks"]
    assert told["model"] == "closed"
    assert told["locust"]["requests"] == sum(each["requests"] for each in tracks.values())
    for name, shop in (("stable", stable), ("canary", canary)):
        found = tracks[name]
        assert found["requests"] > 10
        assert found["identity"] == {"right": found["requests"]}
        assert len(shop.requests) == found["requests"]
        assert {headers["baggage"] for _, headers, _ in shop.requests} == {"synthetic=test"}
        assert {headers.get("x-who") for _, headers, _ in shop.requests} == {None, "rolloutobs-load"}
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
    assert run(locustfile, stable.url, canary.url, "--canary-version", "1.2.0", "--duration", "1s") == 3
    assert "canary: version '1.1.0' answered, expected '1.2.0'" in capsys.readouterr().out


def test_nothing_answers_under_load(locustfile, refused, capsys):
    assert run(locustfile, refused, refused, "--duration", "1s") == 2
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
    orders = Orders(marked=False, phases=(Phase(50.0, 50.0, 2.0),))
    found = await run_load(Plan(orders, locustfile, shop.url, 10), asyncio.Event())
    (users,) = found.tracks
    assert not [line for line, headers, _ in shop.requests if {"baggage", "traceparent"} & set(headers)]
    assert (users.target, users.proven, users.failures, users.cut) == (None, {}, 0, 0)
    # 100 arrivals are expected; the file's own wait_time would make 800. Poisson: 40 to 160 is six standard
    # deviations.
    assert 40 <= users.arrivals <= 160
    assert len(shop.asked("POST /api/checkout")) == users.arrivals
    assert users.requests == 2 * users.arrivals + 10


async def test_stopping_ends_locust_and_keeps_what_it_has(serve, shop_type, locustfile):
    shop, stop, seen = serve(shop_type()), asyncio.Event(), []
    plan = Plan(Orders(marked=False, seconds=600.0), locustfile, shop.url, 2)
    running = asyncio.create_task(run_load(plan, stop, seen.append))
    while not seen or seen[-1].tracks[0].requests < 5:
        await asyncio.sleep(0.05)
        assert not running.done()
    stop.set()
    found = await asyncio.wait_for(running, 60)
    assert found.stopped
    assert found.tracks[0].requests == len(shop.requests) >= 5


def test_ctrl_c_leaves_a_report(serve, shop_type, tmp_path):
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    out = tmp_path / "out.json"
    argv = ["load", "--app", "shop", "--stable", stable.url, "--canary", canary.url, "--rate", "20"]
    argv += ["--duration", "10m", "--json", str(out), "--listen", "127.0.0.1:0", "--max-slowdown", "5"]
    process = subprocess.Popen([sys.executable, "-m", "synthetic", *argv], stdout=subprocess.PIPE, text=True)
    overdue = threading.Timer(90, process.kill)
    overdue.start()
    poll = threading.Event()
    try:
        while min(len(stable.requests), len(canary.requests)) < 10 and process.poll() is None:
            poll.wait(0.05)
        process.send_signal(signal.SIGINT)
        text, _ = process.communicate()
    finally:
        overdue.cancel()
        process.kill()
    assert process.returncode == 3, text
    assert "metrics at http://127.0.0.1:" in text
    told = json.loads(out.read_text())
    assert (told["result"], told["stopped"], told["model"]) == ("inconclusive", True, "open")
    for name, shop in (("stable", stable), ("canary", canary)):
        assert told["tracks"][name]["requests"] == len(shop.asked("GET /"))
        assert {headers["baggage"] for headers in shop.asked("GET /")} == {"synthetic=test"}


def load(*more: str) -> int:
    return main(["load", "--app", "shop", *more])


def test_one_address_and_a_header_for_each_track(serve, shop_type, tmp_path):
    shop, out = serve(shop_type(split="header")), tmp_path / "out.json"
    routes = ["--entry", shop.url, "--canary-header", "track: canary", "--stable-header", "track: stable"]
    paths = ["--get", "/api/products", "--get", "/api/products?page=2"]
    rest = ["--rate", "50..150@2s", "--count", "80", "--arrivals", "even", "--users", "5", "--json", str(out)]
    rest += ["--identity", "json:/about:build.version,track"]
    # A machine that others use may begin tasks late, which is inconclusive.
    assert load(*routes, *paths, *rest, "--max-slowdown", "5", "--min-requests", "10", "--grace", "30s") in (
        0,
        3,
    )
    tracks = json.loads(out.read_text())["tracks"]
    assert sum(each["arrivals"] for each in tracks.values()) == 80
    for name, version in (("stable", "1.1.0"), ("canary", "1.2.0")):
        found = tracks[name]
        # Each user asked when it began, and one at the end.
        assert found["identity"] == {"right": 6}
        assert found["requests"] == found["arrivals"]
        assert found["version"] == version
        assert [each["name"] for each in found["endpoints"]] == ["/api/products", "/api/products?page=2"]
    asked = [headers["track"] for line, headers, _ in shop.requests]
    assert {each: asked.count(each) for each in tracks} == {
        name: found["requests"] for name, found in tracks.items()
    }


def test_an_address_that_splits_by_weight_and_users_too_few(serve, shop_type, tmp_path):
    shop, out = serve(shop_type(split="weight")), tmp_path / "out.json"
    more = ["--entry", shop.url, "--attempts", "30"]
    # One user for each track, too few for the rate: tasks wait, and their waiting is measured.
    more += [
        "--get",
        "/api/products",
        "--rate",
        "2000",
        "--count",
        "300",
        "--users",
        "1",
        "--grace",
        "30s",
        "--json",
        str(out),
    ]
    assert load(*more) == 3
    told = json.loads(out.read_text())
    for found in told["tracks"].values():
        assert found["identity"] == {"right": found["requests"]} == {"right": found["arrivals"]}
        assert found["crowded"] > 0
        assert found["p99_seconds"] > 2 * found["uncorrected"]["p99_seconds"]
    (generator,) = [each for each in told["findings"] if each["name"] == "generator"]
    assert generator["result"] == "inconclusive"


def test_a_worker_that_is_killed_is_missed(serve, shop_type, tmp_path):
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    out = tmp_path / "out.json"
    argv = ["load", "--app", "shop", "--stable", stable.url, "--canary", canary.url, "--processes", "2"]
    argv += ["--rate", "20", "--duration", "5s", "--json", str(out), "--max-slowdown", "5"]
    argv += ["--listen", "127.0.0.1:0", "--last-scrape", "10m"]
    process = subprocess.Popen([sys.executable, "-m", "synthetic", *argv], stdout=subprocess.PIPE, text=True)
    overdue = threading.Timer(90, process.kill)
    overdue.start()
    poll = threading.Event()
    try:
        while min(len(stable.requests), len(canary.requests)) < 10 and process.poll() is None:
            poll.wait(0.05)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        workers = [each for each in children if "--worker" in Path(f"/proc/{each}/cmdline").read_text()]
        assert len(workers) == 2
        os.kill(int(workers[0]), signal.SIGKILL)
        url = process.stdout.readline().split()[-1]
        text = ""
        while "=> " not in text and process.poll() is None:
            text += process.stdout.readline()
        # How it ended is there to be scraped, and then the process ends.
        with urllib.request.urlopen(url, timeout=10) as answer:
            scraped = answer.read().decode()
        process.communicate()
    finally:
        overdue.cancel()
        process.kill()
    told = json.loads(out.read_text())
    assert (process.returncode, told["workers"], told["lost_workers"]) == (3, 2, 1)
    assert "1 of 2 workers were lost" in text
    assert (
        'synthetic_load_last_end_timestamp_seconds{app="shop",load="paired",result="inconclusive"}' in scraped
    )


def test_a_worker_that_comes_too_late_makes_no_request(serve, shop_type, tmp_path):
    """What it asked for would be counted nowhere, and only stable would have to bear it."""
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    out, come = tmp_path / "out.json", tmp_path / "come"
    come.mkdir()
    file = tmp_path / "load.py"
    file.write_text(
        textwrap.dedent(f"""
        from pathlib import Path
        from locust import constant, events, task
        from synthetic.load import RolloutUser

        @events.worker_connect.add_listener
        def note(client_id, **_):
            (Path({str(come)!r}) / client_id).touch()

        class Shopper(RolloutUser):
            wait_time = constant(0.05)

            @task
            def look(self):
                self.client.get("/api/products")
        """)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    lead = ["load", "--master", "--expect-workers", "1", "--bind", f"127.0.0.1:{port}", "--app", "shop"]
    lead += ["--locustfile", str(file), "--stable", stable.url, "--canary", canary.url, "--json", str(out)]
    lead += ["--rate", "20", "--duration", "10m"]
    work = ["load", "--worker", "--master-host", "127.0.0.1", "--master-port", port]
    poll, running = threading.Event(), []

    def start(argv: list[str]) -> None:
        running.append(
            subprocess.Popen([sys.executable, "-m", "synthetic", *argv], stdout=subprocess.DEVNULL)
        )

    def asked() -> int:
        return min(len(stable.requests), len(canary.requests))

    def wait_for(is_so: Callable[[], bool]) -> None:
        for _ in range(1800):
            if is_so():
                return
            poll.wait(0.05)
        raise AssertionError([process.poll() for process in running])

    try:
        start(lead)
        start(work)
        wait_for(lambda: asked() > 5)
        start(work)
        wait_for(lambda: len(list(come.iterdir())) == 2)
        before = asked()
        wait_for(lambda: asked() > before + 20)
        running[0].send_signal(signal.SIGINT)
        codes = [process.wait(60) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    told = json.loads(out.read_text())
    assert (codes[1:], told["workers"], told["lost_workers"]) == ([0, 0], 1, 0)
    for name, shop in (("stable", stable), ("canary", canary)):
        assert told["tracks"][name]["requests"] == len(shop.requests)


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (["--master", "--expect-workers", "1", "--bind"], 2, "stopped before the load had begun"),
        (["--worker", "--master-host", "127.0.0.1", "--master-port"], 3, "stopped before the load was over"),
    ],
)
def test_who_waits_for_the_others_can_be_stopped(more, code, told):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    where = f"127.0.0.1:{port}" if "--master" in more else str(port)
    argv = [
        "load",
        "--app",
        "shop",
        "--stable",
        "http://127.0.0.1:1",
        "--canary",
        "http://127.0.0.1:2",
        *more,
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "synthetic", *argv, where],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    overdue = threading.Timer(90, process.kill)
    overdue.start()
    poll = threading.Event()
    try:
        while process.poll() is None and not _hears(process.pid, signal.SIGTERM):
            poll.wait(0.05)
        process.terminate()
        printed, _ = process.communicate()
    finally:
        overdue.cancel()
        process.kill()
        process.wait()
    assert process.returncode == code, printed
    assert told in printed
    assert "exit code" not in printed


def _hears(number: int, wanted: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    lines = Path(f"/proc/{number}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (wanted - 1) & 1)


async def test_a_locustfile_that_does_not_exist():
    with pytest.raises(ConfigurationError, match="does not exist"):
        await run_load(Plan(Orders(), Path("none.py"), "http://x", 1), asyncio.Event())


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
    route = Route((("X-A", "b"),), (("c", "d"),), (("e", "f"),), 7)
    target = Target("http://x", Track.CANARY, "1.2.0", route, Witness(WitnessKind.HEADER, "", "x-v", "x-t"))
    orders = Orders("/r.json", 7, False, (target,), (Phase(1.0, 2.0, 3.0),), True, None, 9, ("/",), 2.0)
    assert Orders.from_json(orders.as_json()) == orders


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--rate", "fast"], "--rate is 'fast'"),
        (["--count", "5"], "give --rate, too"),
        (["--rate", "5@10s", "--duration", "5s"], "leave --duration out"),
        (["--rate", "1", "--duration", "5s", "--count", "100"], "--rate ends before so many"),
        (["--get", "x"], "use paths that begin with /"),
        (["--get", "/", "--locustfile", "load.py"], "--get is for loads without a locustfile"),
        (["--master"], "--expect-workers is None"),
        (["--worker"], "--worker needs --master-host"),
        (["--master", "--worker"], "are two processes"),
        (["--p99", "slow"], "--p99 is 'slow'"),
        (["--max-slowdown", "0.5"], "--max-slowdown is 0.5"),
        (["--max-error-share", "7"], "--max-error-share is 7.0"),
        (["--locustfile", "none.py"], "'none.py' does not exist"),
        (["--users", "0"], "--users is 0"),
    ],
)
def test_usage(more, words, capsys):
    assert load("--stable", "http://a", "--canary", "http://b", *more) == 2
    assert words in capsys.readouterr().err


def test_usage_without_targets(capsys):
    assert load("--entry", "http://a") == 2
    assert "--entry alone does not tell the tracks apart" in capsys.readouterr().err
    assert main(["load", "--stable", "http://a", "--canary", "http://b"]) == 2
    assert "--app is missing" in capsys.readouterr().err


def test_locust_is_not_imported_by_the_side_that_starts_it():
    code = "import sys, synthetic.__main__; sys.exit('locust' in sys.modules or 'gevent' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
