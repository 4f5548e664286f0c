"""Where figures of a trial go while it runs, besides its logs: TensorBoard and Weights & Biases, if asked for.

Nothing of it runs in the trial's process, and nobody waits for it: each sink has a thread of its own beside the
trial's supervisor. One that fails or does not keep up is switched off, with a line on stderr.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import typer

PROJECT = "algoperf"
# What one sink may leave undone: an hour of figures, in a few MB.
_WAITING = 10_000
# How long a sink has to write what is left when the trial is over; its devices are held meanwhile.
_CLOSE_S = 5.0
_METRICS = ("train/", "validation/", "test/")


class SinkName(StrEnum):
    """The sinks; each is an extra of this package of the same name."""

    TENSORBOARD = "tensorboard"
    WANDB = "wandb"


_PACKAGES = {SinkName.TENSORBOARD: "tensorboardX", SinkName.WANDB: "wandb"}


def check(names: Iterable[SinkName]) -> None:
    """Raises ImportError, with the command that installs it, if the package of a sink is absent."""
    for name in names:
        package = _PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            raise ImportError(
                f"--telemetry {name} needs {package}; install it with "
                f"`uv pip install 'algoperf-orchestrator[{name}]'`.",
                name=package,
            )


@dataclass(frozen=True, kw_only=True)
class Source:
    """Whose figures they are.

    Attributes:
        folder: of the trial; the sinks' files go below it.
        name: the trial's path, from its submission on.
        config: what determines the trial, as plain data.
    """

    folder: Path
    name: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Figures:
    """Values of one moment.

    Attributes:
        values: by name, such as "validation/loss".
        step: the trial's global step.
        at: seconds since the epoch.
    """

    values: Mapping[str, float]
    step: int
    at: float


class Sink(Protocol):
    """Takes figures. Used by one thread; may raise anything."""

    def write(self, figures: Figures) -> None:
        """Takes figures, whose steps do not decrease."""

    def close(self) -> None:
        """Writes what is left."""


class TensorBoard:
    """Event files in `tensorboard/` of a trial's folder.

    Args:
        source: the trial.
        step: where this attempt begins; later figures of attempts before it are not shown.
    """

    def __init__(self, source: Source, step: int) -> None:
        package = importlib.import_module("tensorboardX")
        folder = str(source.folder / SinkName.TENSORBOARD)
        self._writer = package.SummaryWriter(folder, purge_step=step + 1 if step else None, flush_secs=10)

    def write(self, figures: Figures) -> None:
        """Adds scalars."""
        for name, value in figures.values.items():
            self._writer.add_scalar(name, value, figures.step, walltime=figures.at)

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


class Wandb:
    """A run of Weights & Biases for each attempt, in `wandb/` of a trial's folder; offline unless WANDB_MODE is set.

    Args:
        source: the trial.
        step: where this attempt begins.
    """

    def __init__(self, source: Source, step: int) -> None:
        package = importlib.import_module("wandb")
        self._run = package.init(
            project=PROJECT,
            name=source.name,
            group=source.name,
            dir=str(source.folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            config={**source.config, "first_step": step},
            # Trials that run at once share this process; what it prints is none of a trial's.
            reinit="create_new",
            settings=package.Settings(console="off", silent=True),
        )
        # The steps of wandb allow one row each, but the machine has many figures during an evaluation.
        self._run.define_metric("*", step_metric="global_step")

    def write(self, figures: Figures) -> None:
        """Logs a row."""
        self._run.log({**figures.values, "global_step": figures.step})

    def close(self) -> None:
        """Finishes the run."""
        self._run.finish()


_MAKE: Mapping[SinkName, Callable[[Source, int], Sink]] = {SinkName.TENSORBOARD: TensorBoard, SinkName.WANDB: Wandb}


class Sinks:
    """The sinks of one attempt at a trial. No method raises, and none waits but `__exit__`.

    Args:
        names: which; without any, nothing happens at all.
        source: the trial.
    """

    def __init__(self, names: Sequence[SinkName], source: Source) -> None:
        self._names, self._source = tuple(dict.fromkeys(names)), source
        self._feeds: list[_Feed] = []
        self._step, self._has_started = 0, False
        self._last: tuple[int, float] | None = None

    def __enter__(self) -> Sinks:
        self._feeds = [_Feed(name, self._source) for name in self._names]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Has the sinks write what is left, for a few seconds at most."""
        for feed in self._feeds:
            feed.end()
        deadline = time.monotonic() + _CLOSE_S
        for feed in self._feeds:
            feed.wait(deadline - time.monotonic())

    def see(self, event: str, facts: Mapping[str, Any]) -> None:
        """Takes in an event of the trial."""
        self._guard(lambda: self._see(event, facts))

    def sample(self, figures: Mapping[str, Any], memory_bytes: int) -> None:
        """Takes figures of the machine, as `algoperf_orchestrator.telemetry` has them, and the trial's memory."""
        self._guard(lambda: self._put({**_machine(figures), "machine/trial_memory_bytes": memory_bytes}))

    def _guard(self, take: Callable[[], None]) -> None:
        if not self._names:
            return
        try:
            take()
        # Whatever is wrong with the facts, the trial goes on.
        except Exception as error:  # noqa: BLE001
            _warn(self._source, ", ".join(self._names), _reason(error))
            self._names = ()

    def _see(self, event: str, facts: Mapping[str, Any]) -> None:
        if event == "started":
            self._step = int(facts["step"])
            self._has_started = True
            self._put({})
        elif event == "progress":
            self._step = int(facts["global_step"])
            self._put(self._progress(float(facts["submission_s"])))
        elif event == "evaluated":
            self._step = int(facts["global_step"])
            metrics = {name: facts[name] for name in facts if name.startswith(_METRICS) and facts[name] is not None}
            self._put({**metrics, "progress/submission_s": facts["accumulated_submission_time"]})

    def _progress(self, submission_s: float) -> dict[str, float]:
        """How far the trial is, and how many steps a second of submission time has brought since the last look."""
        found = {"progress/submission_s": submission_s}
        if self._last is not None and submission_s > self._last[1]:
            found["progress/steps_per_s"] = (self._step - self._last[0]) / (submission_s - self._last[1])
        self._last = self._step, submission_s
        return found

    def _put(self, values: Mapping[str, Any]) -> None:
        if not self._has_started:
            return
        figures = Figures({name: float(value) for name, value in values.items()}, self._step, time.time())
        for feed in self._feeds:
            feed.put(figures)


