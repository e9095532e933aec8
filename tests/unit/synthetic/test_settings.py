from __future__ import annotations

import pytest

from rolloutobs.errors import ConfigurationError
from synthetic.settings import (
    BrowserSettings,
    parse_base_url,
    parse_duration,
    parse_listen,
    parse_patience,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("5s", 5.0), ("1.5s", 1.5), ("2m", 120.0), ("1h", 3600.0), (" 3s ", 3.0)],
)
def test_durations(text, seconds):
    assert parse_duration(text, "--every") == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "0s", "-1s", "5 s", "1d", "1e3s", "5s5s", "nan"])
def test_what_is_no_duration_says_what_to_write(text):
    with pytest.raises(ConfigurationError, match=r"--every is .*; use a number with a unit"):
        parse_duration(text, "--every")


def test_a_patience_may_be_none_at_all():
    assert [parse_patience(text, "--last-scrape") for text in ("0", "0s", "2m")] == [0.0, 0.0, 120.0]
    with pytest.raises(ConfigurationError, match="--last-scrape is 'soon'"):
        parse_patience("soon", "--last-scrape")


def test_listen_addresses():
    assert parse_listen("127.0.0.1:9300", "--listen") == ("127.0.0.1", 9300)
    assert parse_listen(":0", "--listen") == ("0.0.0.0", 0)
    assert parse_listen("[::1]:80", "--listen") == ("::1", 80)


@pytest.mark.parametrize("text", ["", "9300", "host:", "host:http", "host:65536", "host:-1"])
def test_what_is_no_address(text):
    with pytest.raises(ConfigurationError, match="use HOST:PORT"):
        parse_listen(text, "--listen")


def test_an_address_with_a_password_is_refused_without_showing_it():
    with pytest.raises(ConfigurationError, match="--canary has a user's name in it") as refused:
        parse_base_url("https://me:hunter2@shop.example", "--canary")
    assert "hunter2" not in str(refused.value)


def test_base_urls_lose_what_is_no_base():
    assert parse_base_url("http://127.0.0.1:8002/", "--canary") == "http://127.0.0.1:8002"
    assert parse_base_url(" https://shop.example/eu/?a=1#b ", "--canary") == "https://shop.example/eu"


@pytest.mark.parametrize(
    "text", ["", "localhost:80", "//shop", "ftp://shop", "http://", "http://shop:99999", "http://h:0"]
)
def test_what_is_no_base_url(text):
    with pytest.raises(ConfigurationError, match=r"--canary is .*; use an absolute URL"):
        parse_base_url(text, "--canary")


def test_browser_settings_from_the_environment():
    assert BrowserSettings.from_env({}) == BrowserSettings(chromium=None, no_sandbox=None)
    given = {"ROLLOUTOBS_CHROMIUM": "/opt/c", "ROLLOUTOBS_CHROMIUM_NO_SANDBOX": "1"}
    assert BrowserSettings.from_env(given) == BrowserSettings(chromium="/opt/c", no_sandbox=True)
    assert BrowserSettings.from_env({"ROLLOUTOBS_CHROMIUM_NO_SANDBOX": "0"}).no_sandbox is False
    assert BrowserSettings.from_env({"ROLLOUTOBS_SECRET": "new, old"}).secret == ("new", "old")
    with pytest.raises(ConfigurationError, match="ROLLOUTOBS_CHROMIUM_NO_SANDBOX is 'yes'"):
        BrowserSettings.from_env({"ROLLOUTOBS_CHROMIUM_NO_SANDBOX": "yes"})
