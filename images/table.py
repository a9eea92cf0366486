"""Write the table of images into images/README.md, from images/matrix.toml and the requirement files.

python -m images.table
"""

from __future__ import annotations

import re

from images.build import ROOT, Image, read_matrix

README = ROOT / "images" / "README.md"
BEGIN, END = "<!-- from matrix.toml: make lock -->\n", "<!-- end -->\n"
PINNED = re.compile(r"^([a-z0-9-]+)(?:\[.+\])?==([^ \n]+)", re.MULTILINE)
HEAD = """| image | what is in it | framework | Debian packages added | size | AWS's own |
|---|---|---|---|---|---|
"""


def table() -> str:
    """Return the table in Markdown."""
    return HEAD + "".join(_line(image) for image in read_matrix().values())


def pinned_framework(image: Image) -> tuple[str, str] | None:
    """Return name and version of the package whose version the image's requirements state; None in a base."""
    stated = dict(PINNED.findall((ROOT / image.requirements).read_text(encoding="utf-8")))
    stated.pop("sagemaker-training", None)
    if len(stated) > 1:
        raise ValueError(f"{image.requirements} pins {', '.join(stated)}: pin the framework alone")
    return next(iter(stated.items()), None)


def _line(image: Image) -> str:
    cells = (
        f"`holdfast/{image.name}`" + ("" if image.status == "maintained" else f" ({image.status})"),
        image.summary,
        " ".join(pinned_framework(image) or ()),
        " ".join(image.apt),
        _gigabytes(image.size_mb),
        _gigabytes(image.aws_mb) if image.aws_mb else "",
    )
    return f"| {' | '.join(cells)} |\n"


def _gigabytes(megabytes: int) -> str:
    return f"{megabytes} MB" if megabytes < 1000 else f"{megabytes / 1000:.2f} GB"


def with_table(readme: str) -> str:
    """Return the page with the table between its markers. Raises ValueError if it has none."""
    before, found, rest = readme.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not (found and found_end):
        raise ValueError(f"{README} has no place for the table: {BEGIN.strip()} ... {END.strip()}")
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
