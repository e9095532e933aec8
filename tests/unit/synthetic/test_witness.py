from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolloutobs.errors import ConfigurationError
from synthetic.claims import Claim
from synthetic.witness import Witness, WitnessKind, parse_witness

BUILD = 'app_build_info{app="shop",revision="a",version="1.2.0",track="canary"} 1.0\n'


@pytest.mark.parametrize(
    ("text", "witness"),
    [
        ("server-timing", Witness()),
        ("header:X-Version", Witness(WitnessKind.HEADER, "", "x-version")),
        ("header:X-Version, X-Track", Witness(WitnessKind.HEADER, "", "x-version", "x-track")),
        ("metrics:", Witness(WitnessKind.METRICS, "/metrics")),
        ("metrics:/m", Witness(WitnessKind.METRICS, "/m")),
        ("json:/about:build.version,track", Witness(WitnessKind.JSON, "/about", "build.version", "track")),
    ],
)
def test_forms(text, witness):
    assert parse_witness(text) == witness


@pytest.mark.parametrize(
    "text", ["", "body", "header:", "json:/about", "json:about:v", "metrics:m", "server-timing:x"]
)
def test_other_forms_are_refused(text):
    with pytest.raises(ConfigurationError, match="--identity is"):
        parse_witness(text)


def test_claims_from_headers():
    headers = {"x-version": " 1.2.0 ", "x-track": "", "server-timing": "version;desc=9"}
    assert parse_witness("header:X-Version,X-Track").of_headers(headers) == Claim("1.2.0", None)
    assert Witness().of_headers(headers) == Claim("9", None)
    assert parse_witness("metrics:/metrics").of_headers(headers) == Claim()


@pytest.mark.parametrize(
    ("form", "body", "claim"),
    [
        ("json:/v:version", '{"version": "1.2.0"}', Claim("1.2.0")),
        ("json:/v:builds.0.id,track", '{"builds": [{"id": 7}], "track": "canary"}', Claim("7", "canary")),
        ("json:/v:version", '{"version": {"major": 1}}', Claim()),
        ("json:/v:version.major", '{"version": "1"}', Claim()),
        ("json:/v:version", "<html>", Claim()),
        ("metrics:/m", BUILD, Claim("1.2.0", "canary")),
        ("metrics:/m", BUILD + BUILD.replace("canary", "stable"), Claim()),
        ("metrics:/m", "app_build_info{", Claim()),
        ("metrics:/m", "", Claim()),
        ("server-timing", '{"version": "1.2.0"}', Claim()),
    ],
)
def test_claims_from_bodies(form, body, claim):
    assert parse_witness(form).of_body(body) == claim


@given(st.text(max_size=80))
def test_any_body_gives_a_claim(body):
    for form in ("json:/v:a.b,c", "metrics:/m"):
        parse_witness(form).of_body(body)
