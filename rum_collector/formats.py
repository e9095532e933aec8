"""Which parser reads a body, and how its format wants to be answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

from rolloutobs.errors import BeaconError
from rum_collector.beacon import parse_beacon, parse_simple
from rum_collector.faro import parse_faro
from rum_collector.http import MAX_ORIGIN_BYTES, Headers, Response, cors_of
from rum_collector.model import Batch, Beacon
from rum_collector.otlp import parse_logs, parse_metrics, parse_traces
from rum_collector.settings import Settings
from rum_collector.words import BeaconOutcome

__all__ = ["Format", "formats_of"]

Parser = Callable[[bytes], Beacon | Batch]
PROTOBUF: Final = b"application/x-protobuf"


@dataclass(frozen=True, slots=True)
class Format:
    """One way to say what a browser has seen."""

    parse: Parser
    parse_protobuf: Parser | None = None
    """Where the content type says protobuf."""
    status: int = 204
    body: bytes = b""
    """Of an answer to JSON; the one to protobuf is empty, which is the message without fields."""

    def read(self, body: bytes, headers: Headers) -> Beacon | Batch:
        """Return what is in a body.

        Raises:
            BeaconError: it cannot be used.
        """
        if self.parse_protobuf is not None and _is_protobuf(headers):
            return self.parse_protobuf(body)
        return self.parse(body)

    def answer(self, headers: Headers) -> Response:
        """Return the answer to one that was counted."""
        origin = headers.get(b"origin", b"")[:MAX_ORIGIN_BYTES]
        if not self.body:
            return _answered(self.status, origin)
        if self.parse_protobuf is not None and _is_protobuf(headers):
            return _answered(self.status, origin, PROTOBUF)
        return _answered(self.status, origin, b"application/json", self.body)


# Pages of a few origins post, again and again.
@lru_cache(maxsize=256)
def _answered(status: int, origin: bytes, content_type: bytes = b"", body: bytes = b"") -> Response:
    fields = cors_of(origin)
    if content_type:
        fields[b"content-type"] = content_type
    return Response(status, fields, body)


def _is_protobuf(headers: Headers) -> bool:
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower() == PROTOBUF


def formats_of(settings: Settings) -> dict[str, Format]:
    """Return the format of each path that browsers post to."""
    # Loading protobuf takes 100 ms, and most collectors never see any.
    return {
        settings.beacon_path: Format(_any_beacon),
        settings.simple_path: Format(_any_simple),
        settings.faro_path: Format(parse_faro, status=202),
        f"{settings.otlp_path}/logs": Format(parse_logs, _protobuf("logs"), 200, b"{}"),
        f"{settings.otlp_path}/traces": Format(parse_traces, _protobuf("traces"), 200, b"{}"),
        f"{settings.otlp_path}/metrics": Format(parse_metrics, _protobuf("metrics"), 200, b"{}"),
    }


def _protobuf(signal: str) -> Parser:
    def parse(body: bytes) -> Batch:
        from rum_collector import otlp_protobuf

        parser: Callable[[bytes], Batch] = getattr(otlp_protobuf, f"parse_protobuf_{signal}")
        return parser(body)

    return parse


def _any_beacon(body: bytes) -> Beacon | Batch:
    try:
        return parse_beacon(body)
    except BeaconError as error:
        return _otherwise(body, parse_beacon, error)


def _any_simple(body: bytes) -> Beacon | Batch:
    try:
        return parse_simple(body)
    except BeaconError as error:
        return _otherwise(body, parse_simple, error)


_KEYS: Final[tuple[tuple[str, Parser], ...]] = (
    ("pv", parse_beacon),
    ("metric", parse_simple),
    ("meta", parse_faro),
    ("resourceLogs", parse_logs),
    ("resourceSpans", parse_traces),
    ("resourceMetrics", parse_metrics),
)
"""The key that each format cannot do without."""
_TOP: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _otherwise(body: bytes, tried: Parser, error: BeaconError) -> Beacon | Batch:
    """Return a body of another format than its path's, so that one path is enough for all of them.

    Raises:
        BeaconError: the first one, where it is of no other format.
    """
    if error.reason != BeaconOutcome.INVALID:
        raise error
    try:
        keys = _TOP.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise error from None
    for key, parse in _KEYS:
        if key in keys:
            if parse is tried:
                break
            return parse(body)
    raise error
