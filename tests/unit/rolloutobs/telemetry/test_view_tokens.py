from __future__ import annotations

from base64 import urlsafe_b64decode

from hypothesis import given, settings
from hypothesis import strategies as st

from rolloutobs.telemetry.view_tokens import VIEW_SECONDS, Served, TokenDoubt, TokenReader, mark, seal

NOW = 1_800_000_000.0
words = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=128)


@given(words, words, st.sampled_from(["", "stable", "canary", "baseline"]))
@settings(max_examples=50)
def test_what_is_sealed_can_be_read_with_the_secret(app: str, version: str, track: str) -> None:
    read = TokenReader(["old", "new"]).read(seal("new", app, version, track, NOW), NOW)
    assert isinstance(read, Served)
    assert (read.app, read.version, read.track) == (app, version, track)
    assert read.expires == NOW + VIEW_SECONDS
    assert len(read.id) == 8


def test_no_two_tokens_are_equal_and_none_tells_its_version() -> None:
    tokens = [seal("secret", "shop", "1.2.0", "canary", NOW) for _ in range(100)]
    assert len(set(tokens)) == 100
    for token in tokens:
        assert b"1.2.0" not in urlsafe_b64decode(token + "=" * (-len(token) % 4))
        assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    # Nor by its length.
    assert {len(seal("secret", "shop", version, "", NOW)) for version in ("1", "1.2.0", "1.2.0-rc.1")} == {
        len(tokens[0])
    }


def test_every_change_of_a_token_is_seen() -> None:
    token = seal("secret", "shop", "1.2.0", "canary", NOW)
    reader = TokenReader(["secret"])
    assert isinstance(reader.read(token, NOW), Served)
    for i, old in enumerate(token):
        for new in ("A", "B"):
            if new != old:
                assert reader.read(token[:i] + new + token[i + 1 :], NOW) is TokenDoubt.FORGED
    # Another spelling of the same bytes is another token.
    assert reader.read(token + "=", NOW) is TokenDoubt.FORGED
    assert TokenReader(["another"]).read(token, NOW) is TokenDoubt.FORGED
    assert TokenReader([]).read(token, NOW) is TokenDoubt.FORGED


def test_a_token_is_over_after_its_time_and_not_from_the_future() -> None:
    reader = TokenReader(["secret"])
    token = seal("secret", "shop", "1", "", NOW)
    assert isinstance(reader.read(token, NOW + VIEW_SECONDS - 1), Served)
    late = reader.read(token, NOW + VIEW_SECONDS)
    assert isinstance(late, Served)
    assert late.is_stale
    assert isinstance(reader.read(token, NOW - 299), Served)
    assert reader.read(token, NOW - 301) is TokenDoubt.STALE


@given(st.text(max_size=600))
@settings(max_examples=100)
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert TokenReader(["secret"]).read(text, NOW) in (TokenDoubt.FORGED, TokenDoubt.MISSING)


def test_a_mark_is_told_apart_by_who_has_the_secret_only() -> None:
    reader = TokenReader(["new", "old"])
    canary = reader.read(seal("new", "shop", "1.2.0", "canary", NOW), NOW)
    assert isinstance(canary, Served)
    own = [mark(secret, "1.2.0", "canary") for secret in ("new", "old") for _ in range(50)]
    other = [
        mark("new", *who)
        for who in (("1.1.0", "stable"), ("1.2.0", "stable"), ("1.2.0", ""))
        for _ in range(50)
    ]
    assert all(reader.is_same(each, canary) for each in own)
    assert not any(reader.is_same(each, canary) for each in other)
    assert not any(TokenReader(["another"]).is_same(each, canary) for each in own)
    # Nobody else can sort them: no two are alike, in whole or in part, and all are as long.
    assert len({each[:5] for each in own + other}) == len({each[6:] for each in own + other}) == 250
    assert {len(each) for each in own + other} == {11}


@given(st.text(max_size=40))
def test_any_text_is_no_mark(text: str) -> None:
    assert not TokenReader(["secret"]).is_same(text, Served("shop", "1.2.0", "canary", 0, b"12345678"))
