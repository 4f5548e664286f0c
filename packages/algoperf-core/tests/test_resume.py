"""A killed trial ends as one left alone, bit for bit, under the virtual clock."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from algoperf.records import read_evaluations, read_trial

HERE = Path(__file__).parent
STEPS = "120"


def start(framework, folder, steps=STEPS):
    path = HERE / "submissions" / f"momentum_{framework.value}.py"
    command = [sys.executable, str(HERE / "run_toy.py"), framework.value, str(path), str(folder), steps]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process):
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output.splitlines()


def numbers(folder):
    rows = read_evaluations(folder / "eval_measurements.csv")
    return [{name: repr(value) for name, value in row.items() if name != "preemption_count"} for row in rows]


@pytest.mark.timeout(600)
def test_killed_at_random_moments(framework, tmp_path):
    alone = start(framework, tmp_path / "alone")
    killed = tmp_path / "killed"
    kills = 0
    # The moments are random on purpose, and the seed is said, so that a failure can be looked into.
    seed = random.randrange(2**32)
    print("seed", seed)
    moments = random.Random(seed)
    for _ in range(4):
        process = start(framework, killed)
        assert process.stdout is not None
        # At least one evaluation further each time, else it would never end.
        process.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.15))
        kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills > 0
    finish(start(framework, killed))
    finish(alone)
    assert numbers(killed) == numbers(tmp_path / "alone")
    record = read_trial(killed)
    assert record.end_reason == "steps"
    assert len(record.metadata) == kills + 1


def test_the_same_seed_does_the_same_and_another_does_not(make_trial, framework, tmp_path):
    def run(folder, seed):
        trial = make_trial(framework, folder=tmp_path / folder, suite_seed=seed, max_steps=25)
        trial.run()
        return numbers(tmp_path / folder)

    first, second, third = run("first", 1), run("second", 1), run("third", 2)
    assert first == second
    assert first != third


def test_wall_time_goes_on_from_the_last_checkpoint(make_trial, framework):
    first = make_trial(framework, clock="wall", max_steps=40)
    first._judge = lambda *args: None
    original = first._step

    def dying(state, queue):
        if state.global_step == 30:
            raise KeyboardInterrupt
        original(state, queue)

    first._step = dying
    with pytest.raises(KeyboardInterrupt):
        first.run()
    second = make_trial(framework, clock="wall", max_steps=40)
    second._judge = lambda *args: None
    outcome = second.run()
    times = [row["accumulated_submission_time"] for row in outcome.evaluations]
    assert times == sorted(times)
    assert outcome.evaluations[0] == first._state.evaluations[0]
    assert outcome.global_step == 40


def test_a_damaged_checkpoint_is_passed_over(make_trial, framework):
    first = make_trial(framework, max_steps=35)
    first._judge = lambda *args: None
    undisturbed = first.run()
    files = sorted((first.records.folder / "checkpoints").iterdir())
    assert len(files) == 2
    for damage in (lambda data: data[:-100], lambda data: data[:500] + b"!" + data[501:]):
        files[-1].write_bytes(damage(files[-1].read_bytes()))
        again = make_trial(framework, max_steps=35)
        again._judge = lambda *args: None
        outcome = again.run()
        drop = ("preemption_count",)
        rows = [
            [{k: v for k, v in row.items() if k not in drop} for row in o.evaluations] for o in (undisturbed, outcome)
        ]
        assert rows[0] == rows[1]
        files = sorted((first.records.folder / "checkpoints").iterdir())
