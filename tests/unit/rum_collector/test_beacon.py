from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rolloutobs.errors import BeaconError
from rolloutobs.identity import Track
from rum_collector.agents import device_of
from rum_collector.beacon import Beacon, Event, JsError, parse_beacon, parse_simple
from rum_collector.model import Calls
from rum_collector.words import BeaconOutcome, Device, Navigation, ValueRejection, Vital

FIXTURES = Path(__file__).parents[2] / "fixtures" / "rum"
FULL = {
    "v": 1,
    "app": "shop",
    "ver": "1.2.0",
    "trk": "canary",
    "pv": "k3j4h5",
    "sq": 0,
    "nav": "navigate",
    "rt": "/product/:id",
    "m": [["lcp", 1834.2], ["cls", 0.0357], ["load", 90_000]],
    "e": [{"t": "TypeError", "m": "x is null", "s": "app.js:1:48213", "n": 3}],
    "fe": 1,
    "c": [["checkout", 1], ["checkout", 0], ["checkout", 1]],
}


def encoded(**changes: Any) -> bytes:
    return json.dumps({**FULL, **changes}).encode()


def reason(body: bytes, parse: Any = parse_beacon) -> str:
    with pytest.raises(BeaconError) as caught:
        parse(body)
    assert caught.value.reason in set(BeaconOutcome)
    return caught.value.reason


def test_a_whole_beacon_with_seconds_inside() -> None:
    assert parse_beacon(encoded()) == Beacon(
        app="shop",
        version="1.2.0",
        track=Track.CANARY,
        route="/product/:id",
        synthetic=False,
        view="k3j4h5",
        sequence=0,
        navigation=Navigation.NAVIGATE,
        vitals=((Vital.LCP, 1.8342), (Vital.CLS, 0.0357), (Vital.LOAD, 90.0)),
        errors=(JsError("TypeError-fa39bb49", "TypeError: x is null", "app.js:1:48213", 3),),
        first_error=True,
        events=(Event("checkout", ok=True), Event("checkout", ok=False)),
    )


def test_the_least_that_a_beacon_must_say() -> None:
    beacon = parse_beacon(b'{"pv":"a"}')
    assert beacon == Beacon(
        app="", version="unknown", track=Track.NONE, route="", synthetic=False, view="a",
        navigation=Navigation.NAVIGATE,
    )  # fmt: skip
    assert beacon.new_view is Navigation.NAVIGATE
    assert parse_beacon(b'{"pv":"a","sq":1}').new_view is None


def test_a_richer_beacon_of_another_script_is_read_as_far_as_it_is_understood() -> None:
    beacon = parse_beacon((FIXTURES / "bench-beacon-1195B.json").read_bytes())
    assert (beacon.app, beacon.version, beacon.track) == ("shop-frontend", "2.4.1", Track.CANARY)
    assert dict(beacon.vitals) == pytest.approx(
        {Vital.LCP: 1.8342, Vital.INP: 0.142, Vital.CLS: 0.0357, Vital.FCP: 0.9124, Vital.TTFB: 0.2437,
         Vital.LOAD: 2.3108}
    )  # fmt: skip
    assert beacon.rejected == (ValueRejection.UNKNOWN_METRIC,) * 4
    assert [error.message for error in beacon.errors] == [
        "TypeError: Cannot read properties of undefined (reading 'price')"
    ]
    assert beacon.events == (Event("checkout_completed", ok=True),)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"metric=load", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b'{"pv":"a\xff"}', "not_json"),
        (b'{"pv":"\\ud800"}', "not_json"),
        (b'{"pv":"a","x":' + b"[" * 100_000, "not_json"),
        (b"[]", "invalid"),
        (b"null", "invalid"),
        (b"{}", "invalid"),
        (encoded(pv=""), "invalid"),
        (encoded(pv="a" * 65), "invalid"),
        (encoded(pv=7), "invalid"),
        (encoded(v=2), "invalid"),
        (encoded(sq=-1), "invalid"),
        (encoded(sq=10_001), "invalid"),
        (encoded(trk="blue"), "invalid"),
        (encoded(m=[["lcp"]]), "invalid"),
        (encoded(xp=[1]), "invalid"),
        (encoded(xp=["a", 1]), "invalid"),
        (encoded(m=[["lcp", None]]), "invalid"),
        (b'{"pv":"a","m":[["lcp",1e999]]}', "invalid"),
    ],
)
def test_what_cannot_be_used_is_named(body: bytes, expected: str) -> None:
    assert reason(body) == expected


def test_a_message_shows_what_is_wrong_and_what_to_do() -> None:
    with pytest.raises(BeaconError, match=r"trk is 'blue'; use one of 'stable', 'canary', 'baseline'"):
        parse_beacon(encoded(trk="blue"))


