from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import httpx2
import pytest

from rolloutobs._version import __version__
from rolloutobs.errors import MissingExtraError
from rum_collector import __main__ as command
from rum_collector.settings import Settings

ROOT = Path(__file__).parents[3]


def test_the_command_line_wins_over_the_environment() -> None:
    environ = {"ROLLOUTOBS_COLLECTOR_PORT": "9000", "ROLLOUTOBS_COLLECTOR_HOST": "0.0.0.0"}
    options = command.parser().parse_args(["--port", "9001", "--app", "shop", "--app", "blog,docs"])
    found = command.configured_by(vars(options), environ)
    assert found.settings == Settings(apps=("shop", "blog", "docs"), port=9001, host="0.0.0.0")


def test_a_bad_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--port", "x"]) == 2
    assert "--port is 'x'; use a whole number" in capsys.readouterr().err


def test_an_unknown_option_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--nonsense"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "rolloutobs-collector: unrecognized arguments: --nonsense; see rolloutobs-collector --help\n"
    )


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"rolloutobs-collector {__version__}\n")


def test_a_configuration_is_checked_without_being_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "collector.toml"
    file.write_text('apps = ["shop"]\nworkers = 2\nhost = "0.0.0.0"\n')
    monkeypatch.setenv("ROLLOUTOBS_COLLECTOR_WORKERS", "4")
    assert command.main(["--config", str(file), "--port", "9000", "--check-config"]) == 0
    printed = capsys.readouterr().out
    lines = dict(line.split(" = ", 1) for line in printed.splitlines())
    assert lines["apps"] == f'["shop"]  # {file}, line 1'
    assert lines["workers"] == "4  # ROLLOUTOBS_COLLECTOR_WORKERS"
    assert (lines["port"], lines["max_routes"]) == ("9000  # --port", "200")
    # What is printed is a file like the one that was given.
    file.write_text(printed)
    monkeypatch.delenv("ROLLOUTOBS_COLLECTOR_WORKERS")
    assert command.main(["--config", str(file), "--check-config"]) == 0
    assert capsys.readouterr().out.startswith(f'apps = ["shop"]  # {file}, line 1\n')
    file.write_text("workers = 2\n\nprot = 9000\n")
    assert command.main(["--config", str(file), "--check-config"]) == 2
    expected = f"{file}, line 3: 'prot' is no setting of the collector; did you mean 'port'?"
    assert expected in capsys.readouterr().err


def test_help_shows_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for piece in (
        "--app",
        "--beacon-path",
        "(default: /b)",
        "--port",
        "(default: 8320)",
        "ROLLOUTOBS_COLLECTOR_",
    ):
        assert piece in text


def test_what_cannot_start_says_why_and_exits_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command.main(["--beacon-path", "b"]) == 2
    assert "beacon_path is 'b'; use an absolute path" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert command.main([]) == 2
    assert "pip install 'rolloutobs[collector]'" in capsys.readouterr().err
    with pytest.raises(MissingExtraError):
        command._server()


async def test_it_runs_counts_and_stops_cleanly() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rum_collector", "--port", "0", "--app", "shop",
        cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while not (found := re.search(rb"http://127\.0\.0\.1:\d+", await process.stderr.readline())):
                assert process.returncode is None
            async with httpx2.AsyncClient(base_url=found.group().decode(), trust_env=False) as client:
                assert (await client.get("/healthz")).status_code == 200
                assert (await client.post("/b", content=b'{"pv":"a","ver":"1"}')).status_code == 204
                assert 'rum_page_views_total{app="shop"' in (await client.get("/metrics")).text
            process.send_signal(signal.SIGTERM)
            await process.stderr.read()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
