"""What a process has imported that did one thing and nothing else."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from algoperf import registry
from algoperf.seeds import random_key
from algoperf.spec import Framework, Scale, Split

_PROGRAM = """
import json, sys
from pkgutil import resolve_name
resolve_name(sys.argv[1])(*sys.argv[2:])
print(json.dumps(sorted({name.partition(".")[0] for name, module in sys.modules.items() if module})))
"""


def modules_after(function: Callable[..., None], *arguments: str) -> set[str]:
    """Top-level names in `sys.modules` of a new interpreter that called `function(*arguments)`.

    Raises:
        AssertionError: the function failed there; the message is what it wrote.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    process = subprocess.run(
        [sys.executable, "-c", _PROGRAM, name, *arguments], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return set(json.loads(process.stdout.splitlines()[-1]))


def read_spec(workload_name: str) -> None:
    """Reads the facts of a workload."""
    registry.workload_spec(workload_name)


def evaluate(workload_name: str, framework: str, data_dir: str) -> None:
    """Makes a workload at mini scale, takes a training batch and evaluates on the validation split.

    Args:
        workload_name: the workload.
        framework: in which framework.
        data_dir: where prepared data lies; empty for data that is generated.
    """
    spec = registry.workload_spec(workload_name).at(Scale.MINI)
    assert spec.batch_size is not None
    workload: Any = registry.make_workload(spec, Framework(framework), Path(data_dir) if data_dir else None)
    with workload.input_queue(Split.TRAIN, spec.batch_size) as queue:
        next(queue)
    params, model_state = workload.init_model_fn(random_key(0))
    workload.evaluate(params, model_state, random_key(1), [Split.VALIDATION])
