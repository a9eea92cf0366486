"""What is moved: checkpoint directories as training leaves them, and how they change until the next time."""

from __future__ import annotations

import json
import os
import random
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
AN_HOUR = 3600
PART = 16 * MIB  # holdfast's; what changed is rounded to it

# Bytes are divided by it when the benchmark shall be over in a minute.
SMALL = 64


@dataclass(frozen=True, slots=True)
class Workload:
    """A directory, and what happens to it.

    Attributes:
        name: for the command line and the results.
        title: for people.
        build: writes the directory; its second argument divides all sizes.
        steps: `up` and `down`, or `again`: a second upload, after a change where there is one.
        change: rewrites some of it; returns the bytes that are new, rounded up to parts. None: nothing happens.
    """

    name: str
    title: str
    build: Callable[[Path, int], None]
    steps: tuple[str, ...] = ("up", "down")
    change: Callable[[Path], int] | None = None


def write(path: Path, size: int) -> None:
    """Write a file of random bytes; nothing can compress it or find two parts of it the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for offset in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - offset)))


def age(directory: Path) -> None:
    """Let all files be an hour old: tools that go by the time must not take them for newer than what they uploaded."""
    then = time.time() - AN_HOUR
    for path in files(directory):
        os.utime(path, (then, then))


def files(directory: Path) -> Iterator[Path]:
    """Yield all files below a directory."""
    return (path for path in directory.rglob("*") if path.is_file())


def size_of(directory: Path) -> int:
    """Return the bytes of all files below a directory."""
    return sum(path.stat().st_size for path in files(directory))


def _large(directory: Path, divisor: int) -> None:
    write(directory / "state.bin", 2048 * MIB // divisor)


def _shards(directory: Path, divisor: int) -> None:
    for number in range(8):
        write(directory / f"shard-{number}.bin", 512 * MIB // divisor)


def _many(directory: Path, divisor: int) -> None:
    for number in range(2000 // min(divisor, 10)):
        write(directory / f"{number // 100:02d}" / f"{number:05d}.bin", 64 << 10)


def _hugging_face(directory: Path, divisor: int) -> None:
    """Write what a `Trainer` leaves: shards of a model, an optimizer of twice their size, tokenizer and states."""
    for number in range(1, 5):
        safetensors(directory / f"model-{number:05d}-of-00004.safetensors", 120 * MIB // divisor)
    torch_zip(directory / "optimizer.pt", 960 * MIB // divisor)
    torch_zip(directory / "scheduler.pt", 1 << 10)
    torch_zip(directory / "rng_state.pth", 14 << 10)
    torch_zip(directory / "training_args.bin", 5 << 10)
    _texts(directory, divisor)


def _texts(directory: Path, divisor: int) -> None:
    words = [f"token-{number}" for number in range(150_000 // divisor)]
    history = [{"epoch": step / 500, "loss": 1 / step, "step": step} for step in range(1, 5001)]
    texts: dict[str, object] = {
        "config.json": {"hidden_size": 1024, "num_hidden_layers": 24},
        "generation_config.json": {"eos_token_id": 2},
        "model.safetensors.index.json": {"weight_map": dict.fromkeys(words[:300], "model-00001-of-00004.safetensors")},
        "special_tokens_map.json": {"eos_token": "</s>"},
        "tokenizer.json": {"model": {"vocab": {word: number for number, word in enumerate(words)}}},
        "tokenizer_config.json": {"model_max_length": 4096},
        "trainer_state.json": {"global_step": 5000, "log_history": history},
        "vocab.json": {word: number for number, word in enumerate(words)},
    }
    for name, content in texts.items():
        (directory / name).write_text(json.dumps(content))
    (directory / "merges.txt").write_text("\n".join(f"{word} {word}" for word in words))
    (directory / "README.md").write_text("# A checkpoint\n")


def safetensors(path: Path, size: int) -> None:
    """Write a safetensors file of one tensor with so many bytes (github.com/huggingface/safetensors, "Format")."""
    header = json.dumps({"weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    write(path, size)
    content = path.with_suffix(".content")
    path.rename(content)
    with path.open("wb") as file, content.open("rb") as tensor:
        file.write(len(header).to_bytes(8, "little") + header)
        while piece := tensor.read(MIB):
            file.write(piece)
    content.unlink()


def torch_zip(path: Path, size: int) -> None:
    """Write a ZIP archive laid out as torch.save does, with one storage of so many bytes, not compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{path.stem}/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr(f"{path.stem}/version", b"3\n")
        with archive.open(zipfile.ZipInfo(f"{path.stem}/data/0"), "w", force_zip64=True) as storage:
            for offset in range(0, size, MIB):
                storage.write(os.urandom(min(MIB, size - offset)))


def _one_file(directory: Path, divisor: int) -> None:
    write(directory / "state.bin", max(1024 * MIB // divisor, 128 * MIB))


def _rewrite_scattered(directory: Path) -> int:
    """Write 5 % of a file anew, in place, in four stretches anywhere."""
    path = directory / "state.bin"
    size = path.stat().st_size
    stretch = size // 80
    starts = [random.randrange(number * size // 4, (number + 1) * size // 4 - stretch) for number in range(4)]
    return _overwrite(path, [(start, stretch) for start in starts])


def _rewrite_adapters(directory: Path) -> int:
    """Write the last 5 % of a file anew: frozen weights lie before the adapters, at the offsets where they were."""
    path = directory / "state.bin"
    size = path.stat().st_size
    return _overwrite(path, [(size - size // 20, size // 20)])


def _overwrite(path: Path, ranges: list[tuple[int, int]]) -> int:
    parts: set[int] = set()
    with path.open("r+b") as file:
        for start, length in ranges:
            file.seek(start)
            file.write(os.urandom(length))
            parts |= set(range(start // PART, (start + length - 1) // PART + 1))
    size = path.stat().st_size
    return sum(min(PART, size - part * PART) for part in parts)


def _lora(directory: Path, divisor: int) -> None:
    for number in range(1, 5):
        safetensors(directory / f"model-{number:05d}-of-00004.safetensors", 240 * MIB // divisor)
    _new_adapters(directory, 48 * MIB // divisor)
    _texts(directory, divisor * 10)


def _new_adapters(directory: Path, size: int) -> None:
    safetensors(directory / "adapter_model.safetensors", size)


def _save_with_frozen_weights(directory: Path) -> int:
    """Save once more: the frozen files are written with what they had, the adapters are new."""
    adapters = directory / "adapter_model.safetensors"
    size = adapters.stat().st_size
    _new_adapters(directory, size - 100)
    for path in files(directory):
        os.utime(path)
    return size


WORKLOADS = (
    Workload("large", "1 × 2 GiB", _large),
    Workload("shards", "8 × 512 MiB", _shards),
    Workload("many", "2,000 × 64 KiB", _many),
    Workload("huggingface", "a Hugging Face checkpoint, 1.4 GiB", _hugging_face),
    Workload("rewrite", "1 GiB, 5 % changed in place", _one_file, ("again",), _rewrite_scattered),
    Workload(
        "lora", "LoRA: 960 MiB frozen in files of their own, 48 MiB new", _lora, ("again",), _save_with_frozen_weights
    ),
    Workload("lora-one-file", "LoRA: 1 GiB in one file, the last 5 % new", _one_file, ("again",), _rewrite_adapters),
    Workload("unchanged", "2,000 × 64 KiB, nothing changed", _many, ("again",)),
)
