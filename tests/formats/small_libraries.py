"""Cases that the standard library, NumPy, joblib, scikit-learn and XGBoost write."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import tarfile
from pathlib import Path
from typing import Any

from tests.formats.cases import File, behind, within_text

NUMPY = ("numpy",)


def state(seed: int, size: int = 200) -> dict[str, Any]:
    numbers = random.Random(seed)
    return {
        "step": numbers.randrange(10**6),
        "weights": [numbers.gauss(0, 1) for _ in range(size)],
        "name": 'run "1" {[\\',
        "raw": numbers.randbytes(size * 4),
        "nothing": None,
        "flags": (True, False),
    }


def text(seed: int, size: int = 200) -> dict[str, Any]:
    return {key: value for key, value in state(seed, size).items() if key != "raw"}


def pickled(protocol: int, size: int) -> Any:
    return lambda path, seed: path.write_bytes(pickle.dumps(state(seed, size), protocol))


def two_pickles(path: Path, seed: int) -> None:
    with path.open("wb") as file:
        pickle.dump(state(seed, 20), file)
        pickle.dump(state(seed + 1, 20), file)


def between_pickles(content: bytes, length: int) -> bool:
    stream = io.BytesIO(content)
    pickle.load(stream)
    return length != stream.tell()


def archived(path: Path, seed: int) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name in ("a/model.bin", "a/" + "long" * 60 + ".bin", "empty"):
            info = tarfile.TarInfo(name)
            content = b"" if name == "empty" else random.Random(seed).randbytes(20_000)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def compressed(path: Path, seed: int) -> None:
    with gzip.open(path, "wb") as file:
        file.write(json.dumps(text(seed)).encode())


def npy(path: Path, seed: int, *, size: int = 5000, kind: str = "float32") -> None:
    import numpy as np

    np.save(path, np.random.default_rng(seed).normal(size=size).astype(kind))


def records(path: Path, seed: int) -> None:
    import numpy as np

    array = np.zeros((7, 3), dtype=[("step", "<i4"), ("loss", "<f8", (2,)), ("name", "U5"), ("at", "M8[ns]")])
    array["step"] = seed
    np.save(path, np.asfortranarray(array))


def objects(path: Path, seed: int) -> None:
    import numpy as np

    np.save(path, np.array([{"seed": seed}, None, "x" * 500], dtype=object), allow_pickle=True)


def several_arrays(path: Path, seed: int) -> None:
    import numpy as np

    with path.open("wb") as file:
        for size in (3, 0, 400):
            np.save(file, np.random.default_rng(seed).normal(size=size))


def between_arrays(content: bytes, length: int) -> bool:
    import numpy as np

    stream, ends = io.BytesIO(content), []
    for _ in range(3):
        np.load(stream)
        ends.append(stream.tell())
    return length not in ends


def npz(path: Path, seed: int, *, count: int = 4, size: int = 3000, packed: bool = False) -> None:
    import numpy as np

    numbers = np.random.default_rng(seed)
    arrays: Any = {f"layer{number}": numbers.normal(size=size) for number in range(count)}
    (np.savez_compressed if packed else np.savez)(path, **arrays)


def joblib_arrays(path: Path, seed: int, *, compress: object = 0) -> None:
    import joblib
    import numpy as np

    numbers = np.random.default_rng(seed)
    joblib.dump(
        {
            "a": numbers.normal(size=(300, 7)),
            "b": np.asfortranarray(numbers.normal(size=(5, 6)).astype("float16")),
            "names": np.array(["one", "three"]),
            "objects": np.array([{"x": 1}, None], dtype=object),
            "records": np.zeros(3, dtype=[("x", "i4"), ("y", "f8")]),
            "times": np.array(["2026-01-01"], dtype="M8[D]"),
            "none": np.zeros((0, 4)),
            "seed": seed,
        },
        path,
        compress=compress,
    )


def forest(path: Path, seed: int) -> None:
    import joblib
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier

    numbers = np.random.default_rng(seed)
    model = RandomForestClassifier(20, random_state=seed)
    joblib.dump(model.fit(numbers.normal(size=(200, 5)), numbers.integers(0, 2, 200)), path)


def booster(path: Path, seed: int, *, rounds: int = 5, classes: int = 0) -> None:
    import numpy as np
    import xgboost

    numbers = np.random.default_rng(seed)
    parameters: dict[str, Any] = {"max_depth": 4, "nthread": 2, "seed": seed}
    label: Any = numbers.normal(size=300)
    if classes:
        parameters |= {"objective": "multi:softprob", "num_class": classes}
        label = numbers.integers(0, classes, 300)
    data = xgboost.DMatrix(numbers.normal(size=(300, 5)), label=label, feature_names=list("abcde"))
    xgboost.train(parameters, data, rounds).save_model(path)


FILES = (
    File("pickle", "tiny.pkl", (), lambda path, seed: path.write_bytes(pickle.dumps(seed))),
    *(File("pickle", f"protocol{protocol}.pkl", (), pickled(protocol, 50)) for protocol in (2, 3, 4, 5)),
    File("pickle", "large.pickle", (), pickled(5, 100_000)),
    File("pickle", "two.pkl", (), two_pickles, between_pickles),
    File("pickle", "no-known-name", (), pickled(4, 50), lambda content, length: length > 600),
    File("JSON", "empty.json", (), lambda path, seed: path.write_text("{}"), within_text),
    File("JSON", "state.json", (), lambda path, seed: path.write_text(json.dumps(text(seed))), within_text),
    File("JSON", "lines.json", (), lambda path, seed: path.write_text(json.dumps(text(seed), indent=2) + "\n"),
         within_text),
    File("JSON", "list.json", (), lambda path, seed: path.write_text(json.dumps([text(seed, 3)] * 9)), within_text),
    File("JSON", "large.json", (), lambda path, seed: path.write_text(json.dumps(text(seed, 150_000))),
         within_text),
    File("gzip, bzip2, xz, zlib", "model.tar.gz", (), archived, whole=True),
    File("gzip, bzip2, xz, zlib", "state.json.gz", (), compressed, whole=True),
    File("npy", "tiny.npy", NUMPY, lambda path, seed: npy(path, seed, size=1)),
    File("npy", "empty.npy", NUMPY, lambda path, seed: npy(path, seed, size=0)),
    File("npy", "large.npy", NUMPY, lambda path, seed: npy(path, seed, size=500_000)),
    *(File("npy", f"{kind}.npy", NUMPY, lambda path, seed, kind=kind: npy(path, seed, kind=kind))  # type: ignore[misc]
      for kind in ("float16", "int8", "complex128", "bool", "U7", "S3", ">f8")),
    File("npy", "records.npy", NUMPY, records),
    File("npy", "objects.npy", NUMPY, objects),
    File("npy", "several.npy", NUMPY, several_arrays, between_arrays),
    File("zip: npz", "empty.npz", NUMPY, lambda path, seed: npz(path, seed, count=0), whole=True),
    File("zip: npz", "one.npz", NUMPY, lambda path, seed: npz(path, seed, count=1, size=1), whole=True),
    File("zip: npz", "arrays.npz", NUMPY, npz, whole=True),
    File("zip: npz", "packed.npz", NUMPY, lambda path, seed: npz(path, seed, packed=True), whole=True),
    File("zip: npz", "large.npz", NUMPY, lambda path, seed: npz(path, seed, size=120_000), whole=True),
    File("joblib", "arrays.joblib", ("joblib", "numpy"), joblib_arrays),
    File("joblib", "forest.pkl", ("joblib", "sklearn"), forest),
    *(File("gzip, bzip2, xz, zlib", f"{method}.joblib", ("joblib", "numpy"),
           lambda path, seed, method=method: joblib_arrays(path, seed, compress=(method, 3)),  # type: ignore[misc]
           whole=method != "lzma")
      for method in ("zlib", "gzip", "bz2", "xz", "lzma")),
    File("UBJSON", "model.ubj", ("xgboost",), booster),
    File("UBJSON", "one-round.ubj", ("xgboost",), lambda path, seed: booster(path, seed, rounds=1)),
    File("UBJSON", "classes.ubj", ("xgboost",), lambda path, seed: booster(path, seed, rounds=60, classes=5)),
    File("UBJSON", "xgboost-checkpoint.4", ("xgboost",), booster, behind(11)),
    File("JSON", "xgboost.json", ("xgboost",), booster, within_text),
    File("JSON", "xgboost-classes.json", ("xgboost",), lambda path, seed: booster(path, seed, rounds=60, classes=5),
         within_text),
)  # fmt: skip
