"""Outputs: /opt/ml/model → model.tar.gz, /opt/ml/output/data → output.tar.gz, and the failure file."""

from __future__ import annotations

import logging
import tarfile
import tempfile
from concurrent.futures import Executor
from pathlib import Path

from holdfast.stop import StopToken
from holdfast.store import Store
from holdfast.transfer.parallel import Transfer
from holdfast.transfer.upload import upload_file

_LOG = logging.getLogger(__name__)

ARCHIVES = (("model", "model.tar.gz"), ("output/data", "output.tar.gz"))
_FAILURE_CHARACTERS = 1024  # what SageMaker shows of the file


def store_archives(
    store: Store,
    base: Path,
    *,
    host: str | None,
    workers: Executor,
    stop: StopToken,
) -> None:
    """Pack and store each output directory that holds something.

    Args:
        store: where to.
        base: /opt/ml.
        host: the directory of the store that the archives go to; None for the store itself.
        workers: runs the parts of a large archive.
        stop: ends it between two parts.

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
            upload_file(Transfer(store, workers, stop), key, archive, size=size)
        _LOG.info("%s stored as %s: %s bytes", source, key, f"{size:,}")


def write_failure(base: Path, reason: str) -> None:
    """Write /opt/ml/output/failure, where SageMaker looks for the reason, unless the script wrote one itself."""
    path = base / "output/failure"
    if path.parent.is_dir() and not path.exists():
        path.write_text(reason[:_FAILURE_CHARACTERS])
