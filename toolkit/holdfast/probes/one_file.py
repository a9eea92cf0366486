"""Judging one file: which format it is, by its first bytes and then by its name, and what that format proves."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from holdfast.probes.formats import (
    archive,
    binary_json,
    hdf5,
    json_text,
    npy,
    ocdbt,
    packed,
    safetensors,
    sstable,
)
from holdfast.probes.pickles import pickled
from holdfast.probes.verdict import CutError, Finding, UnclearError, cut, unknown
from holdfast.probes.view import View

CONTENT_BUDGET = 1 << 28
"""Bytes of content that a probe reads by default, beside headers and directories: about a second's work."""
PROBE_FAILED = "the probe itself failed"
"""How the reason begins where that happened."""
_HEAD = 512
_PARTS = re.compile(r".+\.distcp|.+\.data-\d{5}-of-\d{5}|[0-9a-f]{32}")
"""Names of files that are not of one format, but rows of values of any: torch's, TensorFlow's and OCDBT's shards."""
_METADATA = re.compile(r"(?:__\d+)?\.metadata")
_JSON = (".json", "_METADATA", ".zarray", ".zattrs", ".zgroup", "_sharding")
_Check = Callable[[View], Finding]

_BY_HEAD: tuple[tuple[bytes, _Check], ...] = (
    *((magic, archive.check) for magic in archive.MAGICS),
    (hdf5.MAGIC, hdf5.check),
    (npy.MAGIC, npy.check),
    (ocdbt.MAGIC, ocdbt.check),
    (packed.ZSTD, packed.check_zstd),
    *((magic, partial(packed.check, magic=magic)) for magic in (packed.GZIP, packed.BZIP2, packed.XZ)),
)
_MAGICS = tuple(magic for magic, _ in _BY_HEAD)
_BY_LOOKS: tuple[tuple[Callable[[str, bytes], bool], _Check], ...] = (
    (lambda name, head: name.endswith(safetensors.SUFFIX) or safetensors.looks_like_one(head), safetensors.check),
    (
        lambda name, head: head[:2] in pickled.PROTOCOLS,
        lambda view: pickled.check(view, named=bool(_beginnings(view.name))),
    ),
    (lambda name, head: name.endswith(sstable.SUFFIX) and sstable.HEAD.match(head) is not None, sstable.check),
    (lambda name, head: name.endswith(_JSON), json_text.check),
    (
        lambda name, head: (
            (name.endswith(binary_json.UBJSON_SUFFIX) and head[:1] == b"{") or binary_json.looks_like_xgboost(head)
        ),
        binary_json.check_ubjson,
    ),
    (
        lambda name, head: name.endswith(binary_json.MESSAGEPACK_SUFFIX) and binary_json.looks_like_messagepack(head),
        binary_json.check_messagepack,
    ),
    (
        lambda name, head: head[:2] in packed.ZLIB and name.endswith((".joblib", ".pkl", ".z", ".zlib")),
        lambda view: packed.check(view, view.at(0, 2)),
    ),
    (
        lambda name, head: head.startswith(packed.LZMA) and name.endswith((".joblib", ".pkl", ".lzma")),
        partial(packed.check, magic=packed.LZMA),
    ),
)
_ZIP = tuple(archive.MAGICS)
_PICKLE = pickled.PROTOCOLS
_TORCH = (*_ZIP, *_PICKLE)
_PACKED_PICKLE = (*_PICKLE, *packed.ZLIB, packed.GZIP, packed.BZIP2, packed.XZ, packed.LZMA)
_BY_NAME: dict[str, tuple[bytes, ...]] = {
    ".npz": _ZIP, ".keras": _ZIP, ".pt": _TORCH, ".pth": _TORCH, ".ckpt": _TORCH, ".pt2": _ZIP,
    ".pkl": _PACKED_PICKLE, ".pickle": _PACKED_PICKLE, ".joblib": _PACKED_PICKLE,
    ".h5": (hdf5.MAGIC,), ".hdf5": (hdf5.MAGIC,), ".npy": (npy.MAGIC,),
    ".ocdbt": (ocdbt.MAGIC,), ".ubj": (b"{",),
    ".gz": (packed.GZIP,), ".tgz": (packed.GZIP,), ".bz2": (packed.BZIP2,), ".xz": (packed.XZ,),
    ".zst": (packed.ZSTD,),
}  # fmt: skip
"""Suffix → how files of this name begin. One that is a mere piece of such a beginning, or empty, is cut."""
_WEIGHTS = ("pytorch_model", "training_args", "adapter_model", "optimizer", "scheduler")
"""How those .bin files begin that torch.save writes; others are anything."""


def probe(path: Path, *, content_budget: int = CONTENT_BUDGET) -> Finding:
    """Judge one file.

    Args:
        path: a regular file.
        content_budget: bytes of content that may be read (or unpacked) beside headers and directories. With 0 a
            probe reads kilobytes and still finds most cuts; large files are never called whole then.

    Returns:
        What its format proves; `UNKNOWN` for a format that is not known, and for a file that changed meanwhile.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            return unknown("no regular file")
        finding = judge(View(descriptor=descriptor, name=path.name, size=before.st_size, budget=content_budget))
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return unknown("changed while it was looked at")
    return finding


def probe_content(name: str, content: bytes, *, content_budget: int = CONTENT_BUDGET) -> Finding:
    """Judge a file of which everything has been read. As `probe`; `name` is its last name."""
    return judge(View(descriptor=-1, name=name, size=len(content), budget=content_budget, content=content))


def judge(view: View) -> Finding:
    """Judge an open file."""
    try:
        return _check(view)
    except CutError as error:
        return cut(str(error))
    except UnclearError as error:
        return unknown(str(error))
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  whatever a file holds, it must not stop the others from being stored
        return unknown(f"{PROBE_FAILED}: {error!r}")


def _check(view: View) -> Finding:
    if _PARTS.fullmatch(view.name):
        return unknown("a part of a checkpoint that only its index can judge")
    head = view.at(0, _HEAD)
    if head.startswith(_MAGICS):
        return next(check for magic, check in _BY_HEAD if head.startswith(magic))(view)
    if any(len(head) < len(first) and first.startswith(head) for first in _beginnings(view.name)):
        return cut(f"a file of {len(head)} bytes, which is not even the first mark of what it is named after")
    for looks, check in _BY_LOOKS:
        if looks(view.name, head):
            return check(view)
    return unknown("a format that no probe knows")


def _beginnings(name: str) -> tuple[bytes, ...]:
    """Return how a file of this name may begin; nothing where the name does not say."""
    suffix = Path(name).suffix.lower()
    if _METADATA.fullmatch(name):
        return _PICKLE
    if suffix == ".bin" and name.startswith(_WEIGHTS):
        return _TORCH
    return _BY_NAME.get(suffix, ())
