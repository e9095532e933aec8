from itertools import product

import pytest

from rolloutobs.detection.labels import NO_LABELS, Labels, parse_labels
from rolloutobs.detection.track import TRACK_KEYS, TrackResolver, without_primary
from rolloutobs.identity import Track
from rolloutobs.settings import Settings


def resolver(environ=None):
    return TrackResolver.of(Settings(), environ or {})


def labels(**values):
    return parse_labels("\n".join(f'{key.replace("__", "/")}="{value}"' for key, value in values.items()))


@pytest.mark.parametrize(
    ("word", "track"),
    [
        ("stable", Track.STABLE),
        ("active", Track.STABLE),
        ("canary", Track.CANARY),
        ("preview", Track.CANARY),
        ("baseline", Track.BASELINE),
        (" Canary ", Track.CANARY),
    ],
)
def test_the_words_of_a_label(word, track):
    for key in TRACK_KEYS:
        found = resolver().resolve(Labels({key: word}))
        assert (found.track, found.is_from_labels, found.unknown) == (track, True, "")
        assert found.source == f"label {key} in /etc/podinfo/labels"
    assert resolver().resolve(parse_labels(word)).track is track


def test_the_keys_have_an_order():
    words = dict(zip(TRACK_KEYS, ("baseline", "canary", "stable"), strict=True))
    assert resolver().resolve(Labels(words)).track is Track.BASELINE
    del words["rolloutobs.io/track"]
    assert resolver().resolve(Labels(words)).track is Track.CANARY


def test_labels_come_before_the_environment_and_that_before_flagger():
    environ = {"ROLLOUTOBS_TRACK": "canary"}
    primary = {"app": "shop-primary"}
    assert resolver(environ).resolve(Labels({"role": "stable", **primary})).track is Track.STABLE
    assert resolver(environ).resolve(Labels(primary)).track is Track.CANARY
    assert resolver(environ).resolve(NO_LABELS).source == "ROLLOUTOBS_TRACK"
    assert resolver().resolve(Labels(primary)).track is Track.STABLE
    resource = {"OTEL_RESOURCE_ATTRIBUTES": "rolloutobs.track=baseline"}
    assert resolver(resource).resolve(NO_LABELS).track is Track.BASELINE
    assert resolver(environ | resource).resolve(NO_LABELS).track is Track.CANARY


def test_an_unknown_word_is_told_and_the_next_place_is_asked():
    found = resolver({"ROLLOUTOBS_TRACK": "canary"}).resolve(labels(role="web"))
    assert found.track is Track.CANARY
    assert found.unknown == "label role in /etc/podinfo/labels is 'web'"
    assert resolver().resolve(labels(role="web")).track is Track.NONE
    assert resolver().resolve(parse_labels("blue")).unknown.endswith("is 'blue'")


def test_an_unknown_word_beside_a_track_is_none_of_our_business():
    found = resolver().resolve(labels(role="web", track="canary"))
    assert (found.track, found.unknown) == (Track.CANARY, "")


@pytest.mark.parametrize(
    "pod", ["shop-primary-7d9f8b6c5-x2x4z", "shop-primary-x2x4z", "my-shop-primary-5c8d7f9b4d-lqk2r"]
)
def test_a_pod_of_flaggers_primary_is_stable(pod):
    assert resolver({"POD_NAME": pod}).resolve(NO_LABELS).track is Track.STABLE
    in_cluster = {"HOSTNAME": pod, "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    assert resolver(in_cluster).resolve(NO_LABELS).track is Track.STABLE
    assert resolver({"HOSTNAME": pod}).resolve(NO_LABELS).track is Track.NONE


@pytest.mark.parametrize(
    "pod", ["shop-7d9f8b6c5-x2x4z", "pg-primary-0", "primary-x2x4z", "shop-primary", "shop-primary-eu-west-1"]
)
def test_other_pods_are_on_no_track(pod):
    assert resolver({"POD_NAME": pod}).resolve(NO_LABELS).track is Track.NONE


def test_every_selector_label_of_flagger_counts():
    for key in ("app", "name", "app.kubernetes.io/name"):
        assert resolver().resolve(Labels({key: "shop-primary"})).track is Track.STABLE
        assert resolver().resolve(Labels({key: "shop"})).track is Track.NONE
    assert resolver().resolve(Labels({"release": "shop-primary"})).track is Track.NONE


def test_without_anything_there_is_no_track_whatever_the_version_says():
    for environ, found in product(
        ({}, {"APP_VERSION": "1.2.0-canary"}), (NO_LABELS, labels(version="canary"))
    ):
        resolved = resolver(environ).resolve(found)
        assert (resolved.track, resolved.source) == (Track.NONE, "")


def test_the_looks_tell_where_and_why():
    looks = {look.source: look for look in resolver({"POD_NAME": "shop-1"}).looks(labels(role="web"))}
    assert "is no track; use one of" in looks["label role in /etc/podinfo/labels"].reason
    assert not looks["pod name 'shop-1'"].value
    (missing, *_) = resolver().looks(NO_LABELS)
    assert missing.reason == "there is no such file"
    (broken, *_) = resolver().looks(parse_labels('track="'))
    assert "line 1" in broken.reason
    (_, wrong, *_) = TrackResolver.of(Settings(), {"ROLLOUTOBS_TRACK": "blue"}).looks(NO_LABELS)
    assert "use one of" in wrong.reason


def test_the_suffix_is_taken_off():
    assert without_primary("shop-primary") == "shop"
    assert without_primary("shop") == "shop"
    assert without_primary("-primary") == "-primary"
