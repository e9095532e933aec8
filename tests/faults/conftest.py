"""Every fault leaves the process as it found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rolloutobs.testing import isolated_telemetry


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ROLLOUTOBS_DETECTION", "off")
    with isolated_telemetry():
        yield
