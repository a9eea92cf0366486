"""PID 1: `python -I -u -m holdfast_entrypoint`."""

import signal

# Before any other import: the kernel drops a signal that PID 1 has no handler for, and keeps one that is blocked.
# `signals.recorded` unblocks them.
if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})

    from holdfast_entrypoint.cli.main import main

    main()
