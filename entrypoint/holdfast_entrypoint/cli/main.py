"""The command line: PID 1 of a container, and `holdfast` outside of one."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence

import holdfast
from holdfast.errors import MORE_PROCESSES, ConfigError, HoldfastError
from holdfast_entrypoint import log
from holdfast_entrypoint.cli.arguments import Parser
from holdfast_entrypoint.config import log_settings
from holdfast_entrypoint.process import signals

_LOG = logging.getLogger(__name__)

DESCRIPTION = """\
Training that survives the spot market: restore checkpoints, run the training script, store
checkpoints while it runs, hear the interruption, flush in time.

  holdfast run [--] COMMAND...   run a command under holdfast (a bare COMMAND does the same)
  holdfast train                 run SAGEMAKER_PROGRAM as SageMaker does (the default)
  holdfast ls URI                list snapshots and checkpoints under a prefix
  holdfast pull URI DIRECTORY    fetch a snapshot, or one checkpoint of it
  holdfast push PATH URI         store a file or directory as one checkpoint
  holdfast verify URI            read everything back and compare checksums
  holdfast gc URI                delete what the retention policy no longer keeps

URI is s3://BUCKET/PREFIX or file:///DIRECTORY.
"""

ENVIRONMENT = """\
environment:
  CHECKPOINT_S3_URI          where checkpoints live (s3://... or file:///...); none: supervise only
  CHECKPOINT_LOCAL_PATH      where the script reads and writes them (/opt/ml/checkpoints)
  CHECKPOINT_RESTORE         how much of the newest snapshot is restored: all (before the script starts), latest (the
                             newest checkpoint before it, the older ones behind it), none
  CHECKPOINT_RETENTION       which snapshots are kept: 3 (the last three), 3+6h (and one for every 6 hours),
                             all, or mirror (what the script deletes is deleted there too)
  OUTPUT_S3_URI              where model.tar.gz and output.tar.gz go
  AWS_ENDPOINT_URL_S3, S3_ENDPOINT_URL
                             an S3-compatible server instead of AWS
  SAGEMAKER_PROGRAM          what `train` runs: a Python file under /opt/ml/code
  SAGEMAKER_BASE_DIR         instead of /opt/ml, outside a container
  HOLDFAST_GRACE_SECONDS     seconds between SIGTERM and SIGKILL here (by platform: 10 to 120)
  HOLDFAST_STOP_SIGNAL       what the script gets when it has to stop (SIGTERM)
  HOLDFAST_HOST_NOTICE_FILE  a file that the host makes appear when the instance is reclaimed
  HOLDFAST_HOSTS             names of all hosts that train side by side on one prefix, with commas
                             (known on SageMaker and for AWS Batch's multi-node jobs)
  HOLDFAST_HOST              this host's name among them (the hostname)
  HOLDFAST_RUN               the same on all hosts of one start, different at the next start
  HOLDFAST_S3_TIMEOUT_SECONDS
                             read timeout in seconds of requests to the store (60)
  HOLDFAST_UPLOAD_LIMIT      what uploads to S3 may take while the script runs undisturbed: 50MB/s (no limit)
  HOLDFAST_REPORT_FILE       where a JSON report of this run goes
  HOLDFAST_LOG_LEVEL         debug, info, warning or error (info)
  HOLDFAST_LOG_FORMAT        text or json (text); text has the time unless the
                             engine, the platform or the journal adds it

exit codes:
  the script's own           it ended by itself and everything is stored (128+n for signal n)
  143                        interrupted, everything is stored: run it again
  75                         interrupted, not everything was stored in time: run it again, raise the grace
  74                         the script ended well, its last files could not be stored
  64 / 65 / 69 / 70          bad configuration / no snapshot verifies / store unreachable, denied, or taken
                             over by another container / our bug
"""


BY_HAND = ("ls", "pull", "push", "verify", "gc")
"""Commands that people and scripts call beside or without a job."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    log.install(os.environ, by_hand=bool(arguments) and arguments[0] in BY_HAND)

    def work() -> int:
        code = _dispatch(list(arguments))
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
        return code

    # Not sys.exit: it waits for the threads of every pool, and a transfer that hangs in the network must not hold the
    # container past its deadline.
    os._exit(_guarded(work))


def _guarded(work: Callable[[], int]) -> int:
    """Do the work; turn an error into a sentence and its exit code."""
    try:
        return work()
    except HoldfastError as error:
        _LOG.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141  # 128 + SIGPIPE: whoever read our output has heard enough
    except OSError as error:
        _LOG.error("the operating system refused: %s; check permissions and free space", error)
        return ConfigError.exit_code
    except Exception as error:  # noqa: BLE001  the one place where what nobody foresaw becomes an exit code
        return _unforeseen(error)


def _unforeseen(error: Exception) -> int:
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        _LOG.error("no thread can be started, their limit is reached: %s", MORE_PROCESSES)
        return ConfigError.exit_code
    import traceback  # noqa: PLC0415  only when there is something to trace

    trace = "".join(traceback.format_exception(error))
    _LOG.error("%sthis is a bug in holdfast: %s: %s", trace, type(error).__name__, error)
    return HoldfastError.exit_code


def _dispatch(arguments: list[str]) -> int:
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("train", [])
    if verb in ("-h", "--help", "help"):
        sys.stdout.write(f"{DESCRIPTION}\n{ENVIRONMENT}")
        return 0
    if verb in ("-V", "--version"):
        sys.stdout.write(f"holdfast {holdfast.__version__}\n")
        return 0
    if verb == "serve":
        raise ConfigError("serve: this is a training image; deploy the model from model.tar.gz with a serving image")
    if verb in BY_HAND:
        signals.heard_by_default()
        if problems := log_settings.read(os.environ)[-1]:
            raise ConfigError(*problems)
        from holdfast_entrypoint.cli import verbs  # noqa: PLC0415  the data plane is loaded only for those who use it

        return verbs.main(verb, rest)
    if verb.startswith("-") and verb != "--":
        raise ConfigError(f"{verb} is no option of holdfast: see `holdfast --help`")
    return _run(verb, rest, os.environ)


def _run(verb: str, rest: list[str], environ: Mapping[str, str]) -> int:
    """Run `train`, `run [--] COMMAND...` or a bare command."""
    if verb == "run":
        parser = Parser(
            prog="holdfast run",
            usage="%(prog)s [-h] [--] COMMAND...",
            epilog=ENVIRONMENT,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("command", nargs=argparse.REMAINDER, metavar="[--] COMMAND...", help="what to run")
        command = parser.parse_args(rest).command
        command = command[1:] if command[:1] == ["--"] else command
        if not command:
            raise ConfigError("run: no command is given: `holdfast run -- python train.py --epochs 3`")
    elif verb == "--":
        command = rest
    elif verb == "train":
        command = []
    else:
        command = [verb, *rest]
    from holdfast_entrypoint import lifecycle  # noqa: PLC0415  as above
    from holdfast_entrypoint.config import command as commands  # noqa: PLC0415
    from holdfast_entrypoint.config import reader  # noqa: PLC0415

    settings, problems = reader.read(environ)
    what = commands.Command(command, None)
    if not command:
        try:
            what = commands.train(settings, environ)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    for hint in reader.misspelt(environ):
        _LOG.warning("%s", hint)
    return lifecycle.live(settings, what, environ=environ)
