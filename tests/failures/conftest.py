"""Fixtures of the failure-mode tests."""

from tests.client.conftest import no_waits

__all__ = ["no_waits"]