def test_marks_of_answers_stand_behind_the_numbers_and_are_bounded() -> None:
    marks = [f"mark {number}" for number in range(12)]
    found = parse_beacon(encoded(xp=[1, 2, *marks]))
    assert (found.calls, found.marks) == (Calls(1, 2), tuple(marks[:10]))
    assert parse_beacon(encoded(xp=[1, 2, 3, "a"])).marks == ("a",)


def test_an_odd_value_is_left_out_and_its_view_still_counts() -> None:
    beacon = parse_beacon(
        encoded(m=[["lcp", -1], ["inp", 60_001], ["cls", 101], ["dcl", 5], ["fcp", 60_000]])
    )
    assert beacon.vitals == ((Vital.FCP, 60.0),)
    assert beacon.rejected == (*(ValueRejection.OUT_OF_RANGE,) * 3, ValueRejection.UNKNOWN_METRIC)
    assert beacon.new_view is Navigation.NAVIGATE


@pytest.mark.parametrize("navigation", ["bfcache", "soft"])
def test_a_view_without_a_request_has_no_time_to_first_byte(navigation: str) -> None:
    beacon = parse_beacon(encoded(nav=navigation, m=[["ttfb", 0], ["load", 0], ["lcp", 12]]))
    assert beacon.vitals == ((Vital.LCP, 0.012),)
    assert beacon.rejected == (ValueRejection.NO_REQUEST,) * 2


def test_an_unknown_navigation_is_other_and_a_vital_counts_once() -> None:
    beacon = parse_beacon(encoded(nav="teleport", m=[["lcp", 1000], ["LCP", 2000]]))
    assert beacon.navigation is Navigation.OTHER
    assert beacon.vitals == ((Vital.LCP, 1.0),)


def test_what_one_beacon_may_carry_is_bounded_and_the_rest_is_counted() -> None:
    errors = [{"t": "Error", "m": "abc"[i % 3] * (i + 1)} for i in range(23)]
    events = [[f"e{i}", 1] for i in range(52)]
    beacon = parse_beacon(encoded(e=errors, c=events, d=4))
    assert (len(beacon.errors), len(beacon.events)) == (20, 50)
    assert beacon.rejected.count(ValueRejection.TOO_MANY) == 3 + 2 + 4


def test_an_error_has_the_same_fingerprint_whatever_it_is_about_and_wherever_it_is_thrown() -> None:
    def parsed(**error: Any) -> JsError:
        return parse_beacon(encoded(e=[error])).errors[0]

    first = parsed(t="TypeError", m="order 17 of ann@example.com", s="app-3fd1c2.js:1:2", n=1)
    again = parsed(t="TypeError", m="order 4711 of bob@example.com", s="app-99aa00.js:1:9", n=9)
    other = parsed(t="TypeError", m="cart 17", s="app-3fd1c2.js:1:2")
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.message == "TypeError: order # of #"


def test_an_error_that_lies_about_its_type_place_or_count_is_cut_to_size() -> None:
    beacon = parse_beacon(
        encoded(
            e=[
                {"t": "<b>\n", "m": "a\x00b", "s": "https://x/y.js?k=1:2:3", "n": 10**12},
                {"n": -4, "s": "\x1b[31mx:1:2"},
            ]
        )
    )
    first, second = beacon.errors
    assert "\x1b" not in second.location
    assert (first.message, first.location, first.count) == ("Error: a b", "", 10_000)
    assert (second.message, second.count) == ("Error: ", 1)


def test_errors_beyond_what_the_page_keeps_apart_are_other() -> None:
    assert parse_beacon(encoded(e=[{"t": "more", "m": "more", "n": 7}])).errors[0].fingerprint == "other"


def test_no_first_error_without_an_error() -> None:
    assert not parse_beacon(encoded(e=[])).first_error


def test_names_are_cut_and_cleaned() -> None:
    beacon = parse_beacon(
        encoded(app=" a\nb ", ver="v" * 500, rt="/user/123456/x?token=1#y", c=[["  ", 1], ["e" * 500, 1]])
    )
    assert (beacon.app, beacon.version, beacon.route) == ("a b", "v" * 128, "/user/:id/x")
    assert beacon.events == (Event("e" * 64, ok=True),)


def test_the_simplest_body() -> None:
    assert parse_simple(b'{"metric": "page_load_time", "value": 1234, "version": "1.2.0"}') == Beacon(
        app="", version="1.2.0", track=Track.NONE, route="", synthetic=False, vitals=((Vital.LOAD, 1.234),)
    )


