"""Tokens on disk, and sentences of them."""

import resource

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoperf.data import DataError
from algoperf.data.token_files import (
    StoredSentences,
    files_of,
    is_saved,
    load_tokens,
    save_sentences,
    save_tokens,
)

PARTS = st.lists(st.lists(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=6), max_size=8), max_size=4)


def saved(folder, *parts):
    save_sentences(folder, [StoredSentences.of(part) for part in parts])
    return folder


@settings(max_examples=50, deadline=None)
@given(PARTS)
def test_what_is_saved_is_loaded(tmp_path_factory, parts):
    folder = saved(tmp_path_factory.mktemp("tokens") / "train", *parts)
    sentences = [sentence for part in parts for sentence in part]
    stored = StoredSentences.load(folder)
    assert len(stored) == len(sentences)
    assert (stored.ids.dtype, stored.lengths.dtype) == (np.uint16, np.int32)
    assert stored.lengths.tolist() == [len(sentence) for sentence in sentences]
    assert [stored[number].tolist() for number in range(len(stored))] == sentences
    numbers = np.arange(len(sentences))[::-2]
    assert stored.tokens(numbers).tolist() == [token for number in numbers for token in sentences[number]]
    assert {path.name for path in folder.iterdir()} == {"tokens.npy", "ends.npy"}


def test_the_files_are_plain_arrays_that_are_not_read_into_memory(tmp_path):
    folder = saved(tmp_path / "train", [[5, 6, 2], [7, 2]], [[8, 2], [2]])
    assert np.load(folder / "tokens.npy").tolist() == [5, 6, 2, 7, 2, 8, 2, 2]
    assert np.load(folder / "ends.npy").tolist() == [0, 3, 5, 7, 8]
    stored = StoredSentences.load(folder)
    assert isinstance(stored[0].base.base, np.memmap)
    assert not stored[0].flags.writeable


def test_a_token_that_is_too_large_is_refused():
    with pytest.raises(OverflowError):
        StoredSentences.of([[2**16]])


@pytest.mark.parametrize("name", ["tokens.npy", "ends.npy"])
@pytest.mark.parametrize("share", [0, 0.3, 0.9, None])
def test_truncated_and_missing_files_are_named(tmp_path, name, share):
    path = saved(tmp_path / "train", [[1] * 50, [2] * 50] * 9) / name
    content = path.read_bytes()
    path.unlink() if share is None else path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"train holds no sentences of tokens .*delete the folder of the prepared data"):
        StoredSentences.load(path.parent)
    assert is_saved(path.parent) == (share is not None)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("tokens.npy", np.zeros(9, np.uint16)),
        ("tokens.npy", np.zeros(10, np.int16)),
        ("tokens.npy", np.zeros((10, 1), np.uint16)),
        ("ends.npy", np.array([0, 5, 9])),
        ("ends.npy", np.array([1, 5, 10])),
        ("ends.npy", np.array([0, 11, 10])),
        ("ends.npy", np.array([0, 10, 10])),
        ("ends.npy", np.array([0, 5, 10], np.int32)),
        ("ends.npy", np.array([], np.int64)),
    ],
)
def test_files_that_do_not_belong_together_are_refused(tmp_path, name, array):
    folder = saved(tmp_path / "train", [[1] * 5, [2] * 5])
    StoredSentences.load(folder)
    np.save(folder / name, array)
    with pytest.raises(DataError, match="train do not belong together; delete"):
        StoredSentences.load(folder)


def test_what_was_there_is_replaced(tmp_path):
    folder = saved(tmp_path / "train", [[1, 2], [2]])
    files_of(folder)[0].unlink()
    (folder / "else").touch()
    assert len(StoredSentences.load(saved(folder, [[1, 2], [2]] * 3))) == 6
    assert set(folder.iterdir()) == set(files_of(folder))


@pytest.mark.parametrize("size", [100, 30_000])
def test_a_full_disk_leaves_nothing(tmp_path, size):
    """At the first file, and at the second."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A real failure of the file system.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(DataError, match=r"train cannot be written \(.*File too large.*\); mend that and run"):
            saved(tmp_path / "train", [[1], [2]] * 5_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_an_interruption_leaves_nothing(tmp_path):
    class Interrupting(np.ndarray):
        def __getitem__(self, item):
            raise KeyboardInterrupt

    sentences = StoredSentences.of([[1], [2]])
    with pytest.raises(KeyboardInterrupt):
        save_sentences(
            tmp_path / "train", [sentences, StoredSentences(sentences.ids, sentences.ends.view(Interrupting))]
        )
    assert not list(tmp_path.iterdir())


def test_tokens_that_are_saved_are_loaded_and_not_read_into_memory(tmp_path):
    parts = [np.array([1, 2], np.uint16), np.array([], np.uint16), np.array([2**16 - 1], np.uint16)]
    save_tokens(tmp_path / "train.npy", 3, iter(parts))
    tokens = load_tokens(tmp_path / "train.npy")
    assert (tokens.tolist(), tokens.dtype) == ([1, 2, 2**16 - 1], np.uint16)
    assert isinstance(tokens.base, np.memmap)
    assert [path.name for path in tmp_path.iterdir()] == ["train.npy"]


@pytest.mark.parametrize("share", [0, 0.3, 0.99, None])
def test_tokens_that_are_cut_short_or_missing_are_named(tmp_path, share):
    path = tmp_path / "train.npy"
    save_tokens(path, 500, [np.ones(500, np.uint16)])
    content = path.read_bytes()
    path.unlink() if share is None else path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"train\.npy holds no tokens, or not all \(.*\); delete the folder"):
        load_tokens(path)


@pytest.mark.parametrize("array", [np.zeros(4, np.int32), np.zeros((2, 2), np.uint16)])
def test_an_array_that_is_none_of_tokens_is_named(tmp_path, array):
    np.save(tmp_path / "train.npy", array)
    with pytest.raises(DataError, match=r"train\.npy holds .* dimensions and no tokens; delete"):
        load_tokens(tmp_path / "train.npy")


def test_fewer_tokens_than_were_promised_are_noticed(tmp_path):
    save_tokens(tmp_path / "train.npy", 4, [np.ones(3, np.uint16)])
    with pytest.raises(DataError, match=r"train\.npy holds no tokens, or not all"):
        load_tokens(tmp_path / "train.npy")
