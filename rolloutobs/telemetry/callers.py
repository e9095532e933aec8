"""Who called, in the context of the request that they called.

The server span says it anyway; here it is for what else happens in the request, such as a log record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.context import Context, create_key, get_current, set_value

from rolloutobs.telemetry.current import LIVE_KEY

if TYPE_CHECKING:
    from rolloutobs.telemetry.propagation import Caller

__all__ = ["caller_of", "of_this_request", "with_caller"]

_CALLER_KEY = create_key("rolloutobs-caller")


def with_caller(caller: Caller, context: Context) -> Context:
    """Return `context` of a request that `caller` has made."""
    return set_value(_CALLER_KEY, caller, context)


def caller_of(context: Context) -> Caller | None:
    """Return who made the request of `context`; ``None``: nobody who says so, or no request."""
    found: Caller | None = context.get(_CALLER_KEY)  # type: ignore[assignment]
    return found


def of_this_request(extracted: Context) -> Context:
    """Return `extracted` with what the running request is known by: whose it is, and who called.

    Whoever else traces here reads the headers once more, into a context of their own.
    """
    running = get_current()
    known = {key: running[key] for key in (LIVE_KEY, _CALLER_KEY) if key in running}
    return Context({**extracted, **known}) if known else extracted
