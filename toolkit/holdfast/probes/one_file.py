"""Probe one file: find its format by its first bytes and then by its name, and apply the format's check."""

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
    dcp,
    hdf5,
    json_text,
    npy,
    ocdbt,
    packed,
    safetensors,
    sstable,
)
from holdfast.probes.pickles import pickled
from holdfast.probes.verdict import CutError, Finding, UnclearError, Verdict
from holdfast.probes.view import View

CONTENT_BUDGET = 1 << 28
"""Default budget in bytes of content, beside headers and directories: takes about a second."""
PROBE_FAILED = "the probe itself failed"
"""How the reason of a finding begins when the probe has raised."""
_HEAD = 512
_PARTS = re.compile(r".+\.distcp|.+\.data-\d{5}-of-\d{5}|[0-9a-f]{32}")
"""Names of shards of torch, TensorFlow and OCDBT: rows of values without a format of their own."""
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


def _begins(*first: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(first)


_ANY = _begins(b"")
# Suffixes of the name, how the file begins, and the check.
_BY_LOOKS: tuple[tuple[str | tuple[str, ...], Callable[[bytes], object], _Check], ...] = (
    (safetensors.SUFFIX, _ANY, safetensors.check),
    ("", safetensors.looks_like_one, safetensors.check),
    ("", _begins(*pickled.PROTOCOLS), lambda view: pickled.check(view, named=bool(_beginnings(view.name)))),
    (sstable.SUFFIX, sstable.HEAD.match, sstable.check),
    (_JSON, _ANY, json_text.check),
    (binary_json.UBJSON_SUFFIX, _begins(b"{"), binary_json.check_ubjson),
    ("", binary_json.looks_like_xgboost, binary_json.check_ubjson),
    (binary_json.MESSAGEPACK_SUFFIX, binary_json.looks_like_messagepack, binary_json.check_messagepack),
    ((".joblib", ".pkl", ".z", ".zlib"), _begins(*packed.ZLIB), lambda view: packed.check(view, view.at(0, 2))),
    ((".joblib", ".pkl", ".lzma"), _begins(packed.LZMA), partial(packed.check, magic=packed.LZMA)),
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
"""Suffix → how files with it begin. A file that is shorter than any of these, and begins like one, is cut."""
_WEIGHTS = ("pytorch_model", "training_args", "adapter_model", "optimizer", "scheduler")
"""First part of the name of a .bin file by torch.save; other .bin files have no known format."""


def probe(path: Path, *, content_budget: int = CONTENT_BUDGET) -> Finding:
    """Probe one file.

    Args:
        content_budget: bytes of content that may be read or unpacked, beside headers and directories (default 256
            MiB). With 0 a probe reads kilobytes and still finds most cuts, but calls no large file whole.

    Returns:
        What its format proves; `UNKNOWN` for an unknown format, and for a file that changed meanwhile.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            return Finding(Verdict.UNKNOWN, "no regular file")
        finding = _probe(View(partial(os.pread, descriptor), path.name, before.st_size, content_budget))
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return Finding(Verdict.UNKNOWN, "changed while it was looked at")
    return finding


def probe_content(name: str, content: bytes, *, content_budget: int = CONTENT_BUDGET) -> Finding:
    """Probe a file whose content has been read; `name` is its last name. Otherwise as `probe`."""
    return _probe(View(lambda length, at: content[at : at + length], name, len(content), content_budget))


def _probe(view: View) -> Finding:
    try:
        return _check(view)
    except CutError as error:
        return Finding(Verdict.CUT, str(error))
    except UnclearError as error:
        return Finding(Verdict.UNKNOWN, str(error))
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  one file must not stop the others from being stored
        return Finding(Verdict.UNKNOWN, f"{PROBE_FAILED}: {error!r}")


def _check(view: View) -> Finding:
    if _PARTS.fullmatch(view.name):
        raise UnclearError("a shard, which only the index of its checkpoint can prove to be cut")
    head = view.at(0, _HEAD)
    for magic, check in _BY_HEAD:
        if head.startswith(magic):
            return check(view)
    if any(len(head) < len(first) and first.startswith(head) for first in _beginnings(view.name)):
        raise CutError(f"a file of {len(head)} bytes, shorter than the first mark of the format in its name")
    for suffix, looks, check in _BY_LOOKS:
        if view.name.endswith(suffix) and looks(head):
            return check(view)
    raise UnclearError("a format that no probe knows")


def _beginnings(name: str) -> tuple[bytes, ...]:
    """Return the ways in which a file of this name begins; empty for a name without a known format."""
    suffix = Path(name).suffix.lower()
    if dcp.METADATA.fullmatch(name):
        return _PICKLE
    if suffix == ".bin" and name.startswith(_WEIGHTS):
        return _TORCH
    return _BY_NAME.get(suffix, ())
