"""Seconds of a NAdamW step, of an evaluation's forward pass and of the front end of the speech models at full size.

The batch is two utterances of 20 and 15 seconds. The public reference's figures (`reference_*`, medians, 2 CPU cores)
were measured on another machine. So that they mean something here, the same networks are also timed as the reference
writes them (`plain_*`): frames that are gathered, depthwise convolutions by the library, LSTMs that multiply a frame's
inputs in the loop, norms and attention spelt out, masks of dropout from floats. Ours and the plain ones take turns, in
processes of their own. `step_to_plain` is their ratio; `compile_s` is what the first step takes beyond the others.
Prints JSON. `librispeech_step.py WORKLOAD FRAMEWORK ours|plain` times one of them once.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
from _training import Training

from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import ForwardPassMode, Framework
from algoperf.testing.frameworks import is_installed

# Of the first step, what the reference takes beyond a step: it compiles twice.
REFERENCE = {
    ("librispeech_conformer", Framework.JAX): {"step_s": 2.7644, "forward_s": 0.6136, "compile_s": 45.7},
    ("librispeech_conformer", Framework.PYTORCH): {"step_s": 3.2835, "forward_s": 1.0327},
    ("librispeech_deepspeech", Framework.JAX): {"step_s": 13.5401, "forward_s": 0.7863, "compile_s": 21.3},
    ("librispeech_deepspeech", Framework.PYTORCH): {"step_s": 2.4618, "forward_s": 0.7727},
}
LENGTHS, TOKENS, VOCAB_SIZE = (320_000, 240_000), (60, 50), 1_024
STEPS, ROUNDS = 5, 2


def batch() -> dict[str, np.ndarray]:
    """Noise, and random tokens with an end."""
    rng = np.random.default_rng(0)
    targets = np.zeros((2, 256), np.int32)
    for row, number in enumerate(TOKENS):
        targets[row, :number] = [*rng.integers(3, VOCAB_SIZE, number - 1), 2]
    audio = rng.normal(scale=1_000, size=(2, max(LENGTHS))).astype(np.int16)
    return {"inputs": audio, "lengths": np.array(LENGTHS, np.int32), "targets": targets}


def write_jax_plainly() -> None:
    import jax
    import jax.numpy as jnp
    from flax import linen as nn

    from algoperf_librispeech import jax_conformer, jax_deepspeech, jax_layers, jax_log_mel, jax_workload
    from algoperf_librispeech.log_mel import FRAME_SIZE, FRAME_STEP, num_frames

    class DepthwiseConv(nn.Module):
        kernel_size: int

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            kernel = self.param("kernel", jax_layers.XAVIER, (self.kernel_size, 1, x.shape[-1]))
            dimensions = ("NHC", "HIO", "NHC")
            return jax.lax.conv_general_dilated(
                x, kernel, (1,), "SAME", dimension_numbers=dimensions, feature_group_count=x.shape[-1]
            )

    class BidirectionalLSTM(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
            size = x.shape[-1] // 2
            lengths = mask[..., 0].sum(axis=1).astype(int)
            ahead, back = (nn.RNN(nn.OptimizedLSTMCell(size)) for _ in range(2))
            return nn.Bidirectional(ahead, back)(x, seq_lengths=lengths)

    def pieces(x: jax.Array) -> list[jax.Array]:
        places = np.arange(num_frames(x.shape[1]))[:, None] * FRAME_STEP + np.arange(FRAME_SIZE)
        return [x[:, places]]

    jax_conformer.DepthwiseConv, jax_deepspeech.BidirectionalLSTM = DepthwiseConv, BidirectionalLSTM
    jax_log_mel._pieces = pieces
    jax_layers.dropout = lambda x, rate, key: jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)
    assert jax_workload.log_mel is jax_log_mel.log_mel


def write_torch_plainly() -> None:
    import torch
    import torch.nn.functional as F
    from torch import Tensor

    from algoperf_librispeech import torch_conformer, torch_layers

    def subsample(self: Any, features: Tensor, paddings: Tensor) -> tuple[Tensor, Tensor]:
        x, activation = features[:, None], {torch.relu_: F.relu, torch.tanh_: torch.tanh}[self.activation_]
        for conv in (self.conv1, self.conv2):
            time, bins = (torch_layers._same_padding(size) for size in x.shape[2:])
            paddings = paddings[:, ::2]
            x = activation(conv(F.pad(x, (*bins, *time)))) * (1 - paddings)[:, None, :, None]
        return self.linear(x.permute(0, 2, 3, 1).flatten(2)), paddings

    def normalise(self: Any, x: Tensor) -> Tensor:
        mean = x.mean(dim=-1, keepdim=True)
        variance = (x - mean).square().mean(dim=-1, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + 1e-6) * (1 + self.scale) + self.bias

    def attend(self: Any, x: Tensor, visible: Tensor, dropout_rate: float) -> Tensor:
        parts = self.in_proj(self.norm(x)).chunk(3, dim=-1)
        queries, keys, values = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        scores = self.query_scaler(queries) @ keys.transpose(2, 3) + torch.where(visible, 0.0, -1e10)
        y = (scores.softmax(dim=-1) @ values).transpose(1, 2).flatten(2) * self.temperature
        return torch_conformer.drop(self.out_proj(y), dropout_rate)

    torch_layers.Subsampling.forward, torch_layers.LayerNorm.forward = subsample, normalise
    torch_conformer.Attention.forward = attend
    torch_layers.dropout = F.dropout


def timed(function: Callable[[], object], wait: Callable[[object], None]) -> list[float]:
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        wait(function())
        times.append(time.perf_counter() - start)
    return times


def measure(name: str, framework: Framework) -> dict[str, float]:
    workload = registry.make_workload(registry.workload_spec(name), framework)
    training = Training(workload)
    on_device = workload.place_batch(batch())

    def forward(params: object, arrays: dict[str, object]) -> object:
        state = training.model_state
        return workload.model_fn(params, arrays, state, ForwardPassMode.EVAL, random_key(3), False)[0]

    if framework is Framework.JAX:
        import jax

        from algoperf_librispeech.jax_log_mel import log_mel

        forward, front_end = jax.jit(forward), jax.jit(log_mel)
    else:
        import torch

        from algoperf_librispeech.torch_log_mel import log_mel as front_end

        forward = torch.no_grad()(forward)
    wait = workload.backend.wait
    steps = timed(lambda: training.step(on_device), wait)
    forwards = timed(lambda: forward(training.params, on_device), wait)
    front_ends = timed(lambda: front_end(*on_device["inputs"]), wait)
    step_s = statistics.median(steps[1:])
    return {
        "step_s": step_s,
        "forward_s": statistics.median(forwards[1:]),
        "front_end_s": statistics.median(front_ends[1:]),
        "compile_s": steps[0] - step_s,
        "resident_gib": psutil.Process().memory_info().rss / 2**30,
    }


def in_process(name: str, framework: Framework, formulation: str) -> dict[str, float]:
    command = [sys.executable, __file__, name, framework.value, formulation]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    if len(sys.argv) == 4:
        framework = Framework(sys.argv[2])
        if sys.argv[3] == "plain":
            (write_jax_plainly if framework is Framework.JAX else write_torch_plainly)()
        print(json.dumps(measure(sys.argv[1], framework)))
        return
    for (name, framework), reference in REFERENCE.items():
        if not is_installed(framework):
            continue
        runs = [{one: in_process(name, framework, one) for one in ("ours", "plain")} for _ in range(ROUNDS)]
        medians = {
            one: {what: statistics.median(run[one][what] for run in runs) for what in runs[0][one]}
            for one in ("ours", "plain")
        }
        figures = {what: round(value, 3) for what, value in medians["ours"].items()}
        for what, seconds in reference.items():
            figures[f"plain_{what}"] = round(medians["plain"][what], 3)
            figures[f"{what[:-2]}_to_plain"] = round(medians["ours"][what] / medians["plain"][what], 3)
            figures[f"reference_{what}"] = seconds
            figures[f"{what[:-2]}_to_reference"] = round(medians["ours"][what] / seconds, 3)
        result = {"benchmark": "librispeech_step", "workload": name, "framework": framework.value, "rounds": ROUNDS}
        print(json.dumps(result | figures), flush=True)


if __name__ == "__main__":
    main()
