"""Takes secrets out of HAR files and Playwright traces: what journeys asked for, and what is one by its name.

Belongs here: those two formats. Pure.
Source: http://www.softwareishard.com/blog/har-12-spec/
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from rolloutobs.semconv import BAGGAGE_SIGNATURE
from synthetic.redaction import HIDDEN, SENSITIVE, Secrets

__all__ = ["HAR", "scrubbed_har", "scrubbed_trace"]

HAR = "network.har"
"""Name of the file."""
_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_ADDRESSES = frozenset({"location", "content-location", "referer"})
_SIGNED = re.compile(rf"({re.escape(BAGGAGE_SIGNATURE)}=)[^,;]*")
_PICTURES = (".jpeg", ".jpg", ".png", ".webp")


def scrubbed_har(content: bytes, secrets: Secrets) -> bytes:
    """Return a HAR without cookies, credentials, bodies that were sent, and secrets.

    Raises:
        ValueError: it is no JSON.
        KeyError: it is no HAR.
    """
    har = json.loads(content)
    for entry in har["log"]["entries"]:
        _scrub_entry(entry)
    return secrets.clean(json.dumps(har, ensure_ascii=False)).encode()


def scrubbed_trace(content: bytes, secrets: Secrets) -> bytes:
    """Return a Playwright trace without them; where a journey used secrets also without its pictures, on
    which they might be read.

    Raises:
        ValueError: it is no zip file, or its network's log is no JSON.
    """
    out = io.BytesIO()
    try:
        with (
            zipfile.ZipFile(io.BytesIO(content)) as old,
            zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for name in old.namelist():
                if secrets.used and name.endswith(_PICTURES):
                    continue
                data = old.read(name)
                if name.endswith(".network"):
                    data = b"\n".join(map(_scrubbed_line, data.splitlines()))
                new.writestr(name, secrets.clean_bytes(data))
    except zipfile.BadZipFile as problem:
        raise ValueError(f"the trace is no zip file: {problem}") from problem
    return out.getvalue()


def _scrubbed_line(line: bytes) -> bytes:
    if not line.strip():
        return line
    told = json.loads(line)
    if isinstance(told.get("snapshot"), dict):
        _scrub_entry(told["snapshot"])
    return json.dumps(told).encode()


def _scrub_entry(entry: dict[str, Any]) -> None:
    request, response = entry.get("request", {}), entry.get("response", {})
    for message in (request, response):
        for header in message.get("headers", []):
            header["value"] = _header(header["name"].lower(), header["value"])
        for cookie in message.get("cookies", []):
            cookie["value"] = HIDDEN
    for pair in request.get("queryString", []):
        pair["value"] = HIDDEN if SENSITIVE.search(pair["name"]) else pair["value"]
    if "redirectURL" in response:
        response["redirectURL"] = _url(response["redirectURL"])
    if "url" in request:
        request["url"] = _url(request["url"])
    if "postData" in request:
        request["postData"] = {"mimeType": request["postData"].get("mimeType", ""), "text": HIDDEN}


def _header(name: str, value: str) -> str:
    if name in _HEADERS or SENSITIVE.search(name):
        return HIDDEN
    if name in _ADDRESSES:
        return _url(value)
    return _SIGNED.sub(rf"\1{HIDDEN}", value) if name == "baggage" else value


def _url(url: str) -> str:
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    if not any(SENSITIVE.search(name) for name, _ in pairs):
        return url
    kept = [(name, HIDDEN if SENSITIVE.search(name) else value) for name, value in pairs]
    return parts._replace(query=urlencode(kept, safe="[]")).geturl()
