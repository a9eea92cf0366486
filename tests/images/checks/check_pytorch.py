"""PyTorch: a real training step, and the formats in which it keeps checkpoints."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch import nn


def _trained(steps: int) -> tuple[nn.Module, torch.optim.Optimizer, list[float]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return model, optimizer, _train(model, optimizer, steps)


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[float]:
    inputs = torch.linspace(-1, 1, 256).reshape(64, 4)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), inputs.sum(dim=1, keepdim=True))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def it_is_imported_without_a_warning(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.from_numpy(torch.ones(2).numpy()).sum() == 2


def training_on_the_cpu_lowers_the_loss(folder: Path) -> None:
    _, _, losses = _trained(100)
    assert losses[-1] < losses[0] / 2


def a_run_that_resumes_from_a_file_goes_on_as_if_it_had_not_stopped(folder: Path) -> None:
    _, _, uninterrupted = _trained(20)
    model, optimizer, _ = _trained(10)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "random": torch.get_rng_state()}
    torch.save(state, folder / "checkpoint.pt")

    model, optimizer, _ = _trained(0)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    assert _train(model, optimizer, 10) == uninterrupted[10:]


def a_distributed_checkpoint_is_a_directory_and_comes_back(folder: Path) -> None:
    model, _, _ = _trained(5)
    dcp.save({"model": model.state_dict()}, checkpoint_id=folder / "step-5")
    assert (folder / "step-5" / ".metadata").is_file()
    other, _, _ = _trained(0)
    state = {"model": other.state_dict()}
    dcp.load(state, checkpoint_id=folder / "step-5")
    assert all(torch.equal(state["model"][name], tensor) for name, tensor in model.state_dict().items())


def an_exported_program_gives_the_same_answers(folder: Path) -> None:
    model, _, _ = _trained(5)
    model.eval()
    inputs = (torch.ones(3, 4),)
    torch.export.save(torch.export.export(model, inputs), folder / "model.pt2")
    loaded = torch.export.load(folder / "model.pt2").module()
    assert torch.equal(loaded(*inputs), model(*inputs))
