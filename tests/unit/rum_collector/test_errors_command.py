from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

import httpx2
import pytest
from inline_snapshot import snapshot

from rolloutobs.cli import main
from rolloutobs.cluster.serving import Answer, Server
from rolloutobs.identity import Track
from rum_collector.app import create_app
from rum_collector.errors_command import Seen, lines_of, read


@pytest.fixture
async def exposition() -> AsyncIterator[str]:
    app = create_app()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://c") as client:
        for number, (version, track, message) in enumerate(
            [("1.1.0", "stable", "old"), ("1.2.0", "canary", "old"), ("1.2.0", "canary", "new")]
        ):
            error = {"t": "Error", "m": message, "s": "app.js:1:2", "n": 3}
            body = {"pv": f"v{number}", "app": "shop", "ver": version, "trk": track, "e": [error], "fe": 1}
            assert (await client.post("/b", content=json.dumps(body))).status_code == 204
        yield (await client.get("/metrics")).text


def test_new_in_the_canary_is_a_first_class_answer(exposition: str) -> None:
    seen = read(exposition, "shop")
    assert [(line.message, line.new, line.count) for line in lines_of(seen, {"1.2.0"})] == [
        ("Error: new", True, 3),
        ("Error: old", False, 3),
    ]
    assert [line.location for line in lines_of(seen, {"1.2.0"})] == ["app.js:1:2"] * 2
    # Of all versions together nothing is new, and of another app there is nothing.
    assert not any(line.new for line in lines_of(seen, {"1.1.0", "1.2.0"}))
    assert lines_of(read(exposition, "blog"), {"1.2.0"}) == []


def test_a_version_that_was_promoted_is_no_canary_any_more() -> None:
    views = {("1.1.0", "stable"): 9.0, ("1.2.0", "canary"): 9.0, ("1.2.0", "stable"): 9.0}
    errors = {("1.2.0", "E-1"): 3.0}
    # Until there is another one it is the one that is meant.
    assert Seen(errors, views).versions(Track.CANARY, "") == {"1.2.0"}
    seen = Seen(errors | {("1.3.0", "E-1"): 3.0}, views | {("1.3.0", "canary"): 9.0})
    assert seen.versions(Track.CANARY, "") == {"1.3.0"}
    # Stable has it, too.
    assert not any(line.new for line in lines_of(seen, seen.versions(Track.CANARY, "")))


async def test_what_is_printed_says_who_was_there(
    exposition: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def metrics(path: str, query: Mapping[str, str]) -> Answer:
        return Answer(exposition.encode())

    async with Server(("127.0.0.1", 0), metrics) as server:
        asked = ["rum", "errors", "--url", f"http://127.0.0.1:{server.port}"]
        codes = [
            await asyncio.to_thread(main, [*asked, *which])
            for which in (["--canary"], ["--version", "1.1.0"], ["--version", "2.0.0"], ["--app", "blog"])
        ]
    assert codes == [1, 0, 3, 3]
    assert capsys.readouterr().out.splitlines() == snapshot(
        [
            "1.2.0: 2 page views, 2 different errors",
            "NEW                3  Error-31593d44            Error: new  at app.js:1:2",
            "seen before        3  Error-bcfd8924            Error: old  at app.js:1:2",
            "1.1.0: 1 page view, 1 error",
            "seen before        3  Error-bcfd8924            Error: old  at app.js:1:2",
            "nobody has seen that version yet; seen were: 1.1.0 (stable), 1.2.0 (canary)",
            "nobody has seen that version yet; seen were: none",
        ]
    )


def test_nobody_there_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rum", "errors", "--url", "http://127.0.0.1:9", "--canary"]) == 2
    assert "http://127.0.0.1:9/metrics cannot be read" in capsys.readouterr().err
    assert main(["rum", "errors", "--url", "collector"]) == 2
    assert "use http:// or https://" in capsys.readouterr().err
