"""Measures web vitals of the pages of one walk with the browser's own PerformanceObserver.

Belongs here: the script that runs in pages, and what it tells. What the numbers mean is `synthetic.vitals`.
The script of `rum_collector` is the app's own and sends beacons as the app wants them; this one tells the
check alone, in apps without it, too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from synthetic.journey import first_line
from synthetic.target import origin_of
from synthetic.vitals import PageVitals, Vital

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext

__all__ = ["Measuring"]

log = logging.getLogger(__name__)

_LAST_SECONDS = 3.0
"""Longest wait for the last frame of a page; one that hangs has told what it had."""
_TELL = "__rolloutobs_vitals"
_LAST = "__rolloutobs_last_vitals"
_MAX_PAGES = 100
# Definitions: https://web.dev/articles/lcp (until the first input, which the browser sees to), /fcp, /ttfb,
# /cls (windows of at most 5 s, gaps of less than 1 s) and /inp (the worst interaction but one of each 50).
# Events below 40 ms are not reported, as in Google's web-vitals 5; the first input always is.
_SCRIPT = """(() => {
  if (window.top !== window || !location.protocol.startsWith('http') || !window.__rolloutobs_vitals) return;
  const seen = {};
  const shifts = {value: 0, first: 0, last: 0};
  const interactions = new Map();
  const handlers = {
    'paint': (entry) => {
      if (entry.name === 'first-contentful-paint') seen.fcp = entry.startTime / 1000;
    },
    'largest-contentful-paint': (entry) => { seen.lcp = entry.startTime / 1000; },
    'layout-shift': (entry) => {
      if (entry.hadRecentInput) return;
      const at = entry.startTime;
      const goes_on = shifts.value && at - shifts.last < 1000 && at - shifts.first < 5000;
      if (!goes_on) { shifts.value = 0; shifts.first = at; }
      shifts.value += entry.value;
      shifts.last = at;
      seen.cls = Math.max(seen.cls, shifts.value);
    },
    'event': (entry) => {
      const id = entry.interactionId || (entry.entryType === 'first-input' && 'first');
      if (!id) return;
      interactions.set(id, Math.max(entry.duration, interactions.get(id) || 0));
      const longest = [...interactions.values()].sort((a, b) => b - a);
      seen.inp = longest[Math.floor(longest.length / 50)] / 1000;
    },
  };
  handlers['first-input'] = handlers.event;
  const tell = () => {
    const navigation = performance.getEntriesByType('navigation')[0];
    if (navigation && navigation.responseStart > 0) seen.ttfb = navigation.responseStart / 1000;
    window.__rolloutobs_vitals([performance.timeOrigin, location.href, seen]).catch(() => {});
  };
  const observers = [];
  for (const [type, handle] of Object.entries(handlers)) {
    if (!PerformanceObserver.supportedEntryTypes.includes(type)) continue;
    if (type === 'layout-shift') seen.cls = 0;
    const take = (entries) => { entries.forEach(handle); if (entries.length) tell(); };
    const observer = new PerformanceObserver((list) => take(list.getEntries()));
    observer.observe({type, buffered: true, durationThreshold: 40});
    observers.push(() => take(observer.takeRecords()));
  }
  window.__rolloutobs_last_vitals = async () => {
    const frame = new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    await Promise.race([frame, new Promise((done) => setTimeout(done, 250))]);
    observers.forEach((take) => take());
    tell();
  };
  tell();
})();"""


class Measuring:
    """The vitals of all documents of one context.

    Args:
        url: of the target; documents of other origins are none of our business.
        step: return the name of the step that is under way.
        clean: takes secrets out of paths.
    """

    def __init__(self, url: str, step: Callable[[], str], clean: Callable[[str], str]) -> None:
        self._origin = origin_of(url)
        self._step = step
        self._clean = clean
        self._pages: dict[tuple[int, float], PageVitals] = {}

    @property
    def pages(self) -> tuple[PageVitals, ...]:
        """What was measured so far, in the order in which the documents were opened."""
        return tuple(self._pages.values())

    async def start(self, context: BrowserContext) -> None:
        """Measure the documents that are opened from now on."""
        await asyncio.gather(context.expose_binding(_TELL, self._take), context.add_init_script(_SCRIPT))

    async def finish(self, context: BrowserContext | None) -> None:
        """Let the pages that are still open tell what they have not told yet."""
        from playwright.async_api import Error

        try:
            async with asyncio.timeout(_LAST_SECONDS):
                pages = [] if context is None else context.pages
                # One that has not loaded anything yet would be waited for.
                for page in [each for each in pages if each.url.startswith("http")]:
                    await page.evaluate(f"window.{_LAST} && window.{_LAST}()")
        except (Error, TimeoutError) as problem:
            log.debug("the last vitals: %s", first_line(problem))

    def _take(self, source: dict[str, Any], told: Any) -> None:
        """Take in what a page tells; a page may tell anything."""
        try:
            opened, url, seen = told
            values = {vital: float(seen[vital]) for vital in Vital if vital in seen}
            key = id(source["page"]), float(opened)
            if origin_of(url) != self._origin:
                return
        except (KeyError, TypeError, ValueError) as problem:
            log.debug("no vitals: %s", problem)
            return
        if key in self._pages:
            self._pages[key] = replace(self._pages[key], values=values)
        elif len(self._pages) < _MAX_PAGES:
            path = "/" + url.split("/", 3)[3] if url.count("/") > 2 else "/"
            path = self._clean(path.partition("?")[0].partition("#")[0])
            self._pages[key] = PageVitals(self._step(), path, values)
