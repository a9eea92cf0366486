"""One life of a container, from its configuration to its exit code. The only module that knows the order."""

from __future__ import annotations

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
from holdfast.transfer.parallel import Transfer
from holdfast_entrypoint import exit_codes, outputs, progress
from holdfast_entrypoint.config import environment
from holdfast_entrypoint.config.command import Command
from holdfast_entrypoint.config.platforms import Platform
from holdfast_entrypoint.config.settings import Config
from holdfast_entrypoint.preparation import Prepared, make_directories, prepare
from holdfast_entrypoint.process import signals
from holdfast_entrypoint.process.child import Child, refuse_if_missing
from holdfast_entrypoint.process.interruption import Interruption
from holdfast_entrypoint.process.supervisor import Superseded, Supervisor
from holdfast_entrypoint.report import Report
from holdfast_entrypoint.traffic import Traffic

_LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from holdfast_entrypoint.guard import Guard


def live(config: Config, command: Command, *, environ: Mapping[str, str]) -> int:
    """Run one life of a container and return its exit code.

    Raises:
        HoldfastError: before the script was started.
    """
    with ExitStack() as stack:
        try:
            private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-")))
            private.chmod(0o755)  # a script that gives up its privileges reads the notice too
        except OSError as error:
            raise ConfigError(f"{error}: mount a writable /tmp (--tmpfs /tmp), or set TMPDIR") from error
        life = _Life(config, command, environ, private / "notice.json")
        stack.enter_context(signals.recorded(life.supervisor.inbox))
        stack.callback(signals.block)  # a signal after the end must not replace the exit code
        stack.callback(life.traffic.workers.shutdown, wait=False, cancel_futures=True)
        stack.callback(life.watch_notices().stop)
        life.report.exit_code = life.run()
        life.report.notice = life.interruption.kind
        if config.report_file is not None:
            try:
                life.report.write(config.report_file)
            except OSError as error:
                _LOG.warning("the report cannot be written: %s", error)
        return life.report.exit_code


