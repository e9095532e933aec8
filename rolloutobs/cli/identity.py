"""``rolloutobs identity``: who an app started here would say that it is, and why."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rolloutobs.detection import (
    AppModule,
    Look,
    Surroundings,
    TrackResolver,
    environment_looks,
    instance_id,
    named_module,
    service_looks,
    version_looks,
)
from rolloutobs.errors import ConfigurationError
from rolloutobs.settings import Settings

__all__ = ["Trait", "add_parser", "run", "traits"]

KNOWN: Final = 0
UNKNOWN: Final = 1

_DESCRIPTION: Final = """\
Print the identity that an app started here would have: service, version, track, environment, revision and
instance, each with where it comes from, and what else was looked at and why it was not used.

Run it where the app runs: in its container, with its environment and its working folder. Arguments of
instrument() come before everything here, and cannot be seen from outside."""

_EPILOG: Final = """\
examples:
  rolloutobs identity                            in the container of the app
  rolloutobs identity shop.main:app              with the distribution of shop, which is not imported
  rolloutobs identity --json | jq -r .version.value
  kubectl exec deploy/shop -- rolloutobs identity

exit codes:
  0  service and version are known
  1  one of them is not, and what was printed says how to set it
  2  usage, or a variable has a value that instrument() would refuse
"""

_ADVICE: Final[Mapping[str, str]] = {
    "service": "set OTEL_SERVICE_NAME, or pass instrument(app, service=...), or give the pod the label "
    "app.kubernetes.io/name and mount its labels",
    "version": "set ROLLOUTOBS_VERSION, or pass instrument(app, version=...), or give the pod the label "
    "app.kubernetes.io/version and mount its labels, or pass its image as ROLLOUTOBS_IMAGE",
}
_WITHOUT: Final[Mapping[str, str]] = {
    "track": "no rollout is known",
    "environment": "not reported",
    "revision": "not reported",
}
_NOT_SET: Final = "not set"
_INDENT: Final = 13


@dataclass(frozen=True, slots=True)
class Trait:
    """One part of an identity."""

    name: str
    looks: tuple[Look, ...]
    """Every place where it may be, in the order in which they count."""

    @property
    def chosen(self) -> Look | None:
        """What counts; ``None``: the trait is not known."""
        return next((look for look in self.looks if look.is_usable), None)

    @property
    def others(self) -> Iterator[Look]:
        """The places that do not count, each with its reason."""
        chosen = self.chosen
        for look in self.looks:
            if look is not chosen:
                reason = f"comes after {chosen.source}" if chosen and look.is_usable else _NOT_SET
                yield replace(look, reason=look.reason or reason)

    def to_mapping(self) -> dict[str, Any]:
        """Return it as JSON has it; an unknown value is ``null``."""
        chosen = self.chosen
        others = [
            {"source": look.source, "value": look.value or None, "reason": look.reason}
            for look in self.others
        ]
        return {
            "value": chosen.value if chosen else None,
            "source": chosen.source if chosen else None,
            "others": others,
        }


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "identity",
        help="print who an app started here would be, and why",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "app", nargs="?", metavar="MODULE[:APP]", help="the app's module, as uvicorn and gunicorn take it"
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the identity; return 0 if service and version are known, else 1.

    Raises:
        ConfigurationError: a variable has a value that cannot be used, or there is no such module.
    """
    found = traits(os.environ, _modules(arguments.app))
    if arguments.json:
        plain = {trait.name: trait.to_mapping() for trait in found}
        sys.stdout.write(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(_text(found))
    known = {trait.name for trait in found if trait.chosen}
    return KNOWN if known >= set(_ADVICE) else UNKNOWN


def traits(environ: Mapping[str, str], modules: tuple[AppModule, ...] = ()) -> tuple[Trait, ...]:
    """Return the parts of the identity under these variables, in the order in which they are printed.

    Args:
        environ: environment variables.
        modules: the app's; empty: not known.

    Raises:
        ConfigurationError: a variable has a value that cannot be used.
    """
    settings = Settings.from_env(environ)
    around = Surroundings(settings, environ, modules=modules)
    if settings.detection:
        versions, services = version_looks(around), service_looks(around)
        tracks = TrackResolver.of(settings, environ).looks(around.labels)
    else:
        versions, services, tracks = (
            environment_looks(name, around) for name in ("version", "service", "track")
        )
    return (
        Trait("service", tuple(services)),
        Trait("version", tuple(versions)),
        Trait("track", tuple(tracks)),
        Trait("environment", tuple(environment_looks("environment", around))),
        Trait("revision", tuple(environment_looks("revision", around))),
        Trait("instance", (Look("of this process; each process has its own", instance_id(environ)),)),
    )


def _modules(app: str | None) -> tuple[AppModule, ...]:
    if app is None:
        return ()
    name = app.partition(":")[0]
    # Servers put the working folder there too.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module = named_module(name)
    if module is None:
        raise ConfigurationError(f"there is no module {name!r} here; run this where the app is started")
    return (module,)


def _text(found: tuple[Trait, ...]) -> str:
    lines = []
    for trait in found:
        chosen = trait.chosen
        shown = f"{chosen.value}   ({chosen.source})" if chosen else _unknown(trait.name)
        lines.append(f"{trait.name:<{_INDENT}}{shown}")
    lines += ["", "Also looked at:"]
    for trait in found:
        name = trait.name
        for line in _others(trait):
            lines.append(f"{name:<{_INDENT}}{line}")
            name = ""
    missing = [trait.name for trait in found if trait.chosen is None and trait.name in _ADVICE]
    lines += [f"\nThe {name} is not known: {_ADVICE[name]}." for name in missing]
    return "\n".join(lines) + "\n"


def _others(trait: Trait) -> Iterator[str]:
    """Yield a line for each place that had something to say, and one for all that had nothing."""
    empty = []
    for look in trait.others:
        if look.reason == _NOT_SET:
            empty.append(look.source)
        else:
            yield f"{look.source}{f' = {look.value}' if look.value else ''}: {look.reason}"
    if empty:
        yield f"{_NOT_SET}: {', '.join(empty)}"


def _unknown(name: str) -> str:
    return f"-   ({_WITHOUT[name]})" if name in _WITHOUT else "unknown"
