"""The network's log of a walk without a browser, as the HAR that browsers write: no bodies, no secrets.

Belongs here: that format. Pure; who sends is `synthetic._http`.
Source: http://www.softwareishard.com/blog/har-12-spec/
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from synthetic.redaction import Secrets
from synthetic.scrubbing import scrubbed_har

__all__ = ["Call", "har_of"]

Headers = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Call:
    """One request, and what came of it so far."""

    method: str
    url: str
    headers: Headers
    started: float
    """Unix seconds."""
    seconds: float = 0.0
    """Until the answer's headers were there."""
    status: int = 0
    """0: no answer came."""
    answer_headers: Headers = ()
    version: str = ""
    """Of HTTP, e.g. ``"HTTP/1.1"``."""


def har_of(calls: Iterable[Call], secrets: Secrets) -> bytes:
    """Return a HAR 1.2 of calls in the order in which they were sent, without secrets."""
    log = {
        "version": "1.2",
        "creator": {"name": "rolloutobs-synthetic", "version": ""},
        "entries": [_entry(call) for call in calls],
    }
    return scrubbed_har(json.dumps({"log": log}).encode(), secrets)


def _entry(call: Call) -> dict[str, Any]:
    waited = round(call.seconds * 1000, 3)
    answered = dict(call.answer_headers)
    query = parse_qsl(urlsplit(call.url).query, keep_blank_values=True)
    return {
        "startedDateTime": datetime.fromtimestamp(call.started, UTC).isoformat(),
        "time": waited,
        "request": {
            "method": call.method,
            "url": call.url,
            "queryString": _named(query),
            **_message(call, call.headers),
        },
        "response": {
            "status": call.status,
            "statusText": "" if call.status else "no answer",
            "content": {"size": -1, "mimeType": answered.get("content-type", "")},
            "redirectURL": answered.get("location", ""),
            **_message(call, call.answer_headers),
        },
        "cache": {},
        "timings": {"send": 0, "wait": waited, "receive": 0},
    }


def _message(call: Call, headers: Headers) -> dict[str, Any]:
    # Cookies are among the headers, where they are hidden.
    sizes = {"headersSize": -1, "bodySize": -1}
    return {"httpVersion": call.version, "cookies": [], "headers": _named(headers), **sizes}


def _named(pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]
