"""Fixtures for all tests."""

from tests.logs import logged
from tests.servers import s3_server

__all__ = ["logged", "s3_server"]
