"""How long `algoperf-orchestrate score` takes on 1, 4 and 16 copies of logs, interpreter start included. Prints JSON.

Usage: score_logs.py [LOGS RULES]. Without arguments, logs are made up in the shape of the v0.5 self-tuning board:
6 submissions, 14 workloads, 5 studies, 420 files. A copy is a submission of its own: there is more to score as well.
"""

import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from algoperf_scoring import find, rules

ROUNDS = {1: 9, 4: 5, 16: 3}
COLUMNS = (
    "accumulated_eval_time,accumulated_logging_time,accumulated_submission_time,global_step,preemption_count,score,"
    "test/{0},test/loss,test/num_examples,total_duration,train/{0},train/loss,validation/{0},validation/loss,"
    "validation/num_examples"
)
ROWS = 160


def make_logs(folder: Path) -> None:
    """Logs whose trials reach their targets at random times."""
    chance = random.Random(0)
    facts = rules.published("v0.5")
    for submission in range(6):
        for study in range(5):
            for workload in facts.scored:
                trial = folder / f"submission_{submission}" / f"study_{study}" / f"{workload}_jax" / "trial_1"
                trial.mkdir(parents=True)
                budget_s = facts.budget_s(workload, "self")
                write_trial(trial, facts.workloads[workload], budget_s, chance)


def write_trial(folder: Path, workload: rules.WorkloadRules, budget_s: float, chance: random.Random) -> None:
    metric = "error" if workload.metric == "loss" else workload.metric
    lines = [COLUMNS.format(metric)]
    hit = chance.randrange(ROWS // 4, 2 * ROWS)
    for row in range(ROWS):
        time_s = budget_s * (row + chance.random()) / (ROWS + 1)
        quality = workload.target * (1 if row >= hit else 1.5 if workload.goal == "min" else 0.5)
        values = [time_s / 3, chance.random(), time_s, 100 * row + 1, 0, time_s]
        values += [chance.random(), quality, 3000, 2 * time_s, quality, quality, quality, quality, 3000]
        lines.append(",".join(map(repr, values)))
    (folder / "eval_measurements.csv").write_text("\n".join(lines) + "\n")
    (folder / "meta_data_0.json").write_text('{"gpu_model_name": "none", "gpu_count": 0}')
    (folder / "flags_0.json").write_text('{"tuning_ruleset": "self"}')


def copies(logs: list[Path], number: int, folder: Path) -> Path:
    """The submissions under `number` names each."""
    for copy in range(number):
        for submission in logs:
            shutil.copytree(submission, folder / f"{submission.name}_{copy}", symlinks=True)
    return folder


def measure(arguments: list[str], rounds: int) -> dict[str, float]:
    """Median wall and processor time in seconds, and peak memory in MiB, of one process."""
    command = str(Path(sys.executable).with_name("algoperf-orchestrate"))
    walls, users, peaks = [], [], []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        process = os.posix_spawn(
            command,
            [command, "score", *arguments],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2)],
        )
        _, status, usage = os.wait4(process, 0)
        if status:
            sys.exit(f"algoperf-orchestrate score {' '.join(arguments)} failed.")
        walls.append(time.perf_counter() - start)
        users.append(usage.ru_utime + usage.ru_stime)
        peaks.append(usage.ru_maxrss / 1024)
    # The first round compiles what was not compiled yet, and fills the caches.
    return {
        "median_wall_s": round(statistics.median(walls[1:]), 3),
        "min_wall_s": round(min(walls[1:]), 3),
        "median_cpu_s": round(statistics.median(users[1:]), 3),
        "peak_mib": round(max(peaks[1:])),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if len(sys.argv) > 1:
            logs, version = Path(sys.argv[1]), sys.argv[2]
        else:
            logs, version = folder / "made", "v0.5"
            make_logs(logs)
        submissions = list(find.submission_folders([logs])[0].values())
        files = sum(1 for submission in submissions for _ in submission.rglob("eval_measurements.csv"))
        result: dict[str, object] = {"benchmark": "score_logs", "files": files, "rules": version}
        for number, rounds in ROUNDS.items():
            board = copies(submissions, number, folder / f"x{number}")
            result[f"{number}x"] = measure([str(board), "--rules", version], rounds)
        once = str(folder / "x1")
        result["json"] = measure([once, "--rules", version, "--json", str(folder / "scores.json")], ROUNDS[1])
        result["html"] = measure([once, "--rules", version, "--html", str(folder / "page")], ROUNDS[16])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
