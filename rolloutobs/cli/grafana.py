"""Where Grafana is, for the commands that write to it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rolloutobs.errors import ConfigurationError

if TYPE_CHECKING:
    from rolloutobs.analysis._http import Access

__all__ = ["TOKEN", "URL", "access_of", "add_grafana", "is_wanted"]

URL: Final = "ROLLOUTOBS_GRAFANA_URL"
TOKEN: Final = "ROLLOUTOBS_GRAFANA_TOKEN"  # noqa: S105 - a name, not a secret


def add_grafana(parser: argparse._ActionsContainer) -> argparse._ActionsContainer:
    """Add where Grafana is, and how to be let in: never the token itself, which every process could see."""
    grafana = parser.add_argument_group("Grafana")
    grafana.add_argument("--grafana", metavar="URL", help=f"address (default: the variable {URL})")
    grafana.add_argument(
        "--grafana-token-file",
        "--token-file",
        dest="grafana_token_file",
        type=Path,
        metavar="FILE",
        help=f"holds the token of a service account, read for each request (default: the variable {TOKEN})",
    )
    grafana.add_argument("--grafana-ca", type=Path, metavar="FILE", help="trust these certificates (PEM)")
    return grafana


def is_wanted(arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> bool:
    """Return whether anything says where Grafana is."""
    return bool(arguments.grafana or environ.get(URL, "").strip())


def access_of(arguments: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> tuple[str, Access]:
    """Return the address of Grafana, and how to be let in.

    Raises:
        ConfigurationError: an address or a token is missing.
    """
    from rolloutobs.analysis._http import Access

    url = arguments.grafana or environ.get(URL, "").strip()
    if not url:
        raise ConfigurationError(f"no address of Grafana: use --grafana, or the variable {URL}")
    token = "" if arguments.grafana_token_file else environ.get(TOKEN, "").strip()
    if not (token or arguments.grafana_token_file):
        raise ConfigurationError(f"no token for Grafana: use --token-file, or the variable {TOKEN}")
    return url, Access(token=token, token_file=arguments.grafana_token_file, ca_file=arguments.grafana_ca)
