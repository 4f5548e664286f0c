"""Loading a submission: once per process, with its roots on `sys.path`, checked before anything runs."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from algoperf import registry
from algoperf.spec import Framework, OptimizerState, UpdateReturn, WorkloadSpec
from algoperf.submission_import import SubmissionError, content_hash, import_file, loaded_files, place_of

__all__ = ["Submission", "SubmissionError", "check_framework", "load", "locate"]

_POSITIONAL = {
    "init_optimizer_state": ("workload", "model_params", "model_state", "hyperparameters", "rng"),
    "data_selection": (
        "workload",
        "input_queue",
        "optimizer_state",
        "current_param_container",
        "model_state",
        "hyperparameters",
        "global_step",
        "rng",
    ),
    "get_batch_size": ("workload_name",),
}
_COMMON_KEYWORDS = (
    "workload",
    "current_param_container",
    "current_params_types",
    "model_state",
    "hyperparameters",
    "loss_type",
    "optimizer_state",
    "eval_results",
    "global_step",
    "rng",
)
_KEYWORDS = {
    "update_params": (*_COMMON_KEYWORDS, "batch"),
    "prepare_for_eval": _COMMON_KEYWORDS,
}
_OPTIONAL = ("prepare_for_eval",)


# What a submission in one of them imports.
_MODULES = {Framework.JAX: {"jax", "jaxlib", "flax", "optax"}, Framework.PYTORCH: {"torch"}}


# What makes a submission that was written for a former layout of arrays fit; see `Submission.adapter`.
_ADAPTERS = {"pmap": "algoperf.pmap_jax:adapt"}


@dataclass(frozen=True)
class Submission:
    """The functions of one submission, resolved once so that the training loop never has to look.

    Attributes:
        path: the file it was loaded from.
        files: the submission's Python files that were loaded, from its outermost folder.
        content_hash: SHA-256 over them.
        wants_train_state: whether `update_params` takes `train_state`.
        adapter: the name of what stands between it and the harness, if anything does.
    """

    path: Path
    files: tuple[str, ...]
    content_hash: str
    init_optimizer_state: Callable[..., OptimizerState]
    update_params: Callable[..., UpdateReturn]
    data_selection: Callable[..., Mapping[str, Any]]
    get_batch_size: Callable[[str], int]
    prepare_for_eval: Callable[..., UpdateReturn] | None
    wants_train_state: bool
    adapter: str | None = None

    def batch_size(self, spec: WorkloadSpec, num_devices: int) -> int:
        """The training batch size: asked for by the workload's name, then by its base's; the spec's at mini scale.

        Raises:
            SubmissionError: there is none for the workload, or none that the devices can share.
        """
        if spec.batch_size is not None:
            return spec.batch_size
        size = self._ask_for_batch_size(spec)
        # Also one of numpy.
        is_integer = isinstance(size, numbers.Integral) and not isinstance(size, bool)
        if not is_integer or size < 1:
            raise SubmissionError(
                f"get_batch_size of {self.path} returned {size!r} for {spec.name}; it returns a positive int."
            )
        if size % num_devices:
            raise SubmissionError(
                f"get_batch_size of {self.path} returned {size} for {spec.name}, which {num_devices} devices cannot "
                f"share equally; return a multiple of {num_devices}, or use another number of devices."
            )
        return int(size)

    def _ask_for_batch_size(self, spec: WorkloadSpec) -> Any:
        try:
            return self.get_batch_size(spec.name)
        except (ValueError, KeyError):
            pass
        try:
            return self.get_batch_size(spec.base_name)
        except (ValueError, KeyError) as error:
            raise SubmissionError(
                f"get_batch_size of {self.path} knows no {spec.base_name} ({type(error).__name__}: {error}); "
                "add a batch size for it, or run another workload."
            ) from error


def locate(name_or_path: str, framework: Framework) -> Path:
    """The file of a submission, given by an installed name or by a path to a file or its folder.

    Raises:
        ValueError: nothing of that name is installed, and no such file exists.
    """
    path = Path(name_or_path)
    if path.is_dir() and (path / "submission.py").exists():
        path = path / "submission.py"
    # A bare name is an installed submission, even where a folder happens to have that name.
    if path.suffix == ".py" or len(path.parts) > 1:
        if path.is_dir():
            raise ValueError(
                f"There is no submission file in {path}; put a submission.py there, or make a new submission by "
                "`algoperf-orchestrate init`."
            )
        if not path.is_file():
            raise ValueError(f"There is no submission file {path}.")
        return path.resolve()
    spec = registry.submission_spec(name_or_path)
    if framework not in spec.frameworks:
        raise ValueError(f"The submission {name_or_path} is not written for {framework.value}.")
    found = importlib.util.find_spec(spec.package)
    assert found is not None, spec.package
    assert found.origin is not None, spec.package
    return Path(found.origin).parent / f"{framework.value}.py"


def is_written_for(path: Path, framework: Framework) -> bool:
    """Whether a submission's file imports a framework, or none, as far as one can see without importing it.

    Raises:
        ValueError: the file is no Python.
    """
    file = path / "submission.py" if path.is_dir() else path
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{file} is no Python: {error}.") from error
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    found = {one for one, modules in _MODULES.items() if modules & imported}
    return not found or framework in found


def check_framework(path: Path, framework: Framework) -> None:
    """Raises ValueError if a submission's file is no Python, or imports the other framework only."""
    if not is_written_for(path, framework):
        (other,) = set(Framework) - {framework}
        raise ValueError(
            f"The submission {path} is written for {other.value}, not for {framework.value}; "
            f"run it with --framework {other.value}."
        )


