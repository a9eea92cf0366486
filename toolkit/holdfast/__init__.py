"""Training that survives the spot market: the helper for training scripts.

`import holdfast` needs no third-party package and no entrypoint. The supervisor and its data plane are modules of
this package too, but are not imported here.
"""

from holdfast.script.checkpoints import checkpoint_dir, latest
from holdfast.script.notice import interrupted, remaining
from holdfast.script.save import save

__all__ = ["checkpoint_dir", "interrupted", "latest", "remaining", "save"]
__version__ = "0.1.0"
