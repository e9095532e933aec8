"""The options that say where to read, which series are which side, and how to be let in."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rolloutobs.analysis.presets import PRESETS, bucket_factors
from rolloutobs.cli.options import seconds, share
from rolloutobs.errors import ConfigurationError, SourceError

if TYPE_CHECKING:
    from rolloutobs.analysis._http import Access
    from rolloutobs.analysis.counters import Need
    from rolloutobs.analysis.model import Reading
    from rolloutobs.analysis.prometheus import PrometheusSource
    from rolloutobs.analysis.scrape import ScrapeSource
    from rolloutobs.analysis.sides import Shape, Sides
    from rolloutobs.analysis.weights import Weight

__all__ = [
    "add_access",
    "add_prometheus",
    "add_series",
    "add_sources",
    "add_weight",
    "history",
    "open_prometheus",
    "open_source",
    "weight_of",
]

METRICS_TOKEN: Final = "ROLLOUTOBS_METRICS_TOKEN"  # noqa: S105 - a name, not a secret
"""What the SDK asks of whoever scrapes it; sent to targets, never to Prometheus."""
PROMETHEUS_TOKEN: Final = "ROLLOUTOBS_PROMETHEUS_TOKEN"  # noqa: S105 - a name, not a secret


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add all that a command needs which reads pods or a Prometheus."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--scrape",
        action="append",
        metavar="ADDRESS",
        help="read the /metrics of this process; host:port means http://host:port/metrics, dns:name:port "
        "every address of the name. Give it once for each process, stable and canary alike: the label track "
        "in the metrics tells them apart",
    )
    where.add_argument(
        "--targets",
        type=Path,
        metavar="FILE",
        help="read the processes in this file, one address a line or Prometheus's file discovery; it is read "
        "again when it changes",
    )
    add_prometheus(where, required=False)
    add_series(parser)
    add_access(parser)


def add_prometheus(parser: argparse._ActionsContainer, *, required: bool) -> None:
    """Add the option for a Prometheus alone."""
    option = parser.add_argument(
        "--prometheus", metavar="URL", help="read from this Prometheus (or Thanos, Mimir, VictoriaMetrics)"
    )
    option.required = required


def add_series(parser: argparse.ArgumentParser) -> None:
    """Add what says which series are compared, and by which policy."""
    parser.add_argument("--app", default="", help="compare only metrics with this label app (service.name)")
    parser.add_argument(
        "--metrics",
        choices=tuple(PRESETS),
        default="default",
        help="whose names the metrics have (default: %(default)s, our own); others in the policy",
    )
    sides = parser.add_argument_group("which side a series is on", "without these, the label track says it")
    sides.add_argument(
        "--canary", metavar="SELECTOR", help="the canary's series: '{pod=~\"shop-canary-.*\"}'"
    )
    sides.add_argument("--stable", metavar="SELECTOR", help="stable's series, without the canary's")
    sides.add_argument(
        "--canary-version", metavar="VERSION", help="the canary is what has this label version"
    )
    sides.add_argument(
        "--stable-version",
        metavar="VERSION",
        help="stable is what has this one (default: every other version)",
    )
    sides.add_argument(
        "--by-version",
        action="store_true",
        help="the version that began last is the canary (a rolling update)",
    )
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="what decides, as YAML or TOML (rolloutobs policy show)"
    )


def add_access(parser: argparse.ArgumentParser) -> None:
    """Add how to be let in, and how long to wait."""
    access = parser.add_argument_group("being let in")
    access.add_argument(
        "--bearer-token-file",
        type=Path,
        metavar="FILE",
        help=f"holds a token, read again for each request (default: the variable {PROMETHEUS_TOKEN}, or "
        f"{METRICS_TOKEN} for processes)",
    )
    access.add_argument("--basic-auth-file", type=Path, metavar="FILE", help="holds user:password")
    access.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="send it too (X-Scope-OrgID)"
    )
    access.add_argument(
        "--ca", type=Path, metavar="FILE", help="trust these certificates (PEM), not the system's"
    )
    access.add_argument("--cert", type=Path, metavar="FILE", help="our own certificate (PEM)")
    access.add_argument("--key", type=Path, metavar="FILE", help="its key, if it is not in there")
    access.add_argument(
        "--timeout",
        type=seconds,
        metavar="TIME",
        help="limit of one read (default: the interval, at least 2s and at most 5s; 30s for windows of the "
        "past)",
    )


def open_source(
    arguments: argparse.Namespace, metrics: frozenset[str], timeout_seconds: float, needs: Sequence[Need]
) -> PrometheusSource | ScrapeSource:
    """Return the source that the command line names; it has to be entered.

    Args:
        arguments: the command line.
        metrics: names of the samples to read (`Ticker.metrics`).
        timeout_seconds: for one answer.
        needs: what a Prometheus may add up (`Ticker.needs`).

    Raises:
        ConfigurationError: an address, a selector, a file or a certificate cannot be used.
    """
    from rolloutobs.analysis.scrape import ScrapeSource, ScrapeTargets

    if arguments.prometheus:
        return open_prometheus(arguments, metrics, timeout_seconds, needs)
    return ScrapeSource(
        ScrapeTargets(tuple(arguments.scrape or ()), arguments.targets),
        metrics,
        timeout_seconds=timeout_seconds,
        access=_access(arguments, METRICS_TOKEN),
        shape=_shape(arguments, metrics),
    )


def open_prometheus(
    arguments: argparse.Namespace,
    metrics: frozenset[str],
    timeout_seconds: float,
    needs: Sequence[Need] = (),
) -> PrometheusSource:
    """Return the Prometheus that the command line names; it has to be entered.

    Args:
        arguments: the command line.
        metrics: names of the samples to read (`Ticker.metrics`).
        timeout_seconds: for one answer.
        needs: what it may add up (`Ticker.needs`); none: every process is read by itself.

    Raises:
        ConfigurationError: as `open_source`.
    """
    from rolloutobs.analysis.prometheus import PrometheusSource
    from rolloutobs.analysis.sides import Summable

    return PrometheusSource(
        arguments.prometheus,
        metrics,
        timeout_seconds=timeout_seconds,
        access=_access(arguments, PROMETHEUS_TOKEN),
        shape=replace(_shape(arguments, metrics), summable=Summable(needs)),
    )


def add_weight(parser: argparse.ArgumentParser) -> None:
    """Add what says which share of the traffic the canary was given."""
    group = parser.add_argument_group(
        "the canary's share of the traffic",
        "with it, a canary that gets much less than it was given (a dead one has no errors to show) is\n"
        "rolled back for that, as the policy's share.on_silence says; without, nothing is tested",
    )
    weight = group.add_mutually_exclusive_group()
    weight.add_argument("--weight", type=share, metavar="SHARE", help="it is this all the time: 0.05 or 5%%")
    weight.add_argument(
        "--weight-file", type=Path, metavar="FILE", help="it stands in this file, read again at each look"
    )
    weight.add_argument(
        "--weight-query",
        metavar="PROMQL",
        help="it is what --prometheus answers: 'flagger_canary_weight{workload=\"shop\"} / 100'",
    )


def weight_of(arguments: argparse.Namespace) -> Weight | None:
    """Return who says the canary's share; ``None``: nobody.

    Raises:
        ConfigurationError: there is no Prometheus to ask.
    """
    from rolloutobs.analysis.weights import FileWeight, FixedWeight, QueryWeight

    if arguments.weight_query:
        if not arguments.prometheus:
            raise ConfigurationError("--weight-query asks a Prometheus; name it with --prometheus")
        access = _access(arguments, PROMETHEUS_TOKEN)
        return QueryWeight(arguments.prometheus, arguments.weight_query, access, arguments.timeout or 5.0)
    if arguments.weight_file:
        return FileWeight(arguments.weight_file)
    return None if arguments.weight is None else FixedWeight(arguments.weight)


async def history(
    source: PrometheusSource, url: str, span: tuple[float, float], step_seconds: float
) -> list[Reading]:
    """Return readings of the past between two unix times.

    Raises:
        SourceError: Prometheus does not answer, or refuses the query; the message has its `url`.
    """
    try:
        return await source.history(*span, step_seconds)
    except SourceError as error:
        raise SourceError(f"Prometheus at {url}: {error}") from None


def _shape(arguments: argparse.Namespace, metrics: frozenset[str]) -> Shape:
    from rolloutobs.analysis.sides import Shape, parse_selector

    # Only workloads of `serve` have conditions of their own.
    where = parse_selector(text) if (text := getattr(arguments, "match", "")) and text.strip() != "{}" else ()
    return Shape(arguments.app, _sides(arguments), bucket_factors(metrics), where=where)


def _sides(arguments: argparse.Namespace) -> Sides | None:
    from rolloutobs.analysis.sides import BySelector, ByVersion, NewestVersion, parse_selector

    given = arguments
    by_selector = bool(given.canary or given.stable)
    by_name = bool(given.canary_version or given.stable_version)
    if by_selector + by_name + given.by_version > 1:
        raise ConfigurationError(
            "use one way to tell the sides: --canary and --stable, --canary-version, or --by-version"
        )
    if by_selector:
        if not (given.canary and given.stable):
            raise ConfigurationError("--canary and --stable belong together; give both selectors")
        return BySelector(parse_selector(given.canary), parse_selector(given.stable))
    if by_name:
        if not given.canary_version:
            raise ConfigurationError("--stable-version needs --canary-version beside it")
        return ByVersion(given.canary_version, given.stable_version or "")
    return NewestVersion() if given.by_version else None


def _access(arguments: argparse.Namespace, variable: str, environ: Mapping[str, str] = os.environ) -> Access:
    from rolloutobs.analysis._http import Access

    user, password = _basic(arguments.basic_auth_file)
    token = "" if user or arguments.bearer_token_file else environ.get(variable, "").strip()
    return Access(
        token=token,
        token_file=arguments.bearer_token_file,
        user=user,
        password=password,
        headers=dict(_header(text) for text in arguments.header),
        ca_file=arguments.ca,
        cert_file=arguments.cert,
        key_file=arguments.key,
    )


def _basic(path: Path | None) -> tuple[str, str]:
    if path is None:
        return "", ""
    try:
        user, colon, password = path.read_text(encoding="utf-8").strip().partition(":")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read {str(path)!r}: {error}") from None
    if not colon or not user:
        raise ConfigurationError(f"{str(path)!r} does not hold user:password")
    return user, password


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not value.strip().isprintable():
        raise ConfigurationError(f"{text!r} is not a header; use 'X-Scope-OrgID: team'")
    return name.strip(), value.strip()
