import os
from dataclasses import replace
from pathlib import Path

import pytest
from published_files import ImageNet

from algoperf.data import preparation
from algoperf.spec import Scale
from algoperf_imagenet import prepare
from algoperf_imagenet.resnet.spec import IMAGENET_RESNET


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where the mini data lies, prepared once per session, or once for all where `ALGOPERF_DATA` names a folder."""
    folder = os.environ.get("ALGOPERF_DATA")
    path = Path(folder) if folder else tmp_path_factory.mktemp("data")
    preparation.prepare(IMAGENET_RESNET.at(Scale.MINI), path, None, print)
    return path


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "_VALIDATION_SHARD", 3)
    return ImageNet(tmp_path / "downloads")


@pytest.fixture
def full_spec(imagenet, monkeypatch):
    """The workload's facts with the sizes of the small files."""
    monkeypatch.setattr(prepare, "PUBLISHED", imagenet.published)
    sizes = {f"num_{split}_examples": number for split, number in imagenet.published.split_sizes.items()}
    return replace(IMAGENET_RESNET, **sizes, num_eval_train_examples=2)
