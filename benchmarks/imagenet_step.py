"""Seconds of a NAdamW step and of an evaluation forward of ResNet-50 and ViT S/16, at 8 pictures of 224 pixels.

The public reference's figures (`reference_*`, medians, 2 CPU cores) were measured on another machine; so that they mean
something here, PyTorch's ResNet is also timed as the reference runs it, with channels first (`channels_first_*`).
`compile_s` is what the first step takes beyond the others. Each model has a process of its own. Prints JSON.
`imagenet_step.py WORKLOAD FRAMEWORK LAYOUT` times one of them once.
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
from algoperf.seeds import random_key
from algoperf.spec import Framework
from algoperf.testing.frameworks import is_installed

REFERENCE = {
    ("imagenet_resnet", Framework.JAX): {"step_s": 2.594, "evaluation_s": 0.2552},
    ("imagenet_resnet", Framework.PYTORCH): {"step_s": 1.0808, "evaluation_s": 0.2586},
    ("imagenet_vit", Framework.JAX): {"step_s": 1.3643, "evaluation_s": 0.243},
    ("imagenet_vit", Framework.PYTORCH): {"step_s": 1.8612, "evaluation_s": 0.4748},
}
BATCH_SIZE = 8
STEPS, ROUNDS = 7, 2


def batch() -> dict[str, np.ndarray]:
    """8-bit noise."""
    rng = np.random.default_rng(0)
    return {
        "inputs": rng.integers(0, 256, (BATCH_SIZE, 224, 224, 3), np.uint8),
        "targets": rng.integers(0, 1000, BATCH_SIZE).astype(np.int32),
        "weights": np.ones(BATCH_SIZE, np.float32),
    }


def timed(function: Callable[[], object], wait: Callable[[object], None]) -> list[float]:
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        wait(function())
        times.append(time.perf_counter() - start)
    return times


def measure(name: str, framework: Framework, layout: str) -> dict[str, float]:
    workload = registry.make_workload(registry.workload_spec(name), framework)
    on_device = workload.place_batch(batch())
    training = Training(workload)
    if layout == "channels_first":
        import torch

        training.params.to(memory_format=torch.contiguous_format)
        on_device["inputs"] = on_device["inputs"].contiguous()

    def evaluation() -> object:
        return workload.compiled_eval_step(training.params, training.model_state, on_device, random_key(3))

    wait = workload.backend.wait
    steps, evaluations = timed(lambda: training.step(on_device), wait), timed(evaluation, wait)
    median = statistics.median(steps[1:])
    return {"step_s": median, "evaluation_s": statistics.median(evaluations[1:]), "compile_s": steps[0] - median}


def in_process(name: str, framework: Framework, layout: str) -> dict[str, float]:
    command = [sys.executable, __file__, name, framework.value, layout]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    if len(sys.argv) == 4:
        print(json.dumps(measure(sys.argv[1], Framework(sys.argv[2]), sys.argv[3])))
        return
    result = {}
    for (name, framework), reference in REFERENCE.items():
        if not is_installed(framework):
            continue
        has_layouts = framework is Framework.PYTORCH and name == "imagenet_resnet"
        layouts = ("ours", "channels_first") if has_layouts else ("ours",)
        runs = [{layout: in_process(name, framework, layout) for layout in layouts} for _ in range(ROUNDS)]
        medians = {
            f"{'' if layout == 'ours' else 'channels_first_'}{what}": statistics.median(
                run[layout][what] for run in runs
            )
            for layout in layouts
            for what in ("step_s", "evaluation_s", "compile_s")
        }
        figures = {what: round(seconds, 4) for what, seconds in medians.items()}
        figures |= {f"reference_{what}": seconds for what, seconds in reference.items()}
        figures |= {f"{what[:-2]}_to_reference": round(medians[what] / reference[what], 3) for what in reference}
        result[f"{name}_{framework.value}"] = figures
    print(json.dumps({"benchmark": "imagenet_step", "batch_size": BATCH_SIZE, "rounds": ROUNDS, **result}))


if __name__ == "__main__":
    main()
