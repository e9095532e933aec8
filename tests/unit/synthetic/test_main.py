"""The command line against real shops: every exit code, in real Chromium."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from synthetic.__main__ import main


def arguments(journey: Path, stable: str, canary: str, *more: str, name: str = "checkout") -> list[str]:
    argv = ["run", f"{journey}:{name}", "--app", "shop", "--stable", stable, "--canary", canary]
    return [*argv, "--canary-version", "1.2.0", *more]


def plain(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def stopped(argv: list[str], asked: threading.Event, *signals: signal.Signals) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a check that gets signals once its journey has asked."""
    command = [sys.executable, "-m", "synthetic", *argv]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert asked.wait(60)
        for each in signals:
            process.send_signal(each)
        printed, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    return process.returncode, printed, said


@pytest.mark.browser
def test_a_good_canary_passes(serve, shop_type, journey_file, tmp_path, capsys):
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    out = tmp_path / "out.json"
    assert main(arguments(journey_file, stable.url, canary.url, "--count", "2", "--json", str(out))) == 0
    text = capsys.readouterr().out
    assert len(re.findall(r"ok +\d+\.\d\d s  check out", text)) == 2
    assert "\ncheckout: pass after 2 pairs (2 pass)\n" in text
    assert "failed alone: canary 0, stable 0; evidence against the canary 0.0 nats" in text
    assert re.search(r"duration, canary / stable: \d+\.\d\d in the median, too few pairs for bounds", text)
    found = plain(out)
    assert (found["exit_code"], found["checks"]["checkout"]["counts"]["pass"]) == (0, 2)
    assert [pair["canary"]["version"] for pair in found["pairs"]] == ["1.2.0", "1.2.0"]
    assert len(stable.asked("POST /api/checkout")) == len(canary.asked("POST /api/checkout")) == 2


@pytest.mark.browser
def test_a_broken_canary_is_a_discordant_pair_with_artifacts(
    serve, shop_type, journey_file, tmp_path, capsys
):
    stable = serve(shop_type())
    canary = serve(shop_type(version="1.2.0", track="canary", checkout_status=500))
    out = tmp_path / "out.json"
    argv = arguments(
        journey_file, stable.url, canary.url, "--json", str(out), "--artifacts", str(tmp_path / "kept")
    )
    assert main(argv) == 1
    text = capsys.readouterr().out
    assert "=> the canary failed what stable passed at the same moment" in text
    assert "the page said: uncaught: checkout answered 500" in text
    assert "exceeded, waiting for get_by_text" in text
    run = plain(out)["pairs"][0]["canary"]
    assert (run["outcome"], run["identity"], run["fault"]) == ("fail", "right", "product")
    assert run["reason"].startswith("check out: ")
    (folder,) = (tmp_path / "kept").iterdir()
    assert str(folder) == run["artifacts"]
    assert {path.name for path in folder.iterdir()} == {
        "run.json",
        "console.txt",
        "screenshot.png",
        "trace.zip",
        "network.har",
    }
    assert "checkout answered 500" in (folder / "console.txt").read_text()
    # The trace in the report is the one that the server saw.
    (seen,) = canary.asked("POST /api/checkout")
    assert seen["traceparent"].split("-")[1] == run["trace_id"]


@pytest.mark.parametrize(
    ("journey", "says", "reason"),
    [
        ("order", {"version": "1.1.0"}, "version '1.1.0' answered, expected '1.2.0'"),
        ("order", {"track": "stable"}, "track 'stable' answered, expected 'canary'"),
        ("order", {"silent": True}, "the answer does not prove who gave it"),
        # The browser has its own way to the answers; what they mean is judged in one place.
        pytest.param(
            "checkout", {"version": "1.1.0"}, "version '1.1.0' answered, expected '1.2.0'",
            marks=pytest.mark.browser,
        ),
    ],
)  # fmt: skip
def test_a_wrong_or_nameless_version_is_inconclusive(
    serve, shop_type, journey_file, tmp_path, journey, says, reason
):
    stable = serve(shop_type())
    canary = serve(shop_type(**{"version": "1.2.0", "track": "canary", **says}))
    out = tmp_path / "out.json"
    assert main(arguments(journey_file, stable.url, canary.url, "--json", str(out), name=journey)) == 3
    run = plain(out)["pairs"][0]["canary"]
    assert run["outcome"] == "inconclusive"
    assert run["reason"].startswith(reason)


@pytest.mark.browser
def test_a_canary_that_refuses_is_the_products_fault(serve, shop_type, journey_file, refused, tmp_path):
    out = tmp_path / "out.json"
    assert main(arguments(journey_file, serve(shop_type()).url, refused, "--json", str(out))) == 1
    pair = plain(out)["pairs"][0]
    assert (pair["verdict"], pair["canary"]["fault"]) == ("canary failed", "unreachable")


