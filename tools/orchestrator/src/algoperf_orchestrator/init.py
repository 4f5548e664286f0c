"""The command `init`: a new submission that runs as it is."""

from __future__ import annotations

import json
import shlex
from importlib.resources import files
from pathlib import Path
from string import Template

import typer

from algoperf import registry
from algoperf.data import preparation
from algoperf.spec import Framework, Scale, TuningRuleset, WorkloadSpec
from algoperf_orchestrator.configure import SEARCH_SPACE
from algoperf_orchestrator.requirements import FILE as REQUIREMENTS

_INFO = "submission_info.yml"
# As the public benchmark writes them.
_NAMES = {
    Framework.JAX: "JAX",
    Framework.PYTORCH: "PyTorch",
    TuningRuleset.EXTERNAL: "external",
    TuningRuleset.SELF: "self-tuning",
}


def init(folder: Path, framework: Framework, ruleset: TuningRuleset, data_dir: Path) -> None:
    """Writes a new submission and prints what to do next.

    Raises:
        ValueError: there is something of that name.
        OSError: it cannot be written.
    """
    if folder.exists() or folder.is_symlink():
        raise ValueError(f"There is a {folder} already; name a folder that does not exist.")
    texts = _texts(folder.resolve().name, framework, ruleset)
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    typer.echo(f"{folder} holds {', '.join(texts)}. Try it out:")
    for command in _next_commands(folder, framework, ruleset, data_dir):
        typer.echo(f"  {shlex.join(command)}")


def _texts(name: str, framework: Framework, ruleset: TuningRuleset) -> dict[str, str]:
    """The files of a submission, by name."""
    templates = files(__package__) / "templates"
    facts = {"name": json.dumps(name), "framework": _NAMES[framework], "ruleset": _NAMES[ruleset]}
    texts = {
        "submission.py": (templates / f"submission_{framework.value}.py").read_text(),
        _INFO: Template((templates / _INFO).read_text()).substitute(facts),
        REQUIREMENTS: (templates / REQUIREMENTS).read_text(),
    }
    if ruleset is TuningRuleset.EXTERNAL:
        texts[SEARCH_SPACE] = (templates / SEARCH_SPACE).read_text()
    return texts


def _next_commands(folder: Path, framework: Framework, ruleset: TuningRuleset, data_dir: Path) -> list[list[str]]:
    """A short run on the mini workload that is soonest at hand, after preparing its data if there is none."""
    specs = [registry.workload_spec(name) for name in registry.workload_names()]
    minis = [spec.mini for spec in specs if spec.mini and spec.base is None and framework in spec.implementations]
    if not minis:
        raise ValueError("No workload is installed; install one, such as `uv pip install algoperf-workload-ogbg`.")
    spec = min(minis, key=lambda spec: (not _is_prepared(spec, data_dir), spec.budget().max_runtime_s))
    run = ["algoperf-orchestrate", "run", "--workload", spec.name, "--framework", framework.value]
    run += ["--scale", Scale.MINI.value, "--ruleset", ruleset.value, "--submission", str(folder)]
    run += ["--max-steps", "20", "--experiment", f"experiments/{folder.resolve().name}"]
    return [run] if _is_prepared(spec, data_dir) else [shlex.split(preparation.prepare_command(spec)), run]


def _is_prepared(spec: WorkloadSpec, data_dir: Path) -> bool:
    return preparation.status(spec, data_dir).state not in ("missing", "unfinished")
