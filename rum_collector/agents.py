"""What the header User-Agent tells: a class of device, and crawlers; pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from rum_collector.words import Device

__all__ = ["MAX_AGENT_BYTES", "MAX_HINT_BYTES", "Agent", "agent_of", "device_of", "is_bot"]

MAX_AGENT_BYTES: Final = 1024
"""How much of the header is looked at: apps that show pages in themselves add some hundred bytes."""
MAX_HINT_BYTES: Final = 8
"""How much of the hint is looked at; it has two bytes."""

# Words that crawlers, link previews and HTTP clients name themselves with. Source: the isbot package's list,
# reduced to its general words; a browser that a program drives says so by navigator.webdriver.
_BOT: Final = re.compile(
    # CUBOT makes telephones.
    r"(?<!cu)bot\b|crawl|spider|slurp|preview|scraper|monitor(?:ing)?\b|lighthouse|pagespeed|ptst|"
    r"facebookexternalhit|phantomjs|^curl/|^wget/|python-requests|go-http-client|okhttp|^java/|headlesschecker",
    re.IGNORECASE,
)


def device_of(user_agent: str, mobile_hint: str = "") -> Device:
    """Return the class of device from the headers User-Agent and Sec-CH-UA-Mobile (``?1`` or ``?0``).

    A tablet that asks for desktop sites counts as a desktop. No user agent gives ``UNKNOWN``.
    Source: https://developer.mozilla.org/docs/Web/HTTP/Browser_detection_using_the_user_agent ("Mobi").
    """
    if not user_agent:
        return Device.UNKNOWN
    if mobile_hint == "?1" or "Mobi" in user_agent:
        return Device.TABLET if "iPad" in user_agent else Device.MOBILE
    if any(word in user_agent for word in ("iPad", "Tablet", "Android")):
        return Device.TABLET
    return Device.DESKTOP


class Agent(NamedTuple):
    """What is left of a user agent."""

    device: Device
    is_bot: bool


# The same few come again and again.
@lru_cache(maxsize=1024)
def agent_of(user_agent: bytes, mobile_hint: bytes) -> Agent:
    """Return what the headers User-Agent and Sec-CH-UA-Mobile tell; cut off, for they are kept."""
    text = user_agent.decode("latin-1")
    return Agent(device_of(text, mobile_hint.decode("latin-1")), is_bot(text))


def is_bot(user_agent: str) -> bool:
    """Return whether a user agent says that no person looks at the page."""
    return _BOT.search(user_agent[:512]) is not None
