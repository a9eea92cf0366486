"""Writes the table of images into images/README.md, from images/matrix.toml and the locks.

python -m images.table
"""

from __future__ import annotations

import re

from images.build import ROOT, Image, read_matrix

README = ROOT / "images" / "README.md"
BEGIN, END = "<!-- from matrix.toml: make lock -->\n", "<!-- end -->\n"
FRAMEWORKS = r"^(mxnet|tensorflow(?:-cpu)?|torch|xgboost(?:-cpu)?)==([^ ]+)"
HEAD = """| image | what is in it | framework | Debian packages added | size | AWS's own |
|---|---|---|---|---|---|
"""


def table() -> str:
    """Return the table in Markdown."""
    return HEAD + "".join(_line(image) for image in read_matrix().values())


def _line(image: Image) -> str:
    lock = (ROOT / image.lock).read_text(encoding="utf-8")
    framework = re.search(FRAMEWORKS, lock, re.MULTILINE)
    cells = (
        f"`holdfast/{image.name}`" + ("" if image.status == "maintained" else f" ({image.status})"),
        image.summary,
        f"{framework[1]} {framework[2]}" if framework else "",
        " ".join(image.apt),
        _gigabytes(image.size_mb),
        _gigabytes(image.aws_mb) if image.aws_mb else "",
    )
    return f"| {' | '.join(cells)} |\n"


def _gigabytes(megabytes: int) -> str:
    return f"{megabytes} MB" if megabytes < 1000 else f"{megabytes / 1000:.2f} GB"


def with_table(readme: str) -> str:
    """Return the page with the table in its place. Raises ValueError if the page has no place for it."""
    before, found, rest = readme.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not (found and found_end):
        raise ValueError(f"{README} has no place for the table: {BEGIN.strip()} ... {END.strip()}")
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
