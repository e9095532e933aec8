"""What holds for every test: markers that need a real component, and no skipped test in CI."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import settings

from synthetic import browser

# How long an example takes says more about what else the machine does.
settings.register_profile("noisy machines", deadline=None)
settings.load_profile("noisy machines")


def _missing(marker: str) -> str:
    """Return why tests with `marker` cannot run here; empty if they can."""
    if marker == "browser":
        return browser.unavailable_reason()
    commands = ("prometheus", "promtool", "prometheus-pushgateway", "amtool")
    missing = [command for command in commands if shutil.which(command) is None]
    packages = "Debian's packages prometheus, prometheus-pushgateway and prometheus-alertmanager"
    return f"not on the PATH: {', '.join(missing)} ({packages})" if missing else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests whose real component is missing, with the reason."""
    for marker in ("browser", "prometheus"):
        marked = [item for item in items if item.get_closest_marker(marker)]
        reason = _missing(marker) if marked else ""
        for item in marked if reason else ():
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
