"""What is left of a run: every output at once, and what happens where one cannot be written."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from synthetic.__main__ import main

SECRET = 'p&ss "wörd"/+1'


@contextlib.contextmanager
def receiver(status: int = 200) -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """Yield the URL of what takes pushes, and what it was sent: method, path, body."""
    sent: list[tuple[str, str, bytes]] = []

    class Receiver(BaseHTTPRequestHandler):
        def take(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            sent.append((self.command, self.path, body))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        do_PUT = do_POST = take  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def arguments(journey: str, stable: str, canary: str, *more: str) -> list[str]:
    return ["run", journey, "--app", "shop", "--stable", stable, "--canary", canary, *more]


def test_every_output_of_a_failure(serve, shop_type, journey_file, tmp_path, monkeypatch):
    stable = serve(shop_type())
    canary = serve(shop_type(version="1.2.0", track="canary", checkout_status=500))
    names = ("out.json", "out.xml", "out.html", "summary.md")
    json_file, junit, page, told = (tmp_path / name for name in names)
    told.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(told))
    with receiver() as (url, sent):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        argv = ["--json", str(json_file), "--junit", str(junit), "--html", str(page), "--push", url, "--otlp"]
        assert main(arguments(f"{journey_file}:order", stable.url, canary.url, "--count", "2", *argv)) == 1

    assert json.loads(json_file.read_text())["checks"]["order"]["counts"]["canary failed"] == 2
    (suite,) = ElementTree.parse(junit).getroot()
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("order", "2", "2")
    message = suite.find("testcase/failure").get("message")
    assert message.startswith(
        "the canary failed what stable passed at the same moment: check out: HTTPStatusError"
    )
    html = page.read_text()
    assert html.count('<div class="pair bad">') == 2
    assert "<script" not in html
    markdown = told.read_text()
    assert markdown.startswith("before\n### Synthetic checks of shop: product\n")
    assert "| order | 2 | 2 | 0 |  |" in markdown

    pushes = [body.decode() for method, _, body in sent if method == "PUT"]
    assert {path for method, path, _ in sent if method == "PUT"} == {
        "/metrics/job/rolloutobs-synthetic/app/shop/checks/order"
    }
    assert re.search(r'runs_total\{[^}]*outcome="fail",step="",track="canary"[^}]*\} 2\.0', pushes[-1])
    points = ExportMetricsServiceRequest.FromString(
        [body for method, _, body in sent if method == "POST"][-1]
    )
    metrics = {metric.name: metric for metric in points.resource_metrics[0].scope_metrics[0].metrics}
    runs = {
        tuple(attribute.value.string_value for attribute in point.attributes): point.as_double
        for point in metrics["synthetic_check_runs"].sum.data_points
    }
    assert runs["canary", "shop", "1.2.0", "order", "fail"] == 2.0
    names = {a.key: a.value.string_value for a in points.resource_metrics[0].resource.attributes}
    assert names["service.name"] == "rolloutobs-synthetic"


def test_a_receiver_that_does_not_take_pushes_changes_nothing(
    serve, shop_type, journey_file, tmp_path, caplog
):
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    with receiver(500) as (url, sent):
        assert main(arguments(f"{journey_file}:order", stable.url, canary.url, "--push", url)) == 0
    assert sent
    assert "metrics could not be sent" in caplog.text


def test_passed_on_retry_is_an_outcome_of_its_own(serve, shop_type, journey_file, tmp_path, capsys):
    stable = serve(shop_type())
    canary = serve(shop_type(version="1.2.0", track="canary", flaky=1))
    out, junit = tmp_path / "out.json", tmp_path / "out.xml"
    argv = ["--retries", "2", "--json", str(out), "--junit", str(junit)]
    assert main(arguments(f"{journey_file}:order", stable.url, canary.url, *argv)) == 0
    found = json.loads(out.read_text())
    (pair,) = found["pairs"]
    assert (pair["verdict"], pair["retries"], pair["canary"]["outcome"]) == ("passed on retry", 1, "fail")
    assert found["checks"]["order"]["evidence"]["canary_failed_alone"] == 1
    assert "order: pass after 1 pair (1 passed on retry)" in capsys.readouterr().out
    assert ElementTree.parse(junit).find(".//property").get("value") == "passed on retry"
    # Both tracks walked again: the second walk is a pair, too.
    assert len(stable.asked("POST /api/checkout")) == len(canary.asked("POST /api/checkout")) == 2


def test_a_budget_is_kept_and_a_journey_that_is_wrong_blames_nobody(serve, shop_type, tmp_path):
    file = tmp_path / "journeys.py"
    file.write_text(
        textwrap.dedent("""
        async def slow(api, shop):
            async with shop.step("read", budget="500ms" if shop.track == "stable" else "1ms"):
                await api.get("/api/products")

        async def wrong(api, shop):
            shop.secret("NOT_SET_ANYWHERE")
        """)
    )
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    out = tmp_path / "out.json"
    argv = ["--json", str(out), "--only"]
    # A budget of a millisecond is not kept by an HTTP call that takes two round trips.
    assert main(arguments(str(file), stable.url, canary.url, *argv, "slow")) in (1, 2)
    assert re.match(
        r"read: took \d\.\d\d s, its budget is", json.loads(out.read_text())["pairs"][0]["canary"]["reason"]
    )
    assert main(arguments(str(file), stable.url, canary.url, *argv, "wrong")) == 2
    assert "NOT_SET_ANYWHERE is not set" in json.loads(out.read_text())["pairs"][0]["canary"]["reason"]


@pytest.mark.parametrize(("status", "code"), [(200, 2), (500, 1)])
def test_a_full_disk(serve, shop_type, journey_file, tmp_path, status, code):
    """No file may grow beyond a few bytes, which fails in the middle of a write as a full disk does."""
    stable = serve(shop_type())
    canary = serve(shop_type(version="1.2.0", track="canary", checkout_status=status))
    out = tmp_path / "out.json"
    out.write_text("before")
    argv = ["--json", str(out), "--html", str(tmp_path / "out.html"), "--artifacts", str(tmp_path / "kept")]
    done = subprocess.run(
        [
            sys.executable, "-m", "synthetic",
            *arguments(f"{journey_file}:order", stable.url, canary.url, *argv),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64)),
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "order: " in done.stdout
    assert f"{out} could not be written" in done.stderr
    assert ("artifacts of a failed run could not be kept" in done.stderr) == (code == 1)
    assert out.read_text() == "before"
    # What could not be written whole takes no room.
    left = {path.name for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    assert left == {"out.json", "journeys.py"} | ({"kept"} if code == 1 else set())


@pytest.mark.browser
def test_a_killed_browser_is_infrastructure_and_the_next_pair_has_a_new_one(serve, shop_type, tmp_path):
    file = tmp_path / "journeys.py"
    file.write_text(
        textwrap.dedent(f"""
        import os
        import signal
        from pathlib import Path

        async def fall(page, shop):
            await shop.open("/")
            if shop.track == "canary" and not Path({str(tmp_path / "fallen")!r}).exists():
                Path({str(tmp_path / "fallen")!r}).touch()
                session = await page.context.browser.new_browser_cdp_session()
                found = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
                browser = next(each["id"] for each in found if each["type"] == "browser")
                os.kill(browser, signal.SIGKILL)
                await page.get_by_text("never there").wait_for()
        """)
    )
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    out = tmp_path / "out.json"
    assert main(arguments(f"{file}:fall", stable.url, canary.url, "--count", "2", "--json", str(out))) == 2
    found = json.loads(out.read_text())
    assert [pair["verdict"] for pair in found["pairs"]] == ["error", "pass"]


def test_without_a_browser_that_starts_the_report_is_written(journey_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ROLLOUTOBS_CHROMIUM", str(tmp_path / "none"))
    out = tmp_path / "out.json"
    argv = arguments(
        f"{journey_file}:checkout", "http://127.0.0.1:1", "http://127.0.0.1:2", "--json", str(out)
    )
    assert main(argv) == 2
    assert json.loads(out.read_text())["result"] == "infrastructure"
    assert "ROLLOUTOBS_CHROMIUM" in capsys.readouterr().err


@pytest.mark.browser
def test_a_secret_is_in_no_output_and_no_artifact(serve, shop_type, tmp_path, monkeypatch, capfd):
    (tmp_path / "secret").write_text(SECRET + "\n", encoding="utf-8")
    monkeypatch.setenv("SHOP_PASSWORD_FILE", str(tmp_path / "secret"))
    file = tmp_path / "journeys.py"
    file.write_text(
        textwrap.dedent("""
        from urllib.parse import quote

        async def sign_in(page, shop):
            password = shop.secret("SHOP_PASSWORD")
            await shop.open("/?q=" + quote(password) + "&reset_token=n3ver-asked-for&page=2")
            await page.evaluate('''(p) => {
                document.body.insertAdjacentHTML("afterbegin", "<input id=field><p id=shown></p>");
                document.getElementById("shown").textContent = "you typed " + p;
                const shadow = document.getElementById("shown").attachShadow({mode: "open"});
                shadow.textContent = p;
                const tell = () => console.log("in the shadow: " + shadow.textContent.includes("[secret]"));
                new MutationObserver(tell).observe(shadow, {subtree: true, characterData: true});
                console.log("typed " + p);
                const headers = {"x-mine": btoa(unescape(encodeURIComponent(p)))};
                fetch("/api/checkout", {method: "POST", body: JSON.stringify({p}), headers});
            }''', password)
            await page.fill("#field", password)
            async with shop.step("sign in as " + password):
                assert shop.track == "stable", "wrong password: " + password + " at " + page.url
        """)
    )
    stable, canary = serve(shop_type()), serve(shop_type(version="1.2.0", track="canary"))
    outputs = [f"--{kind}={tmp_path / 'out'}.{kind}" for kind in ("json", "junit", "html", "summary")]
    with receiver() as (url, sent):
        argv = [*outputs, "--artifacts", str(tmp_path / "kept"), "--push", url]
        assert main(arguments(f"{file}:sign_in", stable.url, canary.url, *argv)) == 1
    printed = capfd.readouterr()
    (folder,) = (tmp_path / "kept").iterdir()
    texts = {"stdout": printed.out, "stderr": printed.err}
    texts |= {f"push {number}": body.decode() for number, (_, _, body) in enumerate(sent)}
    texts |= {path.name: path.read_bytes().decode("latin-1") for path in tmp_path.glob("out.*")}
    texts |= {path.name: path.read_bytes().decode("latin-1") for path in folder.iterdir()}
    with zipfile.ZipFile(folder / "trace.zip") as trace:
        texts |= {f"trace {name}": trace.read(name).decode("utf-8", "replace") for name in trace.namelist()}
        assert not [name for name in trace.namelist() if name.endswith((".jpeg", ".png"))]
    assert {"run.json", "console.txt", "screenshot.png", "network.har", "out.json", "out.html"} <= set(texts)
    assert "typed [secret]" in texts["console.txt"]
    assert "in the shadow: true" in texts["console.txt"]
    assert "&page=2" in texts["network.har"]
    assert "wrong password: [secret]" in texts["stdout"]
    # In whatever form it travelled, these parts of it are in every one.
    leaked = {
        name for name, text in texts.items()
        for form in ("p&ss", "p%26ss", "p\\u0026ss", "p&amp;ss", "cCZzcyAid8O2cm", "n3ver-asked-for")
        if form in text
    }  # fmt: skip
    assert leaked == set()
