import os
from pathlib import Path

import pytest
from corpora import SPLITS, Shards, contents_of, job, write_merges

from algoperf.data import preparation
from algoperf.spec import Scale
from algoperf_lm import gpt2, prepare


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where the mini data lies, prepared once per session, or once for all where `ALGOPERF_DATA` names a folder."""
    from algoperf_lm.spec import FINEWEBEDU_LM

    folder = os.environ.get("ALGOPERF_DATA")
    path = Path(folder) if folder else tmp_path_factory.mktemp("data")
    preparation.prepare(FINEWEBEDU_LM.at(Scale.MINI), path, None, print)
    return path


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Small shards and a list of merges, in place of the published ones."""
    corpus = Shards(tmp_path / "downloads")
    corpus.merges = corpus.folder / "vocab.bpe"
    monkeypatch.setattr(gpt2, "MERGES", write_merges(corpus.merges))
    monkeypatch.setattr(prepare, "_PART", 12)
    return corpus


@pytest.fixture
def straight(corpus, tmp_path):
    """What an undisturbed preparation makes of the small shards, by the names of the files."""
    prepare.prepare_files(job(tmp_path / "straight", corpus.folder), SPLITS)
    return {str(path): content for path, content in contents_of(tmp_path / "straight").items()}
