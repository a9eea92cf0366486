"""Cases that PyTorch, safetensors and Transformers write."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from tests.formats.cases import Directory, File, every_cut, within_text

TORCH = ("torch",)


def weights(seed: int, width: int = 64, layers: int = 2) -> dict[str, Any]:
    import torch

    torch.manual_seed(seed)
    found = {f"layer{number}.weight": torch.randn(width, width) for number in range(layers)}
    return found | {"half": torch.randn(9).to(torch.bfloat16), "steps": torch.tensor(seed), "mask": torch.ones(3) > 0}


def saved(path: Path, seed: int, *, legacy: bool = False, **how: int) -> None:
    import torch

    content = {"model": weights(seed, **how), "epoch": seed, "note": "x" * 100}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)


def saved_plain(path: Path, seed: int, *, legacy: bool = False) -> None:
    import torch

    torch.save({"epoch": seed}, path, _use_new_zipfile_serialization=not legacy)


def saved_views(path: Path, seed: int) -> None:
    """Save two tensors of one storage, a typed storage, and an optimizer's state, as before the zip archives."""
    import torch

    torch.manual_seed(seed)
    whole = torch.randn(100)
    model = torch.nn.Linear(8, 8)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 8)).sum().backward()
    optimizer.step()
    content = [whole, whole[10:20], torch.arange(5, dtype=torch.int16), optimizer.state_dict()]
    torch.save(content, path, _use_new_zipfile_serialization=False)


def saved_twice(path: Path, seed: int) -> None:
    import torch

    with path.open("wb") as file:
        for number in range(2):
            torch.save(torch.full((30,), float(seed + number)), file, _use_new_zipfile_serialization=False)


def script(path: Path, seed: int) -> None:
    import torch

    torch.manual_seed(seed)
    torch.jit.save(torch.jit.script(torch.nn.Linear(32, 32)), path)


def safetensors(path: Path, seed: int, *, tensors: bool = True, **how: int) -> None:
    from safetensors.torch import save_file

    save_file(weights(seed, **how) if tensors else {}, path, metadata={"seed": '{"data_offsets": [0, 999999]}'})


def distributed(path: Path, *, files: int = 1, width: int = 64) -> None:
    import torch.distributed.checkpoint as dcp

    writer = dcp.FileSystemWriter(path, single_file_per_rank=files == 1, thread_count=files)
    dcp.save(
        {"model": weights(1, width), "epoch": 3, "raw": io.BytesIO(b"?" * 50)}, storage_writer=writer, no_dist=True
    )


def each_rank_for_itself(path: Path) -> None:
    import torch.distributed.checkpoint as dcp

    dcp.save(weights(1), checkpoint_id=path, no_dist=True, use_collectives=False)


def pretrained(path: Path, *, shard: str = "40KB") -> None:
    """Save what transformers' Trainer keeps in its checkpoint-N: the weights, and beside them files of torch.save."""
    tiny_model().save_pretrained(path, max_shard_size=shard)
    saved(path / "optimizer.pt", 1)
    saved_plain(path / "training_args.bin", 1)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": 500, "log_history": []}, indent=2) + "\n")


def tiny_model() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=200, n_positions=16, **ends))


def single_over_shards(path: Path) -> None:
    """Save a model over a larger one: what belonged to the larger one, and its index, may stay."""
    tiny_model().save_pretrained(path, max_shard_size="40KB")
    tiny_model().save_pretrained(path)


FILES = (
    File("zip: torch.save", "none.pt", TORCH, saved_plain, whole=True),
    File("zip: torch.save", "model.pt", TORCH, saved, whole=True),
    File("zip: torch.save", "tiny.ckpt", TORCH, lambda path, seed: saved(path, seed, width=1, layers=1), whole=True),
    File("zip: torch.save", "large.pth", TORCH, lambda path, seed: saved(path, seed, width=500, layers=4), whole=True),
    File("zip: torch.save", "many.bin", TORCH, lambda path, seed: saved(path, seed, width=2, layers=300),
         lambda content, length: length >= 4, whole=True),
    File("zip: TorchScript", "script.pt", TORCH, script, whole=True),
    File("torch.save, legacy", "none.pt", TORCH, lambda path, seed: saved_plain(path, seed, legacy=True)),
    File("torch.save, legacy", "model.pt", TORCH, lambda path, seed: saved(path, seed, legacy=True)),
    File("torch.save, legacy", "large.pth", TORCH,
         lambda path, seed: saved(path, seed, legacy=True, width=400, layers=3)),
    File("torch.save, legacy", "views.pt", TORCH, saved_views),
    File("torch.save, legacy", "twice.pt", TORCH, saved_twice,
         lambda content, length: length < len(content) // 2 or length > len(content) // 2 + 20),
    File("safetensors", "empty.safetensors", ("torch", "safetensors"),
         lambda path, seed: safetensors(path, seed, tensors=False)),
    File("safetensors", "model.safetensors", ("torch", "safetensors"), safetensors),
    File("safetensors", "large.safetensors", ("torch", "safetensors"),
         lambda path, seed: safetensors(path, seed, width=500, layers=4)),
    File("safetensors", "no-known-name", ("torch", "safetensors"), safetensors, lambda content, length: length > 100),
)  # fmt: skip
DIRECTORIES = (
    Directory("torch.distributed.checkpoint", "one-file", TORCH, distributed, (r"\.metadata", r".*\.distcp"),
              {r"\.metadata|.*\.distcp": every_cut}),
    Directory("torch.distributed.checkpoint", "three-files", TORCH, lambda path: distributed(path, files=3),
              (r"\.metadata", r".*\.distcp"), {r"\.metadata|.*\.distcp": every_cut}),
    Directory("torch.distributed.checkpoint", "large", TORCH, lambda path: distributed(path, width=700),
              (r"\.metadata", r".*\.distcp"), {r"\.metadata|.*\.distcp": every_cut}),
    Directory("torch.distributed.checkpoint", "each-rank-for-itself", TORCH, each_rank_for_itself,
              (r"__0\.metadata", r".*\.distcp"), {r"__0\.metadata|.*\.distcp": every_cut}),
    Directory("Hugging Face", "one-file", ("torch", "transformers"), lambda path: pretrained(path, shard="1GB"), (),
              {r".*\.(?:safetensors|pt|bin)": every_cut, r".*\.json": within_text}),
    Directory("Hugging Face", "shards", ("torch", "transformers"), pretrained, (r"model-.*\.safetensors",),
              {r".*\.(?:safetensors|pt|bin)": every_cut, r".*\.json": within_text}),
    Directory("Hugging Face", "one-file-over-shards", ("torch", "transformers"), single_over_shards),
)  # fmt: skip
