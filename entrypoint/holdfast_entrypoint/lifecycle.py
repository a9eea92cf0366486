"""One life of a container, from its configuration to its exit code. The only module that knows the order."""

from __future__ import annotations

import queue
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from holdfast.errors import ConfigError, HoldfastError
from holdfast.location import Location
from holdfast.metadata import MetadataClient
from holdfast.notices import Notice, NoticeWatcher
from holdfast.opening import open_store
from holdfast.store import Store
from holdfast.watch import Watcher

from holdfast_entrypoint import environment, outputs, signals
from holdfast_entrypoint.child import Child
from holdfast_entrypoint.config import Config
from holdfast_entrypoint.interruption import Interruption
from holdfast_entrypoint.platforms import Platform
from holdfast_entrypoint.preparation import Prepared, prepare
from holdfast_entrypoint.report import Report

T = TypeVar("T")

INTERRUPTED, INTERRUPTED_INCOMPLETE, FLUSH_FAILED = 143, 75, 74
LEFTOVER_SECONDS = 5.0
"""What processes that outlive the script get between SIGTERM and SIGKILL."""
_TRANSFERS = 8
_TICK = 0.05
_PROGRESS_EVERY = 10.0
_USUAL_RATE = 50e6  # bytes per second, until an upload has been measured


