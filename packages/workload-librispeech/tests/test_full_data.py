"""Full-scale data from archives to batches: small ones in the published layout."""

from dataclasses import replace

import numpy as np
import pytest
from speech_files import MAX_SAMPLES, MAX_TOKENS, VOCAB_SIZE, LibriSpeech, decoded

from algoperf.data import DataError, Shards, preparation
from algoperf.spec import Split
from algoperf_librispeech import prepare
from algoperf_librispeech.spec import CONFORMER


@pytest.fixture
def speech(tmp_path, monkeypatch):
    speech = LibriSpeech(tmp_path / "downloads")
    monkeypatch.setattr(prepare, "PUBLISHED", speech.published)
    return speech


@pytest.fixture
def spec(speech):
    """The workload's facts with the sizes of the small archives."""
    sizes = {f"num_{split}_examples": number for split, number in speech.published.split_sizes.items()}
    options = replace(CONFORMER.dataset.options, vocab_size=VOCAB_SIZE, max_samples=MAX_SAMPLES, max_tokens=MAX_TOKENS)
    return replace(CONFORMER, **sizes, num_eval_train_examples=4, dataset=replace(CONFORMER.dataset, options=options))


def test_it_is_prepared_verified_and_read(speech, spec, tmp_path):
    preparation.prepare(spec, tmp_path / "data", speech.folder, print)
    preparation.verify(spec, tmp_path / "data")
    dataset = preparation.open_prepared(spec, tmp_path / "data")
    found = {}
    for batch in dataset.evaluation(Split.TEST, 4, Shards()):
        for audio, length, row, weight in zip(*(batch[n] for n in ("inputs", "lengths", "targets", "weights"))):
            if weight:
                found[dataset.decode([row[row > 0].tolist()])[0]] = audio[:length]
    expected = {speech.texts[key]: decoded(speech.flacs[key]) for key in speech.kept("test")}
    assert found.keys() == expected.keys()
    for text, samples in expected.items():
        np.testing.assert_array_equal(found[text], samples)


def test_trials_record_the_tokenizer(speech, spec, tmp_path):
    folder = preparation.prepare(spec, tmp_path / "data", speech.folder, print)
    recorded = preparation.checksums(spec, tmp_path / "data")
    assert recorded["tokenizer_sha256"] == preparation.file_sha256(folder / "tokenizer.model")


def test_altered_audio_is_noticed(speech, spec, tmp_path):
    folder = preparation.prepare(spec, tmp_path / "data", speech.folder, print)
    shard = next(iter(sorted((folder / "train").glob("*.arrayrecord"))))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=rf"{shard.name} was altered .*delete .* and run `algoperf-orchestrate data"):
        preparation.verify(spec, tmp_path / "data")
