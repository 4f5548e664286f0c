import os
from dataclasses import replace
from pathlib import Path

import pytest
from wmt_files import VOCAB_SIZE, Wmt, contents_of, job

from algoperf.data import preparation
from algoperf.spec import Scale
from algoperf_wmt import prepare
from algoperf_wmt.spec import WMT


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where the mini data lies, prepared once per session, or once for all where `ALGOPERF_DATA` names a folder."""
    folder = os.environ.get("ALGOPERF_DATA")
    path = Path(folder) if folder else tmp_path_factory.mktemp("data")
    preparation.prepare(WMT.at(Scale.MINI), path, None, print)
    return path


@pytest.fixture
def wmt(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "_PART", 25)
    monkeypatch.setattr(prepare, "_BATCH", 10)
    return Wmt(tmp_path / "downloads")


@pytest.fixture
def straight(wmt, tmp_path):
    """What an undisturbed preparation makes of the small files, by the names of the files."""
    prepare.prepare_files(job(tmp_path / "straight", wmt.folder), wmt.published)
    return contents_of(tmp_path / "straight")


@pytest.fixture
def full_spec(wmt, monkeypatch):
    """The workload's facts with the sizes of the small files."""
    monkeypatch.setattr(prepare, "PUBLISHED", wmt.published)
    sizes = {f"num_{split}_examples": number for split, number in wmt.published.split_sizes.items()}
    options = replace(WMT.dataset.options, vocab_size=VOCAB_SIZE)
    dataset = replace(WMT.dataset, options=options)
    return replace(WMT, **sizes, num_eval_train_examples=2, dataset=dataset)
