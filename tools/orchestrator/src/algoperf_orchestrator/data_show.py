"""`data show`: a picture of some examples, and of what a trial's model makes of them."""

import json
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
from algoperf.spec import ForwardPassMode, Framework, Scale, Split, WorkloadSpec

# Inches.
_PICTURE, _TITLE = 2.4, 0.5
# Pictures.
_PER_LINE = 6


def show(name: str, scale: Scale, data_dir: Path, trial: Path | None, num_examples: int, output: Path) -> None:
    """Writes a PNG of some examples of the validation split.

    Raises:
        ValueError: of this workload nothing can be looked at, or the trial is of another one.
        DataError: its data is not prepared.
    """
    spec = registry.workload_spec(name).at(scale)
    if not spec.dataset.pictures:
        raise ValueError(f"{name} has nothing to look at; its examples are text or numbers.")
    draw: Callable[..., list[list[Picture]]] = resolve_name(spec.dataset.pictures)
    dataset = open_prepared(spec, data_dir)
    batch = next(iter(dataset.evaluation(Split.VALIDATION, spec.eval_batch_size, Shards())))
    logits = None if trial is None else _logits(spec, data_dir, trial, batch)
    rows = draw(dataset, batch, logits)
    if not 0 < num_examples <= len(rows):
        raise ValueError(f"--examples is a number from 1 to {len(rows)}, not {num_examples}.")
    # From all over the batch: neighbours are often alike.
    chosen = [rows[i * len(rows) // num_examples] for i in range(num_examples)]
    output.parent.mkdir(parents=True, exist_ok=True)
    _save(chosen, output)
    typer.echo(f"{num_examples} examples of {spec.dataset.name}: {output}")


def _logits(spec: WorkloadSpec, data_dir: Path, trial: Path, batch: Any) -> Any:
    """What the newest model of a trial makes of a batch, in numpy."""
    record = trial / "trial.json"
    if not record.is_file():
        raise ValueError(f"There is no trial in {trial}; name the folder that has its trial.json with --trial.")
    config = json.loads(record.read_text())["config"]
    if (config["workload"], config["scale"]) != (spec.name, spec.scale):
        raise ValueError(f"The trial in {trial} is of {config['workload']} at {config['scale']} scale; show that one.")
    workload = registry.make_workload(spec, Framework(config["framework"]), data_dir)
    params, model_state = workload.init_model_fn(random_key(0))
    fresh = {"params": params, "model_state": model_state}
    saved = Checkpoints(trial / "checkpoints", workload.backend).load_some(fresh)
    if saved is None:
        raise ValueError(f"The trial in {trial} has no checkpoint, so there is no model; run it with checkpoints.")
    outputs, _ = workload.model_fn(
        saved["params"],
        workload.place_batch(batch),
        saved["model_state"],
        ForwardPassMode.EVAL,
        random_key(0),
        update_batch_norm=False,
    )
    return workload.backend.to_host(outputs)


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
    figure.savefig(output, dpi=120)
    pyplot.close(figure)
