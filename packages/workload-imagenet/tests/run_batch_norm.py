"""One training step of a small ResNet on this process's devices: `run_batch_norm.py FRAMEWORK RESULT.npz [SIZES]`.

The batch is the same eight images, however they are divided; SIZES says how many each process of PyTorch gets.
"""

import sys
from dataclasses import replace

import numpy as np

from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import ForwardPassMode, Framework, Scale
from algoperf.testing.bench import noisy

TRAIN = ForwardPassMode.TRAIN
# Images of different contrast, so that parts of the batch have other statistics than the whole.
CONTRAST = np.arange(1, 9, dtype=np.float32)[:, None, None, None]
IMAGES = CONTRAST * np.random.default_rng(0).standard_normal((8, 28, 28, 3), np.float32)
TARGETS = np.arange(8, dtype=np.int32)


def step_in_jax(workload):
    import jax
    from flax.traverse_util import flatten_dict, unflatten_dict

    def mean_loss(params, model_state, batch):
        logits, model_state = workload.model_fn(params, batch, model_state, TRAIN, None, update_batch_norm=True)
        loss = workload.loss_fn(batch["targets"], logits)
        return loss["summed"] / loss["n_valid_examples"], (logits, model_state)

    params, model_state = workload.init_model_fn(random_key(0))
    params = unflatten_dict(noisy(jax.device_get(flatten_dict(params))))
    state = workload.backend.place_state(jax.tree.map(jax.numpy.asarray, (params, model_state)))
    batch = workload.backend.place_batch({"inputs": IMAGES, "targets": TARGETS})
    assert len(batch["inputs"].sharding.device_set) == jax.device_count()
    (_, (logits, model_state)), gradients = jax.jit(jax.value_and_grad(mean_loss, has_aux=True))(*state, batch)
    trees = {"gradients": gradients, "state": model_state}
    return {"logits": logits} | {"/".join(path): leaf for path, leaf in flatten_dict(trees).items()}


def step_in_pytorch(workload, sizes):
    import torch

    model, _ = workload.init_model_fn(random_key(0))
    names = [name.removeprefix("module.") for name, _ in model.named_parameters()]
    arrays = noisy({n: p.detach().numpy() for n, p in zip(names, model.parameters(), strict=True)})
    for name, parameter in zip(names, model.parameters(), strict=True):
        parameter.data.copy_(torch.from_numpy(arrays[name]))
    start = sum(sizes[: workload.backend.rank])
    mine = slice(start, start + sizes[workload.backend.rank])
    batch = {"inputs": torch.from_numpy(IMAGES[mine]).permute(0, 3, 1, 2)}
    logits, _ = workload.model_fn(model, batch, None, TRAIN, None, update_batch_norm=True)
    # DDP takes the mean of the processes' gradients.
    share = len(sizes) / len(TARGETS)
    (workload.loss_fn(torch.from_numpy(TARGETS[mine]), logits)["summed"] * share).backward()
    result = {f"gradients/{n}": p.grad for n, p in zip(names, model.parameters(), strict=True)}
    result |= {f"state/{n.removeprefix('module.')}": b for n, b in model.named_buffers() if "running" in n}
    parts = workload.backend.gather([logits.detach().numpy()])
    return {"logits": np.concatenate(parts)} | {n: t.numpy() for n, t in result.items()}


def main() -> None:
    framework = Framework(sys.argv[1])
    # Without kinks, so that nothing but the order of sums depends on the devices.
    spec = registry.workload_spec("imagenet_resnet_silu").at(Scale.MINI)
    spec = replace(spec, model=replace(spec.model, stage_sizes=(1, 1), width=8))
    workload = registry.make_workload(spec, framework)
    if framework is Framework.JAX:
        result = step_in_jax(workload)
    else:
        result = step_in_pytorch(workload, [int(size) for size in sys.argv[3].split(",")])
    if workload.backend.rank == 0:
        np.savez(sys.argv[2], **result)


if __name__ == "__main__":
    main()
