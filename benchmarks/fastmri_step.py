"""Seconds of a NAdamW step of fastMRI, at two images of 320 pixels, and of the metric of the validation split.

The public reference's times (`reference_s`, and `reference_cpu_s` of the processor) were measured on another machine,
with 2 cores. So that they mean something here, the network is also timed otherwise (`other`), in turns, each in a
process of its own, so that a busy machine disturbs both alike. In JAX that is as the reference writes it, with flax's
transposed convolution and norms that take two passes; PyTorch's is the reference's anyhow, and the other one has its
channels last. `compile_s` is what the first step takes beyond the others. `ssim_s` is the structural similarity of
3,554 images, computed in batches of 256.

Prints JSON. `fastmri_step.py FRAMEWORK ours|other` times one of them once.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from _training import Training

from algoperf import registry
from algoperf.backends import Backend
from algoperf.spec import Framework
from algoperf.testing.frameworks import is_installed
from algoperf_fastmri.spec import FASTMRI

REFERENCE_S = {Framework.JAX: 2.8525, Framework.PYTORCH: 5.0841}
REFERENCE_CPU_S = {Framework.JAX: 5.3874, Framework.PYTORCH: 5.279}
STEPS, ROUNDS = 5, 3
SSIM_BATCH = 256


def images(number: int) -> dict[str, np.ndarray]:
    """Noise, as normalised images are."""
    rng = np.random.default_rng(0)
    pictures = {name: rng.normal(size=(number, 320, 320)).astype(np.float32) for name in ("inputs", "targets")}
    scalars = {"mean": 1e-4, "std": 3e-4, "volume_max": 2e-3}
    return pictures | {name: np.full(number, value, np.float32) for name, value in scalars.items()}


def write_otherwise(training: Training) -> None:
    if training.workload.framework is Framework.PYTORCH:
        import torch

        training.params.to(memory_format=torch.channels_last)
        return
    import jax
    import jax.numpy as jnp

    from algoperf_fastmri import jax_model

    def instance_norm(x):
        mean = x.mean(axis=(1, 2), keepdims=True)
        return (x - mean) * jax.lax.rsqrt(jnp.var(x, axis=(1, 2), keepdims=True) + 1e-5)

    jax_model.instance_norm = instance_norm
    jax_model.double = lambda x, kernel: jax.lax.conv_transpose(x, kernel, (2, 2), "SAME")


def compiled_ssim(framework: Framework) -> Callable[..., object]:
    if framework is Framework.PYTORCH:
        from algoperf_fastmri.torch_ssim import ssim

        return ssim
    import jax

    from algoperf_fastmri.jax_ssim import ssim

    return jax.jit(ssim)


def seconds(function: Callable[[], object], backend: Backend) -> list[tuple[float, float]]:
    """Of each call: on the clock, and of the processor."""
    times = []
    for _ in range(STEPS):
        start, cpu_start = time.perf_counter(), time.process_time()
        backend.wait(function())
        times.append((time.perf_counter() - start, time.process_time() - cpu_start))
    return times


def measure(framework: Framework, formulation: str) -> dict[str, float]:
    workload = registry.make_workload(FASTMRI, framework)
    place, training = workload.backend.place_batch, Training(workload)
    if formulation == "other":
        write_otherwise(training)
    batch = place(images(2))
    steps = seconds(lambda: training.step(batch), workload.backend)
    ssim, pairs = compiled_ssim(framework), place(images(SSIM_BATCH))
    arguments = [pairs[name] for name in ("inputs", "targets", "mean", "std", "volume_max")]
    similarities = seconds(lambda: ssim(*arguments), workload.backend)
    step_s, cpu_s = (statistics.median(times) for times in zip(*steps[1:], strict=True))
    batches = FASTMRI.num_validation_examples / SSIM_BATCH
    ssim_s, ssim_cpu_s = (statistics.median(times) * batches for times in zip(*similarities[1:], strict=True))
    compile_s = steps[0][0] - step_s
    return {"step_s": step_s, "cpu_s": cpu_s, "compile_s": compile_s, "ssim_s": ssim_s, "ssim_cpu_s": ssim_cpu_s}


def in_process(framework: Framework, formulation: str) -> dict[str, float]:
    command = [sys.executable, __file__, framework.value, formulation]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(measure(Framework(sys.argv[1]), sys.argv[2])))
        return
    result: dict[str, object] = {}
    for framework in [f for f in Framework if is_installed(f)]:
        runs = [{one: in_process(framework, one) for one in ("ours", "other")} for _ in range(ROUNDS)]
        ours, other = (
            {what: statistics.median(run[one][what] for run in runs) for what in runs[0][one]}
            for one in ("ours", "other")
        )
        reference_s, reference_cpu_s = REFERENCE_S[framework], REFERENCE_CPU_S[framework]
        result[framework.value] = {what: round(value, 3) for what, value in ours.items()} | {
            "other_step_s": round(other["step_s"], 3),
            "other_cpu_s": round(other["cpu_s"], 3),
            "step_to_other": round(ours["step_s"] / other["step_s"], 3),
            "reference_s": reference_s,
            "reference_cpu_s": reference_cpu_s,
            "step_to_reference": round(ours["step_s"] / reference_s, 3),
            "cpu_to_reference": round(ours["cpu_s"] / reference_cpu_s, 3),
        }
    print(json.dumps({"benchmark": "fastmri_step", "images": 2, "rounds": ROUNDS, **result}))


if __name__ == "__main__":
    main()
