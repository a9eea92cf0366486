"""Every error of holdfast, as one tree.

HoldfastError
  + ConfigError                something in the environment or on the command line cannot be right
      + CommandNotFoundError       there is no such command
      + CommandNotExecutableError  it cannot be executed
  + NoSnapshotError            the prefix holds snapshots, and none of them verifies
  + DamagedError               one object, file or record is not what its record says
  + DiskFullError              the checkpoint directory's disk cannot hold what must be restored
  + FileChangedError           a file changed while it was read; it is read again when it is settled
  + CutFileError               a file's format proves that it is incomplete; it is read again when it has changed
  + SupersededError            another attempt has taken over the prefix; this one must stop
  + StoreError                 a request to the store failed
      + TransientStoreError    the same request may succeed in a moment: retried by holdfast.store.retry
      + PermanentStoreError    the same request fails again until its cause is removed
          + NotFoundError      no such object
          + AlreadyExistsError a conditional write or deletion found something else at the key
          + AccessDeniedError  the credentials do not allow it, or there are none
          + NoBucketError      the bucket (or directory) does not exist

The message of each says what happened and what the operator should do about it. `holdfast_entrypoint.exit_codes` has
the exit code of each.
"""

from __future__ import annotations

MORE_PROCESSES = "raise --pids-limit of docker, podPidsLimit of Kubernetes, or ulimit -u"
"""Advice where no thread or process can be started."""


class HoldfastError(Exception):
    """Anything that holdfast raises on purpose."""


class ConfigError(HoldfastError):
    """One or more configuration problems, all of them at once.

    Args:
        problems: one sentence each, saying what is wrong and what to write instead.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CommandNotFoundError(ConfigError):
    """There is no such command in PATH, or no file at its path."""


class CommandNotExecutableError(ConfigError):
    """The command cannot be executed."""


class NoSnapshotError(HoldfastError):
    """The prefix holds snapshots, and none of them verifies. It never becomes a silent start from scratch."""


class DiskFullError(HoldfastError):
    """The disk of the checkpoint directory cannot hold what must be restored."""


class DamagedError(HoldfastError):
    """Bytes that are not what a record says: wrong size, wrong checksum, or a record that does not parse."""


class FileChangedError(HoldfastError):
    """A file changed while it was read. Not a failure: it is read again when it is settled."""


class CutFileError(HoldfastError):
    """A file whose format proves that it is incomplete. It is no checkpoint yet, so nothing is lost without it."""


class SupersededError(HoldfastError):
    """Another attempt has taken over the prefix. What this one committed before stays; it must stop for good."""


class StoreError(HoldfastError):
    """A request to the store failed."""


class TransientStoreError(StoreError):
    """The same request may succeed in a moment: throttling, 5xx, a connection that broke, a time-out."""


class PermanentStoreError(StoreError):
    """The same request fails again until its cause is removed."""


class NotFoundError(PermanentStoreError):
    """There is no such object."""


class AlreadyExistsError(PermanentStoreError):
    """A conditional write or deletion found at the key what its condition does not allow."""


class AccessDeniedError(PermanentStoreError):
    """The credentials do not allow the request, or there are no credentials."""


class NoBucketError(PermanentStoreError):
    """The bucket, or the directory of a `file://` store, does not exist."""
