import pytest

from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Identity, Track


@pytest.mark.parametrize(
    ("text", "track"),
    [
        ("canary", Track.CANARY),
        (" Stable\n", Track.STABLE),
        ("BASELINE", Track.BASELINE),
        ("", Track.NONE),
        ("  ", Track.NONE),
    ],
)
def test_track_is_read_without_case_and_blanks(text, track):
    assert Track.parse(text, "ROLLOUTOBS_TRACK") is track


def test_an_unknown_track_says_what_to_use():
    with pytest.raises(
        ConfigurationError, match=r"ROLLOUTOBS_TRACK is 'blue'; use one of 'stable', 'canary'"
    ):
        Track.parse("blue", "ROLLOUTOBS_TRACK")


def test_labels_leave_out_what_is_empty():
    assert Identity("shop", "1.2.0", Track.CANARY).labels == {
        "app": "shop",
        "version": "1.2.0",
        "track": "canary",
    }
    assert Identity("shop", "1.2.0").labels == {"app": "shop", "version": "1.2.0"}
