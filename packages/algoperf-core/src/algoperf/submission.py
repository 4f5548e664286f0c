"""Loading a submission: once per process, with its roots on `sys.path`, checked before anything runs."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from algoperf import registry
from algoperf.spec import Framework, OptimizerState, UpdateReturn, WorkloadSpec

# Folders that public submissions import from by absolute name: what contains one of them belongs on sys.path.
ROOT_MARKERS = ("submissions", "algorithms")

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


class SubmissionError(Exception):
    """A submission that cannot be loaded or does not keep to the API; the message is one sentence."""


@dataclass(frozen=True)
class Submission:
    """The functions of one submission, resolved once so that the training loop never has to look.

    Attributes:
        path: the file it was loaded from.
        files: the submission's Python files that were loaded, from its outermost folder.
        content_hash: SHA-256 over them, see `content_hash`.
        wants_train_state: whether `update_params` takes `train_state`.
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

    def batch_size(self, spec: WorkloadSpec) -> int:
        """The training batch size: asked for by the workload's name, then by its base's; the spec's at mini scale."""
        if spec.batch_size is not None:
            return spec.batch_size
        try:
            size = self.get_batch_size(spec.name)
        except (ValueError, KeyError):
            size = self.get_batch_size(spec.base_name)
        if not isinstance(size, int) or size < 1:
            raise SubmissionError(f"get_batch_size of {self.path} returned {size!r} for {spec.name}.")
        return size


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


def load(path: Path) -> Submission:
    """Loads and checks a submission.

    Raises:
        SubmissionError: it cannot be imported, lacks a function, or has one with another signature.
    """
    place = _place(path)
    module = _import(path, place)
    functions = {name: getattr(module, name, None) for name in (*_POSITIONAL, *_KEYWORDS)}
    for name, function in functions.items():
        if function is None and name in _OPTIONAL:
            continue
        if not callable(function):
            raise SubmissionError(f"{path} has no function {name}.")
        _check_signature(path, name, function)
    update_params = functions["update_params"]
    assert update_params is not None
    files = _loaded(place.code)
    return Submission(
        path=path,
        files=files,
        content_hash=content_hash(place.code, files),
        wants_train_state=_accepts(update_params, "train_state"),
        **functions,  # type: ignore[arg-type]
    )


def _loaded(folder: Path) -> tuple[str, ...]:
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    files = {Path(name).resolve() for name in loaded if name}
    return tuple(file.relative_to(folder).as_posix() for file in sorted(files) if file.is_relative_to(folder))


def content_hash(folder: Path, files: Sequence[str]) -> str:
    """SHA-256 over files of a folder and their names, so that records say what code ran."""
    digest = hashlib.sha256()
    for name in files:
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes() + b"\0")
    return digest.hexdigest()


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


def _import(path: Path, place: _Place) -> ModuleType:
    name = place.name
    if place.root != path.parent and str(place.root) not in sys.path:
        sys.path.insert(0, str(place.root))
    if not place.is_package and str(path.parent) not in sys.path:
        # Last: a submission's own modules must not hide others of the same name, such as a file jax.py.
        sys.path.append(str(path.parent))
    if name not in sys.modules:
        try:
            importlib.import_module(name) if "." in name else _import_file(path, name)
        # A submission's file may raise anything while it is imported; all of it is the submission's mistake.
        except Exception as error:
            raise SubmissionError(f"{path} cannot be imported: {type(error).__name__}: {error}.") from error
    module = sys.modules[name]
    if module.__file__ is None or Path(module.__file__).resolve() != path.resolve():
        raise SubmissionError(
            f"{path} and {module.__file__} are both imported as {name}; rename a folder, or use a process for each."
        )
    return module


def _import_file(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Place(NamedTuple):
    """Where a submission's module is.

    Attributes:
        root: the folder for `sys.path`.
        name: the module's dotted name below it.
        code: the folder that holds the submission's code.
        is_package: whether it is part of a package, which finds its own modules.
    """

    root: Path
    name: str
    code: Path
    is_package: bool


def _place(path: Path) -> _Place:
    """Where a submission's module is, by what public submissions rely on.

    They import their own parts as `submissions.<…>`, relative to each other, or from their own folder. So the root
    is what contains `submissions/` or `algorithms/`; else what contains the outermost package. A file that is in
    neither is named after its path, so that two files called submission.py do not collide.
    """
    for parent in path.parents:
        if parent.name in ROOT_MARKERS:
            return _Place(parent.parent, _dotted(path, parent.parent), path.parent, False)
    folder = path.parent
    while (folder / "__init__.py").exists():
        folder = folder.parent
    if folder != path.parent:
        name = _dotted(path, folder)
        return _Place(folder, name, folder / name.split(".")[0], True)
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return _Place(path.parent, f"{path.stem}_{digest}", path.parent, False)


def _dotted(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts)
