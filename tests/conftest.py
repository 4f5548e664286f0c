import os
from pathlib import Path

import pytest

from algoperf import registry
from algoperf.data import preparation
from algoperf.spec import Scale


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where the mini data lies, prepared once per session, or once for all where `ALGOPERF_DATA` names a folder."""
    folder = os.environ.get("ALGOPERF_DATA")
    path = Path(folder) if folder else tmp_path_factory.mktemp("data")
    for workload in (
        "criteo1tb",
        "fastmri",
        "finewebedu_lm",
        "imagenet_resnet",
        "librispeech_conformer",
        "ogbg",
        "wmt",
    ):
        preparation.prepare(registry.workload_spec(workload).at(Scale.MINI), path, None, print)
    return path
