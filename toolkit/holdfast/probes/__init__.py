"""Prove that a file, or a checkpoint of several files, is cut.

Probes read files, execute nothing in them, and need no library of a format. `docs/formats.md` lists the formats and
what each of them proves.
"""

from holdfast.probes.checkpoint import probe_checkpoint
from holdfast.probes.one_file import CONTENT_BUDGET, probe, probe_content
from holdfast.probes.verdict import Finding, Verdict

__all__ = ["CONTENT_BUDGET", "Finding", "Verdict", "probe", "probe_checkpoint", "probe_content"]
