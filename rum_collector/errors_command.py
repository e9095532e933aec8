"""``rolloutobs rum errors``: which JavaScript errors a version has, and which are new in it."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from rolloutobs import semconv
from rolloutobs.errors import ConfigurationError, SourceError
from rolloutobs.identity import Track

__all__ = ["ErrorLine", "Seen", "add_parser", "lines_of", "read"]

GOOD: Final = 0
BAD: Final = 1
UNDECIDED: Final = 3
_SEEN: Final = "seen before"
_NEW: Final = "NEW"


@dataclass(slots=True)
class ErrorLine:
    """One error of the versions that were asked for."""

    fingerprint: str
    versions: list[str]
    new: bool
    """Whether no other version has had it."""
    count: float
    """Times it was thrown in those versions."""
    message: str
    location: str


@dataclass(slots=True)
class Seen:
    """What a collector has counted, of one app."""

    errors: dict[tuple[str, str], float] = field(default_factory=dict)
    """Times thrown, by version and fingerprint."""
    views: dict[tuple[str, str], float] = field(default_factory=dict)
    """Page views, by version and track."""
    messages: dict[str, str] = field(default_factory=dict)
    locations: dict[tuple[str, str], str] = field(default_factory=dict)

    def versions(self, track: Track | None, version: str) -> set[str]:
        """Return the versions asked for: the one that is named, or those that the track has served.

        What was a canary and is stable by now is none any more, where there is another one.
        """
        if version:
            return {version}
        served = {served for served, found in self.views if track is None or found == track.value}
        if track is not Track.CANARY:
            return served
        return served - {served for served, found in self.views if found == Track.STABLE.value} or served


def read(exposition: str, app: str) -> Seen:
    """Return what the ``/metrics`` of a collector says of `app` (empty: of all of them); users only."""
    seen = Seen()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels = sample.labels
            if (app and labels.get(semconv.LABEL_APP) != app) or labels.get(semconv.LABEL_SYNTHETIC):
                continue
            version = labels.get(semconv.LABEL_VERSION, "")
            fingerprint = labels.get(semconv.LABEL_FINGERPRINT, "")
            if sample.name == semconv.RUM_JS_ERRORS_TOTAL and fingerprint:
                key = version, fingerprint
                seen.errors[key] = seen.errors.get(key, 0.0) + sample.value
            elif sample.name == semconv.RUM_PAGE_VIEWS_TOTAL:
                key = version, labels.get(semconv.LABEL_TRACK, "")
                seen.views[key] = seen.views.get(key, 0.0) + sample.value
            elif sample.name == semconv.RUM_JS_ERROR_INFO:
                seen.messages[fingerprint] = labels.get(semconv.LABEL_MESSAGE, "")
            elif sample.name == semconv.RUM_JS_ERROR_LOCATION_INFO:
                seen.locations[version, fingerprint] = labels.get(semconv.LABEL_LOCATION, "")
    return seen


def lines_of(seen: Seen, versions: Iterable[str]) -> list[ErrorLine]:
    """Return the errors of `versions`: new ones first, then the most frequent."""
    asked = set(versions)
    lines: dict[str, ErrorLine] = {}
    for (version, fingerprint), count in sorted(seen.errors.items()):
        if version not in asked or not count:
            continue
        line = lines.setdefault(
            fingerprint,
            ErrorLine(fingerprint, [], False, 0.0, seen.messages.get(fingerprint, "further errors"), ""),
        )
        line.versions.append(version)
        line.count += count
        line.location = line.location or seen.locations.get((version, fingerprint), "")
    elsewhere = {version for (version, _), n in seen.views.items() if version not in asked and n}
    others = {fingerprint for (version, fingerprint), n in seen.errors.items() if version not in asked and n}
    for line in lines.values():
        # Nothing is new where nobody has seen another version, and what is only counted together cannot be
        # told to be.
        known = line.fingerprint in others or line.fingerprint == semconv.RUM_OTHER
        line.new = bool(elsewhere) and not known
    return sorted(lines.values(), key=lambda line: (not line.new, -line.count, line.fingerprint))


def add_parser(subparsers: Any) -> None:
    """Add ``rum errors``."""
    parser = subparsers.add_parser("rum", help="real users: which errors a version has")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    errors = commands.add_parser(
        "errors",
        help="JavaScript errors by version; those that are new in it first",
        description="Lists the JavaScript errors that real users had, and says which are new in a version.",
        epilog="exit codes: 0 no new error, 1 new errors, 2 no collector there, 3 nobody was there yet",
    )
    errors.add_argument("--url", default="http://127.0.0.1:8320", help="the collector (default: %(default)s)")
    errors.add_argument("--app", default="", help="which app (default: all)")
    which = errors.add_mutually_exclusive_group()
    which.add_argument("--canary", action="store_true", help="what the canary track serves")
    which.add_argument("--version", dest="wanted", default="", metavar="V", help="one version")
    errors.add_argument("--json", action="store_true", help="as JSON")
    errors.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    url = str(arguments.url).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"--url is {arguments.url!r}; use http:// or https://")
    seen = read(asyncio.run(_scrape(f"{url.removesuffix('/metrics')}/metrics")), arguments.app)
    track = Track.CANARY if arguments.canary else None
    versions = seen.versions(track, arguments.wanted)
    lines = lines_of(seen, versions)
    views = sum(n for (version, _), n in seen.views.items() if version in versions)
    if arguments.json:
        shown = {"versions": sorted(versions), "views": views, "errors": [asdict(line) for line in lines]}
        print(json.dumps(shown, indent=2))
    else:
        print("\n".join(_text(lines, sorted(versions), views) if views or lines else [_nobody(seen)]))
    if not views and not lines:
        return UNDECIDED
    asks_for_one = bool(track or arguments.wanted)
    return BAD if asks_for_one and any(line.new for line in lines) else GOOD


async def _scrape(url: str) -> str:
    from rum_collector._http import Client, Unreachable

    async with Client() as client:
        try:
            return await client.get_text(url)
        except Unreachable as problem:
            raise SourceError(str(problem)) from None


def _text(lines: list[ErrorLine], versions: list[str], views: float) -> list[str]:
    kinds = "1 error" if len(lines) == 1 else f"{len(lines)} different errors"
    head = f"{', '.join(versions)}: {views:.0f} page view{'' if views == 1 else 's'}, {kinds}"
    rows = [
        f"{_NEW if line.new else _SEEN:<12}{line.count:>8.0f}  {line.fingerprint:<24}  {line.message}"
        + (f"  at {line.location}" if line.location else "")
        for line in lines
    ]
    return [head, *rows]


def _nobody(seen: Seen) -> str:
    there = sorted({f"{version} ({track})" if track else version for version, track in seen.views})
    return f"nobody has seen that version yet; seen were: {', '.join(there) or 'none'}"
