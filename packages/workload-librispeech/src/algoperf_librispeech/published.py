"""The published files of LibriSpeech (https://www.openslr.org/12), and what has to come out of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from algoperf.data.archives import Archive

COMMAND = "algoperf-orchestrate data prepare librispeech_conformer --scale full --source FOLDER"


@dataclass(frozen=True, kw_only=True)
class Subset(Archive):
    """A part of LibriSpeech, an archive of its own.

    Attributes:
        num_utterances: that are in it.
    """

    num_utterances: int

    @property
    def label(self) -> str:
        """What the subset is called, such as "dev-clean"."""
        return self.name.removesuffix(".tar.gz")


@dataclass(frozen=True, kw_only=True)
class LibriSpeechFiles:
    """What the data is made of, and what has to come out.

    Attributes:
        subsets: of each split, in the order of their names.
        split_sizes: utterances per split, without those that are too long.
        max_samples: of an utterance.
        max_characters: of a transcript.
        max_tokens: of a transcript, its end included.
        vocab_size: of the tokenizer.
        tokenizer_subset: whose transcripts the tokenizer is trained on.
        tokenizer_characters: of text that it is trained on at most.
    """

    subsets: Mapping[str, Sequence[Subset]]
    split_sizes: Mapping[str, int]
    max_samples: int
    max_characters: int
    max_tokens: int
    vocab_size: int
    tokenizer_subset: str
    tokenizer_characters: int


def _subset(label: str, size: int, sha256: str, num_utterances: int) -> Subset:
    url = f"http://www.openslr.org/resources/12/{label}.tar.gz"
    return Subset(
        name=f"{label}.tar.gz",
        obtain=f"download {url} into the folder of the others, and run `{COMMAND}`",
        size=size,
        digest=f"sha256:{sha256}",
        num_utterances=num_utterances,
    )


PUBLISHED = LibriSpeechFiles(
    subsets={
        "train": (
            _subset(
                "train-clean-100",
                6_387_309_499,
                "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
                28_539,
            ),
            _subset(
                "train-clean-360",
                23_049_477_885,
                "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
                104_014,
            ),
            _subset(
                "train-other-500",
                30_593_501_606,
                "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
                148_688,
            ),
        ),
        "validation": (
            _subset(
                "dev-clean",
                337_926_286,
                "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
                2_703,
            ),
            _subset(
                "dev-other",
                314_305_928,
                "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
                2_864,
            ),
        ),
        "test": (
            _subset(
                "test-clean",
                346_663_984,
                "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
                2_620,
            ),
        ),
    },
    split_sizes={"train": 263_840, "validation": 5_348, "test": 2_472},
    max_samples=320_000,
    max_characters=256,
    max_tokens=256,
    vocab_size=1_024,
    tokenizer_subset="train-clean-100",
    tokenizer_characters=10_000_000,
)
