"""The data pipeline of the language model."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from corpora import SPLITS

from algoperf.data import DataError, Shards, preparation
from algoperf.data.token_files import save_tokens
from algoperf.spec import Split
from algoperf_lm import prepare
from algoperf_lm.data import LmDataset, open_dataset
from algoperf_lm.gpt2 import VOCAB_SIZE
from algoperf_lm.prepare import FINEWEB_EDU
from algoperf_lm.spec import FINEWEBEDU_LM
from algoperf_lm.store import load_sequences

LENGTH, TRAIN, VALIDATION = 6, 50, 11
SIZE = LENGTH + 1


@pytest.fixture
def spec():
    options = replace(FINEWEBEDU_LM.dataset.options, length=LENGTH, vocab_size=400)
    return replace(
        FINEWEBEDU_LM,
        num_train_examples=TRAIN,
        num_eval_train_examples=9,
        num_validation_examples=VALIDATION,
        dataset=replace(FINEWEBEDU_LM.dataset, options=options),
    )


@pytest.fixture
def folder(tmp_path):
    """Tokens that tell their place; behind the last sequence of training some are left over."""
    save_tokens(tmp_path / "train.npy", TRAIN * SIZE + 3, [np.arange(TRAIN * SIZE + 3, dtype=np.uint16)])
    save_tokens(tmp_path / "validation.npy", VALIDATION * SIZE, [np.arange(VALIDATION * SIZE, dtype=np.uint16) + 1])
    return tmp_path


@pytest.fixture
def dataset(spec, folder):
    return open_dataset(spec, folder)


def firsts(batches, start=0):
    """The number of the sequence in each row, by its first token."""
    return [int(first - start) // SIZE for batch in batches for first in batch["inputs"][:, 0]]


def test_targets_are_inputs_shifted_by_one_and_sequences_do_not_overlap(dataset):
    batch = next(iter(dataset.train(4, Shards(), seed=0)))
    assert set(batch) == {"inputs", "targets"}
    for key, start in (("inputs", 0), ("targets", 1)):
        assert (batch[key].shape, batch[key].dtype) == ((4, LENGTH), np.int32)
        assert batch[key].flags.c_contiguous
        assert (batch[key] == batch["inputs"][:, :1] + start + np.arange(LENGTH)).all()
    assert (batch["inputs"][:, 0] % SIZE == 0).all()


def test_each_epoch_has_each_sequence_once_in_an_order_of_its_own(dataset):
    rows = firsts(itertools.islice(iter(dataset.train(5, Shards(), seed=3)), 20))
    first, second = rows[:TRAIN], rows[TRAIN:]
    assert sorted(first) == sorted(second) == list(range(TRAIN))
    assert len({tuple(first), tuple(second), tuple(range(TRAIN))}) == 3
    assert firsts(itertools.islice(iter(dataset.train(5, Shards(), seed=4)), 10)) != first


@pytest.mark.parametrize("batch_size", [1, 4, 8, 20])
@pytest.mark.parametrize("total", [1, 2, 4])
def test_each_sequence_is_evaluated_once_on_any_number_of_devices(dataset, batch_size, total):
    if batch_size % total:
        return
    rows = []
    for number in range(total):
        for batch in dataset.evaluation(Split.VALIDATION, batch_size, Shards(total, range(number, number + 1))):
            counted = batch["weights"].any(axis=1)
            assert batch["weights"].shape == batch["targets"].shape == (batch_size // total, LENGTH)
            assert batch["weights"].dtype == np.float32
            assert (batch["weights"] == counted[:, None]).all()
            assert not batch["inputs"][~counted].any()
            assert not batch["targets"][~counted].any()
            rows += [int(first - 1) // SIZE for first in batch["inputs"][counted, 0]]
    assert sorted(rows) == list(range(VALIDATION))
    if total == 1:
        assert rows == sorted(rows)


def test_training_data_are_evaluated_on_a_fixed_part_of_them(dataset, spec, folder):
    rows = firsts(dataset.evaluation(Split.EVAL_TRAIN, 3, Shards()))
    assert len(set(rows)) == 9
    assert rows == sorted(rows) != list(range(9))
    assert rows == firsts(open_dataset(spec, folder).evaluation(Split.EVAL_TRAIN, 3, Shards()))


def test_there_is_no_test_split(dataset):
    assert list(dataset.evaluation(Split.TEST, 4, Shards())) == []
    assert dataset.num_stored(Split.TEST) == 0
    assert dataset.num_stored(Split.EVAL_TRAIN) == dataset.num_stored(Split.TRAIN) == TRAIN


def test_sequences_are_mapped_and_not_read(folder):
    sequences = load_sequences(folder / "train.npy", LENGTH)
    assert (sequences.shape, sequences.dtype) == ((TRAIN, SIZE), np.uint16)
    assert not sequences.flags.owndata
    assert not sequences.flags.writeable


def test_a_batch_can_be_written_to_and_is_not_the_file(dataset, folder):
    batch = next(iter(dataset.train(4, Shards(), seed=0)))
    batch["inputs"][:] = 0
    assert np.load(folder / "train.npy").tolist() == list(range(TRAIN * SIZE + 3))


# What is wrong.


@pytest.mark.parametrize("share", [0, 0.5, 0.99, None])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_file_that_is_cut_short_is_named(spec, folder, split, share):
    path = folder / f"{split}.npy"
    content = path.read_bytes()
    path.unlink() if share is None else path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=rf"{split}\.npy holds no tokens, or not all .* prepare it again"):
        open_dataset(spec, folder)


@pytest.mark.parametrize(("split", "number"), [("train", 49), ("validation", 12)])
def test_a_file_of_another_number_of_sequences_is_named(spec, folder, split, number):
    save_tokens(folder / f"{split}.npy", number * SIZE, [np.zeros(number * SIZE, np.uint16)])
    with pytest.raises(DataError, match=rf"The {split} split in .* has {number} sequences of 7 tokens instead of"):
        open_dataset(spec, folder)


def test_a_file_of_less_than_a_sequence_is_named(spec, folder):
    save_tokens(folder / "validation.npy", 3, [np.zeros(3, np.uint16)])
    with pytest.raises(DataError, match=r"validation\.npy holds 3 tokens, less than a sequence of 7; prepare"):
        open_dataset(spec, folder)


def test_a_token_that_is_not_in_the_vocabulary_is_named(spec):
    sequences = np.zeros((TRAIN, SIZE), np.uint16)
    sequences[7, 6] = 400
    dataset = LmDataset(spec, {Split.TRAIN: sequences})
    with pytest.raises(DataError, match="has the token 400, and the vocabulary of finewebedu_lm has 400; prepare"):
        list(itertools.islice(iter(dataset.train(10, Shards(), seed=0)), 5))


def test_the_full_data_is_prepared_verified_and_opened(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "FINEWEB_EDU", SPLITS)
    sizes = {f"num_{split}_examples": number for split, number in SPLITS.num_sequences.items()}
    options = replace(FINEWEBEDU_LM.dataset.options, length=SPLITS.length - 1)
    dataset = replace(FINEWEBEDU_LM.dataset, options=options)
    small = replace(FINEWEBEDU_LM, **sizes, num_eval_train_examples=5, dataset=dataset)
    preparation.prepare(small, tmp_path / "data", corpus.folder, print)
    preparation.verify(small, tmp_path / "data")
    opened = preparation.open_prepared(small, tmp_path / "data")
    assert opened.num_stored(Split.VALIDATION) == SPLITS.num_sequences["validation"]


def test_the_facts_of_the_published_data_are_those_of_the_workload():
    spec = FINEWEBEDU_LM
    assert FINEWEB_EDU.num_sequences == {
        "train": spec.num_train_examples,
        "validation": spec.num_validation_examples,
    }
    assert (FINEWEB_EDU.length, VOCAB_SIZE) == (spec.dataset.options.length + 1, spec.dataset.options.vocab_size)
