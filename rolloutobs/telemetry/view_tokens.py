"""View tokens: what a page is given with its document, and what its beacons prove with it.

A token says which app, version and track served one document, and until when that counts. Only who holds the
secret can make or read one: outsiders do not learn which versions are out, and cannot make up views.

A mark goes with every answer, and is smaller: whoever has read the token of a page can tell with it whether
the same version and track have answered. To everybody else no two marks are alike.

What it does not prove: that it is presented for the first time. Whoever counts keeps the ids that were used.

Belongs here: the format, and nothing that knows a request or a beacon.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from struct import Struct

__all__ = ["VIEW_SECONDS", "Served", "TokenDoubt", "TokenReader", "mark", "seal"]

VIEW_SECONDS = 7200
"""How long the beacons of a document count: longer than nearly all visits. A page that stays open for longer
is counted, and proves nothing."""
CLOCK_SKEW_SECONDS = 300
"""By how much the clock of the app may be ahead of the collector's. Source: RFC 4120 section 3.2.3."""
_DOMAIN = b"rolloutobs view 1 "
_HEAD = Struct(">BI8s")
"""Format, expiry (Unix seconds), id."""
_FORMAT = 1
_TAG_BYTES = 16
_BLOCK_BYTES = 32
_MAX_CHARS = 512
_MARK_BYTES = 4
"""Of its random start, and of what is signed of it: a mark of another version is taken for one of the page's
once in 2**32, and as rarely two can be compared by anybody. A page sends several, and is short of room."""
# What `Settings` takes as a service or a version is shorter; the token must never be refused for its length.
_MAX_WORD_BYTES = 128


@dataclass(frozen=True, slots=True)
class Served:
    """Who served a document, and the id that makes its token one of a kind."""

    app: str
    version: str
    track: str
    """Empty where no rollout is known."""
    expires: int
    """Unix seconds."""
    id: bytes
    """Eight random bytes."""
    is_stale: bool = False
    """Whether it is over: it is still true who served the document."""


class TokenDoubt(StrEnum):
    """Why a token proves nothing: the label ``outcome``."""

    MISSING = "missing"
    """There is none."""
    FORGED = "forged"
    """It was not made with one of our secrets."""
    STALE = "stale"
    """It is over, or from too far in the future."""
    USED = "used"
    """Another view was counted with it; or it may have been, and that is forgotten."""


def seal(secret: str, app: str, version: str, track: str, now: float) -> str:
    """Return a new token, safe between the quotes of a header: about 100 characters.

    Args:
        secret: shared with whoever reads it.
        app: service.
        version: what runs.
        track: of it, or empty.
        now: Unix time in seconds.
    """
    head = _HEAD.pack(_FORMAT, int(now) + VIEW_SECONDS, secrets.token_bytes(8))
    words = b"\0".join(word.encode()[:_MAX_WORD_BYTES] for word in (app, version, track))
    plain = head + words
    # To a whole block, so that the length of a version is not told either.
    plain += bytes(-len(plain) % _BLOCK_BYTES)
    signing, hiding, _ = _keys(secret)
    tag = hmac.digest(signing, plain, "sha256")[:_TAG_BYTES]
    return urlsafe_b64encode(tag + _hidden(hiding, tag, plain)).rstrip(b"=").decode("ascii")


def mark(secret: str, version: str, track: str) -> str:
    """Return a new mark of an answer, safe between the quotes of a header: 11 characters.

    Args:
        secret: shared with whoever reads it.
        version: what has answered.
        track: of it, or empty.
    """
    start = secrets.token_bytes(_MARK_BYTES)
    marked = start + _marked(secret, start, version, track)
    return urlsafe_b64encode(marked).rstrip(b"=").decode("ascii")


def _marked(secret: str, start: bytes, version: str, track: str) -> bytes:
    words = b"\0".join(word.encode()[:_MAX_WORD_BYTES] for word in (version, track))
    return hmac.digest(_keys(secret)[2], start + words, "sha256")[:_MARK_BYTES]


# Source of the construction: RFC 5297 (SIV): the tag over the plain text is the start of the key stream. Both
# are HMAC-SHA256 here, with keys of their own.
def _hidden(key: bytes, tag: bytes, text: bytes) -> bytes:
    stream = b"".join(
        hmac.digest(key, tag + bytes([block]), "sha256") for block in range(-(-len(text) // _BLOCK_BYTES))
    )
    mixed = int.from_bytes(text, "big") ^ int.from_bytes(stream[: len(text)], "big")
    return mixed.to_bytes(len(text), "big")


@lru_cache(maxsize=16)
def _keys(secret: str) -> tuple[bytes, bytes, bytes]:
    raw = secret.encode("utf-8", "surrogateescape")
    signing, hiding, marking = (
        hmac.digest(raw, _DOMAIN + use, "sha256") for use in (b"sign", b"hide", b"mark")
    )
    return signing, hiding, marking


class TokenReader:
    """Reads tokens made with any of several secrets, so that a secret can be replaced without a gap.

    Args:
        accepted: all secrets that count.
    """

    def __init__(self, accepted: Iterable[str]) -> None:
        self._secrets = tuple(accepted)

    def read(self, token: str, now: float) -> Served | TokenDoubt:
        """Return what `token` says at `now` (Unix seconds), or why it says nothing. Never raises.

        What is stale is still returned: it no longer counts as evidence, and it is true who served the page.
        """
        if not token:
            return TokenDoubt.MISSING
        sealed = _bytes(token)
        if len(sealed) <= _TAG_BYTES:
            return TokenDoubt.FORGED
        tag, hidden = sealed[:_TAG_BYTES], sealed[_TAG_BYTES:]
        for secret in self._secrets:
            signing, hiding, _ = _keys(secret)
            plain = _hidden(hiding, tag, hidden)
            if hmac.compare_digest(hmac.digest(signing, plain, "sha256")[:_TAG_BYTES], tag):
                return _parsed(plain, now)
        return TokenDoubt.FORGED

    def is_same(self, answer: str, served: Served) -> bool:
        """Return whether the mark `answer` is of the version and track that `served` a page. Never raises."""
        marked = _bytes(answer)
        if len(marked) != 2 * _MARK_BYTES:
            return False
        start, signed = marked[:_MARK_BYTES], marked[_MARK_BYTES:]
        return any(
            hmac.compare_digest(_marked(secret, start, served.version, served.track), signed)
            for secret in self._secrets
        )


def _bytes(token: str) -> bytes:
    if len(token) > _MAX_CHARS or not token.isascii():
        return b""
    try:
        sealed = urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except ValueError:
        return b""
    # One way to write a token only: else the same one would come again in another spelling.
    return sealed if urlsafe_b64encode(sealed).rstrip(b"=").decode("ascii") == token else b""


def _parsed(plain: bytes, now: float) -> Served | TokenDoubt:
    kind, expires, identity = _HEAD.unpack_from(plain)
    words = plain[_HEAD.size :].rstrip(b"\0").split(b"\0")
    if kind != _FORMAT or len(words) > 3:
        return TokenDoubt.FORGED
    if expires > now + VIEW_SECONDS + CLOCK_SKEW_SECONDS:
        return TokenDoubt.STALE
    app, version, track = (word.decode("utf-8", "replace") for word in (*words, b"", b"")[:3])
    return Served(app, version, track, expires, identity, is_stale=expires <= now)
