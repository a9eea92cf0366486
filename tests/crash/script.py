"""A training script that saves checkpoints in every way that scripts do, one small step after the other.

A move is a generator: it yields the seconds that pass before its next step, and its driver may look at the
directory meanwhile, or never come back.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from holdfast.names import OWN_DIRECTORY
from holdfast.watch.settling import Settling

Move = Iterator[float]
_EPOCH_NS = 1_790_000_000_000_000_000
_LARGE = 5 << 19  # 2.5 MiB: three parts of the size that the campaign sets


class Script:
    """Writes below one checkpoint directory, and tells `settling` what the kernel would tell.

    Args:
        directory: the checkpoint directory, restored.
        dice: what it does next.
        name: makes its contents different from those of every other script.
        settling: gets the events.
        now: the time by the clock that settling goes by.
        large: how often a file is so large that it travels in parts.

    Attributes:
        busy: checkpoints of which a save has begun and not ended.
        open: files that are open for writing.
    """

    def __init__(
        self,
        directory: Path,
        dice: random.Random,
        name: str,
        settling: Settling,
        now: Callable[[], float],
        large: float,
    ) -> None:
        self.busy: set[str] = set()
        self.open: dict[str, BinaryIO] = {}
        self._directory = directory
        self._dice = dice
        self._name = name
        self._settling = settling
        self._now = now
        self._large = large
        self._saves = 0
        self._clock = 0
        self._moves: tuple[Callable[[], Move], ...] = (
            self.new_file, self.overwrite, self.overwrite, self.patch, self.replace, self.replace, self.delete_file,
            self.new_directory, self.rewrite_directory, self.rewrite_directory, self.delete_directory,
            self.renamed_directory, self.pair, self.pair, self.log, self.duplicate, self.touch, self.change_shape,
            self.take_over,
        )  # fmt: skip

    def move(self) -> Move:
        """Begin a move by chance."""
        self._saves += 1
        return self._dice.choice(self._moves)()

    def die(self) -> None:
        """The kernel closes what was open, and says so."""
        for path, file in self.open.items():
            file.close()
            self._settling.closed(path, self._now())
        self.open.clear()

    # --- moves ---

    def new_file(self) -> Move:
        return self._save(f"step-{self._name}-{self._saves}")

    def overwrite(self) -> Move:
        return self._save("last")

    def patch(self) -> Move:
        """Overwrite a range of a file, as memory-mapped arrays do; the rest and the size stay."""
        path, target = "array", self._directory / "array"
        if not target.is_file() or target.stat().st_size < 2:
            yield from self._save(path)
            return
        self.busy.add(path)
        file = target.open("r+b", buffering=0)
        self._opened(path, file)
        size = target.stat().st_size
        header = f"{self._name}.{self._saves} ".encode()
        file.write(header[:size])
        self._touched(path)
        yield self._gap(9)
        file.seek(size // 2)
        file.write(header[: size - size // 2])
        self._closed(path)

    def replace(self) -> Move:
        """Write beside and rename over: what careful scripts do."""
        path = "best"
        yield from self._save(f"{path}.tmp")
        yield self._gap(1)
        os.replace(self._directory / f"{path}.tmp", self._directory / path)  # noqa: PTH105
        self._settling.renamed(f"{path}.tmp", path, self._now())

    def delete_file(self) -> Move:
        files = [path.name for path in sorted(self._directory.iterdir()) if path.is_file()]
        if len(files) > 1:
            self._remove(self._dice.choice(files))
        yield 0.0

    def new_directory(self) -> Move:
        return self._save_directory(f"checkpoint-{self._name}-{self._saves}")

    def rewrite_directory(self) -> Move:
        """Every epoch the same names, one after the other, and not always as many."""
        return self._save_directory("sharded")

    def delete_directory(self) -> Move:
        every = sorted(path for path in self._directory.glob("checkpoint-*") if path.is_dir())
        if not every:
            return
        oldest = every[0]
        self.busy.add(oldest.name)
        for path in sorted(oldest.rglob("*")):
            if path.is_file():
                self._remove(path.relative_to(self._directory).as_posix())
                yield self._gap(4.9)
        shutil.rmtree(oldest)
        self.busy.discard(oldest.name)

    def renamed_directory(self) -> Move:
        name = f"checkpoint-{self._name}-{self._saves}"
        yield from self._save_directory(f"tmp-{name}")
        yield self._gap(1)
        (self._directory / f"tmp-{name}").rename(self._directory / name)
        for path in sorted((self._directory / name).rglob("*")):
            if path.is_file():
                inside = path.relative_to(self._directory).as_posix()
                self._settling.renamed(f"tmp-{inside}", inside, self._now())

    def pair(self) -> Move:
        """Weights and their index side by side, overwritten in place: to holdfast, each is a checkpoint."""
        yield from self._save("weights")
        yield self._gap(0.25)
        yield from self._save("index")

    def log(self) -> Move:
        path = self._dice.choice(("train.log", "sharded/metrics.jsonl"))
        target = self._directory / path
        if target.parent.is_dir():
            with target.open("ab") as file:
                file.write(f"{self._name}.{self._saves}\n".encode())
            self._touched(path)
            self._settling.written(path, self._now())
        yield 0.0

    def duplicate(self) -> Move:
        """The same content under another name: it is stored once."""
        source = self._directory / "last"
        if source.is_file():
            shutil.copyfile(source, self._directory / "copy")
            self._touched("copy")
            self._settling.closed("copy", self._now())
        yield 0.0

    def touch(self) -> Move:
        for path in ("last", "best"):
            if (self._directory / path).is_file():
                self._touched(path)
        yield 0.0

    def take_over(self) -> Move:
        """Overwrite or delete what another writer had put there and the restore has placed."""
        found = (path for path in self._directory.rglob("foreign-*") if path.is_file())
        # What lies in staging is not placed yet: a script that writes there loses its file to the restore.
        theirs = sorted(path for path in found if OWN_DIRECTORY not in path.parts)
        if theirs and self._dice.random() < 0.5:
            yield from self._save(self._dice.choice(theirs).relative_to(self._directory).as_posix())
        elif theirs:
            self._remove(self._dice.choice(theirs).relative_to(self._directory).as_posix())
            yield 0.0

    def change_shape(self) -> Move:
        """A file where a directory was, or the other way round."""
        target = self._directory / "shape"
        if target.is_file():
            self._remove("shape")
            yield self._gap(1)
            yield from self._save_directory("shape")
            return
        if target.is_dir():
            shutil.rmtree(target)
            self._settling.gone("shape", self._now())
        yield from self._save("shape")

    # --- steps ---

    def _save(self, path: str) -> Move:
        checkpoint = path.partition("/")[0]
        self.busy.add(checkpoint)
        yield from self._write(path)
        self.busy.discard(checkpoint)

    def _save_directory(self, name: str) -> Move:
        """Write shards, one in a subdirectory, and a manifest; remove what an earlier save had more."""
        self.busy.add(name)
        shards = [f"{name}/shard-{number}" for number in range(self._dice.randint(1, 4))]
        paths = [*shards, f"{name}/optimizer/state", f"{name}/manifest"]
        for path in paths:
            yield from self._write(path, longest=4.9)
            yield self._gap(4.9)
        for extra in sorted((self._directory / name).glob("shard-*")):
            if f"{name}/{extra.name}" not in shards:
                self._remove(f"{name}/{extra.name}")
        self.busy.discard(name)

    def _write(self, path: str, longest: float = 9) -> Move:
        target = self._directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        content = self._content(path)
        file = target.open("wb", buffering=0)
        self._opened(path, file)
        half = self._dice.randint(0, len(content))
        file.write(content[:half])
        self._touched(path)
        yield self._gap(longest)
        file.write(content[half:])
        self._closed(path, keep_busy=True)

    def _opened(self, path: str, file: BinaryIO) -> None:
        self.open[path] = file
        self._settling.written(path, self._now())

    def _closed(self, path: str, *, keep_busy: bool = False) -> None:
        self.open.pop(path).close()
        self._touched(path)
        self._settling.closed(path, self._now())
        if not keep_busy:
            self.busy.discard(path)

    def _remove(self, path: str) -> None:
        (self._directory / path).unlink()
        self._settling.gone(path, self._now())

    def _touched(self, path: str) -> None:
        # The kernel's clock ticks every 4 ms, and this script saves thousands of times a second.
        self._clock += 1
        time = _EPOCH_NS + self._saves * 1_000_000 + self._clock
        os.utime(self._directory / path, ns=(time, time))

    def _content(self, path: str) -> bytes:
        size = _LARGE if self._dice.random() < self._large else self._dice.choice((0, 1, 40, 300, 2000))
        if size == 0:
            return b""
        # Parts behind the first are often those of an earlier file, and so need not travel.
        fill = self._dice.choice((b".", b"-", b"+")) if size == _LARGE else b"."
        return (f"{self._name}.{self._saves} {path}\n".encode() + self._dice.randbytes(min(size, 4000))).ljust(
            size, fill
        )

    def _gap(self, longest: float) -> float:
        return self._dice.choice((0.0, 0.01, longest / 3, longest))
