"""Every exit code of the container and of the commands that are called by hand.

A script that ends by itself gives its own code. The others are for an orchestrator: run it again (143, 75), or alarm.
Numbers from 64 to 75 are those of sysexits.h, 126 and 127 those of a shell.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping

from holdfast import errors
from holdfast.errors import HoldfastError

BAD_CONFIGURATION = 64
"""Something in the environment, on the command line or on the machine has to be changed first."""
NOTHING_VERIFIES = 65
"""There is no such snapshot, none of them verifies, or what was to be verified or stored is damaged."""
NO_STORE = 69
"""The store is unreachable, it denies, or another attempt has taken over the prefix."""
BUG = 70
"""An error that the code does not foresee."""
NOT_STORED = 74
"""The script ended well, and its last files are not stored."""
INTERRUPTED_INCOMPLETE = 75
"""Interrupted, and something finished was not stored in time."""
NOT_EXECUTABLE = 126
"""The command cannot be executed."""
NO_COMMAND = 127
"""There is no such command."""


def of_signal(number: int) -> int:
    """Return the code of a process that a signal ended, as a shell gives it."""
    return 128 + number


INTERRUPTED = of_signal(signal.SIGTERM)
"""Interrupted, and everything finished is stored."""
_OF: Mapping[type[HoldfastError], int] = {
    errors.HoldfastError: BUG,
    errors.ConfigError: BAD_CONFIGURATION,
    errors.CommandNotFoundError: NO_COMMAND,
    errors.CommandNotExecutableError: NOT_EXECUTABLE,
    errors.DiskFullError: BAD_CONFIGURATION,
    errors.NoSnapshotError: NOTHING_VERIFIES,
    errors.DamagedError: NOTHING_VERIFIES,
    errors.StoreError: NO_STORE,
    errors.SupersededError: NO_STORE,
}


def of_error(error: HoldfastError) -> int:
    """Return the code of an error that nothing has handled: that of the nearest class in the table above."""
    return next(_OF[kind] for kind in type(error).__mro__ if kind in _OF)
