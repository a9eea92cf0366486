"""Trains boosted trees on handwritten digits and survives interruptions: a plain script, SageMaker's conventions.

Hyperparameters come as arguments, checkpoints go to `holdfast.checkpoint_dir()`, the model goes to `SM_MODEL_DIR`.
It runs the same under holdfast, on SageMaker, and by itself: `python train_xgboost.py --num-round 10`.

Nothing is drawn at random, so a run that was interrupted and resumed ends with the same model, byte for byte, as one
that was not. (A checkpoint of xgboost does not hold its random state: with `subsample` the two would differ.)
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
from pathlib import Path

import xgboost
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import holdfast

INTERRUPTED = 128 + signal.SIGTERM

told_to_stop = threading.Event()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-round", type=int, default=40, help="boosting rounds in the finished model")
    parser.add_argument("--max-depth", type=int, default=4)
    parser.add_argument("--eta", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--checkpoint-every", type=int, default=5, metavar="ROUNDS")
    parser.add_argument("--keep", type=int, default=3, help="checkpoints that stay in the directory")
    parser.add_argument("--round-seconds", type=float, default=0.0, help="make a round last so long, to watch it live")
    parser.add_argument("--model-dir", type=Path, default=Path(os.environ.get("SM_MODEL_DIR", "model")))
    return parser.parse_args()


def load_data() -> tuple[xgboost.DMatrix, xgboost.DMatrix]:
    """Return the digits for training and for validation: 8 by 8 pixels, ten classes, bundled with scikit-learn."""
    pixels, digits = load_digits(return_X_y=True)
    parts = train_test_split(pixels, digits, test_size=0.25, random_state=7, stratify=digits)
    return xgboost.DMatrix(parts[0], parts[2]), xgboost.DMatrix(parts[1], parts[3])


def make_booster(arguments: argparse.Namespace, training: xgboost.DMatrix) -> xgboost.Booster:
    """Return the booster of the newest checkpoint, or a new one on a fresh start."""
    newest = holdfast.latest("*.ubj")
    booster = xgboost.Booster(
        {
            "objective": "multi:softprob",
            "eval_metric": "mlogloss",
            "num_class": 10,
            "max_depth": arguments.max_depth,
            "eta": arguments.eta,
            "nthread": arguments.threads,
        },
        [training],
        newest,
    )
    if newest is None:
        print("fresh start", flush=True)
    else:
        print(f"resuming from round {booster.num_boosted_rounds()}", flush=True)
    return booster


def save_checkpoint(booster: xgboost.Booster, keep: int) -> None:
    """Write `round-NNNNN.ubj`, whole or not at all, and then drop all but the newest `keep`."""
    directory = holdfast.checkpoint_dir()
    with holdfast.save(directory / f"round-{booster.num_boosted_rounds():05d}.ubj") as temporary:
        booster.save_model(temporary)
    for old in sorted(directory.glob("round-*.ubj"))[:-keep]:
        old.unlink()


def train(arguments: argparse.Namespace) -> int:
    training, validation = load_data()
    booster = make_booster(arguments, training)
    for done in range(booster.num_boosted_rounds(), arguments.num_round):
        started = time.monotonic()
        booster.update(training, done)
        print(f"round {done + 1}: logloss {logloss(booster, validation):.4f}", flush=True)
        told_to_stop.wait(max(0.0, started + arguments.round_seconds - time.monotonic()))
        if told_to_stop.is_set() or holdfast.interrupted():
            save_checkpoint(booster, arguments.keep)
            print(f"interrupted after round {done + 1}, {holdfast.remaining():.0f} s before the end", flush=True)
            return INTERRUPTED
        if (done + 1) % arguments.checkpoint_every == 0:
            save_checkpoint(booster, arguments.keep)

    arguments.model_dir.mkdir(parents=True, exist_ok=True)
    booster.save_model(arguments.model_dir / "model.ubj")
    metrics = {"rounds": booster.num_boosted_rounds(), "logloss": round(logloss(booster, validation), 6)}
    (arguments.model_dir / "metrics.json").write_text(json.dumps(metrics) + "\n")
    print(f"finished: {metrics['rounds']} rounds, logloss {metrics['logloss']:.4f}", flush=True)
    return 0


def logloss(booster: xgboost.Booster, validation: xgboost.DMatrix) -> float:
    return float(booster.eval(validation).rpartition(":")[2])


if __name__ == "__main__":
    # SIGTERM comes with every notice; here it only ends the wait, so that no round is lost.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: told_to_stop.set())
    raise SystemExit(train(parse_arguments()))
