"""Cases that TensorFlow, Keras, h5py, Orbax and Flax write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.formats.cases import Directory, File, behind, every_cut

KERAS = ("tensorflow", "keras")
ORBAX = ("orbax.checkpoint", "jax")


def model(seed: int, width: int = 32) -> Any:
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    found = keras.Sequential([keras.Input((16,)), layers.Dense(width), layers.Dense(width), layers.Dense(4)])
    found.compile("adam", "mse")
    return found


def keras_weights(path: Path, seed: int, *, width: int = 32) -> None:
    model(seed, width).save_weights(path)


def keras_model(path: Path, seed: int, *, width: int = 32) -> None:
    model(seed, width).save(path)


def keras_shards(path: Path) -> None:
    model(1, 128).save_weights(path / "model.weights.json", max_shard_size=0.00007)


def hdf5(path: Path, seed: int, *, version: str = "earliest", groups: int = 6, size: int = 500) -> None:
    import h5py
    import numpy as np

    numbers = np.random.default_rng(seed)
    with h5py.File(path, "w", libver=version) as file:
        for number in range(groups):
            file.create_dataset(f"group{number}/plain", data=numbers.normal(size=size))
            file.create_dataset(
                f"group{number}/packed", data=numbers.normal(size=size), compression="gzip", chunks=True
            )
        file.attrs["seed"] = seed


def variables(path: Path, *, size: int = 500, shards: bool = False) -> None:
    import numpy as np
    import tensorflow as tf

    numbers = np.random.default_rng(1)
    made = {f"variable{number}": tf.Variable(numbers.normal(size=size)) for number in range(6)}
    checkpoint = tf.train.Checkpoint(**made, name=tf.Variable("text"), step=tf.Variable(7))
    policy = tf.train.experimental.MaxShardSizePolicy(max_shard_size=size * 9) if shards else None
    checkpoint.write(str(path / "ckpt-1"), options=tf.train.CheckpointOptions(experimental_sharding_callback=policy))


def managed(path: Path) -> None:
    import tensorflow as tf

    manager = tf.train.CheckpointManager(tf.train.Checkpoint(step=tf.Variable([1.0] * 100)), str(path), max_to_keep=2)
    for _ in range(3):
        manager.save()


def saved_model(path: Path) -> None:
    model(1).export(path, verbose=False)


def tree(size: int = 1000) -> dict[str, Any]:
    import jax.numpy as jnp

    return {"a": jnp.arange(float(size)), "b": {"c": jnp.ones((3, 4)), "step": 3}}


def orbax_step(path: Path) -> None:
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager(path) as manager:
        state, more = ocp.args.StandardSave(tree(200_000)), ocp.args.JsonSave({"epoch": 1})
        manager.save(5, args=ocp.args.Composite(state=state, more=more))
        manager.wait_until_finished()


def orbax_tree(path: Path) -> None:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "standard", tree())


def orbax_files(path: Path) -> None:
    import orbax.checkpoint as ocp

    ocp.PyTreeCheckpointer(use_ocdbt=False).save(path / "files", tree())


def orbax_committed_by_file(path: Path) -> None:
    import orbax.checkpoint as ocp
    from orbax.checkpoint._src.path import atomicity

    handler, commit = ocp.StandardCheckpointHandler(), atomicity.CommitFileTemporaryPath
    ocp.Checkpointer(handler, temporary_path_class=commit).save(path / "7", args=ocp.args.StandardSave(tree()))


def flax(path: Path, seed: int, *, size: int = 500) -> None:
    import numpy as np
    from flax import serialization

    numbers = np.random.default_rng(seed)
    layers = {f"layer{number}": numbers.normal(size=size).astype("float32") for number in range(20)}
    path.write_bytes(serialization.to_bytes({"params": layers, "step": seed, "name": "x" * 300, "none": None}))


def quiet() -> None:
    """Keep TensorFlow from writing to the test's output; called before it is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")


FILES = (
    File("HDF5", "earliest.h5", ("h5py",), hdf5),
    File("HDF5", "latest.h5", ("h5py",), lambda path, seed: hdf5(path, seed, version="latest")),
    File("HDF5", "empty.hdf5", ("h5py",), lambda path, seed: hdf5(path, seed, groups=0)),
    File("HDF5", "large.h5", ("h5py",), lambda path, seed: hdf5(path, seed, size=50_000)),
    File("HDF5", "keras.h5", KERAS, keras_model),
    File("HDF5", "keras.weights.h5", KERAS, keras_weights),
    File("HDF5", "large.weights.h5", KERAS, lambda path, seed: keras_weights(path, seed, width=400)),
    File("zip: Keras", "model.keras", KERAS, keras_model, whole=True),
    File("zip: Keras", "large.keras", KERAS, lambda path, seed: keras_model(path, seed, width=400), whole=True),
    File("MessagePack", "flax_model.msgpack", ("flax",), flax, behind(1)),
    File("MessagePack", "large.msgpack", ("flax",), lambda path, seed: flax(path, seed, size=20_000), behind(1)),
)
INDEX_AND_DATA = {r".*\.index|.*\.data-.*": every_cut}
OCDBT = {r".*manifest\.ocdbt": every_cut, r".*_METADATA|.*_sharding": behind(1)}
DIRECTORIES = (
    Directory("TensorFlow checkpoint", "one-file", ("tensorflow",), variables, (r".*\.index", r".*\.data-.*"),
              INDEX_AND_DATA),
    Directory("TensorFlow checkpoint", "shards", ("tensorflow",), lambda path: variables(path, shards=True),
              (r".*\.index", r".*\.data-.*"), INDEX_AND_DATA),
    Directory("TensorFlow checkpoint", "large", ("tensorflow",), lambda path: variables(path, size=50_000),
              (r".*\.index", r".*\.data-.*"), INDEX_AND_DATA),
    Directory("TensorFlow checkpoint", "manager", ("tensorflow",), managed, (r".*\.index", r".*\.data-.*"),
              INDEX_AND_DATA),
    Directory("TensorFlow SavedModel", "export", KERAS, saved_model, (r".*\.index", r".*\.data-.*"),
              INDEX_AND_DATA),
    Directory("Keras, sharded weights", "weights", KERAS, keras_shards, (r".*\.weights\.h5",),
              {r".*\.weights\.h5": every_cut}),
    Directory("Orbax", "step", ORBAX, orbax_step, (r".*state/manifest\.ocdbt",), OCDBT),
    Directory("Orbax", "tree", ORBAX, orbax_tree, (r"standard/manifest\.ocdbt",), OCDBT),
    Directory("Orbax", "files", ORBAX, orbax_files, (),
              {r".*_METADATA|.*\.zarray": behind(1), r"files/a/0": behind(4)}),
    Directory("Orbax", "commit-file", ORBAX, orbax_committed_by_file, (r"7/manifest\.ocdbt",), OCDBT),
)  # fmt: skip
