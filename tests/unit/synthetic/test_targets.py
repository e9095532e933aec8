"""Both tracks behind one address, and apps that say who they are in other ways: through the command line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from rolloutobs.identity import Track
from synthetic.__main__ import main
from synthetic.browser import open_browser, walk
from synthetic.marking import Marking
from synthetic.routing import Route
from synthetic.target import Proven, Target, prove
from synthetic.visit import Trip


def run(journey: str, out: Path, *more: str) -> tuple[int, dict]:
    code = main(["run", journey, "--app", "shop", "--json", str(out), *more])
    return code, json.loads(out.read_text(encoding="utf-8"))


def told(found: dict, track: str) -> tuple[str, str, str]:
    side = found["pairs"][-1][track]
    return side["outcome"], side["identity"], side["version"]


ROUTES = {
    "header": ["--canary-header", "Track: canary"],
    "cookie": ["--canary-cookie", "track=canary"],
    "query": ["--canary-query", "track=canary", "--stable-query", "track=stable"],
    "weight": ["--attempts", "12"],
}


@pytest.mark.parametrize("split", ROUTES)
def test_one_address_for_both_tracks_without_a_browser(serve, shop_type, journey_file, tmp_path, split):
    shop = serve(shop_type(split=split))
    argv = [f"{journey_file}:order", tmp_path / "out.json", "--entry", shop.url, *ROUTES[split]]
    code, found = run(*argv)
    assert (code, told(found, "stable"), told(found, "canary")) == (
        0, ("pass", "right", "1.1.0"), ("pass", "right", "1.2.0"),
    )  # fmt: skip


@pytest.mark.browser
async def test_one_address_for_both_tracks_in_a_browser(serve, shop_type):
    routes = {
        "header": Route(headers=(("Track", "canary"),)),
        "cookie": Route(cookies=(("track", "canary"),)),
        "query": Route(query=(("track", "canary"),)),
        "weight": Route(attempts=12),
    }
    targets = [
        Target(serve(shop_type(split=split)).url, Track.CANARY, None, route)
        for split, route in routes.items()
    ]

    async def look(page, shop):
        await shop.open("/")
        await page.get_by_text("Kettle").wait_for()
        await page.wait_for_load_state("networkidle")

    async with open_browser() as browser:
        trips = (Trip(target.url, look, "canary", target, Marking()) for target in targets)
        seen = await asyncio.gather(*(walk(browser, trip) for trip in trips))
    found = {
        split: (prove(target, each.answers).proven, each.error)
        for split, target, each in zip(routes, targets, seen, strict=True)
    }
    assert found == dict.fromkeys(routes, (Proven.RIGHT, ""))
    # The page, its script's call, and a redirect: each was routed, not only the first.
    assert {len(each.answers) >= 3 for each in seen} == {True}


def test_an_address_whose_visitors_change_tracks_is_inconclusive(serve, shop_type, journey_file, tmp_path):
    shop = serve(shop_type(split="loose"))
    argv = [f"{journey_file}:order", tmp_path / "out.json", "--entry", shop.url, "--attempts", "12"]
    code, found = run(*argv)
    assert code == 3
    assert "wrong" in (told(found, "stable")[1], told(found, "canary")[1])


def test_a_track_that_never_answers_is_inconclusive_and_says_who_did(
    serve, shop_type, journey_file, tmp_path
):
    shop = serve(shop_type())
    argv = [f"{journey_file}:order", tmp_path / "out.json", "--entry", shop.url, "--attempts", "4"]
    code, found = run(*argv)
    assert (code, told(found, "canary")[:2]) == (3, ("inconclusive", "wrong"))
    assert found["pairs"][0]["canary"]["reason"] == (
        f"canary did not answer in 4 attempts at {shop.url}: 4 came from stable"
    )
    assert len(shop.asked("GET /")) == 5


@pytest.mark.parametrize(
    ("form", "versions"),
    [
        ("header:X-Version", ["--stable-version", "1.1.0", "--canary-version", "1.2.0"]),
        ("json:/about:build.version,track", []),
        ("metrics:/metrics", []),
    ],
)
def test_apps_that_say_who_they_are_in_other_ways(serve, shop_type, journey_file, tmp_path, form, versions):
    stable = serve(shop_type(silent=True))
    canary = serve(shop_type(version="1.2.0", track="canary", silent=True))
    argv = [f"{journey_file}:order", tmp_path / "out.json", "--identity", form, *versions]
    code, found = run(*argv, "--stable", stable.url, "--canary", canary.url)
    assert (code, told(found, "canary")) == (0, ("pass", "right", "1.2.0"))
    # The wrong way round: both answer, and neither is who is wanted.
    code, found = run(*argv, "--stable", canary.url, "--canary", stable.url)
    assert (code, told(found, "stable")[:2], told(found, "canary")[:2]) == (
        3, ("inconclusive", "wrong"), ("inconclusive", "wrong"),
    )  # fmt: skip


@pytest.mark.browser
def test_a_browsers_target_is_asked_who_it_is(serve, shop_type, journey_file, tmp_path):
    stable = serve(shop_type(silent=True))
    canary = serve(shop_type(version="1.2.0", track="canary", silent=True))
    argv = [f"{journey_file}:checkout", tmp_path / "out.json", "--identity", "metrics:/metrics"]
    code, found = run(*argv, "--stable", stable.url, "--canary", canary.url)
    assert (code, told(found, "stable"), told(found, "canary")) == (
        0, ("pass", "right", "1.1.0"), ("pass", "right", "1.2.0"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "stable has no address"),
        (["--stable", "http://127.0.0.1:1"], "canary has no address"),
        (["--entry", "http://127.0.0.1:1"], "--entry alone does not tell the tracks apart"),
        (["--entry", "http://127.0.0.1:1", "--attempts", "-1"], "--attempts is -1"),
        (["--entry", "x", "--attempts", "3"], "--entry is 'x'"),
        (["--entry", "http://127.0.0.1:1", "--attempts", "3", "--identity", "x"], "--identity is 'x'"),
        (["--entry", "http://127.0.0.1:1", "--attempts", "3", "--only", "x"], "no journey is left"),
        (["--entry", "http://127.0.0.1:1", "--attempts", "3", "--error-rate", "2"], "--error-rate is 2.0"),
        (["--entry", "http://127.0.0.1:1", "--attempts", "3", "--retries", "-1"], "--retries is -1"),
        (["--entry", "http://127.0.0.1:1", "--attempts", "3", "--keep", "0"], "--keep is 0"),
    ],
)
def test_wrong_options(more, words, journey_file, capsys):
    assert main(["run", f"{journey_file}:order", "--app", "shop", *more]) == 2
    assert words in capsys.readouterr().err
