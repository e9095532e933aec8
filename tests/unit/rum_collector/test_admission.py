from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from rum_collector.admission import Admission, Bounds, Kind, Labels

BOUNDS = Bounds(
    apps=2, versions=2, routes=3, events=2, fingerprints=2, label_sets=100, idle_seconds=60
)  # fmt: skip


def labels(app: str = "shop", version: str = "1", route: str = "/", device: str = "desktop") -> Labels:
    return Labels(app, version, "canary", route, device, "")


def test_what_fits_is_kept_as_it_is() -> None:
    admission = Admission(BOUNDS)
    assert admission.labels(labels(), 0) == labels()
    assert admission.labels(labels(), 1) == labels()
    assert not admission.overflow


def test_each_kind_overflows_into_other_and_is_counted() -> None:
    admission = Admission(BOUNDS)
    for app in ("a", "b"):
        for version in ("1", "2"):
            admission.labels(labels(app, version), 0)
    assert admission.labels(labels("c", "1"), 0).app == "other"
    assert admission.labels(labels("a", "3"), 0).version == "other"
    for route in ("/x", "/y"):
        assert admission.labels(labels("a", "1", route), 0).route == route
    assert admission.labels(labels("a", "1", "/z"), 0).route == "other"
    assert admission.overflow == {Kind.APP: 1, Kind.VERSION: 1, Kind.ROUTE: 1}


def test_routes_are_admitted_per_app_so_that_both_versions_agree() -> None:
    admission = Admission(BOUNDS)
    for route in ("/1", "/2", "/3"):
        admission.labels(labels(version="1", route=route), 0)
    assert admission.labels(labels(version="2", route="/2"), 0).route == "/2"
    assert admission.labels(labels(version="2", route="/4"), 0).route == "other"


def test_a_silent_version_makes_room_for_a_new_one() -> None:
    admission = Admission(BOUNDS)
    admission.labels(labels(version="1"), 0)
    admission.labels(labels(version="2"), 0)
    admission.labels(labels(version="1"), 50)
    assert admission.labels(labels(version="3"), 59).version == "other"
    assert admission.forgotten() == []
    assert admission.labels(labels(version="3"), 61).version == "3"
    assert admission.forgotten() == [("shop", "2")]
    assert admission.forgotten() == []
    assert {found.version for found in admission.label_sets("shop")} == {"1", "3", "other"}


def test_a_version_keeps_its_name_and_track_when_the_sets_are_used_up() -> None:
    admission = Admission(replace(BOUNDS, label_sets=2))
    assert admission.labels(labels(route="/1"), 0).route == "/1"
    assert admission.labels(labels(route="/2"), 0).route == "/2"
    for device in ("desktop", "mobile"):
        found = admission.labels(labels(version="2", device=device), 0)
        assert found == Labels("shop", "2", "canary", "other", "other", "")
    assert admission.overflow[Kind.LABEL_SET] == 2
    assert admission.fingerprint(found, "e") == "e"


def test_sets_of_versions_that_fell_silent_go_to_new_ones() -> None:
    """Without it a collector that runs for weeks would tell no route of a new version apart."""
    admission = Admission(replace(BOUNDS, versions=50, label_sets=6))
    for deployment in range(20):
        for route in ("/1", "/2", "/3"):
            asked = labels(version=str(deployment), route=route)
            assert admission.labels(asked, 30.0 * deployment) == asked
            for event in "ab":
                assert admission.detail(asked, Kind.EVENT, event) == event
    assert not admission.overflow
    # The latest, and those that were seen within the idle time.
    assert len(admission.label_sets("shop")) <= 6


def test_routes_and_calls_that_only_silent_versions_had_go_to_new_ones() -> None:
    """Without it a collector that runs for months would throw all new routes together."""
    admission = Admission(replace(BOUNDS, versions=2))
    for deployment in range(20):
        for route in ("/", f"/{deployment}"):
            asked = labels(version=str(deployment), route=route)
            assert admission.labels(asked, 60.0 * deployment) == asked
        call = admission.name(Kind.TARGET, f"/api/{deployment}", "shop")
        assert admission.detail(asked, Kind.TARGET, call) == f"/api/{deployment}"
    assert not admission.overflow
    # Those of the two versions that are left.
    assert admission.names(Kind.ROUTE, "shop") == ("/", "/18", "/19")
    assert admission.names(Kind.TARGET, "shop") == ("/api/18", "/api/19")


