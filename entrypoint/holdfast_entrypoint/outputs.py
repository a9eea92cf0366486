"""Store /opt/ml/model as model.tar.gz and /opt/ml/output/data as output.tar.gz; write the failure file."""

from __future__ import annotations

import contextlib
import logging
import tarfile
import tempfile
from pathlib import Path

from holdfast.transfer.parallel import Transfer
from holdfast.transfer.upload import upload_file

_LOG = logging.getLogger(__name__)

ARCHIVES = (("model", "model.tar.gz"), ("output/data", "output.tar.gz"))
_FAILURE_CHARACTERS = 1024  # SageMaker shows no more


def store_archives(transfer: Transfer, base: Path, *, host: str | None) -> None:
    """Pack and store each output directory that is not empty.

    Args:
        base: /opt/ml.
        host: name of the directory in the store, if any.

    Raises:
        StoreError: an archive could not be stored.
        OSError: an archive could not be written.
    """
    for directory, name in ARCHIVES:
        source = base / directory
        if not source.is_dir() or not any(source.iterdir()):
            continue
        key = f"{host}/{name}" if host else name
        with tempfile.TemporaryDirectory(prefix="holdfast-") as folder:
            archive = Path(folder) / name
            with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
                for entry in sorted(source.iterdir()):
                    tar.add(entry, arcname=entry.name)
            size = archive.stat().st_size
            upload_file(transfer, key, archive, size=size)
        _LOG.info("%s stored as %s: %s bytes", source, key, f"{size:,}")


def write_failure(base: Path, reason: str) -> None:
    """Write /opt/ml/output/failure, which SageMaker shows, unless the script did; a failure of that is ignored."""
    path = base / "output/failure"
    with contextlib.suppress(OSError):
        if path.parent.is_dir() and not path.exists():
            path.write_text(reason[:_FAILURE_CHARACTERS])
