"""What holds for every test: markers that need a real component, and no skipped test in CI."""

from __future__ import annotations

import os
import shutil

import pytest

NEEDS = {
    "prometheus": (("prometheus", "promtool"), "Debian's prometheus is not on the PATH"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests whose real component is missing, with the reason."""
    for item in items:
        for marker, (commands, reason) in NEEDS.items():
            if item.get_closest_marker(marker) and not all(map(shutil.which, commands)):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With ROLLOUTOBS_NO_SKIPS set, a skipped test fails the run: CI must see everything."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        not os.environ.get("ROLLOUTOBS_NO_SKIPS")
        or reporter is None
        or hasattr(session.config, "workerinput")
    ):
        return
    skipped = reporter.stats.get("skipped", [])
    if skipped:
        reporter.write_line(f"{len(skipped)} skipped, which ROLLOUTOBS_NO_SKIPS forbids", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
