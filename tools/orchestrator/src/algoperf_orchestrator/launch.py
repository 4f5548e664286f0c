"""A trial's process: started in a session of its own, listened to, and stopped."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from algoperf.records import RecordsError, trial_folder
from algoperf.spec import Framework
from algoperf.trial_config import TrialConfig
from algoperf_orchestrator.environment import Devices, process_settings

STDERR = "stderr.log"
EVENT = '{"event"'
_LOCK = ".lock"
_GRACE_S = ((signal.SIGINT, 15.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, None))

Listener = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What a trial's process is started with.

    Attributes:
        config: the trial.
        experiment: the folder that its records go to.
        data_dir: the folder below which prepared data lies.
        devices: what it trains on.
    """

    config: TrialConfig
    experiment: Path
    data_dir: Path
    devices: Devices

    @property
    def folder(self) -> Path:
        """The trial's folder."""
        config = self.config
        return trial_folder(self.experiment, config.study, config.workload, config.framework.value, config.trial)


@dataclass(frozen=True)
class Ended:
    """How a trial's process ended.

    Attributes:
        code: its exit code; negative for the number of the signal that killed it.
        is_told: whether the trial itself said how it ended, so that its records hold the outcome.
        stderr: what it wrote to stderr.
    """

    code: int
    is_told: bool
    stderr: str


def launch(what: Launch, listener: Listener) -> Ended:
    """Runs a trial's process to its end. However this function is left, the process is gone.

    Args:
        what: what to start.
        listener: is told the trial's events as they happen.

    Raises:
        RecordsError: another process runs the same trial.
    """
    what.folder.mkdir(parents=True, exist_ok=True)
    with (
        _lock(what.folder) as lock,
        (what.folder / STDERR).open("a+b") as log,
        tempfile.NamedTemporaryFile("w", suffix=".json") as config,
    ):
        start = log.seek(0, os.SEEK_END)
        json.dump(what.config.as_json(), config)
        config.flush()
        settings = process_settings(what.config.framework, what.config.rules, what.devices)
        with subprocess.Popen(
            _command(what, config.name, settings.name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=settings.environment(os.environ),
            start_new_session=True,
            # Whoever outlives whom, the trial is locked as long as one of the two lives.
            pass_fds=(lock,),
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                is_told = _listen(process.stdout, listener)
                code = process.wait()
            finally:
                _stop(process)
        log.seek(start)
        return Ended(code, is_told, log.read().decode(errors="replace"))


def _command(what: Launch, config: str, settings: str) -> list[str]:
    arguments = ["run-trial", "--config", config, "--experiment", str(what.experiment.resolve())]
    arguments += ["--data-dir", str(what.data_dir.resolve()), "--settings", settings]
    module = "algoperf_orchestrator"
    if what.config.framework is Framework.PYTORCH and what.devices.count > 1:
        torchrun = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            str(what.devices.count),
        ]
        return [sys.executable, *torchrun, "-m", module, *arguments]
    return [sys.executable, "-m", module, *arguments]


def _listen(lines: IO[str], listener: Listener) -> bool:
    is_told = False
    for line in lines:
        # torchrun may write here too.
        if line.startswith(EVENT):
            facts = json.loads(line)
            event = facts.pop("event")
            is_told = is_told or event == "ended"
            listener(event, facts)
    return is_told


def _stop(process: subprocess.Popen[str]) -> None:
    for number, grace_s in _GRACE_S:
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            continue


@contextmanager
def _lock(folder: Path) -> Iterator[int]:
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordsError(
                f"Another process runs the trial in {folder}; wait for its end or choose another --experiment."
            ) from None
        yield file.fileno()
