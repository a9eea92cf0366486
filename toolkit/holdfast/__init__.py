"""Helper for training scripts: five functions, which need the standard library only.

    checkpoint_dir()   the directory for checkpoints
    latest()           the newest complete checkpoint; None on a fresh start
    save(path)         write a checkpoint so that it exists whole or not at all
    interrupted()      whether the script must save and end
    remaining()        seconds left for that

Everything else in this package is the engine behind the command `holdfast`, and may change with any version.
"""

from holdfast.script.checkpoints import checkpoint_dir, latest
from holdfast.script.notice import interrupted, remaining
from holdfast.script.save import save

__all__ = ["checkpoint_dir", "interrupted", "latest", "remaining", "save"]
__version__ = "0.1.0"


def __dir__() -> list[str]:
    """Return the interface for scripts: completion shows these and not the engine."""
    return __all__
