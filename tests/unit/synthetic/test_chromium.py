from __future__ import annotations

import pytest

from rolloutobs.errors import ConfigurationError
from synthetic.chromium import find_chromium
from synthetic.settings import BrowserSettings


def test_a_configured_chromium_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match=r"ROLLOUTOBS_CHROMIUM is .*playwright install chromium"):
        find_chromium(BrowserSettings(chromium=str(tmp_path / "none")))


def test_a_configured_chromium_wins(tmp_path):
    mine = tmp_path / "chromium"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    assert find_chromium(BrowserSettings(chromium=str(mine))) == str(mine)


def test_playwrights_own_comes_last_and_nothing_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("synthetic.chromium._NAMES", ("no-such-browser-anywhere",))
    own = tmp_path / "chrome"
    own.write_text("")
    assert find_chromium(BrowserSettings(), str(own)) == str(own)
    with pytest.raises(ConfigurationError, match="no Chromium was found"):
        find_chromium(BrowserSettings(), str(tmp_path / "gone"))
