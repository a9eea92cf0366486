"""Hugging Face's Trainer, which keeps its best checkpoint and loads it at its end. The best is that of step 10."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

CHECKPOINTS = Path(os.environ["CHECKPOINT_LOCAL_PATH"])


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(512, 1024)
        self.second = torch.nn.Linear(1024, 1)

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.second(torch.relu(self.first(inputs)))[:, 0]
        return {"loss": torch.nn.functional.mse_loss(found, labels), "logits": found}


class Waits(TrainerCallback):
    """Stands for the hours that a training takes."""

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 22:
            print("waits in step 22", flush=True)
            while not Path("go-on").exists():
                time.sleep(0.02)


def score(_: Any) -> dict[str, float]:
    return {"score": -abs(trainer.state.global_step - 10)}


torch.manual_seed(1)
samples = [{"inputs": torch.randn(512), "labels": torch.randn(())} for _ in range(32)]
trainer = Trainer(
    Model(),
    TrainingArguments(
        str(CHECKPOINTS),
        max_steps=30,
        eval_strategy="steps",
        eval_steps=5,
        save_steps=5,
        save_total_limit=3,
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=True,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    ),
    train_dataset=samples,
    eval_dataset=samples[:8],
    compute_metrics=score,
    callbacks=[Waits()],
)
resume = os.environ.get("HOLDFAST_RESUME")
if resume is not None:
    print("resumes from", Path(resume).name, "of", *sorted(path.name for path in CHECKPOINTS.glob("[!.]*")), flush=True)
trainer.train(resume_from_checkpoint=resume)
trainer.save_model(os.environ["SM_MODEL_DIR"])
