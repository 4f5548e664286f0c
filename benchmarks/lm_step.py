"""Seconds and memory of a NAdamW step of the language model and of an evaluation of the same batch, on the host.

At full size with 2 sequences of 64 tokens, and at mini size with 16 of 128. `cpu_s` is of the processor, which a busy
machine disturbs less. `peak_mb` is what the process has had at most, `state_mb` what parameters and NAdamW's moments
take of it; a step also has gradients, as large as the parameters. Each measurement has a process of its own; they are
taken in turns.

Prints JSON. `lm_step.py FRAMEWORK SCALE` measures once.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from _training import Training

from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import Framework, Scale, WorkloadSpec
from algoperf.testing.frameworks import is_installed
from algoperf_lm.spec import FINEWEBEDU_LM

SHAPES = {Scale.FULL: (2, 64), Scale.MINI: (16, 128)}
STEPS, ROUNDS = 4, 3


def batch(spec: WorkloadSpec) -> dict[str, np.ndarray]:
    """Random tokens."""
    number, length = SHAPES[spec.scale]
    rows = np.random.default_rng(0).integers(0, spec.model.vocab_size, (number, length + 1)).astype(np.int32)
    return {"inputs": rows[:, :-1].copy(), "targets": rows[:, 1:].copy()}


def seconds(function: Callable[[], object], wait: Callable[[object], object]) -> dict[str, float]:
    """Medians of some calls, on the clock and of the processor, and what the first one takes beyond."""
    times = []
    for _ in range(STEPS):
        start, cpu_start = time.perf_counter(), time.process_time()
        wait(function())
        times.append((time.perf_counter() - start, time.process_time() - cpu_start))
    wall_s, cpu_s = (statistics.median(values) for values in zip(*times[1:], strict=True))
    return {"s": wall_s, "cpu_s": cpu_s, "compile_s": times[0][0] - wall_s}


def measure(framework: Framework, scale: Scale) -> dict[str, float]:
    spec = FINEWEBEDU_LM.at(scale)
    number, length = SHAPES[scale]
    workload = registry.make_workload(replace(spec, eval_batch_size=number), framework)
    training, backend = Training(workload), workload.backend
    arrays = batch(spec)
    placed = backend.place_batch(arrays)
    step = seconds(lambda: training.step(placed), backend.wait)
    weighed = backend.place_batch(arrays | {"weights": np.ones((number, length), np.float32)})
    key = random_key(0)
    evaluation = seconds(
        lambda: backend.to_host(workload.compiled_eval_step(training.params, None, weighed, key)), lambda done: done
    )
    num_parameters = sum(int(np.prod(one["shape"])) for one in workload.parameters())
    return {
        **{f"step_{name}": value for name, value in step.items()},
        **{f"evaluation_{name}": value for name, value in evaluation.items()},
        "state_mb": 3 * 4 * num_parameters / 1e6,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


def in_process(framework: Framework, scale: Scale) -> dict[str, float]:
    command = [sys.executable, __file__, framework.value, scale.value]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(measure(Framework(sys.argv[1]), Scale(sys.argv[2]))))
        return
    result: dict[str, object] = {}
    for scale in Scale:
        runs = [{one: in_process(one, scale) for one in Framework if is_installed(one)} for _ in range(ROUNDS)]
        found = {
            one.value: {what: round(statistics.median(run[one][what] for run in runs), 3) for what in runs[0][one]}
            for one in runs[0]
        }
        number, length = SHAPES[scale]
        for times in found.values():
            times["tokens_per_s"] = round(number * length / times["step_s"])
        result[scale.value] = {"tokens": [number, length], **found}
    print(json.dumps({"benchmark": "lm_step", "rounds": ROUNDS, **result}))


if __name__ == "__main__":
    main()