def test_a_route_stays_admitted_when_its_last_version_makes_room_for_its_next_one() -> None:
    admission = Admission(replace(BOUNDS, label_sets=1))
    assert admission.labels(labels(version="1", route="/a"), 0) == labels(version="1", route="/a")
    assert admission.labels(labels(version="2", route="/a"), 60) == labels(version="2", route="/a")
    assert admission.names(Kind.ROUTE, "shop") == ("/a",)


def test_events_of_versions_that_fell_silent_go_to_new_ones() -> None:
    admission = Admission(replace(BOUNDS, versions=50, label_sets=3))
    for deployment in range(20):
        found = admission.labels(labels(version=str(deployment)), 30.0 * deployment)
        for event in "ab":
            assert admission.detail(found, Kind.EVENT, event) == event
    assert not admission.overflow


def test_forgetting_a_version_gives_its_sets_and_details_back() -> None:
    admission = Admission(replace(BOUNDS, versions=1, label_sets=2))
    first = admission.labels(labels(version="1"), 0)
    for event in "abcd":
        assert admission.detail(first, Kind.EVENT, event) == event
    assert admission.detail(first, Kind.EVENT, "e") == "other"
    second = admission.labels(labels(version="2"), 100)
    assert second.version == "2"
    assert admission.detail(second, Kind.EVENT, "a") == "a"
    assert admission.detail(first, Kind.EVENT, "a") == "other"


def test_fingerprints_are_bounded_per_version() -> None:
    admission = Admission(BOUNDS)
    first = admission.labels(labels(version="1"), 0)
    second = admission.labels(labels(version="2"), 0)
    assert [admission.fingerprint(first, name) for name in "aba"] == ["a", "b", "a"]
    assert admission.fingerprint(first, "c") == "other"
    assert admission.fingerprint(second, "c") == "c"
    assert admission.knows_fingerprint(first, "a")
    assert not admission.knows_fingerprint(second, "a")
    assert admission.fingerprint(Labels("other", "other", "", "", "", ""), "a") == "other"


def test_events_are_bounded_per_app() -> None:
    admission = Admission(BOUNDS)
    assert [admission.name(Kind.EVENT, name, "shop") for name in "abac"] == ["a", "b", "a", "other"]
    assert admission.names(Kind.EVENT, "shop") == ("a", "b")
    assert admission.knows(Kind.EVENT, "a", "shop")
    assert not admission.knows(Kind.EVENT, "a", "blog")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.sampled_from("1234"), st.sampled_from("/xyz"), st.sampled_from("dmtu")
        ),
        max_size=60,
    ),
    st.integers(1, 8),
)
def test_no_order_of_arrival_breaks_the_bound(arrivals: list[tuple[str, str, str, str]], bound: int) -> None:
    admission = Admission(replace(BOUNDS, label_sets=bound))
    admitted = {admission.labels(labels(*arrival), now) for now, arrival in enumerate(arrivals)}
    for release in admission.forgotten():
        admitted = {found for found in admitted if found[:2] != release}
    coarse = {found for found in admitted if found.route == found.device == "other"}
    assert len(admitted - coarse) <= bound
    assert len(coarse) <= (BOUNDS.apps + 1) * (BOUNDS.versions + 1)


def test_a_hundred_thousand_versions_take_the_place_of_fifty() -> None:
    admission = Admission(Bounds(3, 50, 10, 5, 5, 100, 3600))
    for number in range(100_000):
        kept = admission.labels(labels()._replace(version=f"1.0.{number}", route=f"/{number}"), number / 1000)
        assert kept.version == (f"1.0.{number}" if number < 50 else "other")
    assert len(admission.label_sets(labels().app)) <= 100 + 51
    assert admission.overflow[Kind.VERSION] == 100_000 - 50
