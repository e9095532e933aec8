import pytest

from rolloutobs.detection.looks import Found, Look, first, usable_words


def test_the_first_usable_look_counts_and_later_places_are_not_asked():
    def looks():
        yield Look("a")
        yield Look("b", "x", "is wrong")
        yield Look("c", "y")
        raise AssertionError("asked too far")

    assert first(looks()) == Found("y", "c")


def test_nothing_usable_is_nothing_found():
    assert first([Look("a"), Look("b", "x", "is wrong")]) == Found()


@pytest.mark.parametrize("value", ["a b", 'a"b', "a\\b", "é", "x" * 129, "a\nb"])
def test_values_that_no_signal_can_carry_are_not_usable(value):
    (look,) = usable_words([Look("label version", value)])
    assert not look.is_usable
    assert "printable ASCII" in look.reason


def test_a_reason_that_is_there_stays():
    assert next(usable_words([Look("a", "a b", "is late")])).reason == "is late"
    assert next(usable_words([Look("a", "1.2.0+build.5")])).is_usable
