"""Which parser reads a body, and how its format wants to be answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from rolloutobs.errors import BeaconError
from rum_collector.beacon import parse_beacon, parse_simple
from rum_collector.faro import parse_faro
from rum_collector.model import Batch, Beacon
from rum_collector.otlp import parse_logs, parse_metrics, parse_traces
from rum_collector.settings import Settings
from rum_collector.words import BeaconOutcome

__all__ = ["Format", "formats_of"]

Parser = Callable[[bytes], Beacon | Batch]
PROTOBUF: Final = "application/x-protobuf"
_JSON: Final = b"application/json"


@dataclass(frozen=True, slots=True)
class Format:
    """One way to say what a browser has seen."""

    parse: Parser
    parse_protobuf: Parser | None = None
    """Where the content type says protobuf."""
    status: int = 204
    body: bytes = b""
    """Of an answer to JSON; the one to protobuf is empty, which is the message without fields."""

    def read(self, body: bytes, content_type: str) -> Beacon | Batch:
        """Return what is in a body.

        Raises:
            BeaconError: it cannot be used.
        """
        if self.parse_protobuf is not None and _is_protobuf(content_type):
            return self.parse_protobuf(body)
        return self.parse(body)

    def answer(self, content_type: str) -> tuple[int, dict[bytes, bytes], bytes]:
        """Return status, headers and body for one that was counted."""
        if not self.body:
            return self.status, {}, b""
        if self.parse_protobuf is not None and _is_protobuf(content_type):
            return self.status, {b"content-type": PROTOBUF.encode()}, b""
        return self.status, {b"content-type": _JSON}, self.body


def _is_protobuf(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == PROTOBUF


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
