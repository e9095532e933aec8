import pytest

from rolloutobs.detection.image import image_look

DIGEST = "sha256:0123456789ABcdef0123456789abcdef0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("shop:1.2.0", "1.2.0"),
        ("registry:5000/team/shop:1.2.0", "1.2.0"),
        (f"registry:5000/team/shop:1.2.0@{DIGEST}", "1.2.0"),
        (f"registry:5000/team/shop@{DIGEST}", "0123456789ab"),
        (f"shop:latest@{DIGEST}", "0123456789ab"),
        ("ghcr.io/team/shop:2026-11-23.a1b2c3_x", "2026-11-23.a1b2c3_x"),
        (" shop:v1 ", "v1"),
    ],
)
def test_tag_or_digest(image, version):
    look = image_look(image)
    assert (look.value, look.is_usable) == (version, True)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("shop:latest", "another version tomorrow"),
        ("registry:5000/team/shop", "no valid tag"),
        ("shop", "no valid tag"),
        ("shop:1.2 0", "no valid tag"),
        ("shop:.1", "no valid tag"),
        ("shop:" + "x" * 129, "no valid tag"),
        ("shop@sha256:xyz", "no valid tag"),
        ("@", "no valid tag"),
    ],
)
def test_what_names_no_version(image, words):
    look = image_look(image)
    assert not look.is_usable
    assert words in look.reason


def test_no_image_is_nothing():
    assert not image_look("").value
    assert not image_look("").reason
