"""Every test leaves the process as it found it."""

from collections.abc import Iterator

import pytest

from rolloutobs.testing import isolated_telemetry


@pytest.fixture(autouse=True)
def _isolated() -> Iterator[None]:
    with isolated_telemetry():
        yield
