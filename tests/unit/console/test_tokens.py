"""Who is let in."""

import base64

import pytest

from rolloutobs.console.failures import Failures
from rolloutobs.console.tokens import Tokens
from rolloutobs.errors import ConfigurationError

ONE, TWO = "the-first-token-0001", "the-second-token-002"


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_tokens_of_both_places_and_kinds(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# this week's\n{ONE}  # until Friday\n\n")
    tokens = Tokens([TWO], [path])
    for good in (f"Bearer {ONE}", f"bearer  {TWO}", basic("flagger", ONE), basic("", TWO)):
        assert tokens.accept(good), good
    wrong = ("", ONE, "Bearer", "Bearer ", f"Bearer {ONE[:-1]}", f"Bearer {ONE} x", f"Digest {ONE}")
    for bad in (*wrong, basic(ONE, ""), "Basic ***", "Basic /w==", f"Bearer {ONE}é"):
        assert not tokens.accept(bad), bad


def test_a_file_is_read_again_and_one_that_cannot_be_locks_nobody_out(tmp_path):
    path, failures = tmp_path / "tokens", Failures()
    path.write_text(ONE)
    tokens = Tokens((), [path], failures)
    fresh = tmp_path / "fresh"
    fresh.write_text(f"{ONE}\n{TWO}\n")
    fresh.replace(path)
    assert tokens.accept(f"Bearer {TWO}")
    path.unlink()
    assert tokens.accept(f"Bearer {TWO}")
    assert "No such file" in tokens.failed
    path.write_text("short")
    assert tokens.accept(f"Bearer {TWO}")
    assert tokens.failed == f"a token in {path} has 5 characters; use 16 or more"
    assert failures.totals()["tokens"] == 2
    path.write_text(TWO)
    assert not tokens.accept(f"Bearer {ONE}")
    assert tokens.failed == ""


def test_what_cannot_be_used_is_refused_at_the_start(tmp_path):
    (tmp_path / "none").write_text("# nobody\n")
    assert not Tokens()
    for files, fixed, message in (
        ([tmp_path / "none"], (), "there is no token in"),
        ([tmp_path / "nowhere"], (), "cannot be read"),
        ([], ("short",), "a token in the environment has 5 characters"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            Tokens(fixed, files)
