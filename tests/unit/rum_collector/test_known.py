from __future__ import annotations

import pytest

from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Track
from rum_collector.known import KnownVersions, versions_in
from rum_collector.settings import known_version


def test_without_any_word_every_version_is_admitted() -> None:
    known = KnownVersions()
    assert known.admits("shop", "1")
    assert known.track("shop", "1") is Track.NONE


def test_configured_versions_and_their_tracks() -> None:
    entries = ("1.1.0:stable", "shop/1.2.0:canary", "1.3.0")
    known = KnownVersions(map(known_version, entries))
    assert [known.admits("shop", v) for v in ("1.1.0", "1.2.0", "1.3.0", "1.4.0")] == [
        True,
        True,
        True,
        False,
    ]
    assert not known.admits("blog", "1.2.0")
    assert known.track("shop", "1.1.0") is Track.STABLE
    assert known.track("shop", "1.2.0") is Track.CANARY
    assert known.track("shop", "1.3.0") is Track.NONE


def test_what_processes_say_and_a_version_on_two_tracks_has_none() -> None:
    known = KnownVersions()
    assert known.admits("shop", "anything")
    known.found("a", [("shop", "1.1.0", Track.STABLE)])
    assert known.admits("shop", "1.1.0")
    assert not known.admits("shop", "anything")
    known.found("b", [("shop", "1.1.0", Track.CANARY)])
    assert known.track("shop", "1.1.0") is Track.NONE
    known.found("a", [])
    assert known.track("shop", "1.1.0") is Track.CANARY


def test_an_answer_that_names_no_version_is_none() -> None:
    """A watcher answers before it has listed the pods."""
    known = KnownVersions()
    known.found("watcher", [], 0.0)
    assert known.admits("shop", "1.1.0")
    known.found("watcher", [("shop", "1.1.0", Track.STABLE)], 15.0)
    assert not known.admits("shop", "anything")
    known.found("watcher", [], 30.0)
    assert [known.admits("shop", version) for version in ("1.1.0", "anything")] == [True, False]


def test_a_version_stays_known_while_its_pages_may_be_open() -> None:
    known = KnownVersions([("", "1.0.0", Track.NONE)])
    known.found("service", [("shop", "1.1.0", Track.STABLE)], 0.0)
    known.found("service", [("shop", "1.2.0", Track.CANARY)], 10.0)
    # The canary is promoted: what it is now counts, and stable is what it was.
    known.found("service", [("shop", "1.2.0", Track.STABLE)], 7200.0)
    assert [known.track("shop", version) for version in ("1.1.0", "1.2.0")] == [Track.STABLE, Track.STABLE]
    known.found("service", [("shop", "1.2.0", Track.STABLE)], 7201.0)
    assert not known.admits("shop", "1.1.0")
    assert known.admits("shop", "1.0.0")


def test_the_versions_of_an_exposition() -> None:
    text = (
        "# HELP app_build_info x\n"
        'app_build_info{app="shop",revision="abc",track="canary",version="1.2.0"} 1.0\n'
        'app_build_info{app="sh\\"op",version="1"} 1.0\n'
        'app_build_info{app="shop"} 1.0\n'
        'app_start_time_seconds{app="shop",version="9"} 1.0\n'
        'rolloutobs_pods{namespace="a",workload="w",app="blog",version="3",track="stable"} 2.0 1700000000\n'
        'rolloutobs_pods{namespace="a",workload="w",app="blog",version="2",track="stable"} 0.0\n'
    )
    assert versions_in(text) == [
        ("shop", "1.2.0", Track.CANARY),
        ('sh\\"op', "1", Track.NONE),
        ("blog", "3", Track.STABLE),
    ]


@pytest.mark.parametrize("entry", ["", "shop/", "/1.2.0", "1.2.0:blue", "shop/:canary"])
def test_an_entry_that_cannot_be_read_is_refused(entry: str) -> None:
    with pytest.raises(ConfigurationError):
        known_version(entry)