class _Life:
    """The stages of one life, and what they share."""

    def __init__(self, config: Config, command: Command, environ: Mapping[str, str], notice_path: Path) -> None:
        self.report = Report(attempt=config.run_number)
        self.interruption = Interruption(
            grace=config.grace, notice_path=notice_path, ticks=time.monotonic, clock=time.time
        )
        self.traffic = Traffic(environ, upload_limit=config.upload_limit, stop=self.interruption.stop)
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
        self._notice_path = notice_path
        self._prepared: Prepared | None = None
        self._guard: Guard | None = None

    def run(self) -> int:
        """Run the stages of docs/architecture.md, "One life of a container"; return the exit code."""
        refuse_if_missing(self._command.arguments[0], environ=self._environ)  # before it ends a job under the prefix
        make_directories(self._config)
        self._restore()
        self.supervisor.handle(0)
        if self.interruption.deadline is not None:
            _LOG.warning("interrupted before the script was started")
            return exit_codes.INTERRUPTED
        self._watch_checkpoints()  # before the script: only the event of a rename shows that a file is complete
        child = self._start_script()
        try:
            self.traffic.workers.use_low_priority()
            self.supervisor.wait_for_script(child)
        finally:
            child.kill()  # on any error: no process writes during the flush, and none is left
            self.traffic.use_full_speed()
            stored = self._flush()
        self.report.script_exit = child.exit_code
        if child.died_of_signal and not self.supervisor.script_was_stopped:
            number = (child.exit_code or 128) - 128
            _LOG.error("the script was ended by signal %d (9: out of memory, or killed from outside)", number)
        stored = stored and self._store_outputs(child)
        return self._exit_code(child, stored=stored)

    def watch_notices(self) -> NoticeWatcher:
        """Start to poll for notices, in a thread."""
        endpoint = self._config.metadata_endpoint
        watcher = NoticeWatcher(
            MetadataClient(endpoint) if endpoint else None,
            host_file=self._config.host_notice_file,
            on_notice=self.supervisor.inbox.put,
            expect_metadata=self._config.platform in (Platform.EC2, Platform.ECS, Platform.BATCH),
        )
        watcher.start()
        return watcher

    def _restore(self) -> None:
        """Claim an attempt and restore, unless a notice comes first."""
        stop = StopToken(when=lambda: self.interruption.deadline is not None)
        place, outputs_place = self._config.location, self._config.outputs
        if outputs_place is not None:  # an error here is better than one after the training
            self.supervisor.in_background(lambda: self.traffic.open(outputs_place).check(), stop=stop)
        if place is None:
            if not self._config.managed:
                _LOG.warning("CHECKPOINT_S3_URI is not set: the script is supervised, checkpoints are not stored")
            return
        self.traffic.workers.submit(importlib.import_module, "holdfast_entrypoint.guard")  # while the network answers

        def restore() -> Prepared:
            with progress.shown("restoring") as count:
                return prepare(self._config, place, self.traffic, progress=count, stop=stop)

        self._prepared = self.supervisor.in_background(restore, stop=stop)
        if self._prepared is not None:
            self.report.attempt = self._prepared.attempt.number
            self.report.resumed_from = self._prepared.resume.name if self._prepared.resume else None
            self.report.files_restored = len(self._prepared.restored.files)
            self.report.bytes_restored = self._prepared.restored.bytes_fetched

    def _watch_checkpoints(self) -> None:
        if self._prepared is not None:
            from holdfast_entrypoint.guard import Guard  # noqa: PLC0415  imported during the restore

            self._guard = Guard(
                self._prepared,
                workers=self.traffic.workers,
                wake=self._on_watch_end,
                stop=self.interruption.stop,
            )

    def _start_script(self) -> Child:
        resume = self._prepared.resume if self._prepared else None
        if self._config.managed:  # SageMaker has restored
            resume = latest(directory=self._config.checkpoints)
        added = environment.variables(
            self._config, attempt=self.report.attempt, resume=resume, notice_file=self._notice_path
        )
        inherited = {name: value for name, value in self._environ.items() if name not in environment.OURS}
        return Child(self._command.arguments, environ=inherited | added, directory=self._command.directory)

    def _on_watch_end(self) -> None:
        if self._guard is not None and self._guard.superseded is not None:
            self.supervisor.inbox.put(Superseded())
        self.supervisor.inbox.wake()

    def _flush_soon(self) -> None:
        self.traffic.use_full_speed()  # until the end: a rebalance recommendation comes minutes before it
        if self._guard is not None:
            self._guard.flush_soon()

    def _flush_seconds(self) -> float:
        return self._guard.flush_seconds() if self._guard is not None else 0.0

    def _flush(self) -> bool:
        """Store what is not stored yet; return whether everything is durable."""
        if self._guard is None or self._prepared is None:
            return True
        durable = self._guard.flush(killed=self.supervisor.killed, meanwhile=self.supervisor.handle)
        syncer = self._prepared.syncer
        self.report.bytes_uploaded, self.report.snapshots = syncer.bandwidth.arrived, syncer.snapshots
        self.report.flush = self._guard.ledger()
        if durable and self.interruption.began is not None:
            self.report.seconds_notice_to_durable = round(time.monotonic() - self.interruption.began, 3)
        return durable

    def _store_outputs(self, child: Child) -> bool:
        """Store the outputs of a script that ended well; return whether they are durable."""
        place, stop = self._config.outputs, self.interruption.stop
        if self.supervisor.script_was_stopped:
            return True  # the next attempt produces them
        if child.exit_code != 0:
            outputs.write_failure(self._config.base, f"the script ended with exit code {child.exit_code}")
            return True
        if place is None:
            return True

        def store() -> bool:
            if self._guard is not None:
                self._guard.refuse_if_superseded()  # the successor stores its own outputs
            transfer = Transfer(self.traffic.open(place), self.traffic.workers, stop)
            outputs.store_archives(transfer, self._config.base, host=self._config.output_host)
            return True

        try:
            return bool(self.supervisor.in_background(store, stop=stop))
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
