"""Leases: one holder at a time, freed by the kernel, whoever dies."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from algoperf_orchestrator.environment import Devices
from algoperf_orchestrator.leases import Pool, make_pool

GPUS = Devices(kind="cuda", ids=("GPU-a", "GPU-b", "GPU-c", "GPU-d"), count=4)
CORES = len(os.sched_getaffinity(0))


def test_devices_and_cores_are_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    pool = make_pool(GPUS, 2, folder=tmp_path)
    assert [(devices.ids, cores) for devices, cores in pool.shares] == [
        (("GPU-a", "GPU-b"), (0, 1, 2, 3)),
        (("GPU-c", "GPU-d"), (4, 5, 6, 7)),
    ]
    # One GPU is left over; no trial may use it, since all of a suite use as many.
    assert [devices.ids for devices, _ in make_pool(GPUS, 3, folder=tmp_path).shares] == [("GPU-a", "GPU-b", "GPU-c")]
    cpu = make_pool(Devices(kind="cpu"), 2, 4, folder=tmp_path)
    assert [(devices.count, cores) for devices, cores in cpu.shares] == [(2, (0, 1, 2, 3)), (2, (4, 5, 6, 7))]
    assert make_pool(Devices(kind="cpu"), 1, folder=tmp_path).shares[0][1] == tuple(range(8))


def test_a_share_is_taken_once(tmp_path: Path) -> None:
    pool = one_share(tmp_path)
    lease = pool.take()
    assert lease is not None
    assert lease.names == ("GPU-a",)
    # Another orchestrator on this machine, of another experiment perhaps.
    assert one_share(tmp_path).take() is None
    lease.release()
    again = pool.take()
    assert again is not None
    again.release()


def test_overlapping_shares_exclude_each_other(tmp_path: Path) -> None:
    both = make_pool(GPUS, 4, 1, folder=tmp_path).take()
    assert both is not None
    assert make_pool(GPUS, 1, 1, folder=tmp_path).take() is None
    both.release()
    single = make_pool(GPUS, 1, 1, folder=tmp_path).take()
    assert single is not None
    assert make_pool(GPUS, 4, 1, folder=tmp_path).take() is None
    single.release()


def test_a_lease_outlives_its_orchestrator_with_the_trial(tmp_path: Path) -> None:
    lease = one_share(tmp_path).take()
    assert lease is not None
    trial = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=lease.locks)
    lease.release()
    assert one_share(tmp_path).take() is None, "the trial still uses the device"
    trial.kill()
    trial.communicate()
    again = one_share(tmp_path).take()
    assert again is not None
    again.release()


def test_a_killed_orchestrator_leaves_no_lease(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from algoperf_orchestrator.leases import make_pool; "
        "from algoperf_orchestrator.environment import Devices; "
        f"held = make_pool(Devices(kind='cuda', ids=('GPU-a',)), 1, 1, folder=Path({str(tmp_path)!r})).take(); "
        "print('held', flush=True); input()"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert one_share(tmp_path).take() is None
    holder.kill()
    holder.communicate()
    lease = one_share(tmp_path).take()
    assert lease is not None
    lease.release()


def test_a_lock_of_another_user_is_opened_without_making_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where fs.protected_regular is set, Linux allows nothing else."""
    lease = one_share(tmp_path).take()
    assert lease is not None
    lease.release()
    before = os.open

    def strict(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_CREAT and Path(path).exists() and not flags & os.O_EXCL:
            raise PermissionError(path)
        return before(path, flags, *mode)

    monkeypatch.setattr(os, "open", strict)
    again = one_share(tmp_path).take()
    assert again is not None
    again.release()


def test_who_is_to_stop_takes_nothing(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt), one_share(tmp_path).wait(stop):
        pytest.fail("it has a lease")


def test_more_than_there_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--devices asks for 5 but 4 are here"):
        make_pool(GPUS, 5, folder=tmp_path)
    with pytest.raises(ValueError, match=f"--cores asks for {CORES + 1} but {CORES} are here"):
        make_pool(Devices(kind="cpu"), 1, CORES + 1, folder=tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_pool(GPUS, 1, folder=tmp_path / "file").take()


def one_share(folder: Path) -> Pool:
    return make_pool(Devices(kind="cuda", ids=("GPU-a",)), 1, 1, folder=folder)
