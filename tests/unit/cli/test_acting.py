"""Commands, notifications, and the gate's own /metrics."""

import asyncio
import contextlib
import json
import socket
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rolloutobs.analysis.gate import Look
from rolloutobs.analysis.model import Decision
from rolloutobs.analysis.report import Override
from rolloutobs.cli.acting import Action, notify, run_command
from rolloutobs.cli.exporter import Exporter
from rolloutobs.cli.options import address
from rolloutobs.errors import ConfigurationError
from tests.unit.analysis.test_report import report, verdict


async def test_a_command_gets_the_verdict_on_stdin_and_in_its_environment(tmp_path):
    action = Action(f"cat > {tmp_path}/stdin; env > {tmp_path}/env")
    done = await run_command(action, report())
    assert done.good
    assert done.text.endswith("exited with 0")
    assert json.loads((tmp_path / "stdin").read_text())["decision"] == "rollback"
    found = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    assert found["ROLLOUTOBS_VERDICT"] == "rollback"
    assert found["ROLLOUTOBS_VERDICT_CANARY_VERSION"] == "1.2.0"
    assert found["ROLLOUTOBS_VERDICT_REASON"].startswith("ROLLBACK after 60 s")
    assert "PATH" in found


async def test_the_verdict_is_never_a_part_of_the_command(tmp_path):
    evil = replace(report(), app=f"$(touch {tmp_path}/evil)")
    assert (await run_command(Action('echo "$ROLLOUTOBS_VERDICT_APP" >&2'), evil)).good
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(("command", "words"), [("exit 7", "exited with 7"), ("no-such-program-here", "127")])
async def test_a_command_that_fails_is_told(command, words):
    done = await run_command(Action(command), report())
    assert not done.good
    assert words in done.text


async def test_a_command_that_reads_nothing_is_a_good_one():
    assert (await run_command(Action("exec 0<&-; true"), report())).good


async def test_a_command_that_hangs_is_ended_with_its_children(tmp_path):
    pid = tmp_path / "pid"
    done = await run_command(Action(f"sleep 600 & echo $! > {pid}; wait", limit_seconds=0.5), report())
    assert not done.good
    assert "was ended after 0.5 s" in done.text
    async with asyncio.timeout(30):
        while _lives(pid.read_text().strip()):
            await asyncio.sleep(0.05)


def _lives(pid):
    """Tell whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_dry_run_does_nothing(tmp_path):
    done = await run_command(Action(f"touch {tmp_path}/x", dry_run=True), report())
    assert done.good
    assert "would run" in done.text
    assert not (tmp_path / "x").exists()
    assert "would post" in (await notify(Action(url="http://127.0.0.1:1", dry_run=True), report())).text


class Hook:
    """Answers what it is told to, and keeps the bodies."""

    def __init__(self, *statuses):
        self.statuses, self.bodies = list(statuses), []

    async def serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(h.split(b":")[1]) for h in head.splitlines() if h.lower().startswith(b"content-length")
        )
        self.bodies.append(await reader.readexactly(length))
        status = self.statuses.pop(0) if self.statuses else 204
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@pytest.mark.parametrize(("statuses", "good", "posts"), [([], True, 1), ([503], True, 2), ([404], False, 1)])
async def test_the_report_is_posted_until_it_is_taken(statuses, good, posts):
    hook = Hook(*statuses)
    async with await asyncio.start_server(hook.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        done = await notify(Action(url=f"http://127.0.0.1:{port}/hook"), report())
    assert done.good is good
    # The path of a chat's hook is a secret, and this is printed in a CI's log.
    assert "127.0.0.1" in done.text
    assert "/hook" not in done.text
    assert len(hook.bodies) == posts
    assert json.loads(hook.bodies[-1])["reason"] == report().reason


def test_an_override_does_not_hide_the_evidence():
    by_hand = report(override=Override(Decision.PROMOTE, "Ann: hotfix"))
    assert by_hand.decision is Decision.PROMOTE
    assert by_hand.reason == f"PROMOTE by hand (Ann: hotfix); the evidence by then: {verdict().reason}"


# --- /metrics -----------------------------------------------------------------------------------------


def fetch(port, path, host="127.0.0.1"):
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_an_address_that_is_taken_is_named_and_one_of_ipv6_can_be_had():
    ipv6 = ""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{port}: Address already"):
            Exporter(("127.0.0.1", port), "shop", 15.0)
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6) as there:
        # Not every container has it.
        ipv6 = there.getsockname()[0]
    if ipv6:
        exporter = Exporter(address("[::1]:0"), "shop", 15.0)
        try:
            assert fetch(exporter.port, "/healthz", "[::1]") == (200, "ok\n")
        finally:
            exporter.close()


def test_the_gate_shows_its_verdict_and_its_health():
    now = [0.0]
    exporter = Exporter(("127.0.0.1", 0), "", 15.0, clock=lambda: now[0])
    try:
        assert fetch(exporter.port, "/healthz") == (200, "ok\n")
        assert "rolloutobs_verdict" not in fetch(exporter.port, "/metrics")[1]
        exporter(Look(0.0, None, None, failed={"pod": "refused"}))
        exporter(Look(60.0, 60.0, verdict(), app="shop"))
        status, text = fetch(exporter.port, "/metrics")
        assert fetch(exporter.port, "/other")[0] == 404
        now[0] = 71.0
        assert fetch(exporter.port, "/healthz") == (503, "the last look was 71 s ago\n")
    finally:
        exporter.close()
    assert status == 200
    found = {
        (s.name, *sorted(v for k, v in s.labels.items() if k != "app")): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.labels["app"] == "shop"
    }
    assert found["rolloutobs_verdict", "rollback"] == 1
    assert found["rolloutobs_verdict", "promote"] == found["rolloutobs_verdict", "hold"] == 0
    assert found["rolloutobs_evidence_nats", "errors", "rollback"] == 6.4
    assert found["rolloutobs_evidence_nats_threshold", "errors", "rollback"] == 6.0
    assert found["rolloutobs_ratio", "errors", "low"] == 1.9
    assert ("rolloutobs_ratio", "js_errors", "low") not in found
    assert found["rolloutobs_gate_looks_total",] == 2
    assert found["rolloutobs_gate_failed_reads_total",] == 1


@pytest.mark.parametrize(
    ("text", "where"),
    [("127.0.0.1:9100", ("127.0.0.1", 9100)), (":9100", ("0.0.0.0", 9100)), ("[::1]:9", ("::1", 9))],
)
def test_addresses_to_listen_on(text, where):
    assert address(text) == where


@pytest.mark.parametrize("text", ["9100", "host", "host:", "host:x", "host:70000"])
def test_what_is_nothing_to_listen_on(text):
    with pytest.raises(ConfigurationError, match="nothing to listen on"):
        address(text)
