from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloutobs.identity import Track
from synthetic.claims import Claim, parse_claim
from synthetic.target import Answer, Proven, Target, origin_of, prove

CANARY = Target("http://shop:80", Track.CANARY, "1.2.0")
ANY_CANARY = Target("http://shop", Track.CANARY)


def answer(said: str = 'version;desc="1.2.0", track;desc="canary"', status: int = 200) -> Answer:
    return Answer("http://shop/", status, parse_claim(said))


@pytest.mark.parametrize(
    ("header", "claim"),
    [
        ("", Claim()),
        ('version;desc="1.2.0", track;desc="canary"', Claim("1.2.0", "canary")),
        ("version;desc=1.2.0,track;desc=canary", Claim("1.2.0", "canary")),
        ('db;dur=53.1, version ; dur=0 ; DESC = "1.2.0"', Claim("1.2.0")),
        ('cache;desc="hit, version;desc=9", version;desc="1.2.0"', Claim("1.2.0")),
        (r'version;desc="a\"b\\c"', Claim('a"b\\c')),
        ('version;desc="1.1.0"\ntrack;desc="stable"', Claim("1.1.0", "stable")),
        ('version;desc="1.1.0", version;desc="1.1.0"', Claim("1.1.0")),
        ('version;desc="1.1.0", version;desc="1.2.0", track;desc="canary"', Claim(None, "canary")),
        ('version;desc="1";desc="2"', Claim("1")),
        ('version;desc="", track', Claim()),
        ('total;dur=3 junk "quoted, comma", version;desc=1', Claim("1")),
        ("versions;desc=1, x-version;desc=2", Claim()),
        ('version;desc="unclosed', Claim()),
    ],
)
def test_claims(header, claim):
    assert parse_claim(header) == claim


@given(st.text(max_size=60))
def test_any_header_gives_a_claim(header):
    parse_claim(header)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_version_comes_back_from_a_quoted_string(version):
    quoted = version.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_claim(f'a;dur=1, version;desc="{quoted}", track;desc=canary') == Claim(version, "canary")


def test_right():
    proof = prove(CANARY, [answer(), answer()])
    assert (proof.proven, proof.version, proof.detail) == (Proven.RIGHT, "1.2.0", "")


def test_the_expected_version_alone_is_proof_where_the_server_knows_no_track():
    assert prove(CANARY, [answer("version;desc=1.2.0")]).proven is Proven.RIGHT


@pytest.mark.parametrize(
    "said", ["version;desc=1.2.0", "track;desc=canary", "version;desc=unknown, track;desc=canary"]
)
def test_without_an_expected_version_both_have_to_be_said(said):
    assert prove(ANY_CANARY, [answer(said)]).proven is Proven.UNKNOWN
    assert prove(ANY_CANARY, [answer()]).version == "1.2.0"


def test_wrong_version_and_wrong_track():
    proof = prove(CANARY, [answer(), answer("version;desc=1.1.0, track;desc=canary")])
    assert (proof.proven, proof.version) == (Proven.WRONG, None)
    assert proof.detail == "version '1.1.0' answered, expected '1.2.0' (http://shop/)"
    proof = prove(ANY_CANARY, [answer("version;desc=1.2.0, track;desc=stable")])
    assert proof.proven is Proven.WRONG
    assert "track 'stable' answered, expected 'canary'" in proof.detail


def test_two_versions_in_one_run_are_wrong_even_if_none_is_expected():
    proof = prove(ANY_CANARY, [answer(), answer("version;desc=1.3.0, track;desc=canary")])
    assert proof.proven is Proven.WRONG
    assert proof.detail == "more than one version answered: 1.2.0, 1.3.0"


def test_one_nameless_answer_makes_a_run_unknown_and_a_wrong_one_is_worse():
    nameless = answer("", 200)
    assert prove(CANARY, [answer(), nameless]).proven is Proven.UNKNOWN
    assert prove(CANARY, [nameless, answer("version;desc=1.1.0")]).proven is Proven.WRONG
    assert prove(CANARY, [answer("", 500)]).proven is Proven.UNKNOWN


def test_a_gateways_own_error_is_silence_not_an_unknown_answer():
    assert prove(CANARY, []).proven is Proven.SILENT
    for status in (502, 503, 504):
        assert prove(CANARY, [answer("", status)]).proven is Proven.SILENT
    assert prove(CANARY, [answer("", 301), answer()]).proven is Proven.RIGHT
    # The app's own 503 says who it is.
    assert prove(CANARY, [answer(status=503)]).proven is Proven.RIGHT
    assert prove(CANARY, [answer("version;desc=1.1.0", 503)]).proven is Proven.WRONG


@given(st.lists(st.sampled_from(["right", "wrong", "nameless", "gateway"]), max_size=6))
def test_more_bad_answers_never_make_a_proof(kinds):
    said = {
        "right": answer(),
        "wrong": answer("version;desc=1.1.0"),
        "nameless": answer(""),
        "gateway": answer("", 502),
    }
    proven = prove(CANARY, [said[kind] for kind in kinds]).proven
    assert (proven is Proven.RIGHT) == ("right" in kinds and not {"wrong", "nameless"} & set(kinds))


def test_origins():
    assert origin_of("HTTP://Shop.Example/a?b") == "http://shop.example:80"
    assert origin_of("https://shop.example:8443/") == "https://shop.example:8443"
    assert origin_of("http://[::1]:80/") == origin_of("http://[::1]/") == "http://[::1]:80"
    assert origin_of("about:blank") == origin_of("data:text/html,x") == origin_of("/path") == ""
    assert CANARY.origin == "http://shop:80"
