"""One life of a container, from its configuration to its exit code. The only module that knows the order."""

from __future__ import annotations

import contextlib
import importlib
import logging
import signal
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.errors import ConfigError, HoldfastError, SupersededError
from holdfast.notices.imds import MetadataClient
from holdfast.notices.watcher import NoticeWatcher
from holdfast.script.checkpoints import latest
from holdfast.stop import StopToken
from holdfast.store import Store
from holdfast.store.location import Location
from holdfast.store.open import open_store
from holdfast.workers.bandwidth import Bandwidth
from holdfast.workers.concurrency import Concurrency
from holdfast.workers.pool import Workers
from holdfast_entrypoint import exit_codes, outputs, progress
from holdfast_entrypoint.config import environment
from holdfast_entrypoint.config.command import Command
from holdfast_entrypoint.config.platforms import Platform
from holdfast_entrypoint.config.settings import Config
from holdfast_entrypoint.preparation import Prepared, prepare
from holdfast_entrypoint.process import signals
from holdfast_entrypoint.process.child import Child, refuse_if_missing
from holdfast_entrypoint.process.interruption import Interruption
from holdfast_entrypoint.process.supervisor import Superseded, Supervisor
from holdfast_entrypoint.report import Report

_LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from holdfast_entrypoint.guard import Guard


def live(config: Config, command: Command, *, environ: Mapping[str, str]) -> int:
    """Live one life and return the exit code.

    Args:
        config: what was configured.
        command: the script's command.
        environ: our own environment.

    Raises:
        HoldfastError: before the script was started; its exit code is the container's.
    """
    with ExitStack() as stack:
        try:
            private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-")))
            private.chmod(0o755)  # a script that gives up its privileges reads the notice too
        except OSError as error:
            raise ConfigError(f"{error}: mount a writable /tmp (--tmpfs /tmp), or set TMPDIR") from error
        life = _Life(config, command, environ, private)
        stack.enter_context(signals.recorded(life.supervisor.inbox))
        stack.callback(signals.block)  # a signal after the end must not replace the exit code
        stack.callback(life.workers.shutdown, wait=False, cancel_futures=True)
        stack.callback(life.watch_notices().stop)
        life.report.exit_code = life.stages()
        life.report.notice = life.interruption.kind
        if config.report_file is not None:
            try:
                life.report.write(config.report_file)
            except OSError as error:
                _LOG.warning("the report cannot be written: %s", error)
        return life.report.exit_code


