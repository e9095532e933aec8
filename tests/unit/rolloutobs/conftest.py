"""Every test of the SDK leaves the process as it found it."""

from collections.abc import Iterator

import pytest

from rolloutobs.testing import isolated_telemetry


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Else an app of a test has the version of this checkout.
    monkeypatch.setenv("ROLLOUTOBS_DETECTION", "off")
    with isolated_telemetry():
        yield