def load(path: Path, adapter: str | None = None) -> Submission:
    """Loads and checks a submission.

    Args:
        path: its file.
        adapter: "pmap" for one that was written for `jax.pmap`; see `algoperf.pmap_jax`.

    Raises:
        SubmissionError: it cannot be imported, lacks a function, or has one with another signature; or there is no
            such adapter.
    """
    if adapter is not None and adapter not in _ADAPTERS:
        raise SubmissionError(f"{path} asks for the adapter {adapter!r}; there is {', '.join(_ADAPTERS)}.")
    place = place_of(path)
    module = import_file(path, place)
    functions = {name: getattr(module, name, None) for name in (*_POSITIONAL, *_KEYWORDS)}
    for name, function in functions.items():
        if function is None and name in _OPTIONAL:
            continue
        if not callable(function):
            raise SubmissionError(f"{path} has no function {name}; add it.")
        _check_signature(path, name, function)
    update_params = functions["update_params"]
    assert update_params is not None
    files = loaded_files(place.code)
    loaded = Submission(
        path=path,
        files=files,
        content_hash=content_hash(place.code, files),
        wants_train_state=_accepts(update_params, "train_state"),
        **functions,  # type: ignore[arg-type]
    )
    if adapter is None:
        return loaded
    adapt: Callable[[Submission], Submission] = resolve_name(_ADAPTERS[adapter])
    return replace(adapt(loaded), adapter=adapter)


def _accepts(function: Callable[..., Any], keyword: str) -> bool:
    parameters = inspect.signature(function).parameters
    return keyword in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _check_signature(path: Path, name: str, function: Callable[..., Any]) -> None:
    signature = inspect.signature(function)
    try:
        if name in _POSITIONAL:
            signature.bind(*_POSITIONAL[name])
        else:
            extra = ("train_state",) if name == "update_params" and _accepts(function, "train_state") else ()
            signature.bind(**dict.fromkeys((*_KEYWORDS[name], *extra)))
    except TypeError as error:
        expected = ", ".join(_POSITIONAL.get(name) or _KEYWORDS[name])
        raise SubmissionError(f"{name} of {path} cannot be called with ({expected}): {error}.") from error
