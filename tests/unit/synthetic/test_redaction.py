from __future__ import annotations

import json
from base64 import b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolloutobs.errors import ConfigurationError
from synthetic.redaction import HIDDEN, Secrets

LETTERS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=4, max_size=20)


def test_a_secret_from_a_variable_and_from_a_file(tmp_path):
    (tmp_path / "pin").write_text("a,b c\n")
    secrets = Secrets({"PASSWORD": "hunter2", "PIN_FILE": str(tmp_path / "pin")})
    assert secrets.clean("hunter2") == "hunter2"
    assert not secrets.used
    assert (secrets.read("PASSWORD"), secrets.read("PIN")) == ("hunter2", "a,b c")
    assert secrets.clean("as hunter2 with a,b c and a%2Cb+c") == f"as {HIDDEN} with {HIDDEN} and {HIDDEN}"
    assert secrets.clean_bytes(b"\xff hunter2 \x00") == b"\xff [secret] \x00"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "at http://s/reset?page=2&reset_token=abc, waiting",
            "at http://s/reset?page=2&reset_token=[secret] waiting",
        ),
        (
            '<a href="/?api-key=k1&amp;x=2#access_token=t">',
            '<a href="/?api-key=[secret]&amp;x=2#access_token=[secret]">',
        ),
        ('{"url":"http://s/?PASSWORD=p%20q"}', '{"url":"http://s/?PASSWORD=[secret]"}'),
        ("http://s/?page=2&sort=name and token=abc", "http://s/?page=2&sort=name and token=abc"),
    ],
)
def test_what_an_address_calls_a_token_is_one_though_no_journey_asked_for_it(text, told):
    secrets = Secrets({})
    assert secrets.clean(text) == told
    assert secrets.clean(told) == told


@pytest.mark.parametrize("environ", [{}, {"PIN": "abc"}, {"PIN_FILE": "/none"}])
def test_no_secret_and_one_too_short_to_be_hidden(environ):
    with pytest.raises(ConfigurationError, match="PIN"):
        Secrets(environ).read("PIN")


@given(LETTERS, st.binary(max_size=7), st.binary(max_size=7))
@settings(max_examples=60)
def test_no_form_of_a_secret_is_left(value, before, after):
    secrets = Secrets({"S": value.rstrip("\r\n") or "fallback"})
    try:
        value = secrets.read("S")
    except ConfigurationError:
        return
    for form in (value, quote(value), quote_plus(value), json.dumps(value), json.dumps({"a": {"b": value}})):
        assert value not in secrets.clean(f"<{form}>") or value in f"<>{HIDDEN}" or value in '{"a": {"b": }}'
        assert HIDDEN in secrets.clean(f"<{form}>")
    if len(value.encode()) >= 6:
        assert HIDDEN in secrets.clean(b64encode(before + value.encode() + after).decode())
