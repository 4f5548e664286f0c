"""How much memory a container or a job may use."""

from pathlib import Path

import psutil

from algoperf_orchestrator.machine_memory import Memory, memory_here

MIB = 2**20


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"memory.{name}").write_text(f"{text}\n")


def process_in(root: Path, line: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"1:cpu:/elsewhere\n{line}\n")


def test_the_least_limit_of_all_groups_around_counts(tmp_path: Path) -> None:
    process_in(tmp_path, "0::/slurm/job_7/step_0")
    base = tmp_path / "sys/fs/cgroup"
    group(base / "slurm/job_7/step_0", max="max", current=90 * MIB, stat="inactive_file 0")
    # Of the 80 MiB in use 30 are files that can be read again.
    group(base / "slurm/job_7", max=100 * MIB, current=80 * MIB, stat=f"anon 1\ninactive_file {30 * MIB}")
    group(base / "slurm", max=200 * MIB, current=80 * MIB, stat="inactive_file 0")
    assert memory_here(tmp_path) == Memory(100 * MIB, 50 * MIB)


def test_the_first_version_of_control_groups(tmp_path: Path) -> None:
    process_in(tmp_path, "4:memory:/docker/abc")
    # In a container its own group is mounted as the outermost.
    group(
        tmp_path / "sys/fs/cgroup/memory",
        limit_in_bytes=100 * MIB,
        usage_in_bytes=60 * MIB,
        stat=f"total_inactive_file {10 * MIB}",
    )
    assert memory_here(tmp_path) == Memory(100 * MIB, 50 * MIB)


def test_without_groups_it_is_the_machines(tmp_path: Path) -> None:
    assert memory_here(tmp_path).total == psutil.virtual_memory().total