@pytest.mark.browser
def test_a_canary_that_hangs_is_the_products_fault(serve, shop_type, journey_file, tmp_path):
    canary = serve(shop_type(version="1.2.0", track="canary", hang=True))
    out = tmp_path / "out.json"
    argv = arguments(journey_file, serve(shop_type()).url, canary.url, "--timeout", "6s", "--json", str(out))
    assert main(argv) == 1
    (pair,) = plain(out)["pairs"]
    assert (pair["verdict"], pair["stable"]["outcome"]) == ("canary failed", "pass")
    assert pair["canary"]["reason"].startswith("open the shop: Page.goto: Timeout 4000ms exceeded")


def test_a_ctrl_c_before_the_first_pair_has_ended_leaves_a_report(serve, shop_type, journey_file, tmp_path):
    """The shop hangs, and the Ctrl-C comes once it was asked."""
    asked = threading.Event()
    stable = serve(shop_type(asked_at="/api/products", on_asked=asked.set))
    out = tmp_path / "out.json"
    argv = ["run", f"{journey_file}:order", "--app", "shop", "--stable", stable.url, "--canary", stable.url]
    argv += ["--json", str(out), "--html", str(tmp_path / "out.html")]
    assert stopped(argv, asked, signal.SIGINT)[:2] == (2, "infrastructure after 0 pairs\n")
    assert plain(out)["pairs"] == []
    assert "Nothing ran." in (tmp_path / "out.html").read_text()


def test_a_second_signal_ends_a_journey_that_blocks_the_check(serve, shop_type, tmp_path):
    asked = threading.Event()
    stable = serve(shop_type(asked_at="/api/products", on_asked=asked.set))
    file = tmp_path / "journeys.py"
    file.write_text(
        "import urllib.request\n\n\nasync def block(api, shop):\n"
        "    urllib.request.urlopen(shop.url + '/api/products')\n"
    )
    argv = ["run", str(file), "--app", "shop", "--stable", stable.url, "--canary", stable.url]
    # Two of one kind might become one.
    code, printed, said = stopped(argv, asked, signal.SIGINT, signal.SIGTERM)
    assert (code, printed) == (2, "")
    assert said.endswith("rolloutobs-synthetic: stopped at once, without a report\n")


def test_nobody_reads_what_is_told_any_more(serve, shop_type, journey_file, tmp_path):
    stable = serve(shop_type())
    canary = serve(shop_type(version="1.2.0", track="canary", checkout_status=500))
    out = tmp_path / "out.json"
    argv = arguments(journey_file, stable.url, canary.url, "--count", "2", "--json", str(out), name="order")
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "synthetic", *argv],
            stdout=write, stderr=subprocess.PIPE, text=True, timeout=120, check=False,
        )  # fmt: skip
    finally:
        os.close(write)
    assert done.returncode == 1, done.stderr
    assert "stdout could not be written" in done.stderr
    assert len(plain(out)["pairs"]) == 2


def test_the_last_pair_is_seen_by_who_scrapes(serve, shop_type, journey_file):
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    more = ["--listen", "127.0.0.1:0", "--last-scrape", "10m"]
    argv = arguments(journey_file, stable.url, canary.url, *more, name="order")
    process = subprocess.Popen([sys.executable, "-m", "synthetic", *argv], stdout=subprocess.PIPE, text=True)
    overdue = threading.Timer(90, process.kill)
    overdue.start()
    try:
        url = process.stdout.readline().split()[-1]
        while not process.stdout.readline().startswith("order: pass"):
            assert process.poll() is None
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        assert process.wait() == 0
    finally:
        overdue.cancel()
        process.kill()
        process.stdout.close()
        process.wait()
    assert len(re.findall(r'_runs_total\{[^}]*outcome="pass",step="",[^}]*\} 1\.0', text)) == 2


def test_both_refused_is_infrastructure(journey_file, refused, tmp_path):
    out = tmp_path / "out.json"
    assert main(arguments(journey_file, refused, refused, "--json", str(out), name="order")) == 2
    assert plain(out)["checks"]["order"]["counts"]["error"] == 1


def test_both_broken_alike_blames_nobody(serve, shop_type, journey_file):
    stable = serve(shop_type(checkout_status=503))
    canary = serve(shop_type(version="1.2.0", track="canary", checkout_status=503))
    assert main(arguments(journey_file, stable.url, canary.url, name="order")) == 2


def test_a_stable_that_fails_alone_does_not_stop_its_repair(serve, shop_type, journey_file, capsys):
    stable = serve(shop_type(checkout_status=500))
    canary = serve(shop_type(version="1.2.0", track="canary"))
    assert main(arguments(journey_file, stable.url, canary.url, name="order")) == 0
    assert "the canary passed what stable failed" in capsys.readouterr().out


