"""Reads the spans in a receiver's (rotel's) log."""

from __future__ import annotations

import re
from collections import defaultdict

FIELD = re.compile(
    r"^\s*(Trace ID|Parent ID|ID|Name|Status code|Status message|Start time)\s*: ?(.*)$", re.MULTILINE
)
ATTRIBUTE = re.compile(r"^\s+-> (\S+): \w+\((.*)\)$", flags=re.MULTILINE)


def received(text: str) -> list[defaultdict[str, str]]:
    """Return the spans in a receiver's log as mappings of fields and attributes."""
    found = []
    for resource in re.split(r"^ResourceSpans #\d+$", text, flags=re.MULTILINE)[1:]:
        head, *spans = re.split(r"^Span #\d+$", resource, flags=re.MULTILINE)
        service = dict(ATTRIBUTE.findall(head))["service.name"]
        for span in spans:
            fields = {name: value.strip() for name, value in FIELD.findall(span)}
            found.append(defaultdict(str, {**dict(ATTRIBUTE.findall(span)), **fields, "service": service}))
    return found