def test_the_simple_body_with_everything() -> None:
    body = (
        b'{"metric": "CLS", "value": 0.2, "version": "1", "app": "shop", "track": "canary", '
        b'"route": "/a/77", "synthetic": true, "else": []}'
    )
    beacon = parse_simple(body)
    assert beacon == Beacon("shop", "1", Track.CANARY, "/a/:id", synthetic=True, vitals=((Vital.CLS, 0.2),))
    # It reports no errors, so it must not count as a view without any.
    assert beacon.new_view is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"metric": "speed", "value": 1}', "unknown_metric"),
        (b'{"metric": "lcp", "value": -1}', "out_of_range"),
        (b'{"metric": "lcp", "value": 60001}', "out_of_range"),
        (b'{"metric": "cls", "value": 101}', "out_of_range"),
        (b'{"metric": "lcp"}', "invalid"),
        (b'{"metric": "lcp", "value": "12"}', "invalid"),
        (b'{"metric": "lcp", "value": 1, "track": "blue"}', "invalid"),
        (b"hello", "not_json"),
        (b"", "empty"),
    ],
)
def test_what_is_wrong_with_a_simple_body(body: bytes, expected: str) -> None:
    assert reason(body, parse_simple) == expected


@pytest.mark.parametrize(
    ("agent", "hint", "device"),
    [
        ("", "", Device.UNKNOWN),
        ("", "?1", Device.UNKNOWN),
        ("Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/156.0.0.0 Safari/537.36", "?0", Device.DESKTOP),
        ("Mozilla/5.0 (Linux; Android 16; K) Chrome/156.0.0.0 Mobile Safari/537.36", "?1", Device.MOBILE),
        ("Mozilla/5.0 (Linux; Android 16; K) Chrome/156.0.0.0 Safari/537.36", "?0", Device.TABLET),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 26_0) Version/26.0 Mobile/15E148 Safari/604.1",
            "",
            Device.MOBILE,
        ),
        ("Mozilla/5.0 (iPad; CPU OS 12_5) Version/12.1 Mobile/15E148 Safari/604.1", "", Device.TABLET),
    ],
)
def test_device(agent: str, hint: str, device: Device) -> None:
    assert device_of(agent, hint) is device


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
MUTATED = st.dictionaries(st.sampled_from([*FULL, "d", "syn"]), JSON, max_size=4).map(lambda c: {**FULL, **c})
SIMPLE = st.fixed_dictionaries(
    {"metric": st.sampled_from(["lcp", "cls", "page_load_time", "x"]) | st.text(), "value": JSON},
    optional={"version": JSON, "track": JSON, "route": JSON, "app": JSON},
)


def acceptable(beacon: Beacon) -> None:
    """Assert what everything behind the parser relies on."""
    for name in (beacon.app, beacon.version, beacon.route, *(event.name for event in beacon.events)):
        assert len(name) <= 128
        name.encode()
        assert not any(ord(character) < 32 for character in name)
    assert all(0 <= value <= 600 for _, value in beacon.vitals)
    assert len({vital for vital, _ in beacon.vitals}) == len(beacon.vitals)
    assert all(1 <= error.count <= 10_000 and len(error.message) <= 170 for error in beacon.errors)
    assert len(set(beacon.events)) == len(beacon.events) <= 50


def rejected(error: BeaconError) -> None:
    assert BeaconOutcome(error.reason) not in (BeaconOutcome.ACCEPTED, BeaconOutcome.DUPLICATE)
    assert str(error)


@settings(deadline=None)
@given(st.binary() | MUTATED.map(json.dumps).map(str.encode) | SIMPLE.map(json.dumps).map(str.encode))
@example(b'{"pv":"a","m":[["x",' + b"9" * 400 + b"]]}")
@example(b"[" * 100_000)
def test_any_bytes_give_a_beacon_or_a_beacon_error(body: bytes) -> None:
    for parse in (parse_beacon, parse_simple):
        try:
            acceptable(parse(body))
        except BeaconError as error:
            rejected(error)


@settings(deadline=None)
@given(st.sampled_from(list(Vital)), st.floats(0, 60_000), st.text(max_size=200))
def test_what_the_script_may_send_is_kept(vital: Vital, value: float, route: str) -> None:
    sent = value / 1000 if vital is Vital.CLS else value
    beacon = parse_beacon(encoded(m=[[vital.value, sent]], rt=route))
    assert beacon.vitals == ((vital, pytest.approx(value / 1000)),)
    assert beacon.rejected == ()


def test_a_flood_of_values_is_cut_short_and_counted() -> None:
    beacon = parse_beacon(encoded(m=[["lcp", 1000]] + [["speed", 1]] * 3000, d=10**9))
    assert beacon.vitals == ((Vital.LCP, 1.0),)
    assert beacon.rejected.count(ValueRejection.UNKNOWN_METRIC) == 19
    assert beacon.rejected.count(ValueRejection.TOO_MANY) == 1000