class Life:
    """One life: restore → environment → child → watch → notice → stop ladder → flush → outputs → exit.

    Args:
        config: what was configured.
        command: the script's command.
        directory: where it runs; None: here.
        environ: our own environment.
        tell: gets a sentence about everything that the operator should know.
    """

    def __init__(
        self,
        config: Config,
        command: Sequence[str],
        *,
        directory: Path | None,
        environ: Mapping[str, str],
        tell: Callable[[str], None],
    ) -> None:
        self.report = Report()
        self._config = config
        self._command = command
        self._directory = directory
        self._environ = environ
        self._tell = tell
        self._events: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._workers = ThreadPoolExecutor(_TRANSFERS, thread_name_prefix="holdfast-transfer")
        self._child: Child | None = None
        self._prepared: Prepared | None = None
        self._watcher: Watcher | None = None
        self._script_was_stopped = False
        self._run_directory = Path()
        self._interruption = Interruption(
            grace=config.grace, notice_path=Path(), tell=tell, ticks=time.monotonic, clock=time.time
        )

    def live(self) -> int:
        """Live, and return the exit code.

        Raises:
            HoldfastError: before the script was started; its exit code is the container's.
        """
        with ExitStack() as stack:
            stack.callback(self._workers.shutdown, wait=False, cancel_futures=True)
            self._run_directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-")))
            self._interruption = Interruption(
                grace=self._config.grace,
                notice_path=self._notice_path,
                tell=self._tell,
                ticks=time.monotonic,
                clock=time.time,
            )
            stack.enter_context(signals.recorded(self._events))
            notices = self._watch_notices()
            stack.callback(notices.stop)
            self.report.exit_code = self._stages()
        self.report.notice = self._interruption.kind
        if self._config.report_file is not None:
            self.report.write(self._config.report_file)
        return self.report.exit_code

    def _stages(self) -> int:
        self._make_tree()
        self._restore()
        self._handle_events(0)
        if self._interruption.deadline is not None:
            self._tell("interrupted before the script was started")
            return INTERRUPTED
        child = self._start()
        self._supervise(child)
        self.report.script_exit = child.exit_code
        stored = self._flush() and self._store_outputs(child)
        return self._exit_code(child, stored=stored)

    @property
    def _notice_path(self) -> Path:
        return self._run_directory / "notice.json"

    def _watch_notices(self) -> NoticeWatcher:
        endpoint = self._config.metadata_endpoint
        watcher = NoticeWatcher(
            MetadataClient(endpoint) if endpoint else None,
            host_file=self._config.host_notice_file,
            on_notice=self._events.put,
            on_trouble=self._tell,
            expect_metadata=self._config.platform is Platform.EC2,
        )
        watcher.start()
        return watcher

    def _make_tree(self) -> None:
        try:
            environment.make_tree(self._config)
        except OSError as error:
            self._tell(
                f"{self._config.base} cannot be laid out as on SageMaker ({error}); "
                "set SAGEMAKER_BASE_DIR to a writable directory if the script needs it"
            )
        try:
            self._config.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if self._config.location is not None:
                raise ConfigError(
                    f"the checkpoint directory cannot be made ({error}): set CHECKPOINT_LOCAL_PATH to a writable one"
                ) from error

    def _restore(self) -> None:
        """Restore and claim the attempt, unless a notice comes first."""
        self.report.attempt = self._config.run_number
        place = self._config.location
        if place is None:
            if not self._config.managed:
                self._tell("CHECKPOINT_S3_URI is not set: the script is supervised, checkpoints are not stored")
            return
        prepared = self._in_background(
            lambda: self._prepare(place), until=lambda: self._interruption.deadline is not None
        )
        if prepared is None:
            return
        self._prepared = prepared
        self.report.attempt = prepared.attempt.number
        self.report.resumed_from = prepared.resume.name if prepared.resume else None
        self.report.files_restored = len(prepared.restored.entries)
        self.report.bytes_restored = prepared.restored.bytes_fetched

    def _prepare(self, place: Location) -> Prepared:
        return prepare(
            self._config,
            place,
            self._open(place),
            workers=self._workers,
            tell=self._tell,
            progress=_Progress(self._tell),
            should_stop=lambda: self._interruption.deadline is not None,
        )

    def _open(self, place: Location) -> Store:
        return open_store(place, self._environ, should_stop=lambda: self._interruption.seconds_left() <= 0)

    def _start(self) -> Child:
        resume = self._prepared.resume if self._prepared else None
        added = environment.variables(
            self._config, attempt=self.report.attempt, resume=resume, notice_file=self._notice_path
        )
        self._child = Child(self._command, environ={**self._environ, **added}, directory=self._directory)
        if self._prepared is not None:
            self._start_watcher(self._prepared)
        return self._child

    def _start_watcher(self, prepared: Prepared) -> Watcher:
        self._watcher = Watcher(
            prepared.syncer,
            self._config.checkpoints,
            tell=self._tell,
            on_end=lambda: self._events.put(None),
        )
        self._watcher.start()
        return self._watcher

    def _supervise(self, child: Child) -> None:
        """Wait until the script has ended, or has been ended by the deadline."""
        while True:
            deadline = self._interruption.deadline
            self._handle_events(_TICK if deadline is not None else _PROGRESS_EVERY)
            child.reap()
            if not self._script_was_stopped:
                if child.exit_code is not None:
                    self._end_leftovers(child)
                    return
                continue
            child.signal_orphans(self._config.stop_signal)
            if not child.alive():
                return
            if deadline is not None and time.monotonic() >= deadline.stop_by:
                self._tell("the script has not ended in time: SIGKILL, what is left of the time is for the flush")
                child.kill()
                return

    def _end_leftovers(self, child: Child) -> None:
        """End what the script started and left behind, as the end of a container's PID 1 would."""
        give_up = time.monotonic() + LEFTOVER_SECONDS
        if child.alive():
            child.signal(signal.SIGTERM)
        while child.alive() and time.monotonic() < min(give_up, time.monotonic() + self._interruption.seconds_left()):
            self._handle_events(_TICK)
            child.reap()
        child.kill()

    def _handle_events(self, timeout: float) -> None:
        """Wait for an event, at most `timeout` seconds, and act on all that are there."""
        try:
            event = self._events.get(timeout=max(0.0, timeout))
            while True:
                self._handle(event)
                event = self._events.get_nowait()
        except queue.Empty:
            return

    def _handle(self, event: object) -> None:
        child = self._child
        if isinstance(event, signals.Received):
            if event.signal in signals.STOP:
                self._stop(self._interruption.hear_signal(event.signal.name, flush=self._flush_seconds()))
            elif event.signal in signals.PASSED_ON and child is not None:
                child.signal(event.signal)
        elif isinstance(event, Notice):
            self._stop(self._interruption.hear_notice(event, flush=self._flush_seconds()))
            if event.kind == "rebalance" and self._watcher is not None:
                self._watcher.flush_soon()
        elif self._watcher is not None and self._watcher.error is not None and self.report.script_exit is None:
            self._tell(
                f"the watch of the checkpoint directory has failed: {self._watcher.error!r}; all is stored at the end"
            )

    def _stop(self, first: bool) -> None:  # noqa: FBT001  the answer of Interruption.hear_…
        """Tell the script to stop, unless it has been told or has ended."""
        if not first or self._child is None:
            return
        self._child.reap()
        if self._child.exit_code is None:
            self._script_was_stopped = True
            self._child.signal(self._config.stop_signal)

    def _flush_seconds(self) -> float:
        """Guess how long the flush will take: the newest checkpoint once more, at the rate measured last."""
        if self._prepared is None or self._watcher is None:
            return 0.0
        return self._prepared.syncer.newest_checkpoint_size() / (self._watcher.rate or _USUAL_RATE)

    def _flush(self) -> bool:
        """Store what is not stored yet; return whether everything is durable."""
        if self._prepared is None or self._watcher is None:
            return True
        watcher = self._watcher
        if watcher.error is not None:
            # a fresh thread: the old one's failure may have been of the moment
            watcher = self._start_watcher(self._prepared)
        watcher.finish(self._interruption.seconds_left)
        while watcher.is_alive() and self._interruption.seconds_left() > 0:
            self._handle_events(_TICK)
        self.report.bytes_uploaded = self._prepared.syncer.uploaded
        self.report.snapshots = self._prepared.syncer.snapshots
        if watcher.error is not None:
            self._tell(f"the last flush failed: {watcher.error}")
            return False
        if watcher.last is None:
            self._tell("the time ran out before the last flush was committed")
            return False
        for path, reason in watcher.last.unfinished.items():
            self._tell(f"{path} did not make it: {reason}")
        if not watcher.last.unfinished and self._interruption.began is not None:
            self.report.seconds_notice_to_durable = round(time.monotonic() - self._interruption.began, 3)
        return not watcher.last.unfinished

    def _store_outputs(self, child: Child) -> bool:
        """Off SageMaker, store what the script produced; return whether it is durable."""
        config = self._config
        if child.exit_code != 0 and not self._script_was_stopped:
            outputs.write_failure(config.base, f"the script ended with exit code {child.exit_code}")
        place = config.outputs
        if place is None or self._script_was_stopped or child.exit_code != 0:
            return True
        try:
            done = self._in_background(
                lambda: (
                    outputs.store_archives(
                        self._open(place),
                        config.base,
                        workers=self._workers,
                        tell=self._tell,
                        should_stop=lambda: self._interruption.seconds_left() <= 0,
                    )
                    or True
                ),
                until=lambda: self._interruption.seconds_left() <= 0,
            )
        except (HoldfastError, OSError) as error:
            self._tell(f"the outputs were not stored: {error}")
            return False
        return bool(done)

    def _exit_code(self, child: Child, *, stored: bool) -> int:
        if self._script_was_stopped:
            return INTERRUPTED if stored else INTERRUPTED_INCOMPLETE
        code = child.exit_code if child.exit_code is not None else 128 + signal.SIGKILL
        if code == 0 and not stored:
            return INTERRUPTED_INCOMPLETE if self._interruption.deadline is not None else FLUSH_FAILED
        return code

    def _in_background(self, work: Callable[[], T], *, until: Callable[[], bool]) -> T | None:
        """Run work in a thread while events are handled here; None when `until` said to wait no longer."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  handed to the waiting thread
                future.set_exception(error)
            self._events.put(None)

        threading.Thread(target=run, name="holdfast-work", daemon=True).start()
        while not future.done():
            if until():
                return None
            self._handle_events(_PROGRESS_EVERY)
        return None if until() and future.exception() is not None else future.result()


class _Progress:
    """Says every ten seconds how far a long restore has come."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._said = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said >= _PROGRESS_EVERY:
            self._said = now
            self._tell(f"restoring: {done:,} of {total:,} bytes ({100 * done // max(1, total)} %)")
