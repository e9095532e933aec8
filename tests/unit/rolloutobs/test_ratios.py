import pytest

from rolloutobs.errors import ConfigurationError
from rolloutobs.identity import Track
from rolloutobs.ratios import Ratios


@pytest.mark.parametrize(
    ("text", "ratios"),
    [
        ("", Ratios(stable=0.1, canary=1.0, baseline=1.0, none=0.1)),
        ("0.05", Ratios(0.05, 0.5, 0.5, 0.05)),
        (" 0.5 ", Ratios(0.5, 1.0, 1.0, 0.5)),
        ("0", Ratios(0.0, 0.0, 0.0, 0.0)),
        ("stable=0.05,canary=0.3", Ratios(0.05, 0.3, 0.3, 0.05)),
        ("canary=0.3", Ratios(0.1, 0.3, 0.3, 0.1)),
        (" Canary = 1 , baseline=0.5, none=0, stable=0.02,", Ratios(0.02, 1.0, 0.5, 0.0)),
    ],
)
def test_what_is_not_said_has_a_default(text, ratios):
    assert Ratios.parse(text, "X") == ratios


@pytest.mark.parametrize(
    "text",
    ["much", "1.1", "-0.1", "nan", "inf", "blue=1", "=1", "stable=", "stable=1,stable=1", "0.1,canary=1",
     "0.1,0.2", "stable=canary=1"],
)  # fmt: skip
def test_nonsense_says_what_to_write(text):
    with pytest.raises(ConfigurationError, match=r"OTEL_TRACES_SAMPLER_ARG is .*'stable=0.05,canary=0.5'"):
        Ratios.parse(text, "OTEL_TRACES_SAMPLER_ARG")


def test_every_track_has_a_ratio():
    ratios = Ratios(0.1, 0.2, 0.3, 0.4)
    found = {track: ratios.of(track) for track in Track}
    assert found == {Track.STABLE: 0.1, Track.CANARY: 0.2, Track.BASELINE: 0.3, Track.NONE: 0.4}
    assert not ratios.uniform
    assert Ratios(0.2, 0.2, 0.2, 0.2).uniform
