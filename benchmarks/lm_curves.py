"""What the mini targets of the language model rest on: its perplexity as training goes on. Prints JSON.

NAdamW at its point for mini scale trains the workload and its variants for the steps of the step hint, in both
frameworks, from initial values of two seeds. `ppl` is the perplexity of the validation split by steps. Each training
has a process of its own; `lm_curves.py WORKLOAD FRAMEWORK SEED` makes one.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import Framework, Scale, Split
from algoperf.testing.frameworks import is_installed
from algoperf.testing.training import train
from algoperf_orchestrator.environment import default_data_dir

WORKLOADS = ("finewebedu_lm", "finewebedu_lm_post_norm", "finewebedu_lm_silu", "finewebedu_lm_fixed_temperature")
SEEDS = (0, 1)
EVERY = 100
AT_ONCE = 2


def measure(name: str, framework: Framework, seed: int) -> dict[str, Any]:
    spec = registry.workload_spec(name).at(Scale.MINI)
    workload = registry.make_workload(spec, framework, default_data_dir())
    training, values = train("nadamw", workload, start=workload.init_model_fn(random_key(seed))), {}
    for step in range(EVERY, spec.step_hint + 1, EVERY):
        for _ in range(EVERY):
            training.step()
        training.prepare_for_eval()
        metrics = workload.evaluate(*training.state[1:], random_key(1), [Split.VALIDATION])
        values[step] = round(metrics["validation/ppl"], 2)
    training.close()
    return {"workload": name, "framework": framework.value, "seed": seed, "ppl": values}


def measure_apart(case: tuple[Any, ...]) -> Any:
    done = subprocess.run([sys.executable, __file__, *map(str, case)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    if len(sys.argv) == 4:
        name, framework, seed = sys.argv[1:]
        print(json.dumps(measure(name, Framework(framework), int(seed))))
        return
    frameworks = [one.value for one in Framework if is_installed(one)]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = list(threads.map(measure_apart, product(WORKLOADS, frameworks, SEEDS)))
    print(json.dumps({"benchmark": "lm_curves", "trainings": found}))


if __name__ == "__main__":
    main()