@pytest.mark.browser
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_long_running_check_is_scraped_and_ends_in_order(serve, shop_type, journey_file, tmp_path, number):
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    out = tmp_path / "out.json"
    argv = arguments(
        journey_file,
        stable.url,
        canary.url,
        "--every",
        "100ms",
        "--listen",
        "127.0.0.1:0",
        "--json",
        str(out),
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "synthetic", *argv], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    overdue = threading.Timer(90, process.kill)
    overdue.start()
    try:
        url = process.stdout.readline().split()[-1]
        for line in process.stdout:
            if line.startswith("pair 2"):
                break
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        # As a terminal does it: everything in the foreground hears a Ctrl-C.
        os.killpg(process.pid, number)
        rest = process.stdout.read()
        assert process.wait() == 0
    finally:
        overdue.cancel()
        process.kill()
        process.stdout.close()
        process.wait()
    counts = {
        match[1]: float(match[2])
        for match in re.finditer(
            r'synthetic_check_runs_total\{[^}]*outcome="pass",step="",track="(\w+)"[^}]*\} (\S+)', text
        )
    }
    if not counts:
        raise AssertionError(text)
    assert counts["stable"] == counts["canary"] >= 2
    assert re.search(r"checkout: pass after \d+ pairs", rest)
    assert plain(out)["exit_code"] == 0
    assert _group_is_gone(process.pid)


def _group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["run", "none.py:buy", "--app", "a", "--stable", "http://s", "--canary", "http://c"],
            "does not exist",
        ),
        (["run", "x", "--app", "a", "--stable", "http://s", "--canary", "http://c"], "FILE.py:FUNCTION"),
        (
            ["load", "--app", "a", "--stable", "s", "--canary", "http://c", "--locustfile", "x"],
            "--stable is 's'",
        ),
        (
            ["load", "--app", "a", "--stable", "http://s", "--canary", "http://c", "--locustfile", "no.py"],
            "does not exist",
        ),
        (["run", "--nonsense"], "rolloutobs-synthetic run: "),
        (["users", "--host", "http://s", "--locustfile", "no.py", "--rate", "0"], "--rate is '0'"),
        (["users", "--host", "http://s", "--locustfile", "no.py", "--users", "0"], "--users is 0"),
        (["users", "--host", "http://s", "--locustfile", "no.py", "--duration", "5"], "--duration is '5'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(argv, words, capsys):
    try:
        code = main(argv)
    except SystemExit as error:
        code = error.code
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("rolloutobs-synthetic")
    assert words in said
    assert said.count("\n") == 1


def test_a_script_that_ends_python_blames_nobody(tmp_path, capsys):
    file = tmp_path / "script.py"
    file.write_text("import sys\nsys.exit(1)\n")
    assert main(arguments(file, "http://127.0.0.1:1", "http://127.0.0.1:2")) == 2
    assert "cannot be imported: SystemExit: 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more",
    [
        ["--every", "soon"],
        ["--count", "0"],
        ["--timeout", "0s"],
        ["--listen", "here"],
        ["--last-scrape", "soon"],
    ],
)
def test_wrong_options_of_run(more, journey_file, capsys):
    argv = arguments(journey_file, "http://127.0.0.1:1", "http://127.0.0.1:1", *more)
    assert main(argv) == 2
    assert more[0] in capsys.readouterr().err


@pytest.mark.browser
def test_a_journey_may_be_looked_at_slowly_and_needs_a_display_for_it(
    serve, shop_type, journey_file, tmp_path, monkeypatch, capsys
):
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    out = tmp_path / "out.json"
    argv = arguments(journey_file, stable.url, canary.url, "--json", str(out))
    assert main([*argv, "--slow", "300ms"]) == 0
    steps = [step for name in ("stable", "canary") for step in plain(out)["pairs"][0][name]["steps"]]
    assert all(step["seconds"] >= 0.3 for step in steps)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main([*argv, "--headed"]) == 2
    assert "--headed needs a display" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["load", "--help"], ["users", "--help"]])
def test_help_teaches(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "exit codes" in text or "example" in text


def test_argparse_errors_are_exit_code_2(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["run"])
    assert ended.value.code == 2


def test_a_fault_of_the_check_itself_does_not_blame_the_canary(journey_file, monkeypatch, caplog):
    """An uncaught exception would end Python with 1, which says that the canary failed."""

    def broken(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("synthetic.__main__.PairRunner", broken)
    assert main(arguments(journey_file, "http://127.0.0.1:1", "http://127.0.0.1:2")) == 2
    assert "a bug of ours" in caplog.text
