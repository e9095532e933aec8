"""What a search consists of: places in an order, and what was seen at each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from rolloutobs.errors import ConfigurationError
from rolloutobs.settings import check_word

__all__ = ["Found", "Look", "first", "usable_words"]


@dataclass(frozen=True, slots=True)
class Look:
    """One place where a value was looked for, and what was there."""

    source: str
    """The place, in words that lead a reader to it: ``ROLLOUTOBS_VERSION``, ``label version in /etc/...``."""
    value: str = ""
    """What was there; empty: nothing."""
    reason: str = ""
    """Why it cannot be used; empty: it can, if there is a value."""

    @property
    def is_usable(self) -> bool:
        """Whether there is a value, and nothing speaks against it."""
        return bool(self.value) and not self.reason


@dataclass(frozen=True, slots=True)
class Found:
    """A value and where it comes from; both are empty where nothing was found."""

    value: str = ""
    source: str = ""


def first(looks: Iterable[Look]) -> Found:
    """Return the first usable value; places after it are not looked at."""
    return next((Found(look.value, look.source) for look in looks if look.is_usable), Found())


def usable_words(looks: Iterable[Look]) -> Iterator[Look]:
    """Yield `looks`; one whose value no signal could carry (blanks, quotes, too long) gets the reason."""
    for look in looks:
        try:
            check_word("it", look.value)
        except ConfigurationError as error:
            yield replace(look, reason=look.reason or str(error))
        else:
            yield look