class _Feed:
    """Hands figures to one sink, in a thread of its own; the first are without values, and say where it begins."""

    def __init__(self, name: SinkName, source: Source) -> None:
        self._name, self._source = name, source
        self._queue: queue.Queue[Figures | None] = queue.Queue(_WAITING)
        self._is_on = True
        # A daemon: a sink that waits for a network for ever keeps no command from ending.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, figures: Figures | None) -> None:
        """Queues figures."""
        if not self._is_on:
            return
        try:
            self._queue.put_nowait(figures)
        except queue.Full:
            self._switch_off("it does not keep up")

    def end(self) -> None:
        """Says that there will be no more."""
        self.put(None)

    def wait(self, timeout_s: float) -> None:
        """Until all is written."""
        self._thread.join(max(timeout_s, 0.0))
        if self._thread.is_alive():
            self._switch_off("it takes too long to write what is left")

    def _run(self) -> None:
        try:
            # At once, while the trial is set up: this takes seconds, since tensorboardX imports PyTorch if it is there.
            importlib.import_module(_PACKAGES[self._name])
            if (first := self._queue.get()) is None:
                return
            sink = _MAKE[self._name](self._source, first.step)
            while (figures := self._queue.get()) is not None and self._is_on:
                sink.write(figures)
            sink.close()
        # Of any kind: a sink is other people's code, and its failure is none of the trial's.
        except Exception as error:  # noqa: BLE001
            self._switch_off(_reason(error))

    def _switch_off(self, why: str) -> None:
        if self._is_on:
            self._is_on = False
            _warn(self._source, self._name.value, why)


def _machine(figures: Mapping[str, Any]) -> dict[str, float]:
    found = {f"machine/{name}": value for name, value in figures.items() if name != "gpus"}
    for number, gpu in enumerate(figures.get("gpus", ())):
        found |= {f"machine/gpu_{number}_{name}": value for name, value in gpu.items() if name != "uuid"}
    return found


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _warn(source: Source, what: str, why: str) -> None:
    # Whoever started this may listen no more.
    with suppress(OSError, ValueError):
        typer.echo(f"{source.name} goes on without telemetry in {what} ({why}).", err=True)
