"""What the header User-Agent tells: a class of device, and crawlers; pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from rum_collector.words import Device

__all__ = ["device_of", "is_bot"]

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


@lru_cache(maxsize=1024)
def is_bot(user_agent: str) -> bool:
    """Return whether a user agent says that no person looks at the page."""
    return _BOT.search(user_agent[:512]) is not None
