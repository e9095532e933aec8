"""The tables of sdk.md, made from the code: what the code says of itself, and what an app with everything on
exposes (`docs._loaded`).

Each function returns the text of one table, for cog to print.
"""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from docs._loaded import everything
from rolloutobs import modes as modes_module
from rolloutobs import semconv
from rolloutobs import settings as settings_module
from rolloutobs.checkup import cost
from rolloutobs.environment import SECRETS, VARIABLES
from rolloutobs.settings import Settings
from rolloutobs.telemetry import failures, log_records
from rolloutobs.telemetry.cells import Definition

__all__ = [
    "attributes",
    "baggage",
    "costs",
    "labels",
    "layers",
    "log_fields",
    "metrics",
    "modes",
    "options",
    "sample",
    "server_timing",
    "values",
    "wheres",
]

_GROUPS = {
    "service": "Who it is",
    "metrics_path": "Counting and scraping",
    "excluded_paths": "Requests",
    "spans": "Spans, exports, logs",
    "secret": "Trust",
}
"""Headings, by the first field of each group; groups are apart by an empty line in the class."""
_VARIABLE = re.compile(r"`(OTEL_[A-Z_]+)[=`]")
_UNITS = (("_seconds", "seconds"), ("_seconds_total", "seconds"), ("_bytes", "bytes"))
_FIELDS = {
    "service_name": "the service",
    "service_version": "what runs",
    "track": "the side of the rollout, at that moment",
    "trace_id": "of the request or operation, sampled or not",
    "span_id": "of the active span",
    "caller_service": "who called the request in which this was logged",
    "caller_version": "its version",
    "error_fingerprint": "of errors: the label `fingerprint` of `app_errors_total`",
}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in lines)


def _words(text: str) -> str:
    """Return a docstring as Markdown, in one line."""
    return " ".join(text.replace("``", "`").split())


@cache
def _docs_of(module: ModuleType, cls: str = "") -> dict[str, str]:
    """Return the docstring below each assignment of a module, or of one of its classes, by name."""
    tree: Any = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    if cls:
        tree = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls)
    found = {}
    for node, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.Assign):
            target: Any = node.targets[0]
        elif isinstance(node, ast.AnnAssign):
            target = node.target
        else:
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[target.id] = _words(str(below.value.value))
    return found


def _groups() -> Iterator[list[str]]:
    """Yield the names of the settings, group by group."""
    tree = ast.parse(Path(settings_module.__file__).read_text(encoding="utf-8"))
    cls = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    group: list[str] = []
    end = 0
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            if node.lineno > end + 1 and group:
                yield group
                group = []
            group.append(node.target.id)
        if isinstance(node, (ast.AnnAssign, ast.Expr)):
            end = node.end_lineno or 0
    yield group


def options() -> str:
    """Return all settings: a table per group."""
    docs, defaults = _docs_of(settings_module, "Settings"), {f.name: f.default for f in fields(Settings)}
    parts = []
    for group in _groups():
        rows = [
            (f"`{name}`", _variables(name, docs[name]), _default(defaults[name]), docs[name])
            for name in group
        ]
        parts += [
            f"### {_GROUPS[group[0]]}",
            "",
            _table(("setting", "variable", "default", "meaning"), rows),
            "",
        ]
    return "\n".join(parts)


def _variables(name: str, doc: str) -> str:
    of_field = [variable for variable in VARIABLES if variable.field == name]
    found = [text for variable in of_field for text in variable.names]
    if name in SECRETS:
        found += [SECRETS[name], SECRETS[name] + "_FILE"]
    # What OpenTelemetry's own variables decide is read in one piece; the docstring names them.
    found += [variable for variable in _VARIABLE.findall(doc) if variable not in found]
    # Entries of OTEL_RESOURCE_ATTRIBUTES.
    found += [key + "=" for variable in of_field for key in variable.resource]
    return ", ".join(f"`{variable}`" for variable in found) or "–"


def _default(value: object) -> str:
    if value is None:
        return "`None`"
    if isinstance(value, StrEnum):
        return f"`{value.value}`" if value.value else "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (frozenset, tuple)):
        return ", ".join(f"`{part}`" for part in sorted(value)) or "none"
    return f"`{value}`" if value != "" else "none"


def modes(*names: str) -> str:
    """Return the values of enums of the settings."""
    rows = []
    for name in names:
        docs = _docs_of(modes_module, name)
        rows += [(f"`{member.value}`", docs[member.name]) for member in getattr(modes_module, name)]
    return _table(("value", "meaning"), rows)


def _definitions() -> dict[str, Definition]:
    seen = everything().metrics
    return {**seen["default"], **seen["semconv"]}


def metrics() -> str:
    """Return every metric of an app with everything on: those of both namings, and those without a choice."""
    seen = everything().metrics
    default = [d for name, d in seen["default"].items() if name not in seen["semconv"]]
    named = [
        d for name, d in seen["semconv"].items() if name not in seen["default"] and name.startswith("http")
    ]
    rest = [d for d in _definitions().values() if d not in default and d not in named]
    parts = (("HTTP, default names", default), ('HTTP, `naming="semconv"`', named), ("Everything else", rest))
    return "\n\n".join(f"### {title}\n\n{_metric_table(found)}" for title, found in parts)


