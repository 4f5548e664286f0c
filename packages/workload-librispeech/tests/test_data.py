"""What is in a batch, and prepared data that is not what the workload says."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from algoperf.data import DataError, Shards, ShuffledOrder, fixed_subset
from algoperf.data.preparation import folder_of
from algoperf.spec import Scale, Split
from algoperf_librispeech.data import open_dataset
from algoperf_librispeech.spec import CONFORMER, END
from algoperf_librispeech.store import StoredUtterances

SPEC = CONFORMER.at(Scale.MINI)
N, L = SPEC.dataset.options.max_samples, SPEC.dataset.options.max_tokens


@pytest.fixture(scope="module")
def folder(data_dir):
    return folder_of(SPEC, data_dir)


@pytest.fixture(scope="module")
def dataset(folder):
    return open_dataset(SPEC, folder)


def check(batch, stored, numbers):
    """That the first rows of a batch are these utterances."""
    for row, (number, samples) in enumerate(zip(numbers, stored.audio(numbers), strict=True)):
        tokens = stored.tokens(np.array([number]))
        np.testing.assert_array_equal(batch["inputs"][row], np.pad(samples, (0, N - len(samples))))
        np.testing.assert_array_equal(batch["targets"][row], np.pad(tokens, (0, L - len(tokens))))
        assert batch["lengths"][row] == len(samples)
        assert tokens[-1] == END


def test_training_goes_through_all_utterances_in_shuffled_order(dataset, folder):
    stored = StoredUtterances.load(folder / "train")
    batches = iter(dataset.train(16, Shards(), seed=3))
    for start in (0, 16):
        batch = next(batches)
        assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
            "inputs": ((16, N), "int16"),
            "lengths": ((16,), "int32"),
            "targets": ((16, L), "int32"),
        }
        check(batch, stored, ShuffledOrder(len(stored), 3).take(start, 16))


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
def test_evaluations_go_through_a_split_in_stored_order(dataset, folder, split):
    stored = StoredUtterances.load(folder / split.value)
    first, *_, last = dataset.evaluation(split, 64, Shards())
    check(first, stored, np.arange(64))
    rest = len(stored) % 64
    check(last, stored, np.arange(len(stored) - rest, len(stored)))
    assert last["weights"].tolist() == [1.0] * rest + [0.0] * (64 - rest)
    for name in ("inputs", "lengths", "targets"):
        assert not last[name][rest:].any()


def test_training_is_evaluated_on_a_fixed_part(dataset, folder):
    stored = StoredUtterances.load(folder / "train")
    chosen = fixed_subset(len(stored), SPEC.num_eval_train_examples)
    batches = list(dataset.evaluation(Split.EVAL_TRAIN, 128, Shards()))
    assert len(batches) == 2
    check(batches[1], stored, chosen[128:])


def test_transcripts_are_what_was_said(dataset, folder):
    stored = StoredUtterances.load(folder / "test")
    batch = next(iter(dataset.evaluation(Split.TEST, 700, Shards())))
    texts = dataset.decode([row[row > 0].tolist() for row in batch["targets"]])
    assert texts == [text for _, text in stored.transcripts()]


def changed(folder, tmp_path, **options):
    """A spec with other options, and a copy of the data's smallest split as every split."""
    copy = tmp_path / "copy"
    for split in ("train", "validation", "test"):
        shutil.copytree(folder / "test", copy / split)
    shutil.copy(folder / "tokenizer.model", copy)
    dataset = replace(SPEC.dataset, options=replace(SPEC.dataset.options, **options))
    return replace(SPEC, num_train_examples=700, dataset=dataset), copy


def test_splits_of_another_size_are_refused(folder, tmp_path):
    spec, copy = changed(folder, tmp_path)
    open_dataset(spec, copy)
    with pytest.raises(DataError, match=r"validation has 700 utterances instead of 600; delete .*copy and prepare"):
        open_dataset(replace(spec, num_validation_examples=600), copy)


def test_damaged_training_utterances_may_be_missing(folder, tmp_path):
    spec, copy = changed(folder, tmp_path)
    with pytest.raises(DataError, match="train has 700 utterances instead of 702"):
        open_dataset(replace(spec, num_train_examples=702), copy)
    (copy / "train" / "utterances" / "skipped.txt").write_text("one is damaged\nanother too\n")
    dataset = open_dataset(replace(spec, num_train_examples=702), copy)
    assert dataset.num_stored(Split.TRAIN) == 700


@pytest.mark.parametrize("options", [{"max_samples": 20_000}, {"max_tokens": 20}])
def test_utterances_that_are_longer_than_a_row_are_refused(folder, tmp_path, options):
    spec, copy = changed(folder, tmp_path, **options)
    (value,) = options.values()
    with pytest.raises(DataError, match=rf"has utterances of up to \d+ samples and \d+ tokens, and a row has.*{value}"):
        open_dataset(spec, copy)


def test_a_tokenizer_of_another_size_is_refused(folder, tmp_path):
    spec, copy = changed(folder, tmp_path, vocab_size=30)
    with pytest.raises(DataError, match="does not match the data"):
        open_dataset(spec, copy)


def test_damaged_audio_is_named(folder, tmp_path):
    spec, copy = changed(folder, tmp_path)
    path = copy / "train" / "utterances" / "samples.npy"
    samples = np.load(path)
    samples[5] += 1
    np.save(path, samples)
    dataset = open_dataset(spec, copy)
    name = (copy / "train" / "utterances" / "transcripts.txt").read_text().splitlines()[5].split()[0]
    with pytest.raises(DataError, match=rf"The audio of {name}, record .* is damaged \(it has \d+ samples instead"):
        next(iter(dataset.train(700, Shards(), seed=0)))


def test_the_files_are_in_the_manifest(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "tokenizer.model" in manifest
    assert {name.split("/")[0] for name in manifest} == {"train", "validation", "test", "tokenizer.model"}
