"""What the options of a check mean: which journeys are walked where, how, and when.

Belongs here: from parsed options to `Check` and `Schedule`. Runs nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace

from rolloutobs.errors import ConfigurationError
from synthetic.discovery import choose, find_journeys
from synthetic.journey import Journey
from synthetic.runner import Check, Schedule
from synthetic.settings import BrowserSettings, CheckSettings, parse_duration
from synthetic.targeting import targets_of

__all__ = ["checks_of", "chosen"]


def chosen(given: argparse.Namespace) -> list[Journey]:
    """Return the journeys that are asked for.

    Raises:
        ConfigurationError: there is none, or one cannot be loaded.
    """
    return choose(find_journeys(given.journeys), given.only, given.tag)


def checks_of(given: argparse.Namespace, environ: Mapping[str, str]) -> tuple[list[Check], Schedule]:
    """Return the checks to run, and when.

    Raises:
        ConfigurationError: an option has no valid value.
    """
    every = None if given.every is None else parse_duration(given.every, "--every")
    count = given.count if given.count is not None else 1 if every is None else None
    if count is not None and count < 1:
        raise ConfigurationError(f"--count is {count}; use at least 1")
    if given.error_rate is not None and not 0 < given.error_rate < 1:
        raise ConfigurationError(f"--error-rate is {given.error_rate}; use a number between 0 and 1")
    journeys = chosen(given)
    if given.check and len(journeys) > 1:
        raise ConfigurationError(f"--check names one journey, and there are {len(journeys)}; use --only")
    if not given.app:
        raise ConfigurationError("--app is missing; use the service.name of the app under test")
    targets = targets_of(given)
    settings = _settings(given)
    slow = parse_duration(given.slow, "--slow") if given.slow else 0.0
    browser = replace(BrowserSettings.from_env(environ), headed=given.headed, slow_seconds=slow)
    checks = [Check(_for(settings, journey, given.check), journey, *targets, browser) for journey in journeys]
    return checks, Schedule(every, count, len(checks))


def _settings(given: argparse.Namespace) -> CheckSettings:
    if given.retries < 0:
        raise ConfigurationError(f"--retries is {given.retries}; use 0 or more")
    if given.keep < 1:
        raise ConfigurationError(f"--keep is {given.keep}; use at least 1")
    return CheckSettings(
        app=given.app,
        check="",
        timeout_seconds=parse_duration(given.timeout, "--timeout"),
        artifacts=given.artifacts,
        keep_artifacts=given.keep,
        retries=given.retries,
    )


def _for(settings: CheckSettings, journey: Journey, name: str | None) -> CheckSettings:
    """Return the settings of one journey, which may say something else than the command line."""
    retries = settings.retries if journey.retries is None else journey.retries
    seconds = journey.timeout_seconds or settings.timeout_seconds
    return replace(settings, check=name or journey.name, timeout_seconds=seconds, retries=retries)
