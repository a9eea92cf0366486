"""TensorFlow and Keras: a real training step, and the formats in which they keep checkpoints."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

INPUTS = np.linspace(-1, 1, 256, dtype="float32").reshape(64, 4)
TARGETS = INPUTS.sum(axis=1, keepdims=True)


def _model() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    return model


def _train(model: keras.Model, epochs: int) -> list[float]:
    history = model.fit(INPUTS, TARGETS, batch_size=64, epochs=epochs, shuffle=False, verbose=0).history["loss"]
    return [float(loss) for loss in history]


def _same_weights(one: keras.Model, other: keras.Model) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def training_on_the_cpu_lowers_the_loss(folder: Path) -> None:
    losses = _train(_model(), 60)
    assert losses[-1] < losses[0] / 2


def a_run_that_resumes_from_a_keras_file_goes_on_as_if_it_had_not_stopped(folder: Path) -> None:
    uninterrupted = _train(_model(), 10)
    model = _model()
    _train(model, 5)
    model.save(folder / "epoch-5.keras")
    resumed = keras.models.load_model(folder / "epoch-5.keras")
    np.testing.assert_allclose(_train(resumed, 5), uninterrupted[5:], rtol=1e-5)


def hdf5_comes_back_as_model_and_as_weights(folder: Path) -> None:
    model = _model()
    _train(model, 1)
    model.save(folder / "model.h5")
    # Without the loss: Keras 3 does not find a loss that is named by a string ("mse") in its own HDF5 file.
    assert _same_weights(keras.models.load_model(folder / "model.h5", compile=False), model)
    model.save_weights(folder / "model.weights.h5")
    other = _model()
    other.load_weights(folder / "model.weights.h5")
    assert _same_weights(other, model)


def a_tensorflow_checkpoint_comes_back_by_its_manager(folder: Path) -> None:
    model = _model()
    _train(model, 2)
    checkpoint = tf.train.Checkpoint(model=model, step=tf.Variable(2))
    tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=3).save(2)
    other, step = _model(), tf.Variable(0)
    restored = tf.train.Checkpoint(model=other, step=step).restore(tf.train.latest_checkpoint(str(folder)))
    restored.assert_existing_objects_matched().expect_partial()
    assert int(step) == 2
    assert _same_weights(other, model)


def a_saved_model_gives_the_same_answers(folder: Path) -> None:
    model = _model()
    model.export(str(folder / "saved"), verbose=False)
    loaded = tf.saved_model.load(str(folder / "saved"))
    np.testing.assert_allclose(loaded.serve(INPUTS), model(INPUTS), rtol=1e-6)
