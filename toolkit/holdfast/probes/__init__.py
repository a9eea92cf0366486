"""Probes: whether a file, or a checkpoint of several files, is provably cut.

They read what is on disk, execute nothing of it, and need no package beside the standard library.
`docs/formats.md` has the formats, and what each of them proves.
"""

from holdfast.probes.checkpoint import probe_checkpoint
from holdfast.probes.one_file import CONTENT_BUDGET, probe, probe_content
from holdfast.probes.verdict import Finding, Verdict

__all__ = ["CONTENT_BUDGET", "Finding", "Verdict", "probe", "probe_checkpoint", "probe_content"]
