"""Soaks: the same tests, short by default and a hundred times as long in ``make soak``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from rolloutobs.testing import isolated_telemetry
from tests.e2e.conftest import processes

__all__ = ["processes"]

SCALE = float(os.environ.get("ROLLOUTOBS_SOAK", "0.01"))
"""1: all of it, for minutes; 0.01: a hundredth."""


@pytest.fixture
def scaled() -> Callable[[int], int]:
    """Return what makes a full count one for this run, at least 1."""
    return lambda count: max(1, round(count * SCALE))


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ROLLOUTOBS_DETECTION", "off")
    with isolated_telemetry():
        yield
