"""Which exceptions were counted already: a mark on the exception itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import CodeType
from typing import Final

__all__ = ["counted", "mark"]

_ATTRIBUTE: Final = "_rolloutobs_counted"
_NOWHERE: Final = 0
"""Number of no traceback."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """That an exception was counted, and where it was by then. Tracebacks are known by number: a reference to
    one would keep all its frames alive, after the app has cleared it.
    """

    fingerprint: str
    trace: int
    """Of the request; 0: none, or not known."""
    by_boundary: bool
    """Counted as it left a request or an operation, and not by a log record inside."""
    head: int
    length: int
    """Outermost entry of the traceback, and how many there were."""
    end: int
    """First entry, from outside, of an earlier time that the same object was raised."""

    def __reduce__(self) -> tuple[type[tuple[()]], tuple[()]]:
        # An exception that is pickled for another process must not need this package there.
        return tuple, ()


def mark(error: BaseException, fingerprint: str, trace: int, *, by_boundary: bool) -> None:
    """Remember that `error` was counted.

    Args:
        error: changed by one attribute.
        fingerprint: under which.
        trace: id of the request's trace; 0: none, or not known.
        by_boundary: whether it has left a request or an operation, and not only been logged inside.
    """
    entries = _entries(error)
    before = _found(error)
    head = entries[0][0] if entries else _NOWHERE
    end = _NOWHERE if before is None else before.head
    # Not by setattr: exceptions that are frozen dataclasses refuse it.
    error.__dict__[_ATTRIBUTE] = _Mark(fingerprint, trace, by_boundary, head, len(entries), end)


def _found(error: BaseException) -> _Mark | None:
    found = error.__dict__.get(_ATTRIBUTE)
    return found if isinstance(found, _Mark) else None


def _entries(error: BaseException) -> list[tuple[int, CodeType]]:
    """Return number and code of each entry of the traceback, outermost first."""
    entries = []
    traceback = error.__traceback__
    while traceback is not None:
        entries.append((id(traceback), traceback.tb_frame.f_code))
        traceback = traceback.tb_next
    return entries


def counted(error: BaseException, trace: int, *, by_boundary: bool) -> str:
    """Return the fingerprint under which `error` was counted in this request; empty: it was not.

    One object may be the error of many requests: a constant of a module, the result of a future that several
    wait for. Their traces tell them apart, and where there are none, the traceback does. The arguments are
    those of `mark`.
    """
    before = _found(error)
    if before is None:
        return ""
    if trace and before.trace:
        return before.fingerprint if trace == before.trace else ""
    if not before.trace:
        entries = _entries(error)
        if _is_raised_again(entries, before, by_boundary=by_boundary):
            return ""
        if entries:
            # Seen further out, so that a later time is told from this one there.
            error.__dict__[_ATTRIBUTE] = replace(
                before,
                head=entries[0][0],
                length=len(entries),
                by_boundary=before.by_boundary or by_boundary,
            )
    return before.fingerprint


def _is_raised_again(entries: list[tuple[int, CodeType]], before: _Mark, *, by_boundary: bool) -> bool:
    """Return whether an exception with this traceback was raised anew since it was marked.

    A traceback grows at its outer end, both while an exception goes up and when the same object is raised
    again; but the first does not go through one function twice. (Recursion does: then one too many is
    counted.)
    """
    if before.head == _NOWHERE:
        return False
    numbers = [number for number, _ in entries]
    if before.head not in numbers:
        return True
    at = numbers.index(before.head)
    if len(entries) - at != before.length:
        # The number of a traceback that is gone, given to another one.
        return True
    if at == 0:
        # One boundary lets an exception through once.
        return by_boundary and before.by_boundary
    end = numbers.index(before.end) if before.end in numbers else len(numbers)
    since = {code for _, code in entries[:at]}
    return any(code in since for _, code in entries[at:end])
