"""Fixed position embeddings (Vaswani et al., https://arxiv.org/abs/1706.03762, section 3.5), sines before cosines."""

import numpy as np


def position_embedding(length: int, width: int) -> np.ndarray:
    """The embedding of each position, float32 [length, width].

    Wavelengths grow from 2 pi to 10,000 * 2 pi; the first half of the features are sines, the second cosines.
    """
    half = width // 2
    frequencies = np.exp(-np.log(10_000.0) / (half - 1) * np.arange(half))
    angles = np.arange(length)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)
