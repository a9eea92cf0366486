"""The command line: PID 1 of a container, and `holdfast` outside of one."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from signal import SIGINT, SIGPIPE

import holdfast
from holdfast.errors import MORE_PROCESSES, ConfigError, HoldfastError
from holdfast_entrypoint import exit_codes, log
from holdfast_entrypoint.cli import help_text
from holdfast_entrypoint.cli.arguments import Parser
from holdfast_entrypoint.config import log_settings
from holdfast_entrypoint.process import signals

_LOG = logging.getLogger(__name__)

BY_HAND = ("ls", "pull", "push", "verify", "gc")
"""Commands that are called by hand, beside or without a job."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    log.install(os.environ, by_hand=bool(arguments) and arguments[0] in BY_HAND)

    def work() -> int:
        code = _dispatch(list(arguments))
        if sys.stdout is not None:  # closed by the process that started this one
            sys.stdout.flush()
        return code

    # Not sys.exit: it waits for the threads of every pool, and a transfer that hangs in the network must not hold the
    # container past its deadline.
    os._exit(_guarded(work))


def _guarded(work: Callable[[], int]) -> int:
    """Do the work; log an error and return its exit code."""
    try:
        return work()
    except HoldfastError as error:
        _LOG.error("%s", error)
        return exit_codes.of_error(error)
    except KeyboardInterrupt:
        return exit_codes.of_signal(SIGINT)
    except BrokenPipeError:
        return exit_codes.of_signal(SIGPIPE)  # the reader of our output has closed it
    except OSError as error:
        _LOG.error("the operating system refused: %s; check permissions and free space", error)
        return exit_codes.BAD_CONFIGURATION
    except Exception as error:  # noqa: BLE001  the one place where an unforeseen error becomes an exit code
        return _unforeseen(error)


def _unforeseen(error: Exception) -> int:
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        _LOG.error("no thread can be started, their limit is reached: %s", MORE_PROCESSES)
        return exit_codes.BAD_CONFIGURATION
    import traceback  # noqa: PLC0415  only when there is something to trace

    trace = "".join(traceback.format_exception(error))
    _LOG.error("%sthis is a bug in holdfast: %s: %s", trace, type(error).__name__, error)
    return exit_codes.BUG


def _dispatch(arguments: list[str]) -> int:
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("train", [])
    if verb in ("-h", "--help", "help"):
        sys.stdout.write(f"{help_text.COMMANDS}\n{help_text.ENVIRONMENT}")
        return 0
    if verb in ("-V", "--version"):
        sys.stdout.write(f"holdfast {holdfast.__version__}\n")
        return 0
    if verb == "serve":
        raise ConfigError("serve: this is a training image; deploy model.tar.gz with a serving image")
    if verb in BY_HAND:
        signals.unblock()
        if problems := log_settings.read(os.environ)[-1]:
            raise ConfigError(*problems)
        from holdfast_entrypoint.cli import verbs  # noqa: PLC0415  the data plane is loaded only where it is used

        return verbs.main(verb, rest)
    if verb.startswith("-") and verb != "--":
        raise ConfigError(f"unknown option: {verb}; see `holdfast --help`")
    return _run(verb, rest, os.environ)


def _run(verb: str, rest: list[str], environ: Mapping[str, str]) -> int:
    """Run `train`, `run [--] COMMAND...` or a bare command."""
    if verb == "run":
        parser = Parser(
            prog="holdfast run",
            usage="%(prog)s [-h] [--] COMMAND...",
            epilog=help_text.ENVIRONMENT,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("command", nargs=argparse.REMAINDER, metavar="[--] COMMAND...", help="command to run")
        command = parser.parse_args(rest).command
        command = command[1:] if command[:1] == ["--"] else command
        if not command:
            raise ConfigError("run: the command is missing; for example `holdfast run -- python train.py --epochs 3`")
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
