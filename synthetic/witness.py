"""Where answers say who gave them: ``Server-Timing``, a header, the app's ``/metrics``, or a page of JSON.

Belongs here: reading a claim from headers or a body. Pure; asking is `synthetic.browser` and `synthetic.api`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from rolloutobs import semconv
from rolloutobs.errors import ConfigurationError
from synthetic.claims import Claim, parse_claim

__all__ = ["Witness", "WitnessKind", "parse_witness"]

_FORMS = (
    "server-timing, header:VERSION-HEADER[,TRACK-HEADER], metrics:/PATH or "
    "json:/PATH:VERSION.FIELD[,TRACK.FIELD]"
)


class WitnessKind(StrEnum):
    """What is read."""

    SERVER_TIMING = "server-timing"
    HEADER = "header"
    METRICS = "metrics"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Witness:
    """Where version and track stand.

    The first two kinds are on every answer; the others are asked for before and after a journey, with the
    journey's own cookies, headers and query.
    """

    kind: WitnessKind = WitnessKind.SERVER_TIMING
    path: str = ""
    """What is asked for; empty for the kinds that are on every answer."""
    version: str = ""
    """Name of the header, or fields of the JSON joined by dots (numbers count in arrays)."""
    track: str = ""
    """Likewise; empty: only the version is said, and has to be an expected one."""

    def of_headers(self, headers: Mapping[str, str]) -> Claim:
        """Return what the headers of an answer say; names are in lower case."""
        if self.kind is WitnessKind.HEADER:
            return Claim(_said(headers.get(self.version)), _said(headers.get(self.track)))
        if self.kind is WitnessKind.SERVER_TIMING:
            return parse_claim(headers.get("server-timing", ""))
        return Claim()

    def of_body(self, text: str) -> Claim:
        """Return what a body says; one that is not what it should be says nothing."""
        if self.kind is WitnessKind.METRICS:
            return _of_metrics(text)
        if self.kind is not WitnessKind.JSON:
            return Claim()
        try:
            content = json.loads(text)
        except ValueError:
            return Claim()
        return Claim(_said(_field(content, self.version)), _said(_field(content, self.track)))


def parse_witness(text: str) -> Witness:
    """Return the witness that ``--identity`` names.

    Raises:
        ConfigurationError: it has none of the known forms.
    """
    kind, _, rest = text.strip().partition(":")
    try:
        found = WitnessKind(kind)
    except ValueError:
        raise ConfigurationError(f"--identity is {text!r}; use {_FORMS}") from None
    path, fields = "", rest
    if found is WitnessKind.METRICS:
        path, fields = rest or "/metrics", ""
    elif found is WitnessKind.JSON:
        path, _, fields = rest.partition(":")
    version, _, track = (part.strip() for part in fields.partition(","))
    wants_fields = found in (WitnessKind.HEADER, WitnessKind.JSON)
    wants_path = found in (WitnessKind.METRICS, WitnessKind.JSON)
    if wants_fields != bool(version) or wants_path != path.startswith("/"):
        raise ConfigurationError(f"--identity is {text!r}; use {_FORMS}")
    if found is WitnessKind.HEADER:
        version, track = version.lower(), track.lower()
    return Witness(found, path, version, track)


def _said(value: object) -> str | None:
    text = "" if value is None or isinstance(value, dict | list | bool) else str(value).strip()
    return text or None


def _field(content: Any, dotted: str) -> object:
    for name in dotted.split(".") if dotted else ["?"]:
        if isinstance(content, dict):
            content = content.get(name)
        elif isinstance(content, list) and name.isdecimal() and int(name) < len(content):
            content = content[int(name)]
        else:
            return None
    return content


def _of_metrics(text: str) -> Claim:
    """Return version and track of ``app_build_info``; several that differ prove nothing."""
    try:
        found = {
            (sample.labels.get(semconv.LABEL_VERSION, ""), sample.labels.get(semconv.LABEL_TRACK, ""))
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == semconv.APP_BUILD_INFO
        }
    except ValueError:
        return Claim()
    return Claim(*map(_said, found.pop())) if len(found) == 1 else Claim()
