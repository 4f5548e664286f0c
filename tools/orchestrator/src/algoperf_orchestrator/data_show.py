"""`data show`: a picture of some examples, and of what a trial's model makes of them."""

import json
import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

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
# Inches: a picture, a line of its title, and what is around.
_PICTURE, _LINE, _MARGIN = 2.4, 0.16, 0.2
# Characters of a line.
_WRAP = 38
# What is flatter, such as a long spectrogram, is stretched to this share of its width.
_FLATTEST = 0.4
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
    if output.suffix != ".png" or output.is_dir():
        raise ValueError(f"--output is the file to write, which ends in .png, not {output}.")
    if not 0 < num_examples <= _BATCH:
        raise ValueError(f"--examples is a number from 1 to {_BATCH}, not {num_examples}.")
    output.parent.mkdir(parents=True, exist_ok=True)
    draw: Callable[..., list[list[Picture]]] = resolve_name(spec.dataset.pictures)
    dataset = open_prepared(spec, data_dir)
    batch = next(iter(dataset.evaluation(Split.VALIDATION, _BATCH, Shards())))
    logits = None if trial is None else _logits(spec, data_dir, trial, batch)
    rows = draw(dataset, batch, logits)
    # A block of graphs may hold fewer.
    count = min(num_examples, len(rows))
    # From all over the batch: neighbours are often alike.
    _save([rows[i * len(rows) // count] for i in range(count)], output)
    typer.echo(f"{count} examples of {spec.dataset.name}: {output}")


def _logits(spec: WorkloadSpec, data_dir: Path, trial: Path, batch: Any) -> Any:
    """What the newest model of a trial makes of a batch, in numpy. On one device, for which the batch was made."""
    framework = _framework_of(spec, trial)
    os.environ.update(process_settings(framework, "v1.0", find_devices(1)).variables)
    os.environ.pop("XLA_FLAGS", None)
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
        raise ValueError(f"The trial in {trial} has no checkpoint, so there is no model; show another trial.")
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
    heights = [_PICTURE * max(map(_shape, line)) + _LINE * _lines_of_titles(line) + _MARGIN for line in lines]
    num_columns = max(map(len, lines))
    size = (num_columns * _PICTURE, sum(heights))
    figure, axes = pyplot.subplots(
        len(lines), num_columns, figsize=size, squeeze=False, layout="constrained", height_ratios=heights
    )
    for line, places in zip(lines, axes, strict=True):
        for place in places:
            place.axis("off")
        for picture, place in zip(line, places, strict=False):
            place.set_title(_wrapped(picture.title), fontsize=8)
            place.imshow(picture.pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            place.set_aspect(_shape(picture) * picture.pixels.shape[1] / picture.pixels.shape[0])
    figure.savefig(output, dpi=120, format="png")
    pyplot.close(figure)


def _shape(picture: Picture) -> float:
    """Height as a share of the width, as it is drawn."""
    height, width = picture.pixels.shape[:2]
    return max(_FLATTEST, height / width)


def _wrapped(title: str) -> str:
    return "\n".join(textwrap.fill(line, _WRAP) for line in title.splitlines())


def _lines_of_titles(pictures: Sequence[Picture]) -> int:
    return max(_wrapped(picture.title).count("\n") + 1 for picture in pictures)
