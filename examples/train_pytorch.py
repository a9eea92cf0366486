"""Trains a small network to tell spirals apart and survives interruptions: a plain script, SageMaker's conventions.

Hyperparameters come as arguments, checkpoints go to `holdfast.checkpoint_dir()`, the model goes to `SM_MODEL_DIR`.
It runs the same under holdfast, on SageMaker, and by itself: `python train_pytorch.py --epochs 5`.

A run that was interrupted and resumed ends with the same weights as one that was not: a checkpoint holds the model, the
optimizer, the random state and the step, and the order of the examples follows from the seed and the epoch.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import holdfast

ARMS = 3
INTERRUPTED = 128 + signal.SIGTERM

told_to_stop = False


def on_sigterm(_signal: int, _frame: object) -> None:
    """Record the signal; the training loop looks at every step."""
    global told_to_stop  # noqa: PLW0603 -- a signal handler has no other way to say it
    told_to_stop = True


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--hidden", type=int, default=128, help="units in each hidden layer")
    parser.add_argument("--examples", type=int, default=6000, help="points in the data set")
    parser.add_argument("--keep", type=int, default=3, help="checkpoints that stay in the directory")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds to wait after each epoch, to watch it live")
    parser.add_argument("--model-dir", type=Path, default=Path(os.environ.get("SM_MODEL_DIR", "model")))
    return parser.parse_args()


def make_spirals(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `count` noisy points on ARMS spiral arms, float32 (count, 2), and their arms, int64 (count,)."""
    random = torch.Generator().manual_seed(seed)
    arm = torch.arange(count) % ARMS
    radius = torch.rand(count, generator=random)
    angle = 4 * radius + 2 * math.pi * arm / ARMS + 0.25 * torch.randn(count, generator=random)
    return torch.stack([radius * torch.sin(angle), radius * torch.cos(angle)], dim=1), arm


def make_model(hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, hidden),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, ARMS),
    )


def save_checkpoint(step: int, model: nn.Module, optimizer: torch.optim.Optimizer, keep: int) -> None:
    """Write `step-NNNNNN.pt`, whole or not at all, and then drop all but the newest `keep`."""
    directory = holdfast.checkpoint_dir()
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
    }
    with holdfast.save(directory / f"step-{step:06d}.pt") as temporary:
        torch.save(state, temporary)
    for old in sorted(directory.glob("step-*.pt"))[:-keep]:
        old.unlink()


def load_checkpoint(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Continue from the newest checkpoint; return the steps that are done, 0 on a fresh start."""
    newest = holdfast.latest("step-*.pt")
    if newest is None:
        print("fresh start", flush=True)
        return 0
    state: dict[str, Any] = torch.load(newest, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    print(f"resumed from {newest.name}", flush=True)
    return int(state["step"])


def train(arguments: argparse.Namespace) -> int:
    torch.manual_seed(arguments.seed)
    points, arms = make_spirals(arguments.examples, arguments.seed)
    model = make_model(arguments.hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=arguments.learning_rate)
    steps_per_epoch = math.ceil(len(points) / arguments.batch_size)

    step = load_checkpoint(model, optimizer)
    while step < arguments.epochs * steps_per_epoch:
        epoch, batch = divmod(step, steps_per_epoch)
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(arguments.seed + epoch))
        for chosen in order.split(arguments.batch_size)[batch:]:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(points[chosen]), arms[chosen])
            loss.backward()
            optimizer.step()
            step += 1
            if told_to_stop or holdfast.interrupted():
                save_checkpoint(step, model, optimizer, arguments.keep)
                print(f"interrupted at step {step}", flush=True)
                return INTERRUPTED
        print(f"epoch {epoch + 1}/{arguments.epochs} step {step} loss {loss.item():.4f}", flush=True)
        save_checkpoint(step, model, optimizer, arguments.keep)
        time.sleep(arguments.pause)

    print(f"accuracy {accuracy(model, points, arms):.3f}", flush=True)
    arguments.model_dir.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), arguments.model_dir / "model.pt")
    return 0


def accuracy(model: nn.Module, points: torch.Tensor, arms: torch.Tensor) -> float:
    """Return the share of points whose arm the model finds, 0 to 1."""
    model.eval()
    with torch.no_grad():
        return float((model(points).argmax(dim=1) == arms).float().mean())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, on_sigterm)
    raise SystemExit(train(parse_arguments()))
