"""What a login leaves, to be used by the walks that follow: cookies, what the page stored, an Authorization.

Belongs here: `Session`. Pure; logging in, keeping and renewing is `synthetic.sessions`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Session"]

_MIN_CHARS = 8
"""A shorter cookie (``lang=en``) is a setting, and its value stands in half of all texts."""


@dataclass(frozen=True, slots=True)
class Session:
    """A login, in a form that walks with a browser and without understand."""

    authorization: str = field(default="", repr=False)
    """Value of the header ``Authorization`` of requests to the target's own origin; empty: none."""
    state: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Cookies and local storage in Playwright's form.

    Source: https://playwright.dev/python/docs/api/class-browsercontext#browser-context-storage-state
    """

    @property
    def cookies(self) -> list[dict[str, Any]]:
        """Each with name, value, domain and path."""
        return list(self.state.get("cookies", []))

    def hide(self, hide: Callable[[str], None]) -> None:
        """Tell `hide` each value that has to be in nothing that is kept."""
        stored = [item for origin in self.state.get("origins", []) for item in origin.get("localStorage", [])]
        for item in (*self.cookies, *stored):
            if len(item["value"]) >= _MIN_CHARS:
                hide(item["value"])
