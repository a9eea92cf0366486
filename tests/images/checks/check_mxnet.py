"""MXNet, legacy: a real training step, and the formats in which it keeps checkpoints."""

from __future__ import annotations

from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

INPUTS = mx.nd.array(np.linspace(-1, 1, 256).reshape(64, 4))
TARGETS = INPUTS.sum(axis=1, keepdims=True)


def _trainer() -> tuple[gluon.nn.HybridSequential, gluon.Trainer]:
    mx.random.seed(0)
    network = gluon.nn.HybridSequential()
    network.add(gluon.nn.Dense(16, activation="relu", in_units=4), gluon.nn.Dense(1, in_units=16))
    network.initialize(mx.init.Xavier())
    return network, gluon.Trainer(network.collect_params(), "adam", {"learning_rate": 0.01})


def _train(network: gluon.nn.HybridSequential, trainer: gluon.Trainer, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        with autograd.record():
            loss = gluon.loss.L2Loss()(network(INPUTS), TARGETS).mean()
        loss.backward()
        trainer.step(1)
        losses.append(float(loss.asscalar()))
    return losses


def training_on_the_cpu_lowers_the_loss(folder: Path) -> None:
    losses = _train(*_trainer(), 100)
    assert losses[-1] < losses[0] / 2


def a_run_that_resumes_from_parameters_and_states_goes_on_as_if_it_had_not_stopped(folder: Path) -> None:
    uninterrupted = _train(*_trainer(), 10)
    network, trainer = _trainer()
    _train(network, trainer, 5)
    network.save_parameters(str(folder / "net.params"))
    trainer.save_states(str(folder / "trainer.states"))
    network, trainer = _trainer()
    network.load_parameters(str(folder / "net.params"))
    trainer.load_states(str(folder / "trainer.states"))
    np.testing.assert_allclose(_train(network, trainer, 5), uninterrupted[5:], rtol=1e-5)


def the_module_interfaces_numbered_checkpoints_come_back(folder: Path) -> None:
    """The format of SageMaker's own MXNet example: PREFIX-symbol.json, PREFIX-0003.params and .states."""
    data = mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=1, name="fc")
    module = mx.mod.Module(mx.sym.LinearRegressionOutput(data, name="softmax"))
    batches = mx.io.NDArrayIter(INPUTS, TARGETS, 16)
    save = mx.callback.module_checkpoint(module, str(folder / "net"), save_optimizer_states=True)
    module.fit(batches, num_epoch=3, eval_metric="mse", epoch_end_callback=save)
    names = {path.name for path in folder.iterdir()}
    assert {"net-symbol.json", "net-0003.params", "net-0003.states"} <= names
    _, arguments, _ = mx.model.load_checkpoint(str(folder / "net"), 3)
    assert np.array_equal(arguments["fc_weight"].asnumpy(), module.get_params()[0]["fc_weight"].asnumpy())


def an_exported_network_gives_the_same_answers(folder: Path) -> None:
    network, trainer = _trainer()
    network.hybridize()
    _train(network, trainer, 2)
    network.export(str(folder / "net"), epoch=2)
    imported = gluon.SymbolBlock.imports(str(folder / "net-symbol.json"), "data", str(folder / "net-0002.params"))
    np.testing.assert_allclose(imported(INPUTS).asnumpy(), network(INPUTS).asnumpy(), rtol=1e-6)
