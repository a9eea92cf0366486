"""Write the software bill of materials of a built image: CycloneDX 1.6, JSON.

    python -m images.sbom NAME FILE

The packages are read from the image: Debian's with dpkg, Python's with the interpreter of each environment. Read from
the environment: TAG_PREFIX, TAG.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from images.build import read_matrix, tag_of
from packageurl import PackageURL

ENVIRONMENTS = ("/opt/venv", "/opt/holdfast")
DPKG = ["dpkg-query", "--show", "--showformat", r"${Package}\t${Version}\t${Architecture}\n"]
PYTHON = """
import importlib.metadata as metadata, json
print(json.dumps(sorted((found.name, found.version) for found in metadata.distributions())))
"""


def describe(engine: docker.DockerClient, tag: str) -> Bom:
    """Return the packages in an image. Raises docker.errors.ImageNotFound, docker.errors.ContainerError."""
    image = engine.images.get(tag)
    labels = {name.rpartition(".")[2]: value for name, value in image.labels.items()}
    bom = Bom()
    bom.metadata.component = Component(
        name=tag.rpartition(":")[0], version=labels["version"], type=ComponentType.CONTAINER, bom_ref=str(image.id)
    )
    bom.components.update(_debian(engine, tag))
    for environment in ENVIRONMENTS:
        bom.components.update(_python(engine, tag, environment))
    bom.register_dependency(bom.metadata.component, bom.components)
    return bom


def _debian(engine: docker.DockerClient, tag: str) -> Iterator[Component]:
    for line in _output(engine, tag, DPKG).splitlines():
        name, version, architecture = line.split("\t")
        yield _component(PackageURL("deb", "debian", name, version, {"arch": architecture}), "/")


def _python(engine: docker.DockerClient, tag: str, environment: str) -> Iterator[Component]:
    for name, version in json.loads(_output(engine, tag, [f"{environment}/bin/python", "-I", "-c", PYTHON])):
        yield _component(PackageURL("pypi", None, name, version), environment)


def _component(url: PackageURL, place: str) -> Component:
    """Return one package in one environment: a package in both is two components."""
    return Component(
        name=url.name,
        version=url.version,
        type=ComponentType.LIBRARY,
        purl=url,
        bom_ref=f"{place} {url.to_string()}",
        properties=[Property(name="holdfast:place", value=place)],
    )


def _output(engine: docker.DockerClient, tag: str, command: list[str]) -> str:
    output: bytes = engine.containers.run(tag, command[1:], entrypoint=command[0], remove=True, network_mode="none")
    return output.decode()


def main(arguments: list[str]) -> int:
    """Write the bill of the named image into the named file."""
    images = read_matrix()
    if len(arguments) != 2 or arguments[0] not in images:
        print(f"usage: python -m images.sbom {' | '.join(images)} FILE", file=sys.stderr)
        return 64
    tag = tag_of(images[arguments[0]], os.environ)
    bom = describe(docker.from_env(), tag)
    Path(arguments[1]).parent.mkdir(parents=True, exist_ok=True)
    make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_to_file(
        arguments[1], allow_overwrite=True, indent=2
    )
    print(f"{arguments[1]}: {len(bom.components)} packages of {tag}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
