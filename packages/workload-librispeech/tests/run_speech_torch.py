"""A training step of a small model on this process: `run_speech_torch.py WORKLOAD RESULT.npz SIZES`.

The batch is the same utterances, of different lengths, however they are divided: SIZES says how many each process gets.
"""

import sys
from typing import Any

import numpy as np
import torch
from speech_models_torch import TRAIN, make_batch, make_workload, small_spec

# Utterances of processes have other numbers of frames, and one is nothing but padding.
LENGTHS, NUM_TOKENS = [90, 0, 44, 61, 17], [5, 0, 3, 4, 1]


def part(array: Any, rows: slice) -> Any:
    return tuple(part(one, rows) for one in array) if isinstance(array, tuple) else array[rows]


def step(workload: Any, sizes: list[int]) -> dict[str, Any]:
    model, _ = workload.init_model_fn(np.zeros(2, np.uint32))
    names = [name.removeprefix("module.") for name, _ in model.named_parameters()]
    # The same noise in all processes.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    start = sum(sizes[: workload.backend.rank])
    rows = slice(start, start + sizes[workload.backend.rank])
    batch = {name: part(array, rows) for name, array in make_batch(96, LENGTHS, NUM_TOKENS).items()}
    output, _ = workload.model_fn(model, batch, None, TRAIN, None, True, dropout_rate=0.0)
    # DDP takes the mean of the processes' gradients.
    share = len(sizes) / sum(NUM_TOKENS)
    loss = workload.loss_fn(batch["targets"], output)
    (loss["summed"] * share).backward()
    result = {f"gradients/{n}": p.grad.numpy() for n, p in zip(names, model.parameters(), strict=True)}
    result |= {f"state/{n.removeprefix('module.')}": b.numpy() for n, b in model.named_buffers() if "running" in n}
    parts = workload.backend.gather([(output[0].detach().numpy(), loss["per_example"].detach().numpy())])
    logits, losses = zip(*parts, strict=True)
    return result | {"logits": np.concatenate(logits), "losses": np.concatenate(losses)}


def main() -> None:
    name, path, sizes = sys.argv[1:]
    workload = make_workload(small_spec(name))
    result = step(workload, [int(size) for size in sizes.split(",")])
    if workload.backend.rank == 0:
        np.savez(path, **result)


if __name__ == "__main__":
    main()
