"""Settings of every test run: JAX on the CPU, and property tests that draw the same examples each time."""

import os

import pytest
from hypothesis import settings

os.environ.setdefault("JAX_PLATFORMS", "cpu")
settings.register_profile("codesign", deadline=None, derandomize=True)
settings.load_profile("codesign")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With CODESIGN_SKIPS=forbid a test that lacks data, an extra or a server fails the run: it was seen to."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CODESIGN_SKIPS") != "forbid" or reporter is None:
        return
    reasons = [str(report.longrepr) for report in reporter.stats.get("skipped", [])]
    told = ("not fetched", "needs the extra", "needs mariadb-server")
    lacking = [reason for reason in reasons if any(words in reason for words in told)]
    if lacking:
        reporter.write_line(f"CODESIGN_SKIPS=forbid, but {len(lacking)} tests were skipped: {lacking[0]}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
