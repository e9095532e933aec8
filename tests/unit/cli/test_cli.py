"""The command line as a user meets it: as a process, and its small parts."""

import argparse
import importlib.metadata
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from rolloutobs import cli
from rolloutobs._version import __version__
from rolloutobs.analysis.gate import Look
from rolloutobs.analysis.history import NOTHING
from rolloutobs.analysis.model import (
    Decision,
    Evidence,
    MetricVerdict,
    Outcome,
    PairCount,
    Ratio,
    Side,
    Verdict,
)
from rolloutobs.analysis.policy import Policy
from rolloutobs.cli.options import output_file, read_policy, require, seconds
from rolloutobs.cli.terminal import Live, Plain, painter, progress
from rolloutobs.errors import ConfigurationError, MissingExtraError
from tests.serving import serving

DEADLINE_SECONDS = 120


def run(*arguments, **options):
    """Run the command as a process."""
    return subprocess.run(
        [sys.executable, "-m", "rolloutobs.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
        **options,
    )


# --- arguments ----------------------------------------------------------------------------------------


@pytest.fixture
def shown(capsys, monkeypatch):
    """Return a function from a command to its help, on a terminal of the usual width."""
    monkeypatch.setenv("COLUMNS", "80")

    def show(*command):
        with pytest.raises(SystemExit) as ended:
            cli.main([*command, "--help"])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return show


def test_help_names_the_commands_and_exit_codes(shown):
    text = shown()
    assert all(word in text for word in ("gate", "compare", "policy", "exit codes", "examples"))
    for command in ("gate", "compare"):
        assert f"rolloutobs {command} --app shop" in shown(command)


def test_examples_are_what_one_types(shown):
    for command in ("gate", "compare", "replay", "calibrate", "simulate", "policy show"):
        text = shown(*command.split())
        assert "%%" not in text
        assert not re.search(r"\\ ", text), "a continued line is one line"
        assert max(map(len, text.splitlines())) <= 110
    assert "--metrics istio \\\n" in shown("compare")


def test_version():
    assert run("--version").stdout == f"rolloutobs {__version__}\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys, rolloutobs.cli\n"
        "try: rolloutobs.cli.main(['gate', '--help'])\n"
        "except SystemExit: pass\n"
        "print({'numpy', 'httpx2', 'yaml', 'jinja2'} & set(sys.modules), file=sys.stderr)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stderr == "set()\n"


def test_commands_about_the_cluster_need_its_extra_only():
    code = (
        "import sys, rolloutobs.cli, rolloutobs.cli.status, rolloutobs.cli.watch\n"
        "import rolloutobs.cluster.owned, rolloutobs.cluster.page, rolloutobs.cluster.watching\n"
        "import rolloutobs.cluster.marking, rolloutobs.cluster.regions, rolloutobs.cluster.traces\n"
        "print({'numpy', 'yaml', 'jinja2', 'uvicorn', 'starlette'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND"),
        (["gate"], "one of the arguments --scrape --targets --prometheus is required"),
        (["gate", "--scrape", "a:1", "--prometheus", "b:2"], "not allowed with"),
        (["gate", "--scrape", "a:1", "--interval", "soon"], "'soon' is not a time span"),
        (["gate", "--scrape", "a:1", "--html", "/no/such/folder/x.html"], "does not exist"),
        (["gate", "--scrape", "ftp://a"], "'ftp://a' is not an address"),
        (["compare", "--prometheus", "ftp://a"], "'ftp://a' is not an address"),
        (["gate", "--scrape", "a:1", "--override", "promote"], "--override and --reason belong together"),
        (
            ["gate", "--scrape", "a:1", "--rollback", "never"],
            "--rollback is 'never'; use 'safe', 'unsafe'",
        ),
        (["gate", "--scrape", "a:1", "--canary", "{a='b'}", "--stable", '{a="c"}'], "is not a selector"),
        (["gate", "--scrape", "a:1", "--canary", '{a="b"}'], "belong together; give both selectors"),
        (["gate", "--scrape", "a:1", "--by-version", "--canary-version", "2"], "use one way"),
        (["gate", "--scrape", "a:1", "--stable-version", "2"], "needs --canary-version"),
        (["gate", "--scrape", "a:1", "--header", "no"], "'no' is not a header"),
        (["gate", "--scrape", "a:1", "--notify", "ftp://x"], "'ftp://x' is not an address"),
        (["gate", "--scrape", "a:1", "--weight", "5"], "'5' is not a share of the traffic"),
        (["gate", "--scrape", "a:1", "--weight", "0"], "'0' is not a share of the traffic"),
        (["gate", "--scrape", "a:1", "--weight-query", "x"], "name it with --prometheus"),
        (["gate", "--scrape", "a:1", "--weight", "5%", "--weight-file", "x"], "not allowed with"),
        (["gate", "--scrape", "a:1", "--bake", "long"], "'long' is not a time span"),
        (["gate", "--scrape", "a:1", "--listen", "x"], "'x' is nothing to listen on"),
        (["gate", "--targets", "nowhere.txt"], "'nowhere.txt' cannot be read"),
        (["gate", "--scrape", "a:1", "--ca", "nowhere.pem"], "cannot use the certificates in 'nowhere.pem'"),
        (["policy", "show", "--policy", "nowhere.yaml"], "cannot read the policy 'nowhere.yaml'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments, words, capsys):
    try:
        code = cli.main(arguments)
    except SystemExit as error:
        code = error.code
    (said,) = capsys.readouterr().err.splitlines()
    assert code == 2
    assert words in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [("15s", 15), ("90", 90), ("1.5m", 90), ("2min", 120), ("1h", 3600), ("250ms", 0.25)],
)
def test_time_spans(text, expected):
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-5s", "5 days", "s", "nan", "1e3"])
def test_what_is_no_time_span(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a time span"):
        seconds(text)


def test_an_output_file_needs_its_folder(tmp_path):
    assert output_file(str(tmp_path / "x.json")).name == "x.json"
    with pytest.raises(argparse.ArgumentTypeError, match="does not exist"):
        output_file(str(tmp_path / "missing" / "x.json"))


def test_a_missing_extra_prints_its_pip_line():
    with pytest.raises(
        MissingExtraError, match=r"rolloutobs gate needs .* pip install 'rolloutobs\[analysis\]'"
    ):
        require("gate", "no_such_module_of_the_extra")


# --- policy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_policy_show_prints_is_a_policy(form, tmp_path, capsys):
    assert cli.main(["policy", "show", "--format", form]) == 0
    path = tmp_path / f"policy.{form}"
    path.write_text(capsys.readouterr().out)
    assert read_policy(path) == Policy()


def test_policy_show_explains_every_setting(capsys):
    assert cli.main(["policy", "show"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("# Every setting with its value.")
    # Of lines that are there more than once, the first.
    above = dict(reversed([(line.partition("  #")[0], before) for before, line in pairwise(shown)]))
    warmup = "# known, else the rollout's. Set it to what a cold start of the app takes."
    assert above["warmup_seconds: 90.0"] == warmup
    assert above["    unit: requests"] == "    # Plural name of an exposure."
    assert above["  block_seconds: 300.0"].startswith("  # Blocks of the pre-history")
    assert any("docs/verdict.md" in line for line in shown[:3])
    # Once, not for each signal.
    assert shown.count("    # Plural name of an exposure.") == 1


def test_a_policy_as_toml(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text("alpha = 0.02\n[signals.errors]\nweight = 2.0\n")
    found = read_policy(path)
    assert (found.alpha, found.signal("errors").weight) == (0.02, 2.0)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.toml", "alpha = ", "is not TOML"),
        ("p.yaml", "alpha: [", "is not YAML"),
        ("p.yaml", "- 1", "use a mapping"),
        ("p.yaml", "alpah: 0.1", "alpah"),
        ("p.yaml", "alpha: often", "alpha"),
    ],
)
def test_a_wrong_policy_names_file_and_key(name, text, words, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_policy(path)
    assert str(caught.value).startswith(str(path))


def test_an_empty_policy_file_is_the_default(tmp_path):
    (tmp_path / "p.yaml").write_text("# nothing yet\n")
    assert read_policy(tmp_path / "p.yaml") == Policy()


# --- commands of other packages -----------------------------------------------------------------------


def other(subparsers):
    subparsers.add_parser("other", help="from elsewhere").set_defaults(run=lambda arguments: 7)


def test_other_packages_add_commands_and_broken_ones_do_no_harm(monkeypatch, capsys):
    class Point:
        def __init__(self, name, load):
            self.name, self.value, self.load = name, f"somewhere:{name}", load

    def broken():
        raise ImportError("no module named x")

    points = [Point("other", lambda: other), Point("broken", broken)]
    monkeypatch.setattr(cli, "entry_points", lambda group: points if group == "rolloutobs.commands" else [])
    assert cli.main(["other"]) == 7
    said = capsys.readouterr().err
    assert said == "rolloutobs: the command 'broken' (somewhere:broken) cannot be loaded: no module named x\n"


def test_a_crash_is_never_the_exit_code_of_a_rollback(monkeypatch, capsys):
    def crash(arguments):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("rolloutobs.cli.policy.run", crash)
    assert cli.main(["policy", "show"]) == 2
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


def test_the_console_script_is_this_command():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="rolloutobs")
    assert script.load() is cli.main


# --- progress -----------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def look(elapsed, *, canary=None, holds=(), notes=()):
    metric = MetricVerdict(
        "errors", "5xx answers", Outcome.INCONCLUSIVE, True, PairCount(1, 2, 3, 4),
        (Evidence(Side.ROLLBACK, 3.0, 6.0), Evidence(Side.PROMOTE, -1.0, 3.0)),
        Ratio(None, None, None, 0.99), (),
    )  # fmt: skip
    verdict = Verdict(Decision.HOLD, "HOLD", elapsed, "", (metric,), NOTHING, holds=holds)
    return Look(
        elapsed, canary, verdict if canary is not None else None, {"canary": 12, "stable": 3400}, {}, notes
    )


def test_plain_progress_is_a_line_now_and_then_and_on_every_new_kind_of_hold():
    stream = io.StringIO()
    shown = Plain(stream)
    worse = "canary 1.2.0 answers 5xx on {} {}x as often as stable: {} of {}"
    for each in (
        look(0),
        look(1),
        look(5),
        look(6, canary=1, holds=("not every target of canary answered the last time",)),
        look(7, canary=2, holds=(worse.format("POST /checkout", 4.1, 12, 30),), notes=("pod: refused",)),
        look(
            8,
            canary=3,
            holds=(worse.format("all routes together", 3.9, "none", 35),),
            notes=("pod: refused",),
        ),
        look(10, canary=5),
        look(11, canary=6, holds=("not every target of canary answered the last time",)),
        look(75, canary=70, holds=("not every target of canary answered the last time",)),
    ):
        shown(each)
    shown.close()
    assert stream.getvalue().splitlines() == [
        "0 s: waiting for the canary's first request, stable 3,400 requests",
        "5 s: waiting for the canary's first request, stable 3,400 requests",
        "  hold: not every target of canary answered the last time",
        "  hold: canary 1.2.0 answers 5xx on POST /checkout 4.1x as often as stable: 12 of 30",
        "  note: pod: refused",
        "5 s: canary 12, stable 3,400 requests | errors 3.0/6.0 against, 0.0/3.0 for",
        "70 s: canary 12, stable 3,400 requests | errors 3.0/6.0 against, 0.0/3.0 for",
        "  hold: not every target of canary answered the last time",
    ]


def test_live_lines_fit_the_terminal(monkeypatch):
    """A line that wraps would be left behind when the next picture is drawn."""
    monkeypatch.setenv("NO_COLOR", "1")
    for columns in (60, 71, 80, 200):
        monkeypatch.setenv("COLUMNS", str(columns))
        stream = Terminal()
        progress(stream, 1800)(look(1, canary=1, holds=("x" * 300,), notes=("y" * 300,)))
        assert max(map(len, stream.getvalue().splitlines())) < columns
    monkeypatch.setenv("COLUMNS", "40")
    assert isinstance(progress(Terminal(), 1800), Plain)


def test_live_progress_redraws_in_place_and_wipes_itself(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    shown = Live(stream, 60)
    shown(look(1, canary=1, notes=("pod: refused",)))
    first = stream.getvalue()
    assert first.splitlines() == [
        "1 s: canary 12, stable 3,400 requests, decided within 60 s",
        "  errors        against ██████······   3.0/6.0  for ············   0.0/3.0",
        "  - pod: refused",
    ]
    with_end = Terminal()
    progress(with_end, 3600, "baked for")(look(1, canary=1))
    assert with_end.getvalue().splitlines()[0].endswith("requests, baked for 3600 s")
    shown(look(2, canary=2))
    assert stream.getvalue()[len(first) :].startswith("\x1b[3F\x1b[0J2 s: canary 12")
    shown.close()
    assert stream.getvalue().endswith("\x1b[2F\x1b[0J")


@pytest.mark.parametrize(
    ("stream", "environ", "expected"),
    [
        (Terminal(), {}, "\x1b[32mx\x1b[0m"),
        (Terminal(), {"NO_COLOR": "1"}, "x"),
        (Terminal(), {"TERM": "dumb"}, "x"),
        (io.StringIO(), {}, "x"),
    ],
)
def test_colour_only_where_it_is_wanted(stream, environ, expected):
    assert painter(stream, environ)("x", "good") == expected


# --- the gate as a process, over real sockets ---------------------------------------------------------


class Shop(ThreadingHTTPServer):
    """Both tracks behind one address; each scrape is one more step of their counters."""

    daemon_threads = True

    def __init__(self, broken):
        super().__init__(("127.0.0.1", 0), Handler)
        self.broken = broken
        self.scrapes = 0
        self.scraped_thrice = threading.Event()
        self.on_scrape = lambda: None
        """Called with each scrape: something that happens while it is watched."""

    @property
    def address(self):
        return f"127.0.0.1:{self.server_port}"

    def text(self):
        self.scrapes += 1
        self.on_scrape()
        if self.scrapes >= 3:
            self.scraped_thrice.set()
        n = self.scrapes * 40
        bad = n // 4 if self.broken else n // 40
        return line("stable", "1.1.0", n - n // 40, n // 40) + line("canary", "1.2.0", n - bad, bad)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.server.text().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Quiet."""


def line(track, version, good, bad):
    labels = f'app="shop",track="{track}",version="{version}",method="GET",route="/"'
    return (
        f'http_requests_total{{{labels},status="200"}} {good}\n'
        f'http_requests_total{{{labels},status="500"}} {bad}\n'
    )


def shop(*, broken):
    return serving(Shop(broken))


@pytest.fixture
def quick(tmp_path):
    """Return the path of a policy that decides on ticks of a tenth of a second."""
    policy = {
        "tick_seconds": 0,
        "phi_seconds": 0.1,
        "clip_refill": 10,
        "warmup_seconds": 0,
        "minimum_seconds": 0,
    }
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps(policy))
    return path


def test_the_gate_ends_in_a_rollback_with_both_reports(quick, tmp_path):
    with shop(broken=True) as server:
        done = run(
            "gate", "--scrape", server.address, "--app", "shop", "--policy", str(quick),
            "--interval", "100ms", "--json", str(tmp_path / "v.json"), "--html", str(tmp_path / "r.html"),
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("ROLLBACK after ")
    assert "canary 1.2.0 answers 5xx" in last
    assert any("errors" in text and "fail" in text for text in done.stdout.splitlines())
    assert "\x1b" not in done.stdout + done.stderr
    verdict = json.loads((tmp_path / "v.json").read_text())
    assert (verdict["decision"], verdict["reason"]) == ("rollback", last)
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")


def test_a_report_that_cannot_be_written_does_not_take_the_verdict_along(quick, tmp_path):
    (tmp_path / "taken").mkdir()
    with shop(broken=True) as server:
        done = run(
            "gate", "--scrape", server.address, "--policy", str(quick), "--interval", "100ms",
            "--json", str(tmp_path / "taken"), "--quiet",
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1].startswith("ROLLBACK after ")
    assert "taken" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_gate_with_its_reports(number, quick, tmp_path):
    argv = [sys.executable, "-m", "rolloutobs.cli", "gate", "--interval", "200ms", "--policy", str(quick)]
    with (
        shop(broken=False) as server,
        subprocess.Popen(
            [*argv, "--scrape", server.address, "--json", str(tmp_path / "v.json")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert server.scraped_thrice.wait(DEADLINE_SECONDS)
        process.send_signal(number)
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 3, err
    assert "stopped before it was decided" in out
    assert out.splitlines()[-1].startswith("HOLD after ")
    assert json.loads((tmp_path / "v.json").read_text())["interrupted"] is True


def test_nothing_to_read_is_exit_code_2(tmp_path):
    done = run("gate", "--scrape", "127.0.0.1:1", "--interval", "100ms", "--deadline", "1s", "--quiet")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(
        "rolloutobs: nothing to compare, no target answers: http://127.0.0.1:1/metrics: "
    )
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("form", ["text", "json", "html"])
def test_compare_prints_one_look(form, quick, capsys):
    with shop(broken=True) as server:
        arguments = ["compare", "--scrape", server.address, "--window", "1s", "--policy", str(quick)]
        code = cli.main([*arguments, "--format", form, "--quiet"])
    shown = capsys.readouterr()
    assert shown.err == ""
    if form == "json":
        assert json.loads(shown.out)["metrics"][0]["signal"] == "errors"
        assert json.loads(shown.out)["exit_code"] == code
    else:
        assert ("<!doctype html>" if form == "html" else "canary 1.2.0 against stable 1.1.0") in shown.out


# --- a gate that is killed, and one that acts ---------------------------------------------------------


def test_a_gate_that_is_killed_goes_on_where_it_was(quick, tmp_path):
    """SIGKILL in the middle; the second process ends it, and the third tells the same and acts no more."""
    state, acted = tmp_path / "state.json", tmp_path / "acted"
    argv = [
        "gate",
        "--interval",
        "200ms",
        "--state",
        str(state),
        "--json",
        str(tmp_path / "v.json"),
        "--quiet",
    ]
    with shop(broken=False) as server:
        argv += ["--scrape", server.address, "--policy", str(quick), "--on-rollback", f"echo x >> {acted}"]
        with subprocess.Popen(
            [sys.executable, "-m", "rolloutobs.cli", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            wait_for(lambda: state.exists() and json.loads(state.read_text())["decision"] == "hold")
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == -signal.SIGKILL
        before = json.loads(state.read_text())
        server.broken = True
        second = run(*argv)
        verdict = json.loads((tmp_path / "v.json").read_text())
        third = run(*argv)
    assert second.returncode == 1, second.stderr
    assert "exited with 0" in second.stderr
    assert datetime.fromisoformat(verdict["began"]).timestamp() == int(before["began"])
    assert verdict["canary_seconds"] > before["at"] - before["zero"]
    assert any("no gate was watching" in note for note in verdict["notes"])
    assert third.returncode == 1
    assert third.stdout.splitlines()[-1] == second.stdout.splitlines()[-1]
    assert "was acted on before" in third.stderr
    assert acted.read_text() == "x\n"


def wait_for(condition):
    """Wait until `condition` holds; the deadline is far beyond what it takes."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_state_of_another_policy_or_no_state_at_all_is_refused(quick, tmp_path):
    state, other = tmp_path / "state.json", tmp_path / "other.yaml"
    other.write_text(json.dumps({**json.loads(quick.read_text()), "alpha": 0.02}))
    with shop(broken=True) as server:
        argv = ["gate", "--scrape", server.address, "--interval", "100ms", "--state", str(state), "--quiet"]
        assert run(*argv, "--policy", str(quick)).returncode == 1
        refused = run(*argv, "--policy", str(other))
        state.write_text("{")
        damaged = run(*argv, "--policy", str(quick))
    assert refused.returncode == damaged.returncode == 2
    assert "policy.alpha = 0.01" in refused.stderr
    assert "remove it to begin anew" in damaged.stderr


def test_an_action_that_fails_is_exit_code_2_and_a_dry_run_is_0(quick, tmp_path, capfd):
    with shop(broken=True) as server:
        argv = ["gate", "--scrape", server.address, "--interval", "100ms", "--policy", str(quick), "--quiet"]
        assert cli.main([*argv, "--on-rollback", "exit 9"]) == 2
        out, err = capfd.readouterr()
        assert out.splitlines()[-1].startswith("ROLLBACK after ")
        assert "exited with 9" in err
        assert cli.main([*argv, "--on-rollback", f"touch {tmp_path}/x", "--dry-run"]) == 0
        assert "would exit with 1" in capfd.readouterr().err
        assert not (tmp_path / "x").exists()
        assert cli.main([*argv, "--on-promote", "exit 9"]) == 1


def test_a_person_decides_and_it_is_written_down(quick, tmp_path):
    with shop(broken=False) as server:
        done = run(
            "gate", "--scrape", server.address, "--policy", str(quick), "--json", str(tmp_path / "v.json"),
            "--override", "rollback", "--reason", "the payment provider asked for it", "--quiet",
            env={**os.environ, "GITHUB_ACTOR": "ann"},
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = json.loads((tmp_path / "v.json").read_text())
    assert found["override"] == {
        "decision": "rollback",
        "reason": "the payment provider asked for it",
        "who": "ann",
        "evidence_decision": "hold",
    }
    assert found["reason"].startswith("ROLLBACK by ann (the payment provider asked for it); the evidence")


# --- what can be seen ---------------------------------------------------------------------------------


def test_simulate_says_what_can_be_seen_and_the_same_for_the_same_seed(tmp_path, capsys):
    argv = ["simulate", "--rps", "300", "--share", "0.3", "--runs", "2", "--duration", "10m", "--quiet"]
    assert cli.main(argv) == 0
    shown = capsys.readouterr().out
    assert cli.main(argv) == 0
    assert capsys.readouterr().out == shown
    rows = {line[:34].strip(): line[34:].split() for line in shown.splitlines() if " %" in line[34:]}
    assert rows["same version"][0] == "0"
    assert rows["30 % errors"][0] == "100"
    assert rows["latency x2"][0] == "100"
    assert "you can see errors x" in shown.splitlines()[-1]


@pytest.mark.parametrize("option", [["--share", "5"], ["--rps", "0"], ["--errors", "x"], ["--share", "0"]])
def test_traffic_that_there_cannot_be(option, capsys):
    try:
        code = cli.main(["simulate", *option])
    except SystemExit as error:
        code = error.code
    assert code == 2
