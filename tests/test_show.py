"""`data show`: a PNG of examples, and of what a trial's model makes of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from algoperf.data.pictures import Picture
from algoperf.spec import Framework
from algoperf.testing.frameworks import BOTH, require
from algoperf_orchestrator import data_show

COMMAND = str(Path(sys.executable).with_name("algoperf-orchestrate"))


def call(*arguments):
    return subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)


def show(workload, data_dir, output, *options):
    arguments = ["data", "show", workload, "--scale", "mini", "--data-dir", data_dir, "--output", output, *options]
    done = call(*arguments)
    assert done.returncode == 0, done.stderr
    return image.imread(output)


@pytest.mark.parametrize("workload", ["fastmri", "imagenet_resnet", "librispeech_conformer", "ogbg"])
def test_examples_are_drawn(workload, data_dir, tmp_path):
    few, more = (show(workload, data_dir, tmp_path / f"{n}.png", "--examples", n) for n in (1, 8))
    assert more.shape[0] > few.shape[0]
    # Something is on it.
    assert np.unique(few.reshape(-1, few.shape[-1]), axis=0).shape[0] > 10


@pytest.mark.parametrize("framework", BOTH)
def test_what_a_trials_model_makes_of_them_is_drawn(framework: Framework, data_dir, tmp_path):
    require(framework)
    trial = ["--workload", "fastmri", "--framework", framework.value, "--scale", "mini", "--submission", "nadamw"]
    done = call(
        "run", *trial, "--max-steps", "2", "--experiment", tmp_path, "--data-dir", data_dir, "--clock", "virtual"
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "study_0" / f"fastmri_{framework.value}" / "trial_1"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    plain = show("fastmri", data_dir, tmp_path / "plain.png", "--examples", "1")
    with_model = show("fastmri", data_dir, tmp_path / "model.png", "--examples", "1", "--trial", folder)
    assert with_model.shape[1] > plain.shape[1]
    # Looking changes nothing.
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    other = call("data", "show", "ogbg", "--scale", "mini", "--data-dir", data_dir, "--trial", folder)
    assert (other.returncode, other.stdout) == (2, "")
    assert "is of fastmri at mini scale; show that one." in other.stderr


def test_what_cannot_be_shown_is_said(data_dir, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "trial.json").write_text("{}")
    for arguments, message in {
        ("wmt",): "wmt has nothing to look at; its examples are text or numbers.",
        ("ogbg", "--examples", "0"): "--examples is a number from 1 to 32, not 0.",
        ("ogbg", "--examples", "33"): "--examples is a number from 1 to 32, not 33.",
        ("fastmri", "--output", str(tmp_path)): "--output is the file to write, which ends in .png",
        ("fastmri", "--output", "scans.txt"): "not scans.txt.",
        ("fastmri", "--trial", str(damaged)): "trial.json cannot be read",
        ("ogbg", "--trial", str(tmp_path)): "name the folder that has its trial.json with --trial.",
    }.items():
        done = call("data", "show", *arguments, "--scale", "mini", "--data-dir", data_dir)
        assert done.returncode == 2
        assert message in done.stderr


def test_long_titles_have_room_and_flat_pictures_a_height(tmp_path):
    spectrogram = np.random.default_rng(0).random((80, 1500))
    few, more = (tmp_path / f"{words}.png" for words in (2, 60))
    for words, path in ((2, few), (60, more)):
        data_show._save([[Picture("word " * words, spectrogram)]], path)
    (low, width), high = image.imread(few).shape[:2], image.imread(more).shape[0]
    assert low > 0.4 * width
    # Eight lines of text, in pixels of a hundred and twentieth of an inch.
    assert high - low > 7 * 8 / 72 * 120
