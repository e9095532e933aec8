"""Asking pods and Prometheus by HTTP, with what a bare install has."""

from __future__ import annotations

import gzip
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Final

from rolloutobs.checkup import cluster, platform
from rolloutobs.checkup.answers import APPS, Row, Rule, matcher_of, rows_of, rules_of
from rolloutobs.checkup.model import Finding
from rolloutobs.errors import ConfigurationError, SourceError
from rolloutobs.manifests.place import FOLDER

__all__ = ["Asker", "address", "of_the_cluster"]

_ACCEPT: Final = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
_MOST_BYTES: Final = 256 * 1024 * 1024
"""Of an answer; 50 times what a large app has."""
_LONGEST_REASON: Final = 64 * 1024
_RULE: Final = re.compile(r"^\s*- (?:record|alert): (\S+)$", re.MULTILINE)


class Asker:
    """Asks, with a token and some patience."""

    def __init__(self, token: str, timeout_seconds: float) -> None:
        self._headers = {"Accept": _ACCEPT, "Accept-Encoding": "gzip"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._timeout = timeout_seconds

    def __call__(self, url: str) -> tuple[str, bytes]:
        """Return content type and body.

        Raises:
            SourceError: there was no answer, or one that is no good.
        """
        request = urllib.request.Request(url, headers=self._headers)  # noqa: S310 - `address` checks the scheme
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310
                body = answer.read(_MOST_BYTES)
                if answer.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                return answer.headers.get("Content-Type", ""), body
        except urllib.error.HTTPError as error:
            hint = "; give --token" if error.code == 401 else ""
            why = _why(error)
            raise SourceError(f"{_plain(url)} answers {error.code} {error.reason}{why}{hint}") from None
        except (OSError, EOFError) as error:
            reason = getattr(error, "reason", None) or error
            # Without its number, as the gate says it.
            told = getattr(reason, "strerror", None) or reason
            raise SourceError(f"{_plain(url)} does not answer: {told}") from None


def _plain(url: str) -> str:
    """Return an address without its query: nobody reads an encoded one."""
    return url.partition("?")[0]


def _why(error: urllib.error.HTTPError) -> str:
    """Return what a Prometheus says about a request that it refuses; empty where it says nothing."""
    try:
        return f": {json.loads(error.read(_LONGEST_REASON))['error']}"
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def address(text: str, path: str) -> str:
    """Return the URL in an address such as ``localhost:8000``, with `path` where it has none.

    Raises:
        ConfigurationError: it is no address.
    """
    url = text if "//" in text else f"http://{text}"
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigurationError(f"{text!r} is no address; use for example localhost:8000")
    return url if parts.path.strip("/") else urllib.parse.urljoin(url, path)


def of_the_cluster(ask: Asker, url: str, app: str) -> list[Finding]:
    """Return what a Prometheus says about its apps, or about one.

    Raises:
        ConfigurationError: no app can be called so, or `url` is no address.
        SourceError: Prometheus does not answer.
    """
    base = address(url, "/").rstrip("/")
    matcher = matcher_of(app)
    answers = {
        name: _rows(ask, base, query.replace(APPS, matcher)) for name, query in cluster.QUERIES.items()
    }
    return [
        *platform.version(_version(ask, base)),
        *cluster.check(answers),
        *platform.clock(answers, time.time()),
        *platform.loaded(_rules(ask, base), _wanted()),
    ]


def _rows(ask: Asker, base: str, query: str) -> list[Row]:
    try:
        return rows_of(_json(ask, f"{base}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
    except ValueError as error:
        raise SourceError(f"{base} is no Prometheus: {error}") from None


def _json(ask: Asker, url: str) -> Any:
    return json.loads(ask(url)[1])


def _version(ask: Asker, base: str) -> str:
    """Return the version of Prometheus; empty where it does not say: others speak its language as well."""
    try:
        return str(_json(ask, f"{base}/api/v1/status/buildinfo")["data"]["version"])
    except (SourceError, ValueError, LookupError, TypeError):
        return ""


def _rules(ask: Asker, base: str) -> list[Rule] | None:
    """Return the rules; ``None`` where the server does not list them, which is a finding."""
    try:
        return rules_of(_json(ask, f"{base}/api/v1/rules"))
    except (SourceError, ValueError):
        return None


def _wanted() -> list[str]:
    return _RULE.findall(
        "".join((FOLDER / "rules" / name).read_text("utf-8") for name in ("recording.yaml", "alerts.yaml"))
    )
