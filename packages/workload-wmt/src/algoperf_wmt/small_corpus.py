"""A corpus of some thousand pairs of short texts as prepared data: filtered, divided, tokenised."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from algoperf.data.files import remove
from algoperf.data.preparation import DataError, Preparation
from algoperf.data.tokenizer import TOKENIZER, Tokenizer, train_tokenizer
from algoperf_wmt.store import SPLITS, StoredPairs, save_pairs


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What becomes of texts.

    Attributes:
        split_sizes: pairs of each split; of those that there are beyond, none is used.
        share: of all keys, in hundredths, those of the validation texts, and as many of the test texts.
        vocab_size: tokens of the tokenizer.
        max_characters: of a text in either language.
        max_shared: the share of a text's English words that may stand in the German one as well, in texts that are
            evaluated. Names do, and with many of them a copy of the source would count as half a translation.
    """

    split_sizes: Mapping[str, int]
    share: int
    vocab_size: int
    max_characters: int
    max_shared: float


class Text(NamedTuple):
    """A text in both languages, and the key that decides about its split."""

    key: str
    german: str
    english: str


def write_corpus(job: Preparation, texts: Iterable[Text], rules: Rules) -> None:
    """Writes the splits and a tokenizer that was trained on the training texts.

    Texts with the same key are in one split. Of those whose German differs in digits and punctuation alone the first is
    kept, and none is evaluated whose English is in training. Texts of a single word, and those with many words in
    common, are for training only.

    Args:
        job: where to, and who is told.
        texts: in an order that is the same everywhere.
        rules: which texts, and what of them.

    Raises:
        DataError: a split came out too small.
    """
    splits = _divide(texts, rules)
    # What an interrupted run left may be of other texts, and it takes seconds to make.
    for name in (*SPLITS, TOKENIZER):
        remove(job.folder / name)
    job.report(f"Training a tokenizer of {rules.vocab_size:,} tokens on {len(splits['train']):,} pairs of texts.")
    sentences = (sentence for text in splits["train"] for sentence in (text.german, text.english))
    train_tokenizer(sentences, job.folder / TOKENIZER, rules.vocab_size)
    encode = Tokenizer.load(job.folder / TOKENIZER, rules.vocab_size).encode
    for split, members in splits.items():
        job.report(f"Writing the {len(members):,} pairs of the {split} split.")
        sides = ([getattr(text, side) for text in members] for side in ("german", "english"))
        save_pairs(job.folder / split, [StoredPairs.of(*map(encode, sides))])


def _divide(texts: Iterable[Text], rules: Rules) -> dict[str, list[Text]]:
    splits: dict[str, list[Text]] = {split: [] for split in SPLITS}
    for text in _usable(texts, rules.max_characters):
        split = split_of(text.key, rules.share)
        if split == "train" or _is_worth_evaluating(text, rules.max_shared):
            splits[split].append(text)
    trained = {_letters(text.english) for text in splits["train"]}
    for split, size in rules.split_sizes.items():
        if split != "train":
            splits[split] = [text for text in splits[split] if _letters(text.english) not in trained]
        if len(splits[split]) < size:
            raise DataError(
                f"There are {len(splits[split]):,} usable texts for the {split} split, and {size:,} are needed; "
                "use the source that the workload's README names."
            )
    return {split: members[: rules.split_sizes[split]] for split, members in splits.items()}


def split_of(key: str, share: int) -> str:
    """The split of all texts with a key: a matter of its SHA-256, so the same everywhere."""
    percent = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % 100
    if percent < 2 * share:
        return "validation" if percent < share else "test"
    return "train"


def _usable(texts: Iterable[Text], max_characters: int) -> Iterator[Text]:
    """Short texts of one line that are translated; of those with the same German letters the first."""
    seen = set()
    for text in texts:
        letters = _letters(text.german)
        both = text.german + text.english
        if text.german == text.english or not letters or letters in seen or "\n" in both or "http" in both:
            continue
        if all(0 < len(side) <= max_characters for side in text[1:]):
            seen.add(letters)
            yield text


def _letters(text: str) -> str:
    return re.sub(r"[\W\d]", "", text.lower())


def _is_worth_evaluating(text: Text, max_shared: float) -> bool:
    german, english = (re.findall(r"\w+", side.lower()) for side in text[1:])
    shared = sum(word in german for word in english)
    return min(len(side.split()) for side in text[1:]) > 1 and shared <= max_shared * len(english)
