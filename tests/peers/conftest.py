"""`make peers` installs everything that the tests here need, and says so by REFRASE_PEERS: a skip is a failure then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

INSTALLED = bool(os.environ.get("REFRASE_PEERS"))


def _must_run(report: Any) -> None:
    if INSTALLED and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome, report.longrepr = "failed", f"{report.longrepr}: skipped, though `make peers` installs it"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report: Any = yield
    _must_run(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report: Any = yield
    _must_run(report)
    return report
