"""Run checks inside an image, by its own interpreter: `python checks check_python check_pytorch`.

Every public function of a named module is a check; it gets an empty folder. The images have no test runner.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import tempfile
import traceback
from pathlib import Path


def main(modules: list[str]) -> int:
    """Run all checks of all modules; return 1 if one failed, 2 if there was none."""
    checks = []
    for name in modules:
        module = importlib.import_module(name)
        checks += [
            check
            for _, check in inspect.getmembers(module, inspect.isfunction)
            if check.__module__ == name and not check.__name__.startswith("_")
        ]
    failed = 0
    for check in sorted(checks, key=lambda check: (check.__module__, check.__code__.co_firstlineno)):
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(Path(folder))
            except Exception:  # noqa: BLE001  every error is a failed check
                failed += 1
                traceback.print_exc()
                print(f"FAILED {check.__module__} {check.__name__}", flush=True)
            else:
                print(f"passed {check.__module__} {check.__name__}", flush=True)
    return 2 if not checks else min(failed, 1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
