"""What was sent along with a message or a call, in the one shape that the extractor reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.propagate import get_global_textmap

__all__ = ["Carrier", "Headers", "picked", "raw_headers"]

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""
Carrier = Mapping[str, Any] | Iterable[tuple[str | bytes, Any]]
"""Headers as clients hand them out: a mapping, or pairs; values that are neither text nor bytes do not
count."""
MAX_HEADERS = 256
"""More than this are not looked at; Kafka and gRPC set no limit of their own on how many there are."""


def raw_headers(carrier: Carrier | None) -> Headers:
    """Return the headers of a message or a call; ``None`` and what is no header give none."""
    if carrier is None:
        return []
    pairs = carrier.items() if isinstance(carrier, Mapping) else carrier
    headers: Headers = []
    for name, value in pairs:
        raw_name, raw_value = _raw(name), _raw(value)
        if raw_name is not None and raw_value is not None:
            headers.append((raw_name.lower(), raw_value))
        if len(headers) >= MAX_HEADERS:
            break
    return headers


def picked(get: Callable[[str], Any]) -> Headers:
    """Return the headers that the global propagator reads, each asked for by name.

    Args:
        get: gives the value of a header, or ``None``.
    """
    return raw_headers((name, get(name)) for name in get_global_textmap().fields)


def _raw(text: Any) -> bytes | None:
    if isinstance(text, str):
        # What a header cannot hold becomes "?", and with that no valid trace or baggage.
        return text.encode("latin-1", "replace")
    return text if isinstance(text, bytes) else None