class _Life:
    """What the stages of one life share."""

    def __init__(
        self,
        config: Config,
        command: Command,
        environ: Mapping[str, str],
        private: Path,
    ) -> None:
        self.report = Report(attempt=config.run_number)
        self._concurrency = Concurrency()
        self.workers = Workers(concurrency=self._concurrency, upload_limit=config.upload_limit)
        self._bandwidth = Bandwidth(time.monotonic)
        self._hurrying = False
        self.interruption = Interruption(
            grace=config.grace,
            notice_path=private / "notice.json",
            ticks=time.monotonic,
            clock=time.time,
        )
        self.supervisor = Supervisor(
            self.interruption,
            stop_signal=config.stop_signal,
            checkpoints=config.checkpoints,
            flush_seconds=self._flush_seconds,
            on_stop=self._flush_soon,
            on_rebalance=self._flush_soon,
        )
        self._config = config
        self._command = command
        self._environ = environ
        self._notice_path = private / "notice.json"
        self._prepared: Prepared | None = None
        self._guard: Guard | None = None

    def stages(self) -> int:
        """Go through one life: restore → environment → watch → child → flush → outputs → exit code."""
        refuse_if_missing(self._command.arguments[0], environ=self._environ)  # before a running job is ended for it
        self._make_tree()
        self._restore()
        self.supervisor.handle(0)
        if self.interruption.deadline is not None:
            _LOG.warning("interrupted before the script was started")
            return exit_codes.INTERRUPTED
        self._stand_guard()  # before the script: what it renames into place in its first moments is whole, if seen
        child = self._start()
        try:
            self.workers.use_low_priority()
            self.supervisor.wait_for_script(child)
        finally:
            child.kill()  # whatever happened to us: nobody writes while we flush, and nobody is left behind
            self._hurry()
            stored = self._flush()
        self.report.script_exit = child.exit_code
        if child.died_of_signal and not self.supervisor.script_was_stopped:
            number = (child.exit_code or 128) - 128
            _LOG.error("the script was ended by signal %d (9: out of memory, or killed from outside)", number)
        return self._exit_code(child, stored=stored and self._store_outputs(child))

    def watch_notices(self) -> NoticeWatcher:
        """Begin to look for notices; this costs the start nothing."""
        endpoint = self._config.metadata_endpoint
        watcher = NoticeWatcher(
            MetadataClient(endpoint) if endpoint else None,
            host_file=self._config.host_notice_file,
            on_notice=self.supervisor.inbox.put,
            expect_metadata=self._config.platform in (Platform.EC2, Platform.ECS, Platform.BATCH),
        )
        watcher.start()
        return watcher

    def _make_tree(self) -> None:
        try:
            environment.make_tree(self._config)
        except OSError as error:
            _LOG.warning(
                "%s cannot be laid out as on SageMaker (%s); set SAGEMAKER_BASE_DIR to a writable directory if the "
                "script needs it", self._config.base, error,
            )  # fmt: skip
        try:
            self._config.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if self._config.location is not None:
                raise ConfigError(
                    f"the checkpoint directory cannot be made ({error}): set CHECKPOINT_LOCAL_PATH to a writable one"
                ) from error

    def _restore(self) -> None:
        """Restore and claim the attempt, unless a notice comes first."""
        stop = StopToken(when=lambda: self.interruption.deadline is not None)
        outputs_place, place = self._config.outputs, self._config.location
        if outputs_place is not None:  # a bucket that is not there is better known before the training than after it
            self.supervisor.in_background(lambda: self._open(outputs_place).check(), stop=stop)
        if place is None:
            if not self._config.managed:
                _LOG.warning("CHECKPOINT_S3_URI is not set: the script is supervised, checkpoints are not stored")
            return
        self.workers.submit(importlib.import_module, "holdfast_entrypoint.guard")  # while the network is waited for

        def bring() -> Prepared:
            with progress.shown("restoring") as count:
                return prepare(
                    self._config,
                    place,
                    self._open(place),
                    workers=self.workers,
                    bandwidth=self._bandwidth,
                    progress=count,
                    stop=stop,
                )

        self._prepared = self.supervisor.in_background(bring, stop=stop)
        if self._prepared is not None:
            self.report.attempt = self._prepared.attempt.number
            self.report.resumed_from = self._prepared.resume.name if self._prepared.resume else None
            self.report.files_restored = len(self._prepared.restored.files)
            self.report.bytes_restored = self._prepared.restored.bytes_fetched

    def _open(self, place: Location) -> Store:
        return open_store(
            place,
            self._environ,
            stop=self.interruption.stop,
            allow=self._allow,
            concurrency=self._concurrency,
        )

    def _allow(self, wanted: int) -> int:
        allowed = self.workers.allow(wanted)
        self._bandwidth.leaving(allowed)
        return allowed

    def _start(self) -> Child:
        added = environment.variables(
            self._config,
            attempt=self.report.attempt,
            resume=self._resume(),
            notice_file=self._notice_path,
        )
        inherited = {name: value for name, value in self._environ.items() if name not in environment.OURS}
        return Child(self._command.arguments, environ=inherited | added, directory=self._command.directory)

    def _resume(self) -> Path | None:
        """Return the newest complete checkpoint that was restored: by us, or by SageMaker in a managed job."""
        if self._config.managed:
            return latest(directory=self._config.checkpoints)
        return self._prepared.resume if self._prepared else None

    def _stand_guard(self) -> None:
        """Watch the checkpoint directory from now on."""
        if self._prepared is not None:
            from holdfast_entrypoint.guard import Guard  # noqa: PLC0415  loaded beside the restore

            self._guard = Guard(
                self._prepared,
                self._config.checkpoints,
                workers=self.workers,
                wake=self._look_at_guard,
                stop=self.interruption.stop,
            )

    def _look_at_guard(self) -> None:
        if self._guard is not None and self._guard.superseded is not None:
            self.supervisor.inbox.put(Superseded())
        self.supervisor.inbox.wake()

    def _flush_soon(self) -> None:
        self._hurry()  # and from now on: what recommends to leave comes minutes before what ends us
        if self._guard is not None:
            self._guard.flush_soon()

    def _hurry(self) -> None:
        if self._config.upload_limit is not None and not self._hurrying:
            self._bandwidth.forget()
        self._hurrying = True
        self.workers.use_normal_priority()

    def _flush_seconds(self) -> float:
        return self._guard.flush_seconds() if self._guard is not None else 0.0

    def _flush(self) -> bool:
        """Store what is not stored yet; return whether everything is durable."""
        if self._guard is None:
            return True
        durable = self._guard.flush(killed=self.supervisor.killed, meanwhile=self.supervisor.handle)
        self.report.bytes_uploaded, self.report.snapshots = self._guard.uploaded, self._guard.snapshots
        self.report.flush = self._guard.ledger()
        if durable and self.interruption.began is not None:
            self.report.seconds_notice_to_durable = round(time.monotonic() - self.interruption.began, 3)
        return durable

    def _store_outputs(self, child: Child) -> bool:
        """Off SageMaker, store what the script produced; return whether it is durable."""
        if self.supervisor.script_was_stopped:
            return True  # the next attempt produces it
        if child.exit_code != 0:
            with contextlib.suppress(OSError):  # a convenience; the exit code says it too
                outputs.write_failure(self._config.base, f"the script ended with exit code {child.exit_code}")
            return True
        place = self._config.outputs
        if place is None:
            return True

        def store() -> bool:
            if self._guard is not None:
                self._guard.refuse_if_superseded()  # the outputs are the successor's business then
            outputs.store_archives(
                self._open(place),
                self._config.base,
                host=self._config.output_host,
                workers=self.workers,
                stop=self.interruption.stop,
            )
            return True

        try:
            return bool(self.supervisor.in_background(store, stop=self.interruption.stop))
        except SupersededError:
            return False
        except (HoldfastError, OSError) as error:
            _LOG.error("the outputs were not stored: %s", error)
            return False

    def _exit_code(self, child: Child, *, stored: bool) -> int:
        if self._guard is not None and self._guard.superseded is not None:
            if self._config.group is not None:
                _LOG.error("%s. The other hosts have begun a new attempt: run this one again", self._guard.superseded)
                return exit_codes.INTERRUPTED_INCOMPLETE
            _LOG.error("%s. Run one container on a prefix; this one must not be run again", self._guard.superseded)
            return exit_codes.NO_STORE
        if self.supervisor.script_was_stopped:
            return exit_codes.INTERRUPTED if stored else exit_codes.INTERRUPTED_INCOMPLETE
        code = child.exit_code if child.exit_code is not None else exit_codes.of_signal(signal.SIGKILL)
        if code == 0 and not stored:
            interrupted = self.interruption.deadline is not None
            return exit_codes.INTERRUPTED_INCOMPLETE if interrupted else exit_codes.NOT_STORED
        return code
