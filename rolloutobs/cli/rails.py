"""The guard rails of the command line: what ``--rollback`` and ``--owner`` say."""

from __future__ import annotations

import argparse

from rolloutobs.analysis.guardrails import Guardrails, Rollback, parsed
from rolloutobs.errors import ConfigurationError

__all__ = ["add_rails", "rails_of"]


def add_rails(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    rails = parser.add_argument_group("guard rails")
    rails.add_argument(
        "--rollback",
        type=_rollback,
        default=(Rollback.SAFE, ""),
        metavar="SAFE",
        help="'unsafe', or 'unsafe: why': where the old version cannot take over again, a rollback becomes a "
        "hold that pages a person (default: safe)",
    )
    rails.add_argument(
        "--owner",
        default="",
        metavar="WHO",
        help="a team or a channel, named in every verdict and notification",
    )


def rails_of(arguments: argparse.Namespace) -> Guardrails:
    """Return what the options say."""
    rollback, why = arguments.rollback
    return Guardrails(rollback, why, arguments.owner.strip())


def _rollback(text: str) -> tuple[Rollback, str]:
    try:
        return parsed(text, "--rollback")
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
