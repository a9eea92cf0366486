"""`holdfast` that kills itself: `python -m tests.crash.doomed NUMBER MOMENT run -- COMMAND`.

Everything in it is real; its operations on disk and socket are counted, and at one of them the process gets a SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys

from tests.crash.fuse import Charge, Fuse, Moment, at
from tests.crash.operations import Disk

from holdfast_entrypoint.cli import main as cli


def main() -> None:
    number, moment, *arguments = sys.argv[1:]
    disk = Disk()
    strike = Charge(at(int(number), Moment(moment)), lambda _: os.kill(os.getpid(), signal.SIGKILL))
    sys.argv[1:] = arguments
    with disk.installed(), disk.used_by(Fuse(strike)):
        cli.main()


if __name__ == "__main__":
    main()
