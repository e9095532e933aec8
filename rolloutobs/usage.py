"""What the command lines have in common."""

from __future__ import annotations

import argparse
from typing import Final, NoReturn

from rolloutobs._version import __version__

__all__ = ["USAGE", "Parser", "add_version"]

USAGE: Final = 2
"""The exit code of a command that was used wrongly."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in a line; argparse puts up to thirty lines of options before it.

    Parsers of subcommands are of the same class.
    """

    def error(self, message: str) -> NoReturn:
        """Print one line and exit."""
        self.exit(USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def add_version(parser: argparse.ArgumentParser) -> None:
    """Let ``--version`` print the version of the package."""
    parser.add_argument("--version", action="version", version=f"{parser.prog} {__version__}")
