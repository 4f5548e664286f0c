"""`data show`: a picture of some examples, and of what a trial's model makes of them."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import typer

from algoperf import registry
from algoperf.checkpoint import Checkpoints
from algoperf.data import Shards
from algoperf.data.pictures import Picture
from algoperf.data.preparation import open_prepared
from algoperf.seeds import random_key
from algoperf.spec import Framework, Scale, Split, WorkloadSpec
from algoperf.state_tree import StateError
from algoperf_orchestrator.environment import find_devices, process_settings

# What is read, and given to the model: a whole batch of an evaluation may be far more than anyone looks at.
_BATCH = 32
# Inches.
_PICTURE, _TITLE = 2.4, 0.5
# Pictures.
_PER_LINE = 6


def show(name: str, scale: Scale, data_dir: Path, trial: Path | None, num_examples: int, output: Path) -> None:
    """Writes a PNG of some examples of the validation split.

    Raises:
        ValueError: of this workload nothing can be looked at, the trial is of another one or has no model, or
            `num_examples` is none from 1 to 32.
        DataError: its data is not prepared.
    """
    spec = registry.workload_spec(name).at(scale)
    if not spec.dataset.pictures:
        raise ValueError(f"{name} has nothing to look at; its examples are text or numbers.")
    if not 0 < num_examples <= _BATCH:
        raise ValueError(f"--examples is a number from 1 to {_BATCH}, not {num_examples}.")
    draw: Callable[..., list[list[Picture]]] = resolve_name(spec.dataset.pictures)
    dataset = open_prepared(spec, data_dir)
    batch = next(iter(dataset.evaluation(Split.VALIDATION, _BATCH, Shards())))
    logits = None if trial is None else _logits(spec, data_dir, trial, batch)
    rows = draw(dataset, batch, logits)
    # From all over the batch: neighbours are often alike.
    chosen = [rows[i * len(rows) // num_examples] for i in range(num_examples)]
    output.parent.mkdir(parents=True, exist_ok=True)
    _save(chosen, output)
    typer.echo(f"{num_examples} examples of {spec.dataset.name}: {output}")


def _logits(spec: WorkloadSpec, data_dir: Path, trial: Path, batch: Any) -> Any:
    """What the newest model of a trial makes of a batch, in numpy. On one device, for which the batch was made."""
    framework = _framework_of(spec, trial)
    os.environ.update(process_settings(framework, "v1.0", find_devices(1)).variables)
    workload = registry.make_workload(spec, framework, data_dir)
    params, model_state = workload.init_model_fn(random_key(0))
    fresh = {"params": params, "model_state": model_state}
    try:
        saved = Checkpoints(trial / "checkpoints", workload.backend).load_some(fresh)
    except StateError as error:
        raise ValueError(
            f"The newest checkpoint in {trial} is of another model ({error}); show another trial."
        ) from error
    if saved is None:
        raise ValueError(f"The trial in {trial} has no checkpoint, so there is no model; run it with checkpoints.")
    return workload.predict(saved["params"], saved["model_state"], workload.place_batch(batch), random_key(0))


def _framework_of(spec: WorkloadSpec, trial: Path) -> Framework:
    """The framework of a trial, which must be of that workload."""
    record = trial / "trial.json"
    if not record.is_file():
        raise ValueError(f"There is no trial in {trial}; name the folder that has its trial.json with --trial.")
    try:
        config = json.loads(record.read_text())["config"]
        workload, scale, framework = config["workload"], config["scale"], Framework(config["framework"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{record} cannot be read ({error}); show another trial.") from error
    if (workload, scale) != (spec.name, spec.scale):
        raise ValueError(f"The trial in {trial} is of {workload} at {scale} scale; show that one.")
    return framework


def _save(examples: Sequence[Sequence[Picture]], output: Path) -> None:
    """The pictures of each example side by side, with titles, as a PNG; several examples in a line if they fit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    per_line = max(1, _PER_LINE // max(map(len, examples)))
    starts = range(0, len(examples), per_line)
    lines = [[picture for example in examples[start : start + per_line] for picture in example] for start in starts]
    heights = [max(picture.pixels.shape[0] / picture.pixels.shape[1] for picture in line) for line in lines]
    num_columns = max(map(len, lines))
    size = (num_columns * _PICTURE, sum(_PICTURE * height + _TITLE for height in heights))
    figure, axes = pyplot.subplots(
        len(lines), num_columns, figsize=size, squeeze=False, layout="constrained", height_ratios=heights
    )
    for line, places in zip(lines, axes, strict=True):
        for place in places:
            place.axis("off")
        for picture, place in zip(line, places, strict=False):
            place.set_title(picture.title, fontsize=8)
            place.imshow(np.asarray(picture.pixels), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    figure.savefig(output, dpi=120, format="png")
    pyplot.close(figure)
