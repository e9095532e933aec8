from __future__ import annotations

import json
import random
from typing import Any

import pytest

from rolloutobs.telemetry.view_tokens import VIEW_SECONDS, mark, seal
from rum_collector.beacon import parse_beacon
from rum_collector.ingest import Ingest, Sender
from rum_collector.settings import Settings
from rum_collector.words import BeaconOutcome

START = 1_800_000_000.0


class Fixture:
    """An ingest with a secret, and a wall clock that is set by hand."""

    def __init__(self, **settings: Any) -> None:
        self.now = START
        self.ingest = Ingest(Settings(secret=("secret",), **settings), wall=lambda: self.now)
        self._views = 0

    def token(self, version: str = "1.2.0", track: str = "canary", secret: str = "secret") -> str:
        return seal(secret, "shop", version, track, self.now)

    def post(self, token: str, **beacon: Any) -> BeaconOutcome:
        self._views += 1
        body = {"pv": f"view-{self._views}", "rt": "/", "tk": token, **beacon}
        return self.ingest.accept(parse_beacon(json.dumps(body).encode()), Sender())

    def total(self, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for metric in self.ingest.instruments.collect()
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def signed(self, name: str) -> float:
        return self.total(name, signed="true")

    def outcomes(self) -> dict[str, float]:
        return {
            sample.labels["outcome"]: sample.value
            for metric in self.ingest.instruments.collect()
            for sample in metric.samples
            if sample.name == "rum_view_tokens_total"
        }


def test_the_token_says_who_served_the_page_whatever_the_beacon_says() -> None:
    fixture = Fixture(apps=("shop",))
    fixture.post(fixture.token(), app="evil", ver="9.9.9", trk="stable")
    labels = {"app": "shop", "version": "1.2.0", "track": "canary", "signed": "true"}
    assert fixture.total("rum_page_views_total", **labels) == 1
    assert fixture.total("rum_page_views_total") == 1


def test_a_track_that_only_the_page_claims_is_no_evidence() -> None:
    """A page of a version that knows no track would else count for the side that its sender likes."""
    fixture = Fixture()
    fixture.post(fixture.token(track=""), trk="canary", e=[{"m": "x"}], fe=1)
    assert fixture.signed("rum_page_views_total") == 1
    assert fixture.total("rum_page_views_total", track="canary") == 0
    # What the collector itself is told of the version counts.
    told = Fixture(versions=("shop/1.2.0:stable",))
    told.post(told.token(track=""), trk="canary")
    assert told.total("rum_page_views_total", signed="true", track="stable") == 1


def test_what_a_view_sends_counts_once_in_however_many_beacons() -> None:
    fixture = Fixture()
    token = fixture.token()
    content: dict[str, Any] = {
        "m": [["lcp", 100], ["cls", 0.1]],
        "e": [{"m": "x"}],
        "fe": 1,
        "re": [["script", 1]],
    }
    content |= {"rf": 1, "c": [["checkout", 1]]}
    fixture.post(token, pv="a", sq=0, **content)
    for sequence in range(1, 30):
        fixture.post(token, pv="a", sq=sequence, **content)
    for name in (
        "rum_page_views_total",
        "rum_views_with_errors_total",
        "rum_views_with_resource_errors_total",
        "rum_events_total",
        "rum_lcp_seconds_count",
        "rum_cls_count",
    ):
        assert fixture.signed(name) == 1, name
    # Two vitals, two first times and an event, in 29 beacons.
    assert fixture.total("rum_values_rejected_total", reason="repeated") == 29 * 5
    # What comes late and is new still counts.
    fixture.post(token, pv="a", sq=31, m=[["inp", 50]])
    assert fixture.signed("rum_inp_seconds_count") == 1


def test_a_second_view_of_a_document_is_shown_and_proves_nothing() -> None:
    fixture = Fixture()
    token = fixture.token()
    fixture.post(token)
    fixture.post(token, nav="bfcache", e=[{"m": "x"}], fe=1)
    assert fixture.signed("rum_page_views_total") == 1
    assert fixture.signed("rum_views_with_errors_total") == 0
    assert fixture.total("rum_page_views_total", version="1.2.0", track="canary") == 2
    assert fixture.outcomes() == {"valid": 1, "used": 1}


def test_a_stale_token_still_says_who_served_the_page() -> None:
    fixture = Fixture()
    token = fixture.token()
    fixture.now += VIEW_SECONDS + 1
    fixture.post(token)
    assert fixture.signed("rum_page_views_total") == 0
    assert fixture.total("rum_page_views_total", version="1.2.0") == 1
    assert fixture.outcomes() == {"stale": 1}


def test_clock_lies_of_a_browser_change_nothing() -> None:
    fixture = Fixture()
    fixture.post(fixture.token(), ts=0, dt=-5)
    fixture.post(fixture.token(), ts=10**18)
    assert fixture.signed("rum_page_views_total") == 2


def test_ten_thousand_forged_or_replayed_bodies_add_nothing_to_the_evidence() -> None:
    fixture = Fixture()
    honest = [fixture.token() for _ in range(50)]
    for token in honest:
        fixture.post(token, m=[["lcp", 100]])
    before = {name: fixture.signed(name) for name in ("rum_page_views_total", "rum_lcp_seconds_count")}
    assert before["rum_page_views_total"] == 50
    chance = random.Random(7)
    bad: dict[str, Any] = {"m": [["lcp", 9000]], "e": [{"m": "x"}], "fe": 1, "rf": 1, "re": [["script", 1]]}
    for number in range(10_000):
        kind = number % 5
        if kind == 0:
            token = chance.choice(honest)
        elif kind == 1:
            token = fixture.token(secret="guessed")
        elif kind == 2:
            cut = chance.randrange(60)
            token = chance.choice(honest)
            token = token[:cut] + chance.choice("abcXYZ019-_") + token[cut + 1 :]
        elif kind == 3:
            token = ""
        else:
            token = chance.randbytes(64).hex()
        fixture.post(token, ver="1.2.0", trk="canary", app="shop", **bad)
    assert {name: fixture.signed(name) for name in before} == before
    assert fixture.signed("rum_views_with_errors_total") == 0
    assert fixture.signed("rum_views_with_resource_errors_total") == 0
    # Nothing is lost either: all of it is shown, without the label.
    assert fixture.total("rum_page_views_total") == 10_050
    assert fixture.outcomes()["valid"] == 50


def test_synthetic_views_prove_nothing_and_need_no_token() -> None:
    fixture = Fixture()
    fixture.post(fixture.token(), syn=1)
    assert fixture.total("rum_page_views_total", synthetic="true") == 1
    assert fixture.signed("rum_page_views_total") == 0


@pytest.mark.parametrize("views", [8, 64])
def test_memory_of_used_tokens_is_bounded_and_what_is_forgotten_counts_as_used(views: int) -> None:
    fixture = Fixture(max_views=views)
    tokens = [fixture.token() for _ in range(20 * views)]
    for token in tokens:
        fixture.post(token)
    counted = fixture.signed("rum_page_views_total")
    assert 0 < counted <= len(tokens)
    for token in tokens:
        fixture.post(token)
    assert fixture.signed("rum_page_views_total") == counted


def test_who_answered_calls_is_read_from_marks_that_mean_nothing_to_others() -> None:
    fixture = Fixture()
    canary, stable = (lambda: mark("secret", "1.2.0", "canary")), (lambda: mark("secret", "1.1.0", "stable"))
    fixture.post(fixture.token(), xp=[0, 0, canary(), canary(), stable()])
    # Later ones of the same document are shown, and a stale token still says whose page it is.
    token = fixture.token()
    fixture.now += VIEW_SECONDS + 1
    fixture.post(token, xp=[0, 0, canary(), "no mark"])
    calls = "rum_api_calls_total"
    assert [fixture.total(calls, answered=who, signed="true") for who in ("same", "other")] == [2, 1]
    assert [fixture.total(calls, answered=who) for who in ("same", "other")] == [3, 2]
    # Without a token nobody knows whose page it was.
    fixture.post("", xp=[0, 0, canary(), stable()])
    assert fixture.total(calls) == 5
    assert fixture.total("rum_values_rejected_total", reason="unproved") == 2
