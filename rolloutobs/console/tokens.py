"""Who is let in: a bearer token, or the same token as the password of basic authentication.

Flagger's webhooks have no headers, but their address may have a user and a password
(``http://flagger:TOKEN@rolloutobs-serve:9400/flagger/rollback``); browsers ask for both.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rolloutobs.console.failures import Failures
from rolloutobs.errors import ConfigurationError

__all__ = ["Tokens"]

_SHORTEST: Final = 16
"""Characters of a token: 64 bits in hexadecimal. Source: NIST SP 800-63B (2017), 7.1, secrets of sessions."""


class Tokens:
    """Every token that is accepted now; files are read again when they change.

    Args:
        fixed: tokens that do not change (the environment).
        files: each with one token a line; ``#`` begins a comment.
        failures: counts.

    Raises:
        ConfigurationError: a file cannot be read, or a token is too short.
    """

    def __init__(
        self, fixed: Sequence[str] = (), files: Sequence[Path] = (), failures: Failures | None = None
    ) -> None:
        self._fixed = tuple(_checked(token, "the environment") for token in fixed)
        self._files = tuple(files)
        self._failures = failures or Failures()
        self._known: dict[Path, tuple[object, tuple[bytes, ...]]] = {}
        self.failed = ""
        """Why a file could not be read again; empty: it could."""
        for path in self._files:
            self._known[path] = _read(path)
        if self._files and not self._fixed and not any(tokens for _, tokens in self._known.values()):
            raise ConfigurationError(f"there is no token in {', '.join(map(str, self._files))}")

    def __bool__(self) -> bool:
        return bool(self._fixed or self._files)

    def accept(self, authorization: str) -> bool:
        """Tell whether the header ``Authorization`` carries a token, in a time that does not depend on
        which."""
        given = hashlib.sha256(_presented(authorization).encode()).digest()
        found = False
        for token in self._all():
            found |= hmac.compare_digest(given, token)
        return found

    def _all(self) -> Sequence[bytes]:
        self._reread()
        return (*self._fixed, *(token for _, tokens in self._known.values() for token in tokens))

    def _reread(self) -> None:
        self.failed = ""
        for path in self._files:
            try:
                if _version(path) != self._known[path][0]:
                    self._known[path] = _read(path)
            except (OSError, ConfigurationError) as error:
                # The tokens from before go on: a volume that is being changed locks nobody out.
                self.failed = str(error)
                self._failures.count("tokens")


def _version(path: Path) -> object:
    status = path.stat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: Path) -> tuple[object, tuple[bytes, ...]]:
    try:
        version = _version(path)
        lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the tokens in {str(path)!r} cannot be read: {error}") from None
    return version, tuple(_checked(line, str(path)) for line in lines if line)


def _checked(token: str, where: str) -> bytes:
    if len(token) < _SHORTEST:
        raise ConfigurationError(f"a token in {where} has {len(token)} characters; use {_SHORTEST} or more")
    return hashlib.sha256(token.encode()).digest()


def _presented(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
