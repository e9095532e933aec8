import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloutobs.telemetry.signing import Claim, Doubt, Signer, Verifier, sign, sign_synthetic
from rolloutobs.testing import FakeClock

SECRET = "0123456789abcdef"
NOW = 1_800_000_000
CLAIM = Claim("gateway", "1.2.0+build.5", "canary", "test")


def test_the_format_is_a_contract():
    # Computed with `printf ... | openssl dgst -sha256 -hmac 0123456789abcdef -binary | head -c16 | base64`.
    assert sign(SECRET, CLAIM, NOW + 0.9) == "1.1800000000.sr7p2jG5DP_cUg0TRZTqEg"


def test_a_signature_needs_no_encoding_in_baggage():
    for number in range(200):
        assert re.fullmatch(r"1\.\d{10}\.[A-Za-z0-9_-]{22}", sign(SECRET, Claim(str(number)), NOW))


@given(st.tuples(*[st.text("ab.", max_size=2)] * 4), st.tuples(*[st.text("ab.", max_size=2)] * 4))
def test_a_signature_proves_one_claim_only(one, other):
    found = Verifier([SECRET]).check(Claim(*other), sign(SECRET, Claim(*one), NOW), NOW)
    assert found == (NOW + 300 if one == other else Doubt.FORGED)


@pytest.mark.parametrize("age", [-299, 0, 299])
def test_it_counts_for_five_minutes_whichever_clock_is_ahead(age):
    assert Verifier([SECRET]).check(CLAIM, sign(SECRET, CLAIM, NOW), NOW + age) == NOW + 300


@pytest.mark.parametrize("age", [-86400, -300, 300, 86400])
def test_then_it_is_stale(age):
    assert Verifier([SECRET]).check(CLAIM, sign(SECRET, CLAIM, NOW), NOW + age) is Doubt.STALE


def test_a_secret_is_replaced_without_a_gap():
    new, old = "new" + SECRET, "old" + SECRET
    for ours in ([old], [old, new], [new, old], [new]):
        for theirs in ([old], [old, new], [new, old], [new]):
            found = Verifier(theirs).check(CLAIM, sign(ours[0], CLAIM, NOW), NOW)
            assert (found == NOW + 300) is (ours[0] in theirs)


GOOD = sign(SECRET, CLAIM, NOW)


@pytest.mark.parametrize(
    "signature",
    [
        "1", "1.", "..", "x", "2" + GOOD[1:], GOOD[:-1], GOOD + "A", GOOD.upper(), GOOD.replace("18", "١8"),
        "1.99999999999" + GOOD[12:], "1.-1800000000." + GOOD[13:], "1.1800000000.", "1.1800000000.é",
        "1." + "9" * 5000 + ".x", "\ud800",
    ],
)  # fmt: skip
def test_anything_else_is_forged(signature):
    assert Verifier([SECRET]).check(CLAIM, signature, NOW) is Doubt.FORGED


@given(st.text(), st.text(), st.text())
def test_whatever_comes_is_judged(service, version, signature):
    claim = Claim(service, version)
    assert isinstance(Verifier([SECRET]).check(claim, signature, NOW), Doubt)


def test_no_signature_is_another_doubt():
    assert Verifier([SECRET]).check(CLAIM, "", NOW) is Doubt.UNSIGNED


def test_a_signature_is_made_anew_when_it_is_a_tenth_of_its_life_old():
    clock = FakeClock(NOW)
    signer = Signer(SECRET, clock)
    first = signer.signature(CLAIM)
    clock.advance(29)
    assert signer.signature(CLAIM) == first == GOOD
    clock.advance(1)
    assert signer.signature(CLAIM) == sign(SECRET, CLAIM, NOW + 30)
    # A clock that is set back.
    clock.advance(-60)
    assert signer.signature(CLAIM) == sign(SECRET, CLAIM, NOW - 30)


def test_many_claims_do_not_grow_memory():
    signer = Signer(SECRET, FakeClock(NOW))
    for number in range(1000):
        assert signer.signature(Claim(str(number))) == sign(SECRET, Claim(str(number)), NOW)
    assert len(signer._made) <= 64


def test_the_header_of_a_check():
    mark, signature = sign_synthetic(SECRET, NOW).split(",")
    assert mark == "synthetic=test"
    name, _, value = signature.partition("=")
    assert name == "rolloutobs.sig"
    assert Verifier([SECRET]).check(Claim(synthetic="test"), value, NOW) == NOW + 300


def test_a_secret_of_any_characters_signs():
    for secret in ("schlüssel", "\udcff", ""):
        assert Verifier([secret]).check(CLAIM, sign(secret, CLAIM, NOW), NOW) == NOW + 300
