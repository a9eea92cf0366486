"""Parser: an ArgumentParser that raises ConfigError."""

from __future__ import annotations

import argparse
from typing import NoReturn

from holdfast.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises ConfigError instead of ending the process with 2."""

    def error(self, message: str) -> NoReturn:
        """Raise the problem.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.prog.removeprefix('holdfast ')}: {message}; see `{self.prog} --help`")
