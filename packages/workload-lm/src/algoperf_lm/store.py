"""The prepared files: of each split one array of tokens, which are cut into sequences."""

from pathlib import Path

import numpy as np

from algoperf.data.preparation import DataError
from algoperf.data.token_files import load_tokens

# The small one first: what is wrong shows early.
SPLITS = ("validation", "train")


def token_files(folder: Path) -> dict[str, Path]:
    """The file of each split in the folder of the prepared data."""
    return {split: folder / f"{split}.npy" for split in SPLITS}


def load_sequences(path: Path, length: int) -> np.ndarray:
    """The tokens of a file as sequences that do not overlap; those that are left over are not used.

    Args:
        path: of the file.
        length: tokens of the inputs; the targets are shifted by one, so a sequence has one more.

    Returns:
        Memory-mapped, [N, length + 1], uint16.

    Raises:
        DataError: the file is missing or not whole.
    """
    tokens = load_tokens(path)
    size = length + 1
    if len(tokens) < size:
        raise DataError(f"{path} holds {len(tokens)} tokens, less than a sequence of {size}; prepare the data again.")
    return tokens[: len(tokens) // size * size].reshape(-1, size)