def _metric_table(definitions: Iterable[Definition]) -> str:
    rows = []
    for d in definitions:
        unit = next((unit for suffix, unit in _UNITS if d.name.endswith(suffix)), "")
        names = ", ".join(f"`{label}`" for label in d.label_names)
        rows.append((f"`{d.name}`", d.kind.value, names, unit, _words(d.documentation)))
    return _table(("metric", "type", "further labels", "unit", "meaning"), rows)


def labels() -> str:
    """Return every label of these metrics."""
    docs = _docs_of(semconv)
    by_value = {getattr(semconv, name): text for name, text in docs.items() if name.startswith("LABEL_")}
    used = dict.fromkeys(
        (*semconv.IDENTITY_LABELS, *(n for d in _definitions().values() for n in d.label_names))
    )
    return _table(("label", "meaning"), ((f"`{name}`", by_value[name]) for name in used))


def values(module: str, name: str) -> str:
    """Return the members of an enum of `module`: what a label can say."""
    found = importlib.import_module(module)
    docs = _docs_of(found, name)
    return _table(
        ("value", "meaning"), ((f"`{m.value}`", docs.get(m.name, "")) for m in getattr(found, name))
    )


def wheres() -> str:
    """Return the parts of which failures are counted."""
    docs = _docs_of(failures, "Where")
    return _table(("`where`", "what failed"), ((f"`{w.value}`", docs[w.name]) for w in failures.Where))


def attributes() -> str:
    """Return the attributes of each kind of span: ours with their meaning, then those of OpenTelemetry."""
    docs = _docs_of(semconv)
    ours = {getattr(semconv, name): text for name, text in docs.items() if name.startswith("ATTR_")}
    seen = everything().attributes
    on = {name: [what for what, found in seen.items() if name in found] for name in ours}
    everywhere = len(seen)
    rows = [
        (f"`{name}`", "every span" if len(on[name]) == everywhere else ", ".join(on[name]), text)
        for name, text in ours.items()
    ]
    theirs = [
        (what, ", ".join(f"`{_placeholder(name)}`" for name in sorted(found - set(ours))))
        for what, found in seen.items()
    ]
    old = ", ".join(f"`{name}`" for name in sorted(everything().legacy))
    return "\n\n".join(
        (
            _table(("ours", "where", "meaning"), rows),
            _table(("span of", "attributes of OpenTelemetry's semantic conventions"), theirs),
            f"With `OTEL_SEMCONV_STABILITY_OPT_IN=http/dup` also under the old names: {old}.",
        )
    )


def _placeholder(name: str) -> str:
    return re.sub(r"(http\.(?:request|response)\.header\.).*", r"\1<name>", name)


def log_fields() -> str:
    """Return the fields of every log record."""
    return _table(("field", "meaning"), ((f"`{name}`", _FIELDS[name]) for name in log_records.EMPTY))


def _constants(prefix: str) -> Iterator[tuple[str, str]]:
    for name, text in _docs_of(semconv).items():
        if name.startswith(prefix):
            yield f"`{getattr(semconv, name)}`", text


def baggage() -> str:
    """Return the keys of our baggage."""
    return _table(("key", "meaning"), _constants("BAGGAGE_"))


def server_timing() -> str:
    """Return the entries of ``Server-Timing`` that answers have."""
    rows = [row for row in _constants("SERVER_TIMING_") if row[0].strip("`") in everything().timing]
    return _table(("entry", "meaning"), rows)


_SAMPLE = (
    'http_requests_total{app="shop",method="GET",route="/items/{item_id}",status=',
    'http_requests_total{app="shop",method="POST"',
    'http_request_duration_seconds_count{app="shop",method="POST"',
    "checkouts_completed_total",
)


def sample() -> str:
    """Return some lines of ``/metrics``, as a block."""
    lines = [line for line in everything().exposed.splitlines() if "synthetic" not in line]
    found = [line for start in _SAMPLE for line in sorted(lines) if line.startswith(start)]
    return "\n".join(("```text", *found, "```"))


def layers(*names: str) -> str:
    """Return the layers of packages as ``lint-imports`` checks them, one block."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    contracts = {each["id"]: each for each in project["tool"]["importlinter"]["contracts"]}
    lines = ["```text", " > ".join(contracts["packages"]["layers"])]
    for name in names:
        found = " > ".join(contracts[f"{name}-layers"]["layers"])
        title = contracts[f"{name}-layers"]["containers"][0]
        lines.append("\n" + textwrap.fill(f"{title}: {found}", 110, subsequent_indent="    "))
    return "\n".join((*lines, "```"))


# --- what it costs -----------------------------------------------------------------------------------------
ROUTES = (10, 50, 200)


def costs() -> str:
    """Return series and bytes of a scrape by the number of routes, as ``rolloutobs doctor`` does."""
    rows = []
    for routes in ROUTES:
        good, bad = cost.cost(routes, cost.HEALTHY), cost.cost(routes, cost.TROUBLED)
        numbers = (good.series, bad.series, _rounded(bad.bytes))
        rows.append((str(routes), *(f"{number:,}" for number in numbers)))
    statuses = ", ".join(map(str, cost.TROUBLED))
    head = ("routes", "series, all answers 200", f"series, each route {statuses}", "bytes of text then")
    return _table(head, rows)


def _rounded(number: int) -> int:
    return int(float(f"{number:.2g}"))
