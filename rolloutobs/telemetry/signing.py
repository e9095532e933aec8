"""Signatures over what one service asserts to the next: who calls, and whether the traffic is synthetic.

Baggage has no integrity of its own. With a shared secret each hop adds one entry,
``rolloutobs.sig=1.<unix seconds>.<mac>``. What it proves: a holder of the secret has said exactly this, a few
minutes ago at most. What it does not prove: that the request it came with is the one it was made for; whoever
reads a header may repeat it until it is stale, which is why it goes only where our identity goes
(`rolloutobs.telemetry.hosts`).

Belongs here: the format, and nothing that knows OpenTelemetry or a request.
"""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rolloutobs import semconv

__all__ = ["FRESH_SECONDS", "RENEW_SECONDS", "Claim", "Doubt", "Signer", "Verifier", "sign", "sign_synthetic"]

# Source: RFC 4120 section 3.2.3, allowable clock skew between two hosts.
FRESH_SECONDS = 300
"""A signature counts for so long after its time, and before it: clocks differ both ways."""
RENEW_SECONDS = 30
"""A signature is used for so long before a new one is made: a tenth of what it is good for."""
# Source: RFC 2104 section 5: at least half of the hash, which is 128 bits of SHA-256.
_MAC_BYTES = 16
# The same secret may sign other things; none of them is mistaken for this one.
_DOMAIN = "rolloutobs baggage 1"
_FORMAT = "1"
# Ten digits of seconds last until the year 2286.
_MAX_TIME_DIGITS = 10
_MAX_KEPT = 64


@dataclass(frozen=True, slots=True)
class Claim:
    """What one hop says of itself and of the traffic; what it does not say is the empty string."""

    service: str = ""
    version: str = ""
    track: str = ""
    synthetic: str = ""
    """``test``, or empty."""


class Doubt(StrEnum):
    """Why a claim does not count: the label ``reason``."""

    UNSIGNED = "unsigned"
    """It came without a signature."""
    FORGED = "forged"
    """The signature is not one of our secrets, or of another claim."""
    STALE = "stale"
    """The signature is right and too old, or from too far in the future."""


def sign(secret: str, claim: Claim, now: float) -> str:
    """Return the signature of `claim` at `now` (Unix seconds), safe in baggage as it is."""
    seconds = str(int(now))
    return f"{_FORMAT}.{seconds}.{_mac(secret, claim, seconds)}"


def sign_synthetic(secret: str, now: float) -> str:
    """Return the ``baggage`` header of a synthetic check or load test: its mark, and the signature over it.

    For whatever sends requests without `instrument()`, such as a browser or Locust. It is good for
    `FRESH_SECONDS` after `now` (Unix seconds).
    """
    mark = semconv.BAGGAGE_SYNTHETIC_TEST
    signature = sign(secret, Claim(synthetic=mark), now)
    return f"{semconv.BAGGAGE_SYNTHETIC}={mark},{semconv.BAGGAGE_SIGNATURE}={signature}"


def _mac(secret: str, claim: Claim, seconds: str) -> str:
    # One line each; values with line ends are refused before they get here, at either end.
    lines = (_DOMAIN, seconds, claim.service, claim.version, claim.track, claim.synthetic)
    digest = hmac.digest(secret.encode("utf-8", "surrogateescape"), "\n".join(lines).encode(), "sha256")
    return urlsafe_b64encode(digest[:_MAC_BYTES]).rstrip(b"=").decode("ascii")


class Signer:
    """Signs with one secret; a claim's signature is made anew every `RENEW_SECONDS`, not per request.

    Args:
        secret: shared with whoever verifies.
        clock: Unix time in seconds.
    """

    def __init__(self, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock
        self._made: dict[Claim, tuple[float, str]] = {}

    def signature(self, claim: Claim) -> str:
        """Return a signature of `claim` that is at most `RENEW_SECONDS` old."""
        now = self._clock()
        made = self._made.get(claim)
        # A clock that was set back makes a new one too.
        if made is not None and 0 <= now - made[0] < RENEW_SECONDS:
            return made[1]
        if len(self._made) >= _MAX_KEPT:
            self._made.clear()
        signature = sign(self._secret, claim, now)
        self._made[claim] = now, signature
        return signature


class Verifier:
    """Checks signatures against several secrets, so that a secret can be replaced without a gap.

    Args:
        secrets: all that are accepted; at least one.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets: Sequence[str] = tuple(secrets)

    def check(self, claim: Claim, signature: str, now: float) -> float | Doubt:
        """Return until when (Unix seconds) `signature` proves `claim`, or why it does not at `now`.

        Never raises, whatever `claim` and `signature` are.
        """
        if not signature:
            return Doubt.UNSIGNED
        kind, _, rest = signature.partition(".")
        seconds, _, mac = rest.partition(".")
        if kind != _FORMAT or not _is_time(seconds) or not mac.isascii():
            return Doubt.FORGED
        if not any(hmac.compare_digest(_mac(secret, claim, seconds), mac) for secret in self._secrets):
            return Doubt.FORGED
        made = int(seconds)
        return made + FRESH_SECONDS if abs(now - made) < FRESH_SECONDS else Doubt.STALE


def _is_time(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_TIME_DIGITS
