"""`data prepare`, `data verify` and `data status`."""

from pathlib import Path

import typer

from algoperf import registry
from algoperf.data import preparation
from algoperf.spec import Scale, Split, WorkloadSpec

_MEBIBYTE = 2**20


def prepare(name: str, scale: Scale, data_dir: Path, source: Path | None, *, skip_damaged: bool) -> None:
    """Makes the data of a workload, or goes on with it."""
    if source is not None and not source.exists():
        raise ValueError(f"There is no {source}; pass what you downloaded with --source.")
    prepare_if_needed(registry.workload_spec(name).at(scale), data_dir, source, skip_damaged=skip_damaged)


def prepare_if_needed(
    spec: WorkloadSpec, data_dir: Path, source: Path | None = None, *, skip_damaged: bool = False
) -> None:
    """Makes the data of a workload unless it is generated, or there and whole."""
    if not spec.dataset.name:
        typer.echo(f"The data of {spec.name} is generated; there is nothing to prepare.")
    else:
        preparation.prepare(spec, data_dir, source, typer.echo, skip_damaged=skip_damaged)


def verify(name: str, scale: Scale, data_dir: Path) -> None:
    """Compares every file with its checksum, and counts. Raises DataError naming the first file that differs."""
    spec = registry.workload_spec(name).at(scale)
    preparation.verify(spec, data_dir)
    # Opening refuses splits of another size than the workload's, but for damaged examples that were left out.
    dataset = preparation.open_prepared(spec, data_dir)
    splits = [split for split in (Split.TRAIN, Split.VALIDATION, Split.TEST) if spec.num_examples(split)]
    counts = ", ".join(f"{dataset.num_stored(split):,} {split}" for split in splits)
    left_out = spec.num_train_examples - dataset.num_stored(Split.TRAIN)
    note = f"; {left_out} damaged training examples were left out" if left_out else ""
    typer.echo(f"{spec.dataset.name or spec.name}: ok ({counts}{note})")


def status(name: str, scale: Scale, data_dir: Path) -> None:
    """Says what is on disk, and what to do about it."""
    spec = registry.workload_spec(name).at(scale)
    found = preparation.status(spec, data_dir)
    line = f"{spec.dataset.name or spec.name}: {found.state}"
    if found.state == "prepared":
        line += f", {found.num_bytes / _MEBIBYTE:.1f} MiB in {found.folder}"
    elif found.state != "generated":
        line += f"; run `{preparation.prepare_command(spec)}`"
    typer.echo(line)
