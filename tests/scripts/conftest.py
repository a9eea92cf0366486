"""Fixtures for real frameworks under a real `holdfast run`, with an S3 server behind a proxy that can hold back."""

from tests.faults.conftest import job, proxy
from tests.lifecycle.conftest import start

__all__ = ["job", "proxy", "start"]
