"""How much memory the loss and evaluations need: at full size logits are by far the largest arrays.

JAX's compiler says it, of compiled functions that are not run. PyTorch's is the growth of a process.
"""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from lm_models import small

from algoperf.spec import Framework, Scale
from algoperf.testing.frameworks import require
from algoperf_lm.spec import FINEWEBEDU_LM

V, ROWS, LENGTH = 50_257, 4, 512
LOGITS_BYTES = 4 * ROWS * LENGTH * V


def jax_workload(spec: Any) -> Any:
    from algoperf.backends.jax import JaxBackend
    from algoperf_lm.jax_workload import LmJax

    return LmJax(spec, JaxBackend())


def compiled_memory(function: Any, *arguments: Any) -> Any:
    import jax

    return jax.jit(function).lower(*arguments).compile().memory_analysis()


def test_the_loss_in_jax_keeps_nothing_of_the_logits_size_but_their_gradient() -> None:
    require(Framework.JAX)
    import jax
    import jax.numpy as jnp

    workload = jax_workload(FINEWEBEDU_LM)
    logits = jax.ShapeDtypeStruct((ROWS, LENGTH, V), jnp.float32)
    labels = jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32)

    def loss(logits: Any, labels: Any) -> Any:
        return workload.loss_fn(labels, logits, label_smoothing=0.1)["summed"]

    forward = compiled_memory(loss, logits, labels)
    assert forward.temp_size_in_bytes < 0.01 * LOGITS_BYTES
    backward = compiled_memory(jax.grad(loss), logits, labels)
    assert backward.output_size_in_bytes == LOGITS_BYTES
    assert backward.temp_size_in_bytes < 0.01 * LOGITS_BYTES


def test_an_evaluation_in_jax_has_the_logits_of_a_few_sequences_only() -> None:
    require(Framework.JAX)
    import jax
    import jax.numpy as jnp

    spec = small(FINEWEBEDU_LM, vocab_size=5_000, context=128)
    sizes = {}
    for at_once, batch_size in ((2, 8), (2, 32), (8, 32)):
        workload = jax_workload(replace(spec, model=replace(spec.model, sequences_at_once=at_once)))
        params = jax.eval_shape(lambda one=workload: one.init_variables(jax.random.key(0))[0])
        tokens = jax.ShapeDtypeStruct((batch_size, 128), jnp.int32)
        batch = {"inputs": tokens, "targets": tokens, "weights": jax.ShapeDtypeStruct((batch_size, 128), jnp.float32)}
        memory = compiled_memory(lambda p, b, one=workload: one.eval_step(p, None, b, None), params, batch)
        sizes[at_once, batch_size] = memory.temp_size_in_bytes / (4 * at_once * 128 * 5_000)
    # In units of the logits of those that go at once: about one, whatever the size of the batch.
    assert all(0.9 < size < 2.2 for size in sizes.values()), sizes


@pytest.mark.parametrize(("at_once", "batch_size"), [(2, 8), (3, 8)])
def test_an_evaluation_in_pytorch_has_the_logits_of_a_few_sequences_only(at_once: int, batch_size: int) -> None:
    require(Framework.PYTORCH)
    import torch

    from algoperf.backends.pytorch import TorchBackend
    from algoperf_lm.torch_workload import LmTorch

    spec, sizes = small(FINEWEBEDU_LM, sequences_at_once=at_once), []
    workload = LmTorch(spec, TorchBackend())
    model = workload.build_model()
    model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    batch = {"inputs": torch.zeros(batch_size, 10, dtype=torch.int32)}
    batch |= {"targets": batch["inputs"], "weights": torch.ones(batch_size, 10)}
    workload.eval_step(model, None, batch, None)
    assert (max(sizes), sum(sizes)) == (at_once, batch_size)


_PEAK = """
from pathlib import Path

import torch

from algoperf.backends.pytorch_losses import token_cross_entropy
torch.set_num_threads(1)


def memory(name):
    # Not the peak that `resource` has: that of the process which started this one counts there.
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


logits = torch.full((4, 512, 50_257), 0.5, requires_grad=True)
labels = torch.zeros(4, 512, dtype=torch.int64)
before = memory("VmRSS:")
loss = token_cross_entropy(labels, logits, label_smoothing=0.1)["summed"]
print(memory("VmHWM:") - before)
loss.backward()
print(memory("VmHWM:") - before)
"""


def test_the_loss_in_pytorch_keeps_nothing_of_the_logits_size_but_their_gradient() -> None:
    require(Framework.PYTORCH)
    done = subprocess.run([sys.executable, "-c", _PEAK], check=True, capture_output=True, text=True)
    forward, backward = (int(word) / LOGITS_BYTES for word in done.stdout.split())
    # Blocks of 64 MB are worked on, a sixth of these logits.
    assert forward < 0.6
    assert 0.95 < backward < 1.6


@pytest.mark.parametrize("scale", Scale)
def test_a_device_has_no_more_sequences_at_once_than_its_part_of_a_batch(scale: Scale) -> None:
    spec = FINEWEBEDU_LM.at(scale)
    assert spec.eval_batch_size % spec.model.sequences_at_once == 0
    # 1.6 GB of float32 at full scale.
    model = spec.model
    assert 4 * model.sequences_at_once * model.context * model.vocab_size < 2**31
