"""A real SLURM cluster of one node on this machine, for tests; needs root and the packages slurm-wlm and munge."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

# The builtin scheduler: what that with backfill starts is saved minutes later; a controller that dies forgets it.
_CONFIG = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/s,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=10
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/node.pid
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cores} RealMemory=2000
PartitionName=debug Nodes=localhost Default=YES State=UP
PartitionName=short Nodes=localhost MaxTime=1 State=UP
"""
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
# Before a test replaces it.
which = shutil.which


def missing() -> str | None:
    """Why there can be no cluster here; None if there can."""
    absent = [name for name in _PROGRAMS if which(name, path=_path()) is None]
    if absent:
        return f"{absent[0]} is not installed; it comes with the packages slurm-wlm and munge"
    return None if os.getuid() == 0 else "SLURM's daemons have to run as root"


def require() -> None:
    """Skips a test if there can be no cluster here; where all tests have to run, it fails."""
    reason = missing()
    if reason is not None:
        assert "CI" not in os.environ, reason
        pytest.skip(reason)


def _path() -> str:
    return os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


@dataclass
class Cluster:
    """A cluster that runs.

    Attributes:
        folder: its configuration, its state and its daemons' logs.
    """

    folder: Path
    _daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """What `SLURM_CONF` is set to."""
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """Of commands and daemons."""
        return {**os.environ, "PATH": _path(), "SLURM_CONF": str(self.config)}

    def run(self, *command: str) -> str:
        """Runs a command of SLURM; returns what it prints. Raises CalledProcessError if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout

    def start(self) -> None:
        """Starts the daemons, and waits until the node takes jobs."""
        folder = self.folder
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = [f"--{name}={folder / file}" for name, file in _MUNGE.items()]
        self._spawn("munged", "-F", *files)
        wait_until((folder / "s").exists)
        self.start_controller("-i")
        self._spawn("slurmd", "-D", "-N", "localhost")
        wait_until(lambda: "idle" in self.run("sinfo", "-ho", "%t"))

    def start_controller(self, *options: str) -> None:
        """Starts the controller, which goes on from its saved state unless it is given `-i`."""
        self._spawn("slurmctld", "-D", *options)
        wait_until(lambda: " UP" in subprocess.run(("scontrol", "ping"), **self._quiet).stdout)

    @property
    def state_saved(self) -> float:
        """When the controller last saved what it knows of jobs, in seconds since the epoch; 0 if it never has."""
        file = self.folder / "state" / "job_state"
        return file.stat().st_mtime if file.exists() else 0.0

    def kill_controller(self) -> None:
        """Kills it, as a crash would: it then knows what was so some seconds ago."""
        self._end("slurmctld", signal.SIGKILL)

    def stop(self) -> None:
        """Ends all jobs and daemons."""
        with suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired, TimeoutError):
            self.run("scancel", f"--user={os.getuid()}")
            wait_until(lambda: not self.run("squeue", "-h").strip(), 20.0)
        for name in reversed(list(self._daemons)):
            self._end(name, signal.SIGTERM)
        self._kill_orphans()

    def _kill_orphans(self) -> None:
        """Kills what belongs to jobs that the controller has forgotten."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid != os.getpid() and process.environ().get("SLURM_CONF") == str(self.config):
                    process.kill()

    @property
    def _quiet(self) -> dict[str, object]:
        return {"env": self.environment, "capture_output": True, "text": True, "check": False, "timeout": 30}

    def _spawn(self, name: str, *options: str) -> None:
        program = which(name, path=_path())
        assert program is not None
        with (self.folder / f"{name}.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                [program, *options], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _end(self, name: str, number: int) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(number)
        try:
            daemon.wait(20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


_MUNGE = {"key-file": "key", "socket": "s", "pid-file": "m.pid", "log-file": "m.log", "seed-file": "m.seed"}


@contextmanager
def cluster(cores: int = 2) -> Iterator[Cluster]:
    """A cluster on free ports, gone afterwards."""
    # Not pytest's folders: a socket's path is short, and munged wants all folders above it to be safe.
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        found = Cluster(folder)
        controller_port, node_port = _free_ports()
        found.config.write_text(
            _CONFIG.format(folder=folder, controller_port=controller_port, node_port=node_port, cores=cores)
        )
        try:
            found.start()
            yield found
        finally:
            found.stop()


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Returns as soon as a condition holds. Raises TimeoutError if it does not come to that."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Not within {timeout_s:.0f} s.")
        time.sleep(0.1)


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
