"""Where a library shall put files, or take them from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PART = 16 << 20  # bytes of a part, for those that are told one
THREADS = 8


@dataclass(frozen=True, slots=True)
class Place:
    """A prefix at a server, and a directory.

    Attributes:
        endpoint: URL of the server.
        authority: file with the certificate to trust; None for the system's.
        bucket: name.
        prefix: with the slash at its end.
        directory: what is uploaded, or where to download to.
    """

    endpoint: str
    authority: str | None
    bucket: str
    prefix: str
    directory: Path

    @classmethod
    def read(cls, environ: Mapping[str, str], bucket: str, prefix: str, directory: str) -> Place:
        """Make one of variables as `benchmarks.server` gives them, and arguments."""
        authority = environ.get("AWS_CA_BUNDLE")
        return cls(environ["AWS_ENDPOINT_URL_S3"], authority, bucket, prefix, Path(directory))

    def files(self) -> Iterator[tuple[Path, str]]:
        """Yield the files of the directory, each with its key."""
        for folder, _, names in os.walk(self.directory):
            for name in sorted(names):
                path = Path(folder, name)
                yield path, f"{self.prefix}{path.relative_to(self.directory)}"

    def target(self, key: str) -> Path:
        """Return where the content of a key goes; the folder is made."""
        path = self.directory / key.removeprefix(self.prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def side_by_side(jobs: Iterable[Callable[[], object]]) -> None:
    """Do jobs in eight threads, and raise what the first that fails raises."""
    with ThreadPoolExecutor(THREADS) as threads:
        for future in [threads.submit(job) for job in jobs]:
            future.result()


def write_ranges(path: Path, size: int, read: Callable[[int, int], bytes | memoryview]) -> list[Callable[[], object]]:
    """Return jobs that fetch a file in parts and write each where it belongs.

    Args:
        path: the file; it is made with its size.
        size: bytes.
        read: returns so many bytes from an offset on.
    """
    with path.open("wb") as file:
        file.truncate(size)

    def fetch(offset: int) -> None:
        piece = read(offset, min(PART, size - offset))
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, piece, offset)
        finally:
            os.close(descriptor)

    return [lambda offset=offset: fetch(offset) for offset in range(0, size, PART)]  # type: ignore[misc]
