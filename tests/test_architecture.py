"""The layers of docs/architecture.md, enforced: imports go to lower layers or the same one, never in a circle."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    ("errors", {"holdfast.errors"}),
    (
        "pure types and disk reading",
        {"holdfast"}
        | {
            f"holdfast.{name}"
            for name in (
                "bandwidth", "checksum", "concurrency", "deadline", "disk", "grid", "keys", "known", "ledger",
                "lists", "location", "names", "pace", "record", "retention", "script", "settling", "store", "telling",
                "units", "wanted",
            )
        }
        | {"holdfast.probes"}
        | {
            f"holdfast.probes.{name}"
            for name in (
                "archive", "binary_json", "checkpoint", "crc32c", "dcp", "dtype", "gguf", "hdf5", "inert", "json_text",
                "lightgbm", "listing", "npy", "ocdbt", "one_file", "opcodes", "orbax", "packed", "pickled",
                "safetensors", "saved_model", "sharded", "sstable", "tarball", "tensorflow", "verdict", "view",
            )
        },
    ),
    (
        "stores",
        {
            f"holdfast.{name}"
            for name in (
                "body", "directory", "directory_copying", "directory_layout", "directory_lock", "directory_uploads",
                "opening", "retry", "s3", "s3_chain", "s3_connections", "s3_errors", "s3_forms", "s3_http",
                "s3_listing", "s3_settings", "s3_signature", "s3_signing", "s3_tls", "s3_wire", "tries",
            )
        },
    ),
    (
        "engines",
        {
            f"holdfast.{name}"
            for name in (
                "absent", "attempt", "base", "catalog", "commits", "committed", "complaints", "composing", "copying",
                "fetching", "filing", "flushing", "joining", "joint", "keeping", "leftovers", "multipart", "outbox",
                "parts", "placing", "plain", "restore", "staging", "storing", "suspects", "sync", "tidying",
                "transfer", "unfinished", "verify",
            )
        },
    ),
    (
        "threads around engines",
        {f"holdfast.{name}" for name in ("arrival", "hearing", "inotify", "metadata", "notices", "watch", "workers")},
    ),
    (
        "entrypoint pieces",
        {"holdfast_entrypoint"}
        | {
            f"holdfast_entrypoint.{name}"
            for name in (
                "arguments", "child", "commands", "config", "environment", "guard", "inbox", "interruption", "log",
                "notice_file", "outputs", "platforms", "preparation", "printing", "progress", "report", "signals",
                "supervision", "writers",
            )
        },
    ),
    ("lifecycle", {"holdfast_entrypoint.lifecycle"}),
    (
        "cli",
        {
            f"holdfast_entrypoint.{name}"
            for name in ("__main__", "browse", "cli", "collecting", "looking", "moving", "prefix")
        },
    ),
)  # fmt: skip
ONLY_IN = {
    "awscrt": {"holdfast.checksum"},
    "botocore": {"holdfast.s3_chain", "holdfast.s3_settings"},
    "tqdm": {"holdfast_entrypoint.printing"},
    "watchdog": {"holdfast.hearing", "holdfast.inotify"},
    "urllib3": {"holdfast.s3_connections", "holdfast.s3_errors", "holdfast.s3_tls", "holdfast.s3_wire"},
}


def sources() -> dict[str, Path]:
    found = {}
    for root in (ROOT / "toolkit", ROOT / "entrypoint"):
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(path: Path, modules: set[str]) -> Iterator[str]:
    """Yield everything that a file imports, wherever in it; of our own packages the module, not the name in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layers"
            module = node.module or ""
            for alias in node.names:
                yield f"{module}.{alias.name}" if f"{module}.{alias.name}" in modules else module


GRAPH = {name: set(imports(path, set(sources()))) for name, path in sources().items()}
LAYER_OF = {module: number for number, (_, modules) in enumerate(LAYERS) for module in modules}


def test_every_module_has_a_layer_and_every_name_in_the_table_is_a_module() -> None:
    assert set(LAYER_OF) == set(GRAPH)


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_a_module_imports_only_from_lower_layers_or_its_own(module: str) -> None:
    too_high = {other for other in GRAPH[module] if LAYER_OF.get(other, 0) > LAYER_OF[module]}
    assert not too_high, f"{module} ({LAYERS[LAYER_OF[module]][0]}) must not import {sorted(too_high)}"


def test_no_imports_in_a_circle() -> None:
    TopologicalSorter({name: found & set(GRAPH) for name, found in GRAPH.items()}).prepare()


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_third_party_packages_are_used_where_they_belong_and_nowhere_else(module: str) -> None:
    packages = {name.partition(".")[0] for name in GRAPH[module]} - set(sys.stdlib_module_names)
    for package in packages - {"holdfast", "holdfast_entrypoint"}:
        assert module in ONLY_IN.get(package, set()), f"{module} must not import {package}"


def test_only_the_stores_and_the_metadata_client_open_connections() -> None:
    network = {"http.client", "socket", "ssl", "urllib.request", "urllib3"}
    allowed = set(LAYERS[2][1]) | {"holdfast.metadata"}
    hostname_only = {"holdfast_entrypoint.config", "holdfast_entrypoint.moving"}
    assert {name for name, found in GRAPH.items() if found & network} <= allowed | hostname_only


@pytest.mark.parametrize("module", sorted(GRAPH))
def test_nothing_happens_at_import(module: str) -> None:
    body = ast.parse(sources()[module].read_text()).body
    if module == "holdfast_entrypoint.__main__":
        body = [node for node in body if not isinstance(node, ast.If)]
    calls = [
        node.lineno
        for node in body
        if isinstance(node, ast.Expr | ast.For | ast.While | ast.With | ast.If | ast.Try)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        and not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    assert not calls, f"{module} does something at import, line {calls}"
